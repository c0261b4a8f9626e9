"""An alarm: wakes a thread that waits in a selector, from any other thread."""

from __future__ import annotations

import os
import threading


class Alarm:
    """Ends a selector's wait, from any thread."""

    def __init__(self) -> None:
        self._descriptor, self._rope = os.pipe()
        os.set_blocking(self._descriptor, False)
        os.set_blocking(self._rope, False)
        self._lock = threading.Lock()
        self._is_closed = False

    def fileno(self) -> int:
        """What to select on."""
        return self._descriptor

    def ring(self) -> None:
        """End the wait, now or at the next one."""
        with self._lock:
            try:
                if not self._is_closed:
                    os.write(self._rope, b"\0")
            except BlockingIOError:
                pass  # It has rung often enough.

    def silence(self) -> None:
        """Wait again."""
        try:
            os.read(self._descriptor, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Free the descriptors."""
        with self._lock:
            self._is_closed = True
            os.close(self._descriptor)
            os.close(self._rope)
