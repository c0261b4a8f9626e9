"""How requests reach a service: written by each service at its start, read by whoever sends to it.

It stays on the server when the service is down, so that a message can be stored for it meanwhile.
"""

from __future__ import annotations

from typing import Self

import hiredis
import msgspec

from daebus.bus.commands import ServerReply
from daebus.bus.link import Link
from daebus.channels import durable_key, mode_key
from daebus.deadline import Deadline
from daebus.errors import ServerUnavailable

PUBSUB = "pubsub"
STREAM = "stream"


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender has to know of a service."""

    #: How requests reach it.
    delivery: str = PUBSUB
    #: How many messages its inbox may hold.
    max_inbox: int = 1_000_000
    #: How long the id of a message is remembered, in milliseconds.
    window_ms: int = 300_000
    #: What stored messages survive: `memory`, `crash`, `power` or `replicas=N`.
    durability: str = "memory"
    #: The channels that it listens to durably.
    channels: tuple[str, ...] = ()

    @property
    def has_inbox(self) -> bool:
        """Whether anything is stored for it."""
        return self.delivery == STREAM or bool(self.channels)

    @property
    def replicas(self) -> int:
        """How many replicas of the server must have a message before it counts as stored."""
        name, _, count = self.durability.partition("=")
        return int(count) if name == "replicas" and count.isdecimal() else 0

    @classmethod
    def parse(cls, reply: ServerReply | dict[bytes, bytes]) -> Self | None:
        """Read the answer to HGETALL; None when there is no such service, or no right to look."""
        if not isinstance(reply, dict) or not reply:
            return None
        try:
            fields = {key.decode(): value.decode() for key, value in reply.items()}
            channels = fields.pop("channels", "[]")
            known = msgspec.json.decode(channels, type=tuple[str, ...])
            return msgspec.convert({**fields, "channels": known}, cls, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None  # Not ours: somebody else's key of that name.

    def fields(self) -> list[bytes]:
        """The hash, as the arguments of HSET."""
        values = {
            **msgspec.structs.asdict(self),
            "channels": msgspec.json.encode(self.channels).decode(),
        }
        return [word.encode() for key, value in values.items() for word in (key, str(value))]


def read_mode(link: Link, deadline: Deadline, service: str) -> Mode | None:
    """How requests reach a service; None when it never was there, or nothing may be read.

    Raises:
        ServerUnavailable: the connection was lost.
        CallTimeout: the server did not answer in time.
    """
    return Mode.parse(link.ask(deadline, b"HGETALL", mode_key(service).encode()))


def announce(link: Link, deadline: Deadline, service: str, mode: Mode) -> None:
    """Say how requests reach this service, and which channels it listens to durably.

    It leaves the channels that it listened to before, but does not any more.

    Raises:
        ServerUnavailable: the connection was lost, or the server refused what callers must know:
            only a service without an inbox is found without it.
        CallTimeout: the server did not answer in time.
    """
    before = read_mode(link, deadline, service)
    reply = link.ask(deadline, b"HSET", mode_key(service).encode(), *mode.fields())
    known = before is not None and before.delivery == mode.delivery
    if _is_refused(reply, is_known=known) and mode.has_inbox:
        raise ServerUnavailable(
            link.address, f"it refused to keep how {service!r} works: {reply!r}"
        )
    old_channels = before.channels if before is not None else ()
    for channel in mode.channels:
        reply = link.ask(deadline, b"SADD", durable_key(channel).encode(), service.encode())
        if _is_refused(reply, is_known=channel in old_channels):
            raise ServerUnavailable(
                link.address, f"it refused a durable listener to {channel!r}: {reply!r}"
            )
    for channel in set(old_channels) - set(mode.channels):
        link.ask(deadline, b"SREM", durable_key(channel).encode(), service.encode())


def _is_refused(reply: ServerReply, *, is_known: bool) -> bool:
    """Whether it matters that the server refused: not if its memory is full and it knows it."""
    if not isinstance(reply, hiredis.ReplyError):
        return False
    return not (is_known and str(reply).startswith("OOM"))
