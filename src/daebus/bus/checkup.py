"""What to know about a server that daebus did not start itself: settings that lose messages."""

from __future__ import annotations

import hiredis

from daebus.bus.commands import ServerReply
from daebus.bus.link import Link
from daebus.channels import dead_key, inbox_key
from daebus.deadline import Deadline
from daebus.errors import DaebusError

#: A subscriber's output buffer should hold this much before the server cuts it off, in bytes.
ENOUGH_BYTES = 48 * 1024 * 1024

_LIMIT = b"client-output-buffer-limit"
_NO_COPY = b"min-string-size-avoid-copy-reply"


def warnings(link: Link, deadline: Deadline) -> list[str]:
    """What is worth a warning about the server's settings, with the command that changes it.

    A server that does not allow CONFIG tells nothing.
    """
    found = []
    try:
        limits = _config(link, deadline, _LIMIT)
        no_copy = _config(link, deadline, _NO_COPY)
    except DaebusError:
        return []
    limit = _pubsub_limit(limits or b"")
    if 0 < limit < ENOUGH_BYTES:
        found.append(
            f"the server cuts off a subscriber that is {limit / 1024 / 1024:.0f} MiB behind, "
            f"and what it had waiting is lost; allow more with: CONFIG SET "
            f"client-output-buffer-limit 'pubsub 256mb 64mb 60'"
        )
    if no_copy not in (None, b"0"):
        # Measured with Valkey 9.1: larger messages are sent by reference and not counted.
        found.append(
            f"messages of {int(no_copy):,} bytes and more are not counted in the output buffer of "
            f"a subscriber, so a slow one can fill the server's memory; count them with: "
            f"CONFIG SET {_NO_COPY.decode()} 0"
        )
    return found


def subscribers(link: Link, channel: str, deadline: Deadline) -> int:
    """How many subscribe to a channel; 0 when the server does not tell."""
    try:
        reply = link.ask(deadline, b"PUBSUB", b"NUMSUB", channel.encode())
    except DaebusError:
        return 0
    return reply[1] if isinstance(reply, list) and isinstance(reply[1], int) else 0


def forgotten(link: Link, service: str, deadline: Deadline) -> int:
    """How many messages wait for a service in an inbox; 0 when the server does not tell."""
    try:
        reply = link.ask(deadline, b"XLEN", inbox_key(service).encode())
    except DaebusError:
        return 0
    return reply if isinstance(reply, int) else 0


def stored(link: Link, service: str, deadline: Deadline) -> tuple[int, int] | None:
    """How many messages are in a service's inbox, and among its dead letters.

    None when the server does not tell.
    """
    try:
        counts = [
            link.ask(deadline, b"XLEN", key.encode())
            for key in (inbox_key(service), dead_key(service))
        ]
    except DaebusError:
        return None
    inbox, dead = counts
    return (inbox, dead) if isinstance(inbox, int) and isinstance(dead, int) else None


def _config(link: Link, deadline: Deadline, name: bytes) -> bytes | None:
    reply: ServerReply | dict[bytes, bytes] = link.ask(deadline, b"CONFIG", b"GET", name)
    if isinstance(reply, hiredis.ReplyError) or not isinstance(reply, dict):
        return None
    return reply.get(name)


def _pubsub_limit(limits: bytes) -> int:
    """The hard limit in `normal 0 0 0 … pubsub 33554432 8388608 60`; 0 means none."""
    words = limits.split()
    return int(words[words.index(b"pubsub") + 1]) if b"pubsub" in words else 0
