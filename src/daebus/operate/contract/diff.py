"""What differs between two contracts, and which of it breaks those who rely on the older one. Pure.

Who sends relies on what a service takes: to take less breaks them. Who reads relies on what it
gives: to give more than before breaks them. One table says which rule breaks whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from daebus.contracts import ActionContract, ChannelContract, Contract, Schema
from daebus.operate.contract.differences import Difference, Rule
from daebus.operate.contract.schema_diff import compare


class Part(Enum):
    """The part of a contract that has changed."""

    PAYLOAD = "payload"
    RESULT = "result"


#: Whether a change breaks those who send a payload, and those who read a result.
BREAKS: dict[Rule, dict[Part, bool]] = {
    Rule.NARROWED: {Part.PAYLOAD: True, Part.RESULT: False},
    Rule.WIDENED: {Part.PAYLOAD: False, Part.RESULT: True},
    Rule.CHANGED: {Part.PAYLOAD: True, Part.RESULT: True},
    Rule.REQUIRED_FIELD_ADDED: {Part.PAYLOAD: True, Part.RESULT: False},
    Rule.OPTIONAL_FIELD_ADDED: {Part.PAYLOAD: False, Part.RESULT: False},
    Rule.FIELD_REMOVED: {Part.PAYLOAD: False, Part.RESULT: True},  # Unknown fields are ignored.
    Rule.FIELD_NOW_REQUIRED: {Part.PAYLOAD: True, Part.RESULT: False},
    Rule.FIELD_NOW_OPTIONAL: {Part.PAYLOAD: False, Part.RESULT: True},
    Rule.DEFAULT_CHANGED: {Part.PAYLOAD: False, Part.RESULT: False},
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change from one contract to another."""

    #: What has changed: `service`, `action NAME` or `channel NAME`.
    subject: str
    #: `payload` or `result`; None for what is about the whole.
    part: str | None = None
    #: Where in it, such as `$.order.items[...].price`.
    path: str | None = None
    #: The rule that judged it.
    rule: str
    is_breaking: bool
    text: str


def changes_between(old: Contract, new: Contract) -> list[Change]:
    """Each change, in the order of the older contract; what is new stands last.

    Example:
        >>> changes_between(contract, contract)
        []
    """
    return [
        *_of_the_service(old, new),
        *_of_actions(old, new),
        *_of_channels(old, new),
    ]


def _of_the_service(old: Contract, new: Contract) -> Iterator[Change]:
    if old.service != new.service:
        yield _told("service", "renamed", f"was {old.service!r}, is {new.service!r}", breaks=True)
    if old.delivery != new.delivery:
        # What a stream has accepted outlives a restart; callers rely on that, not on its absence.
        text = f"delivery was {old.delivery}, is {new.delivery}"
        yield _told("service", "delivery-changed", text, breaks=old.delivery == "stream")
    if old.wire_version != new.wire_version:
        # Readers refuse messages of a version that they do not know.
        text = f"the wire format's version was {old.wire_version}, is {new.wire_version}"
        yield _told("service", "wire-version-changed", text, breaks=True)


def _of_actions(old: Contract, new: Contract) -> Iterator[Change]:
    after = {action.name: action for action in new.actions}
    for action in old.actions:
        subject = f"action {action.name}"
        if action.name in after:
            yield from _of_action(subject, action, after.pop(action.name), _comparing(old, new))
        else:
            yield _told(subject, "action-removed", "was removed", breaks=True)
    for name in after:
        yield _told(f"action {name}", "action-added", "is new")


#: Compares two schemas of the two contracts.
Comparing = Callable[[Schema, Schema], list[Difference]]


def _comparing(old: Contract, new: Contract) -> Comparing:
    return lambda before, after: compare(before, after, old.schemas, new.schemas)


def _of_action(
    subject: str, old: ActionContract, new: ActionContract, compared: Comparing
) -> Iterator[Change]:
    yield from _judged(subject, Part.PAYLOAD, compared(old.payload, new.payload))
    yield from _judged(subject, Part.RESULT, compared(old.result, new.result))
    if old.timeout_s != new.timeout_s:
        text = f"the time limit was {_seconds(old.timeout_s)}, is {_seconds(new.timeout_s)}"
        yield _told(subject, "timeout-changed", text)


def _of_channels(old: Contract, new: Contract) -> Iterator[Change]:
    after = {channel.channel: channel for channel in new.channels}
    for channel in old.channels:
        subject = f"channel {channel.channel}"
        if channel.channel in after:
            yield from _of_channel(
                subject, channel, after.pop(channel.channel), _comparing(old, new)
            )
        else:
            yield _told(subject, "channel-removed", "is no longer listened to", breaks=True)
    for name in after:
        yield _told(f"channel {name}", "channel-added", "is listened to now")


def _of_channel(
    subject: str, old: ChannelContract, new: ChannelContract, compared: Comparing
) -> Iterator[Change]:
    yield from _judged(subject, Part.PAYLOAD, compared(old.payload, new.payload))
    if old.is_durable and not new.is_durable:
        text = "no longer durable: what is published while the service is down is lost"
        yield _told(subject, "durability-lost", text, breaks=True)
    elif new.is_durable and not old.is_durable:
        yield _told(subject, "durability-gained", "is durable now")


def _judged(subject: str, part: Part, differences: list[Difference]) -> Iterator[Change]:
    for difference in differences:
        if difference.rule is Rule.DEFAULT_CHANGED and part is Part.RESULT:
            continue  # A default is for who sends.
        yield Change(
            subject=subject,
            part=part.value,
            path=difference.path,
            rule=difference.rule.value,
            is_breaking=BREAKS[difference.rule][part],
            text=difference.text,
        )


def _told(subject: str, rule: str, text: str, *, breaks: bool = False) -> Change:
    return Change(subject=subject, rule=rule, is_breaking=breaks, text=text)


def _seconds(timeout_s: float | None) -> str:
    return "none" if timeout_s is None else f"{timeout_s:g} s"
