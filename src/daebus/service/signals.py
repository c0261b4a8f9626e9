"""Signals: the first SIGINT or SIGTERM asks for a stop that drains, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from daebus.logs import get_logger

log = get_logger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(request_stop: Callable[[], None]) -> Iterator[None]:
    """Call `request_stop` on the first signal, and put the old handlers back afterwards.

    Only the main thread may set signal handlers (Python's signal module); in another thread this
    does nothing, and whoever runs the service there must call `stop`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    # A handler interrupts the main thread anywhere, also where it holds a lock that `request_stop`
    # needs. SimpleQueue is the one queue that it may put into (Python's queue module).
    requests: SimpleQueue[bool] = SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            # No logging here: another thread may hold its lock.
            os.write(2, b"daebus: second signal, ending at once\n")
            os._exit(128 + number)
        requests.put(True)  # noqa: FBT003

    def wait_for_request() -> None:
        if requests.get():
            request_stop()

    waiter = threading.Thread(target=wait_for_request, name="daebus-signals", daemon=True)
    waiter.start()
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        requests.put(False)  # noqa: FBT003
        waiter.join()
