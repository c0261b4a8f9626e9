"""Ends futures whose deadline has passed, for callers that do not wait themselves.

A timing wheel: calls are kept by the tenth of a second in which they expire, so that adding and
removing one costs the same with ten calls under way and with a hundred thousand, and a call that
is over leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from daebus.deadline import Deadline

#: Calls that expire within this many seconds of each other are looked at together.
TICK_S = 0.1


class Expiry:
    """Runs one thread while there is anything to wait for. Safe from any thread.

    Args:
        expire: called with the id of each call that is too late.
    """

    def __init__(self, expire: Callable[[str], None]) -> None:
        self._expire = expire
        self._buckets: dict[int, dict[str, None]] = {}
        self._lock = threading.Lock()
        self._is_running = False

    def add(self, request_id: str, deadline: Deadline) -> int:
        """Expire a call after its deadline; gives the bucket that it is in, for `remove`."""
        bucket = int(deadline.at_s / TICK_S) + 1
        ids = self._buckets.get(bucket)
        if ids is not None:
            ids[request_id] = None
            if self._buckets.get(bucket) is ids:
                return bucket
            # The thread has taken the bucket in this moment, and perhaps without this call.
        with self._lock:
            self._buckets.setdefault(bucket, {})[request_id] = None
            if not self._is_running:
                threading.Thread(target=self._run, name="daebus-expiry", daemon=True).start()
                self._is_running = True
        return bucket

    def remove(self, request_id: str, bucket: int) -> None:
        """Forget a call that is over."""
        ids = self._buckets.get(bucket)
        if ids is not None:
            ids.pop(request_id, None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(TICK_S)
            now = int(monotonic() / TICK_S)
            with self._lock:
                late = [self._buckets.pop(each) for each in sorted(self._buckets) if each <= now]
                if not self._buckets and not late:
                    self._is_running = False
                    return
            for ids in late:
                for request_id in list(ids):
                    self._expire(request_id)
