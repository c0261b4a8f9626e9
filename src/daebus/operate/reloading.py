"""`daebus run --reload`: the service in a child process, started again when a file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from daebus.errors import SettingsError
from daebus.operate import output
from daebus.operate.output import ExitCode

#: How often to look whether the child has ended by itself, in milliseconds.
LOOK_EVERY_MS = 300

#: Ends that no change of the code would mend: it was told to stop, or there is no server.
_FINAL = {ExitCode.OK, ExitCode.UNREACHABLE}


def run_reloading(arguments: list[str]) -> int:
    """Run `daebus` with these arguments, again after each change, until a signal.

    Returns:
        The exit code.

    Raises:
        SettingsError: `watchfiles` is not installed.
    """
    try:
        import watchfiles  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise SettingsError(
            "--reload needs the package watchfiles; install it with: pip install 'daebus[reload]'"
        ) from None
    folder = Path.cwd()
    output.note(f"Watching the .py files below {folder}")
    child = _Child([sys.executable, "-m", "daebus", *arguments])
    with child.forwarding_signals():
        child.start()
        changes = watchfiles.watch(
            folder,
            watch_filter=watchfiles.PythonFilter(),
            stop_event=child.is_ending,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
        )
        for changed in changes:
            if changed:
                names = sorted({os.path.relpath(path, folder) for _, path in changed})
                output.note(f"Changed: {', '.join(names)}; starting again")
                child.stop()
                child.start()
            elif child.has_crashed():
                output.note("The service has ended; waiting for a change of the code")
            elif child.exit_code in _FINAL:
                break
        return child.wait()


class _Child:
    """The service's process. It gets the signals that this process gets."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._is_told = False
        #: Set by a signal. It has no lock that the interrupted code might hold (unlike an Event).
        self.is_ending = _Flag()

    def start(self) -> None:
        if self.is_ending.is_set():
            return
        # In a session of its own: Ctrl-C reaches it once, through this process.
        self._process = subprocess.Popen(self._command, start_new_session=True)
        self._is_told = False
        if self.is_ending.is_set():
            self._process.terminate()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def has_crashed(self) -> bool:
        """Whether it has ended with an error; true once."""
        if self._is_told or self.exit_code in {None, *_FINAL}:
            return False
        self._is_told = True
        return True

    def stop(self) -> None:
        """End it in order, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def wait(self) -> int:
        """Wait for its end; one that was ended before it could handle signals ended well."""
        code = self._process.wait() if self._process is not None else 0
        return 0 if self.is_ending.is_set() and code == -signal.SIGTERM else code

    @contextmanager
    def forwarding_signals(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on; however this ends, no child is left behind."""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.is_ending.set()
            if self._process is not None:
                self._process.terminate()

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Flag:
    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
