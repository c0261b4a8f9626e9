"""SIGINT and SIGTERM as a wish, which a command fulfils where nothing is half done."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Self

import typer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: How long whoever reads the output may take for what has begun, once the end is wished for.
_GRACE_S = 1.0


class Stopped(Exception):
    """The command was asked to end, and cannot end what it has begun."""


class Stop:
    """While entered, a signal is only noted, and wakes whoever waits here.

    An exception out of a signal handler could come between any two steps of a queue's.
    """

    def __init__(self) -> None:
        self._number = 0

    @property
    def is_wanted(self) -> bool:
        """Whether a signal came."""
        return self._number != 0

    @property
    def descriptor(self) -> int:
        """Is readable once a signal came."""
        return self._heard

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal; False if none came in time."""
        select.select([self._heard], [], [], timeout_s)
        return self.is_wanted

    def wait_readable(self, descriptor: int) -> bool:
        """Wait until there is something to read; False if a signal came before."""
        select.select([self._heard, descriptor], [], [])
        return not self.is_wanted

    def wait_writable(self, descriptor: int) -> None:
        """Wait until there is room to write.

        Raises:
            Stopped: a signal came, and whoever reads does not go on.
        """
        _, writable, _ = select.select([self._heard], [descriptor], [])
        if not writable and not select.select([], [descriptor], [], _GRACE_S)[1]:
            raise Stopped

    def end(self) -> None:
        """End the command as the signal would have, if one came."""
        if self._number:
            raise typer.Exit(128 + self._number)

    def __enter__(self) -> Self:
        self._heard, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        # A signal in the moment before a wait would else be seen only after it (`signal`).
        self._wakeup_before = signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._note)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._heard)
        os.close(self._ring)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
