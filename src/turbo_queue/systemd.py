"""Tells systemd that a service is ready, how it gets on, that it lives and that it stops.

One datagram a message, as sd_notify(3) describes it. Without systemd nothing is sent, and nothing
that goes wrong here disturbs the program. Safe from any thread.
"""

from __future__ import annotations

import logging
import socket
from time import monotonic
from typing import Self

from turbo_queue import settings

logger = logging.getLogger(__name__)

#: The longest time between two words of how the service gets on, in seconds.
STATUS_S = 5.0

#: How long systemd may take to accept a message, in seconds.
SEND_S = 2.0


class Notifier:
    """Speaks to systemd.

    Args:
        address: The socket that systemd listens on: a path, or an abstract name that begins with
            `@`. None: nobody listens.
        watchdog_s: Seconds without a sign of life after which systemd ends the service. None: it
            does not.

    Example:
        >>> notifier = Notifier.from_environment()
        >>> notifier.ready()
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._has_watchdog = watchdog_s is not None
        #: Seconds between two calls of `tell`; half of the watchdog's time, as
        #: sd_watchdog_enabled(3) asks for.
        self.interval_s = min(STATUS_S, watchdog_s / 2) if watchdog_s else STATUS_S
        self._tell_at = 0.0

    @classmethod
    def from_environment(cls) -> Self:
        """For the socket in `NOTIFY_SOCKET`, which no child of this process gets to see."""
        found = settings.take_systemd()
        return cls(found.notify_socket, found.watchdog_s)

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to speak to."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the start is over: what waits for the service may start now."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def tell(self, status: str, *, is_live: bool = True) -> None:
        """Say how the service gets on; nothing is sent before half of the watchdog's time is over.

        Args:
            status: What `systemctl status` shows, one line.
            is_live: Whether it does what it is for. If not, systemd's watchdog is not told that it
                lives, and restarts it in the end.
        """
        now = monotonic()
        if not self.is_heard or now < self._tell_at:
            return
        self._tell_at = now + self.interval_s * 0.9  # A caller's pauses are not exact.
        watchdog = "\nWATCHDOG=1" if self._has_watchdog and is_live else ""
        self._send(f"STATUS={' '.join(status.split())}{watchdog}")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # An abstract socket has a name that begins with a zero byte (unix(7)).
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_S)
                sock.sendto(message.encode(), address)
        except OSError as error:
            logger.warning("systemd was not told %r: %s", message, error)
