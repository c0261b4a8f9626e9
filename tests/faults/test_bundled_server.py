"""There is one bundled server in a folder, closed to others, and it leaves nothing behind.

F44, F45, the server's half of F16, S4 and S5.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from daebus import ServerUnavailable, SettingsError
from daebus.bus.embedded import EmbeddedServer, ensure_server
from fixtures import wire
from fixtures.processes import Processes
from fixtures.waiting import eventually

MIB = 1024 * 1024

#: Python tells of all that a program leaves behind.
DEVELOPING = [sys.executable, "-X", "dev", "-W", "error"]

ENSURE = """
import os, sys
from pathlib import Path
import redis
from daebus.bus.embedded import ensure_server
gates = sys.argv[3:] or [os.devnull]
for gate in gates:
    open(gate).close()
    path = ensure_server(Path(sys.argv[1]), idle_s=float(sys.argv[2]))
    with redis.Redis(unix_socket_path=str(path)) as client:
        client.sadd("starters", os.getpid())
        print(client.info("server")["process_id"], path, flush=True)
"""


def server_pid(path: Path) -> int:
    with redis.Redis(unix_socket_path=str(path)) as client:
        return client.info("server")["process_id"]


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # The latter: while it is being read.
        return True


@pytest.fixture(params=["plain", "with a space", "l" * 200])
def folder(request: pytest.FixtureRequest, tmp_path: Path):
    path = tmp_path / request.param
    yield path
    pid_files = path / "valkey.log"
    if pid_files.exists():
        for pid in {line.split(":")[0] for line in pid_files.read_text().splitlines()}:
            if pid.isdigit() and not has_ended(int(pid)):
                os.kill(int(pid), signal.SIGKILL)


def test_eight_processes_at_once_start_one_server(folder: Path, processes: Processes) -> None:
    gates = [folder.with_name(f"gate {number}") for number in range(7)]
    for gate in gates:
        os.mkfifo(gate)
    starters = [processes.python(ENSURE, str(folder), "30", *map(str, gates)) for _ in range(8)]

    for number, gate in enumerate(gates):
        with gate.open("w"):  # Who waits to open it for reading goes on, all at the same moment.
            eventually(lambda n=number: all(len(each.lines) > n for each in starters), 20)
        [answer] = {starter.lines[number] for starter in starters}
        pid, path = answer.split(maxsplit=1)
        with redis.Redis(unix_socket_path=path.strip()) as client:
            assert client.scard("starters") == 8
        os.kill(int(pid), signal.SIGKILL)
        eventually(lambda pid=pid: has_ended(int(pid)))
    assert [starter.wait(30) for starter in starters] == [0] * 8


def test_the_shared_server_outlives_its_starter_and_ends_for_want_of_clients(
    tmp_path: Path, processes: Processes
) -> None:
    starter = processes.run([*DEVELOPING, "-c", ENSURE, str(tmp_path), "0.5"])
    assert starter.wait() == 0
    pid, path = int(starter.output.split()[0]), tmp_path / "valkey.sock"
    assert starter.output.splitlines() == [f"{pid} {path}"]
    assert not has_ended(pid)

    with redis.Redis(unix_socket_path=str(path)) as client:
        end = monotonic() + 1.5
        while monotonic() < end:  # As long as somebody is connected it lives on.
            assert client.ping()
    eventually(lambda: has_ended(pid), timeout_s=15)

    again = ensure_server(tmp_path, idle_s=0.5)
    assert server_pid(again) != pid
    eventually(lambda: not again.exists(), timeout_s=15)


def test_a_killed_server_and_a_killed_keeper_are_replaced(
    tmp_path: Path, processes: Processes
) -> None:
    path = ensure_server(tmp_path, idle_s=1.0)
    first = server_pid(path)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: has_ended(first))

    began = monotonic()
    assert server_pid(ensure_server(tmp_path, idle_s=1.0)) != first
    assert monotonic() - began < 1.0

    [keeper] = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_keeper_of(entry, tmp_path)
    ]
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: has_ended(keeper))
    pid = server_pid(ensure_server(tmp_path, idle_s=1.0))
    assert not any(Path(f"/proc/{ended}").exists() for ended in (first, keeper)), "they are reaped"
    eventually(lambda: has_ended(pid), timeout_s=15)


def _is_keeper_of(process: Path, folder: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
        state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"keeper.py" in command and os.fsencode(folder) in command and state != "Z"


def test_a_second_private_server_in_a_folder_is_refused(own_server: EmbeddedServer) -> None:
    second = EmbeddedServer(own_server.socket_path.parent)

    with pytest.raises(ServerUnavailable, match="another server lives in this folder"):
        second.start()
    with redis.Redis.from_url(own_server.url) as client:
        assert client.ping()


def test_a_private_server_dies_with_its_process(tmp_path: Path, processes: Processes) -> None:
    program = """
    import sys, threading
    from daebus.bus.embedded import EmbeddedServer
    server = EmbeddedServer(sys.argv[1])
    server.start()
    print("pid", server.pid, "end", flush=True)
    threading.Event().wait()
    """
    rounds = [processes.python(program, str(tmp_path / str(number))) for number in range(5)]
    for process in rounds:
        process.wait_for("end")
        pid = int(process.output.split()[1])
        began = monotonic()
        process.kill()
        eventually(lambda pid=pid: has_ended(pid), timeout_s=10)
        assert monotonic() - began <= 2


def test_a_restarted_server_keeps_its_address(own_server: EmbeddedServer) -> None:
    url, pid = own_server.url, own_server.pid

    own_server.restart()

    assert own_server.url == url
    assert own_server.pid != pid
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_a_subscriber_that_never_reads_is_cut_off_before_memory_grows(
    own_server: EmbeddedServer,
) -> None:
    with (
        redis.Redis.from_url(own_server.url) as client,
        wire.subscribe(own_server.socket_path, "flood"),
    ):
        receivers = wire.publish(own_server.socket_path, "flood", *[b"x" * MIB] * 200)

        assert client.info("memory")["used_memory_peak"] <= 64 * MIB
    assert receivers[0] == 1
    assert receivers[-1] == 0


def test_only_the_owner_can_enter_and_no_port_is_open(own_server: EmbeddedServer) -> None:
    path = own_server.socket_path

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path.parent / "valkey.conf").stat().st_mode) == 0o600
    assert _listening_ports(own_server.pid) == []


def test_a_port_is_on_loopback_and_behind_a_password(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, port=0) as server:
        [(address, port)] = _listening_ports(server.pid)
        assert address == "0100007F"
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        with (
            redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        secret = server.url.split(":")[2].split("@")[0].encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and (process / "cmdline").exists():
                assert secret not in _command_of(process)


def _command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _listening_ports(pid: int) -> list[tuple[str, int]]:
    """The TCP addresses that a process listens on, as /proc/net/tcp has them."""
    sockets = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(each.readlink())
        except FileNotFoundError:
            continue  # A client has gone meanwhile.
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
    return found


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path) -> None:
    open_folder, target = tmp_path / "open", tmp_path / "target"
    open_folder.mkdir()
    open_folder.chmod(0o770)
    target.mkdir()
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(target)
    file.write_text("")

    for folder, why in (
        (open_folder, "others? may write|other users"),
        (link, "link"),
        (file, "file"),
    ):
        for start in (
            lambda folder=folder: ensure_server(folder),
            lambda folder=folder: EmbeddedServer(folder),
        ):
            with pytest.raises(SettingsError, match=why):
                start()
    assert list(target.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)

    with pytest.raises(SettingsError, match="belongs to another user"):
        ensure_server(folder)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "valkey.conf").symlink_to(victim)

    with pytest.raises((OSError, ServerUnavailable)):
        EmbeddedServer(folder).start()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_told_or_survived_and_kept(tmp_path: Path, damage: str) -> None:
    with EmbeddedServer(tmp_path, persistent=True) as server:
        with redis.Redis.from_url(server.url) as client:
            for number in range(1000):
                client.set(f"key:{number}", "x" * 50)
            client.bgrewriteaof()
            eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
            for number in range(1000, 2000):
                client.set(f"key:{number}", "x" * 50)
        server.stop()
        [aof] = (tmp_path / "appendonlydir").glob("*.incr.aof")
        data = aof.read_bytes()
        broken = data[:-10] if damage == "cut" else data.replace(b"*3", b"*Z", 500)
        aof.write_bytes(broken)

        if damage == "cut":
            server.start()
            with redis.Redis.from_url(server.url) as client:
                assert client.dbsize() == 1999
        else:
            with pytest.raises(ServerUnavailable, match="its log ends with: .*AOF"):
                server.start()
            assert aof.read_bytes() == broken


def test_a_missing_binary_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan9")

    with pytest.raises(ServerUnavailable, match=r"Plan9|plan9.*set DAEBUS_URL to it"):
        EmbeddedServer(tmp_path).start()


def test_starting_at_once_from_threads_gives_one_server(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: ensure_server(tmp_path, idle_s=1.0), range(8)))

    [path] = paths
    pid = server_pid(path)
    eventually(lambda: has_ended(pid), timeout_s=15)


EMBEDDED_SERVICE = """
from daebus import *
app = Daebus("embedded_echo")
app.action("echo")(lambda: request.payload)
app.run()
"""


def test_the_address_embedded_works_between_processes(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {
        "DAEBUS_URL": "embedded://",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "DAEBUS_EMBEDDED_IDLE_S": "1",
    }
    service = processes.python(EMBEDDED_SERVICE, env=env)
    service.wait_for("is ready at")
    client = processes.python(
        """
        from daebus import *
        print(DaebusCaller("embedded_echo").call("echo", "hello"))
        """,
        env=env,
    )

    assert client.wait() == 0, client.output
    assert client.output == "hello\n"
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    eventually(lambda: not (tmp_path / "daebus" / "valkey.sock").exists(), timeout_s=15)
