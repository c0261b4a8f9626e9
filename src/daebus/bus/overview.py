"""What the server knows of all services at once: who is alive, and what waits or has died there.

One connection that is kept, and one round trip for all services. For one thread at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import redis

from daebus.bus.connection import advice, check_url, client, display
from daebus.bus.presence import EXPIRE_S, Replica, decode_replica
from daebus.channels import ALL_INBOX_KEYS, ALL_PRESENCE_KEYS, dead_key, inbox_key
from daebus.errors import ServerUnavailable

T = TypeVar("T")

#: The longest wait for the server, in seconds: who looks on wants to be told soon.
TIMEOUT_S = 3.0

#: A search walks through all keys of the server; it may take this share of the time.
SEARCH_SHARE = 0.05

_PRESENCE_KEY = re.compile(r"daebus:\{(.*)\}:replica:[^:]*", re.DOTALL)
_INBOX_KEY = re.compile(r"daebus:\{(.*)\}:inbox", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a replica said of itself last, and how long ago that was, in seconds."""

    replica: Replica
    age_s: float


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the server keeps for a service: messages that nobody has yet, and dead ones.

    None where there is no inbox, or the server does not tell.
    """

    waiting: int | None = None
    dead: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a server."""

    beats: list[Beat] = field(default_factory=list)
    #: By service.
    inboxes: dict[str, Inbox] = field(default_factory=dict)


class Overview:
    """Looks at a server again and again.

    Args:
        url: the server's address.

    Raises:
        SettingsError: the address makes no sense.
    """

    def __init__(self, url: str) -> None:
        self._url = check_url(url)
        self._server: redis.Redis | None = None
        self._search_at = 0.0
        self._keys: set[bytes] = set()
        self._services: set[str] = set()

    def look(self) -> Seen:
        """What is there now.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached or refused; the next look tries again.
        """
        return self._try(self._ask)

    def replicas(self) -> list[Replica]:
        """The replicas that are alive, ordered by service and start.

        What `find_replicas` gives, without a walk through all keys each time: on a server with
        very many of them a new replica is found some seconds later.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached or refused; the next look tries again.
        """
        return self._try(self._ask_for_replicas)

    def close(self) -> None:
        """Close the connection; another look opens it again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _try(self, ask: Callable[[redis.Redis], T]) -> T:
        try:
            if self._server is None:
                self._server = client(self._url, timeout_s=TIMEOUT_S)
                self._search_at = 0.0
            if monotonic() >= self._search_at:
                self._search(self._server)
            return ask(self._server)
        except redis.RedisError as error:
            self.close()
            raise ServerUnavailable(display(self._url), advice(self._url, error)) from None

    def _search(self, server: redis.Redis) -> None:
        began = monotonic()
        keys = set(server.scan_iter(match=ALL_PRESENCE_KEYS, count=1000))
        inboxes = set(server.scan_iter(match=ALL_INBOX_KEYS, count=1000))
        named = {key: _service_of(key, _PRESENCE_KEY) for key in keys}
        self._keys = {key for key, service in named.items() if service is not None}
        found = {*named.values(), *(_service_of(key, _INBOX_KEY) for key in inboxes)}
        self._services = {service for service in found if service is not None}
        now = monotonic()
        self._search_at = now + (now - began) / SEARCH_SHARE

    def _ask_for_replicas(self, server: redis.Redis) -> list[Replica]:
        keys = list(self._keys)
        values = server.mget(keys) if keys else []
        found = [_replica(key, value) for key, value in zip(keys, values, strict=True)]
        living = [replica for replica in found if replica is not None]
        return sorted(living, key=lambda replica: (replica.service, replica.started_at))

    def _ask(self, server: redis.Redis) -> Seen:
        keys, services = sorted(self._keys), sorted(self._services)
        pipeline = server.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
            pipeline.pttl(key)
        for service in services:
            pipeline.xlen(inbox_key(service))
            # The group has the service's name (see `group`).
            pipeline.xpending(inbox_key(service), service)
            pipeline.xlen(dead_key(service))
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        _check(replies)
        figures = len(keys) * 2
        beats = [
            beat
            for at, key in enumerate(keys)
            if (beat := _beat(key, replies[2 * at], replies[2 * at + 1])) is not None
        ]
        inboxes = {
            service: _inbox(replies[figures + 3 * at : figures + 3 * at + 3])
            for at, service in enumerate(services)
        }
        return Seen(beats, inboxes)


def _check(replies: Sequence[Any]) -> None:
    """Single figures may be refused; but who may not read presence keys at all is to be told."""
    errors = [reply for reply in replies if isinstance(reply, redis.RedisError)]
    if errors and len(errors) == len(replies):
        raise errors[0]


def _service_of(key: bytes, pattern: re.Pattern[str]) -> str | None:
    """The service whose key it is; None for a key that only looks like one."""
    try:
        match = pattern.fullmatch(key.decode())
    except UnicodeDecodeError:
        return None
    return match[1] if match else None


def _replica(key: bytes, data: object) -> Replica | None:
    """What stands there; None if it has expired, or is foreign."""
    replica = decode_replica(data)
    return replica if replica and replica.service == _service_of(key, _PRESENCE_KEY) else None


def _beat(key: bytes, data: object, expires_ms: object) -> Beat | None:
    replica = _replica(key, data)
    if replica is None:
        return None
    left_s = expires_ms / 1000 if isinstance(expires_ms, int) and expires_ms > 0 else EXPIRE_S
    return Beat(replica, max(EXPIRE_S - left_s, 0.0))


def _inbox(replies: Sequence[Any]) -> Inbox:
    stored, pending, dead = replies
    if isinstance(stored, redis.RedisError):
        return Inbox(dead=dead if isinstance(dead, int) else None)
    taken = pending["pending"] if isinstance(pending, dict) else 0
    has_group = isinstance(pending, dict)
    return Inbox(
        max(stored - taken, 0) if has_group or stored else None,
        dead if isinstance(dead, int) else None,
    )
