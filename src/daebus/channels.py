"""The names on the server: channels, keys, and which channels may be answered. Pure functions."""

from __future__ import annotations

import re
from functools import lru_cache

from daebus.errors import SettingsError

#: Where our callers wait for replies.
REPLY_PREFIX = "caller_"

#: Replies go only to channels that begin so: with any name allowed, anyone could make a service
#: publish into another service's channel. Callers of daebus 0.0.31 wait on `caller:…`.
ANSWERED_PREFIXES = (REPLY_PREFIX, "caller:")

_REPLY_CHANNEL = re.compile(r"caller[_:][A-Za-z0-9_.:\-]{1,121}")

#: Actions whose names begin so are those that every service has.
BUILT_IN_PREFIX = "daebus."

#: Longest name of a service, channel or action, in characters. Far above any real name, and short
#: enough to stand in a log line.
MAX_NAME_LENGTH = 200

#: Every presence key, as a pattern for SCAN.
ALL_PRESENCE_KEYS = "daebus:{*}:replica:*"

#: Every inbox, as a pattern for SCAN.
ALL_INBOX_KEYS = "daebus:{*}:inbox"


@lru_cache(maxsize=4096)
def is_reply_channel(name: str) -> bool:
    """Whether a reply may be published to this channel (at most 128 characters)."""
    return _REPLY_CHANNEL.fullmatch(name) is not None


def is_pattern(channel: str) -> bool:
    """Whether it is a glob-style pattern, such as `events.*`."""
    return any(char in channel for char in "*?[")


def is_internal(channel: str) -> bool:
    """Whether it carries what services and callers say to each other, and is nobody else's."""
    return channel.startswith((REPLY_PREFIX, "daebus:"))


def check_name(kind: str, name: str) -> str:
    """Return `name`, or raise when it cannot be the name of a service, channel or action.

    Args:
        kind: what is named, for the error's text.
        name: the name to check.

    Raises:
        SettingsError: it is empty, too long, not text, or has characters that do not print.

    Example:
        >>> check_name("service", "billing")
        'billing'
    """
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{_one(kind)} needs a name: a text that is not empty, got {name!r}")
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise SettingsError(
            f"{name[:50]!r} cannot name {_one(kind)}: use printable characters, "
            f"{MAX_NAME_LENGTH} at most"
        )
    return name


def _one(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def check_service_name(name: str) -> str:
    """Return `name`, or raise `SettingsError` when it cannot be the name of a service."""
    check_name("service", name)
    if name.startswith(ANSWERED_PREFIXES):
        raise SettingsError(
            f"{name!r} cannot name a service: channels that begin with {name[:7]!r} are the "
            f"reply channels of callers"
        )
    return name


def _named(service: str, rest: str) -> str:
    """A name on the server that belongs to a service.

    The braces make a hash tag: all keys of a service share one slot of a cluster (Redis Cluster
    specification, "Hash tags").
    """
    return f"daebus:{{{service}}}:{rest}"


def presence_key(service: str, replica_id: str) -> str:
    """The key that says that one replica is alive."""
    return _named(service, f"replica:{replica_id}")


def replicas_key(service: str) -> str:
    """The sorted set of a service's replicas, by the time of their last sign of life."""
    return _named(service, "replicas")


def mode_key(service: str) -> str:
    """The hash that says how requests reach a service; it stays when the service is down."""
    return _named(service, "mode")


def replica_channel(service: str, replica_id: str) -> str:
    """The channel of one replica, on which it takes the requests that a caller gave to it."""
    return _named(service, f"to:{replica_id}")


def alive_channel(service: str, replica_id: str) -> str:
    """A channel on which nothing is said: who subscribes to it lives, also while it stops."""
    return _named(service, f"alive:{replica_id}")


def replica_channels(service: str) -> str:
    """The channels of all replicas of a service, as a pattern with glob characters escaped."""
    return _named(_escaped(service), "to:*")


def control_channel(service: str) -> str:
    """The channel on which all replicas hear what concerns whichever of them has a request."""
    return _named(service, "control")


def inbox_key(service: str) -> str:
    """The stream in which a service's durable messages wait."""
    return _named(service, "inbox")


def dead_key(service: str) -> str:
    """The stream of the messages that failed too often."""
    return _named(service, "dead")


def sent_key(service: str, message_id: str) -> str:
    """The key that says that a message of this id is in the inbox, or was, a short while ago."""
    return _named(service, f"id:{message_id}")


def answer_key(service: str, action: str, idempotency_key: str) -> str:
    """The key that holds the answer to an action's first request with this idempotency key."""
    # Both names may have colons: its length says where the first one ends.
    return _named(service, f"answer:{len(action)}:{action}:{idempotency_key}")


def task_key(service: str, task: str) -> str:
    """The hash of a background task that runs once among all replicas."""
    return _named(service, f"task:{task}")


def durable_key(channel: str) -> str:
    """The set of the services that listen to a channel durably."""
    return f"daebus:{{{channel}}}:durable"


def presence_pattern(service: str) -> str:
    """The presence keys of one service, as a pattern for SCAN, with glob characters escaped."""
    return _named(_escaped(service), "replica:*")


def _escaped(service: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", service)
