"""A look at what the server knows of a service: how it takes requests, and which replicas live.

Two questions, one after the other, and a third one where the first two find nobody. All replies
come in the link's reader thread; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daebus.bus.commands import Asked
from daebus.bus.link import Link
from daebus.bus.mode import STREAM, Mode
from daebus.bus.presence import Replica, decode_replica
from daebus.channels import (
    mode_key,
    presence_key,
    replica_channel,
    replica_channels,
    replicas_key,
)
from daebus.errors import DaebusError

#: What a question got: the server's replies (its refusals are values, too), or why there are none.
Replies = list[Any]


@dataclass
class Found:
    """What a look has found."""

    #: How requests reach the service, if it ever said so.
    mode: Mode | None = None
    #: The replicas that take requests on channels of their own, by id, with their last beat.
    replicas: dict[str, Replica | None] = field(default_factory=dict)


class Look:
    """One look.

    Args:
        link: whom to ask.
        service: the service.
        then: takes what was found, or the error that came instead.
    """

    def __init__(
        self, link: Link, service: str, then: Callable[[Found | DaebusError], object]
    ) -> None:
        self._link = link
        self._service = service
        self._then = then
        self._found = Found()
        self._ids: list[str] = []

    def start(self) -> None:
        """Ask the first question."""
        self._ask(
            self._take_names,
            ("ZRANGE", replicas_key(self._service), 0, -1),
            ("HGETALL", mode_key(self._service)),
        )

    def _take_names(self, replies: Replies) -> None:
        names, mode = replies
        self._found.mode = Mode.parse(mode)
        if self._found.mode is not None and self._found.mode.delivery == STREAM:
            self._then(self._found)
        elif isinstance(names, list) and names:
            self._ids = [name.decode(errors="replace") for name in names]
            channels = [replica_channel(self._service, each) for each in self._ids]
            keys = [presence_key(self._service, each) for each in self._ids]
            self._ask(self._take_states, ("PUBSUB", "NUMSUB", *channels), ("MGET", *keys))
        else:
            self._ask_for_channels()

    def _take_states(self, replies: Replies) -> None:
        counts, beats = replies
        if not isinstance(beats, list):  # No right to these keys.
            beats = [None] * len(self._ids)
        states = dict(zip(self._ids, map(decode_replica, beats), strict=True))
        if isinstance(counts, list):
            subscribed = dict(zip(self._ids, counts[1::2], strict=True))
            states = {each: beat for each, beat in states.items() if subscribed[each]}
        # One that subscribes and has no presence is about to start, or hangs: only if need be.
        living = {each: beat for each, beat in states.items() if beat is not None}
        if living or isinstance(counts, list):
            self._found.replicas = {**living} or states
        if self._found.replicas:
            self._then(self._found)
        else:
            self._ask_for_channels()

    def _ask_for_channels(self) -> None:
        """The truth, whatever stands in the keys; it costs the server a look at each channel."""
        self._ask(self._take_channels, ("PUBSUB", "CHANNELS", replica_channels(self._service)))

    def _take_channels(self, replies: Replies) -> None:
        (channels,) = replies
        if isinstance(channels, list):
            start = len(replica_channel(self._service, "").encode())
            names = [channel[start:].decode(errors="replace") for channel in channels]
            self._found.replicas = dict.fromkeys(names)
        self._then(self._found)

    def _ask(
        self, then: Callable[[Replies], None], *questions: tuple[str | bytes | int, ...]
    ) -> None:
        """Send questions together, and go on when all are answered."""
        replies: Replies = [None] * len(questions)

        def take(number: int, reply: Any) -> None:
            replies[number] = reply
            if number < len(questions) - 1:
                return  # Replies come in the order of their questions.
            if isinstance(reply, DaebusError):
                self._then(reply)
            else:
                then(replies)

        try:
            self._link.send_all(
                [Asked(partial(take, number), *each) for number, each in enumerate(questions)]
            )
        except DaebusError as error:
            self._then(error)
