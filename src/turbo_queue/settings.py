"""Settings: the argument, then the environment, then the default. The only reader of os.environ."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple, Self

from turbo_queue.errors import SettingsError

MIB = 1024 * 1024

#: SQLite keeps a database in memory up to 1 GiB (SQLITE_CONFIG_MEMDB_MAXSIZE), and a batch is
#: built in memory; an event must leave room for the rest of its batch.
LARGEST_EVENT_BYTES = 512 * MIB

_LAST_PORT = 65_535

#: The number of finished events is kept in four signed bytes of a batch file (`user_version`).
MOST_EVENTS_PER_FILE = 10_000_000

#: Where metrics are served: only programs of this machine can reach it, unless asked for.
LOOPBACK = "127.0.0.1"

_PLACEHOLDER = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue is used. Each process may use its own; a batch says itself how to read it.

    Args:
        codec: How events become bytes: `json`, `msgpack`, `raw` (bytes and str as they are) or
            `pickle`, which runs code from whoever may write to the folder and so must be named.
        max_events_per_file: A batch is full with this many events.
        max_batch_bytes: … or with this many bytes.
        max_batch_age: Seconds after which a batch is made ready, however few events it has. While
            consumers wait for work it is made ready within milliseconds.
        max_ready_files: Producers wait while this many batches are ready; `None`: they never wait.
        max_event_bytes: Larger events are refused.
        fsync: Make a batch survive a loss of power, too. Costs a few milliseconds a batch.
        checkpoint: A consumer that is killed repeats at most this many events.
        max_failures: A batch that fails this many times in a row at the same event goes to the
            dead ones.
    """

    codec: str = "json"
    max_events_per_file: int = 10_000
    max_batch_bytes: int = 4 * MIB
    max_batch_age: float = 1.0
    max_ready_files: int | None = None
    max_event_bytes: int = 128 * MIB
    fsync: bool = False
    checkpoint: int = 100
    max_failures: int = 5

    def __post_init__(self) -> None:
        _check_number("max_events_per_file", self.max_events_per_file, 1, MOST_EVENTS_PER_FILE)
        _check_number("max_batch_bytes", self.max_batch_bytes, 1, LARGEST_EVENT_BYTES)
        _check_number("max_event_bytes", self.max_event_bytes, 1, LARGEST_EVENT_BYTES)
        _check_number("checkpoint", self.checkpoint, 1, MOST_EVENTS_PER_FILE)
        _check_number("max_failures", self.max_failures, 1, 1_000_000)
        if self.max_ready_files is not None:
            _check_number("max_ready_files", self.max_ready_files, 1, 1_000_000_000)
        age = self.max_batch_age
        if isinstance(age, bool) or not isinstance(age, int | float) or not 0 < age < float("inf"):
            raise SettingsError(f"max_batch_age is {age!r}; it must be a number of seconds above 0")
        if not isinstance(self.fsync, bool):
            raise SettingsError(f"fsync is {self.fsync!r}; it must be True or False")
        if not isinstance(self.codec, str):
            raise SettingsError(f"codec is {self.codec!r}; it must be a codec's name")

    @classmethod
    def of(cls, **given: Any) -> Self:
        """The settings given, else those of the environment (`TURBO_QUEUE_<NAME>`), else defaults.

        Raises:
            SettingsError: a value makes no sense, or there is no such setting.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise SettingsError(
                f"there is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}"
            )
        chosen = {
            name: text
            for name in known
            if (text := os.environ.get(f"TURBO_QUEUE_{name.upper()}")) is not None
        }
        values: dict[str, Any] = {name: _parse(name, text) for name, text in chosen.items()}
        return cls(**values | {name: value for name, value in given.items() if value is not None})


class Address(NamedTuple):
    """Where something is served."""

    host: str
    port: int


def metrics_address(port: int | None = None, host: str | None = None) -> Address | None:
    """Where metrics are served: as given, else as `TURBO_QUEUE_METRICS_PORT` and `_HOST` say.

    Args:
        port: Its number; 0 for any that is free; None if nobody asks for it here.
        host: The address to listen at; 127.0.0.1 if nobody says it.

    Returns:
        None if nobody asks for it.

    Raises:
        SettingsError: that is no port.

    Example:
        >>> metrics_address(9100)
        Address(host='127.0.0.1', port=9100)
    """
    value = os.environ.get("TURBO_QUEUE_METRICS_PORT") or None if port is None else port
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _LAST_PORT:
        raise SettingsError(
            f"metrics_port is {value!r}; it must be a number from 0 to {_LAST_PORT}"
        )
    return Address(host or os.environ.get("TURBO_QUEUE_METRICS_HOST") or LOOPBACK, number)


def with_environment(text: str) -> str:
    """Put values of the environment in the place of `${NAME}` and `${NAME:-default}`.

    As in a shell, the default stands for a variable that is empty, too.

    Raises:
        SettingsError: a variable is not set, and there is no default for it.

    Example:
        >>> with_environment("${NO_SUCH_HOST:-localhost}:9092")
        'localhost:9092'
    """
    return _PLACEHOLDER.sub(_value_of, text)


def _value_of(placeholder: re.Match[str]) -> str:
    name, default = placeholder.groups()
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise SettingsError(f"the environment has no {name}; set it, or write ${{{name}:-default}}")
    return value


@dataclass(frozen=True, slots=True)
class SystemdSettings:
    """What systemd tells a service that it watches over.

    Args:
        notify_socket: Where it listens: a path, or an abstract name that begins with `@`.
        watchdog_s: Seconds without a sign of life after which it ends the service.
    """

    notify_socket: str | None
    watchdog_s: float | None


@cache
def take_systemd() -> SystemdSettings:
    """Take systemd's variables out of the environment, where children would find them.

    They are for the main process alone (sd_notify(3), sd_watchdog_enabled(3)). They are taken once,
    and remembered.
    """
    address = os.environ.pop("NOTIFY_SOCKET", "")
    watchdog_us = os.environ.pop("WATCHDOG_USEC", "")
    watchdog_pid = os.environ.pop("WATCHDOG_PID", "")
    is_watched = watchdog_pid in {"", str(os.getpid())} and watchdog_us.isdecimal()
    return SystemdSettings(
        notify_socket=address if address[:1] in {"/", "@"} and len(address) > 1 else None,
        watchdog_s=int(watchdog_us) / 1_000_000 if is_watched and int(watchdog_us) else None,
    )


def flag(name: str, given: bool | None) -> bool:  # noqa: FBT001 - None is the third case
    """Whether something is on: what is given, else `TURBO_QUEUE_<NAME>`, else off.

    Raises:
        SettingsError: it says neither.
    """
    value: object = given
    if given is None:
        text = os.environ.get(f"TURBO_QUEUE_{name.upper()}") or "0"
        value = _FLAGS.get(text.lower(), text)
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {value!r}; it must be true or false")
    return value


_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def kafka_bootstrap() -> str:
    """Where Kafka's brokers are to be found, if nobody says it: `KAFKA_BOOTSTRAP`, or here."""
    return os.environ.get("KAFKA_BOOTSTRAP") or "localhost:9092"


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SettingsError(
            f"{name} is {value!r}; it must be a whole number from {least:,} to {most:,}"
        )


def _parse(name: str, text: str) -> object:
    """A setting of the environment; what it is not, the check of the settings will say."""
    if name == "codec":
        return text
    if name == "fsync":
        return _FLAGS.get(text.lower(), text)
    try:
        return float(text) if name == "max_batch_age" else int(text)
    except ValueError:
        return text
