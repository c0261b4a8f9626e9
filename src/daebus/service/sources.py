"""How messages arrive: over Pub/Sub, or from the service's inbox on the server."""

from __future__ import annotations

from typing import Protocol

from daebus.deadline import Deadline


class Source(Protocol):
    """Brings messages to the service's runners."""

    def start(self, deadline: Deadline) -> None:
        """Begin to take messages.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses.
            SettingsError: the server cannot give what the service's settings promise.
        """

    def stop(self, deadline: Deadline) -> None:
        """Take nothing more; what was taken is still handled."""

    def close(self, deadline: Deadline) -> None:
        """All that was taken is handled, or given up: end what is left, before the link closes."""
