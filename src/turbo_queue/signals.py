"""SIGINT and SIGTERM as a wish, which is fulfilled where nothing is half done."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, signals are only counted, and wake whoever waits here.

    An exception out of a signal handler could come between any two steps of a queue's. Outside the
    main thread, where Python takes no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self._number = 0
        self._count = 0
        self._lock = threading.RLock()  # A handler of the program may call `request`, too.
        self._is_entered = False

    @property
    def is_wanted(self) -> bool:
        """Whether a signal came."""
        return self._number != 0

    @property
    def number(self) -> int:
        """The first signal that came, 0 if none did."""
        return self._number

    @property
    def count(self) -> int:
        """How many signals came."""
        return self._count

    @property
    def descriptor(self) -> int:
        """Is readable once a signal came."""
        return self._heard

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first signal; False if none came in time."""
        select.select([self._heard], [], [], timeout_s)
        return self.is_wanted

    def pause(self, timeout_s: float) -> None:
        """Wait until another signal comes, somebody wakes it, or the time is over."""
        if select.select([self._heard], [], [], timeout_s)[0]:
            os.read(self._heard, 4096)

    def request(self) -> None:
        """As if a signal had come. For any thread."""
        self._note(signal.SIGTERM, None)
        self.wake()

    def wake(self) -> None:
        """End the pause. For any thread; does nothing once this is left."""
        with self._lock:
            if self._is_entered:
                with suppress(BlockingIOError):  # It was woken often enough.
                    os.write(self._ring, b"\0")

    def __enter__(self) -> Self:
        self._heard, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        self._is_entered = True
        self._before = {}
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
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
        if self._is_main:
            signal.set_wakeup_fd(self._wakeup_before)
        with self._lock:
            self._is_entered = False
            os.close(self._heard)
            os.close(self._ring)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
        self._count += 1
