"""What the gateway lets through: nothing but what was named. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from daebus.channels import BUILT_IN_PREFIX, check_name, is_internal, is_pattern
from daebus.errors import SettingsError

#: A choice of characters that Python and the server read alike. `[!a]` is "not a" for the one and
#: `[^a]` for the other, which would let through the very names that were to be left out.
_CHOICE = re.compile(r"\[[^]\[!^\\]+\]")


class Exposed:
    """The actions and channels that were named.

    Args:
        actions: `SERVICE` for all its actions, or `SERVICE.ACTION`; `SERVICE/ACTION` where the
            service's name has a dot. Both may be patterns, such as `shop.get_*`.
        channels: names of channels, or patterns, that may be listened to.
        publish: … that may be published to.

    Raises:
        SettingsError: a name is none, or a pattern is more than `*`, `?` and `[abc]`.

    Example:
        >>> exposed = Exposed(["calculator", "shop.get_*"])
        >>> exposed.has_action("shop", "get_order"), exposed.has_action("shop", "delete_order")
        (True, False)
        >>> exposed.has_action("calculator", "daebus.drain")
        False
    """

    def __init__(
        self, actions: Iterable[str], channels: Iterable[str] = (), publish: Iterable[str] = ()
    ) -> None:
        self._actions = [_parted(each) for each in actions]
        self.channels = [_checked("channel", each) for each in channels]
        self.publish = [_checked("channel", each) for each in publish]

    def has_action(self, service: str, action: str) -> bool:
        """Whether an action may be called; a built-in one only if its name was begun with."""
        return any(
            fnmatchcase(service, services)
            and fnmatchcase(action, actions)
            and (actions.startswith(BUILT_IN_PREFIX) or not action.startswith(BUILT_IN_PREFIX))
            for services, actions in self._actions
        )

    def has_service(self, service: str) -> bool:
        """Whether any action of a service may be called."""
        return any(fnmatchcase(service, services) for services, _ in self._actions)

    def has_channel(self, channel: str) -> bool:
        """Whether a channel may be listened to: no internal one, and a pattern only as named."""
        return _has(self.channels, channel)

    def may_publish(self, channel: str) -> bool:
        """Whether a channel may be published to; a pattern is no channel."""
        return not is_pattern(channel) and _has(self.publish, channel)


def _has(patterns: list[str], channel: str) -> bool:
    if is_internal(channel):
        return False
    if is_pattern(channel):
        # The server would read it as a pattern, which may reach further than it looks.
        return channel in patterns
    return any(fnmatchcase(channel, pattern) for pattern in patterns)


def _parted(text: str) -> tuple[str, str]:
    """A service and an action, or patterns for them."""
    service, separator, action = text.partition("/" if "/" in text else ".")
    if not service or (separator and not action):
        raise SettingsError(
            f"{text!r} names nothing that can be exposed: write SERVICE for all of its actions, "
            f"or SERVICE.ACTION"
        )
    return _checked("service", service), _checked("action", action) if separator else "*"


def _checked(kind: str, name: str) -> str:
    """A name, or a pattern that means the same here and on the server."""
    if is_pattern(name) and ("\\" in name or "[" in _CHOICE.sub("", name)):
        raise SettingsError(
            f"the pattern {name!r} cannot be exposed: it may have *, ? and [abc], but neither "
            f"[!abc], [^abc] nor \\, which not all read alike. Name what is meant instead"
        )
    return check_name(kind, name)
