"""A connection of one's own, for a reader or a writer."""

from __future__ import annotations

from daebus.bus import shared
from daebus.bus.link import Link
from daebus.deadline import Deadline

#: How long to wait for the connection, in seconds.
CONNECT_S = 10.0


def own_link(url: str | None, role: str) -> Link:
    """A link that is up.

    Args:
        url: the server's address, or None.
        role: what it is for, for the server's CLIENT LIST.

    Raises:
        ServerUnavailable: the server cannot be reached.
    """
    link = Link(shared.resolve_url(url), shared.connection_name(role))
    link.start()
    try:
        link.ensure_up(Deadline.after(CONNECT_S))
    except BaseException:
        link.close()
        raise
    return link
