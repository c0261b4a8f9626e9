"""The settings of librdkafka: those given, the defaults beside them, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from turbo_queue.errors import SettingsError
from turbo_queue.settings import kafka_bootstrap

#: Of both clients. Reconnecting begins at once and is tried at least once a second: the default
#: of 10 s would leave a broker that is back unused for so long. Each of these tries would be a
#: line of the log at level 3; what matters of them is reported to `Troubles`.
_BOTH = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000, "log_level": 2}

_CONSUMER = {
    "auto.offset.reset": "earliest",  # A new group begins with the oldest event, not after it.
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
}

#: Partitions that a member keeps go on during a rebalance.
_CLASSIC_CONSUMER = {"partition.assignment.strategy": "cooperative-sticky"}

_PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 20,
    "compression.type": "lz4",
    "delivery.report.only.error": True,
}

_ALIASES = {
    "request.required.acks": "acks",
    "auto.commit.enable": "enable.auto.commit",
    "metadata.broker.list": "bootstrap.servers",
    "compression.codec": "compression.type",
    "queue.buffering.max.ms": "linger.ms",
}

_Check = Callable[[Any], bool]


def _is_off(value: Any) -> bool:
    return str(value).lower() in {"false", "f", "0"}


def _is_on(value: Any) -> bool:
    return str(value).lower() in {"true", "t", "1"}


def _is_all(value: Any) -> bool:
    return str(value).lower() in {"all", "-1"}


def _is_never(_value: Any) -> bool:
    return False


_OWN = "the connector sets it itself"

#: What is allowed, and why nothing else is.
_RULES_OF_BOTH: dict[str, tuple[_Check, str]] = {
    "bootstrap.servers": (_is_never, "give it as bootstrap_servers="),
    "default.topic.config": (_is_never, "give what it holds as settings of their own"),
    "error_cb": (_is_never, _OWN),
    "logger": (_is_never, _OWN),
}

_RULES_OF_CONSUMERS: dict[str, tuple[_Check, str]] = _RULES_OF_BOTH | {
    "group.id": (_is_never, "give it as group="),
    "enable.auto.commit": (
        _is_off,
        "an offset may be committed only once its event is on disk, or a kill would lose it",
    ),
    "enable.auto.offset.store": (
        _is_off,
        "an offset may be committed only once its event is on disk, or a kill would lose it",
    ),
    "on_commit": (_is_never, _OWN),
}

_RULES_OF_PRODUCERS: dict[str, tuple[_Check, str]] = _RULES_OF_BOTH | {
    "acks": (
        _is_all,
        "an event is removed from the queue only once all replicas have it; it must be 'all'",
    ),
    "delivery.report.only.error": (_is_on, _OWN),
    "on_delivery": (_is_never, _OWN),
    "dr_cb": (_is_never, _OWN),
    "transactional.id": (_is_never, "events are written at least once, without transactions"),
}


def of_consumer(group: str, bootstrap: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a consumer.

    Raises:
        SettingsError: one of those given would break a promise.
    """
    checked = _checked(given, _RULES_OF_CONSUMERS)
    is_classic = str(checked.get("group.protocol", "classic")).lower() == "classic"
    defaults = _BOTH | _CONSUMER | (_CLASSIC_CONSUMER if is_classic else {})
    own = {"bootstrap.servers": bootstrap or kafka_bootstrap(), "group.id": group}
    return defaults | checked | own


def of_producer(bootstrap: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a producer.

    Raises:
        SettingsError: one of those given would break a promise.
    """
    checked = _checked(given, _RULES_OF_PRODUCERS)
    own = {"bootstrap.servers": bootstrap or kafka_bootstrap()}
    return _BOTH | _PRODUCER | checked | own


def _checked(given: Mapping[str, Any], rules: dict[str, tuple[_Check, str]]) -> dict[str, Any]:
    checked = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise SettingsError(f"a setting of Kafka is named {name!r}; names are str")
        if isinstance(value, Mapping):
            raise SettingsError(
                f"{name!r} is a table; in TOML a name with dots is in quotes, such as "
                f'"{_dotted(name, value)}" = ...'
            )
        real = _ALIASES.get(name, name)
        is_allowed, reason = rules.get(real, (None, ""))
        if is_allowed is not None and not is_allowed(value):
            raise SettingsError(f"{name!r} cannot be set to {value!r}: {reason}")
        checked[real] = value
    return checked


def _dotted(name: str, value: Any) -> str:
    """The name that a table within tables stands for."""
    while isinstance(value, Mapping) and value:
        part, value = next(iter(value.items()))
        name = f"{name}.{part}"
    return name
