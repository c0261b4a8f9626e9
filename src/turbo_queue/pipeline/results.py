"""From what the work gives to the records that go on: none, one or many of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turbo_queue.records import Record


def results_of(result: Any, of: Record, encode: Callable[[Any], Any]) -> list[Record]:
    """The records that one result of the work stands for.

    Args:
        result: None: none. A list, a tuple or an iterator: many. Anything else: one. A `Record`
            goes on as it is; another value takes key, headers, timestamp and origin of its input.
        of: The input.
        encode: From a value to one that the sink carries.

    Example:
        >>> results_of(["a", "b"], Record("ab", key=b"1"), str.upper)
        [Record(value='A', key=b'1'), Record(value='B', key=b'1')]
    """
    if result is None:
        return []
    if isinstance(result, list | tuple | Iterator):
        return [_one(value, of, encode) for value in result]
    return [_one(result, of, encode)]


def _one(value: Any, of: Record, encode: Callable[[Any], Any]) -> Record:
    if type(value) is Record:
        return value.replace(value=encode(value.value))
    return Record(encode(value), of.key, of.headers, of.timestamp_ms, of.origin)


def results_of_batch(results: Any, encode: Callable[[Any], Any]) -> list[Record]:
    """The records that the result for a whole list of events stands for; values have no key.

    Raises:
        TypeError: it is neither None nor a list, a tuple or an iterator.
    """
    if results is None:
        return []
    if isinstance(results, str | bytes | dict) or not isinstance(results, Iterable):
        raise TypeError(
            f"work with batched=True gave {type(results).__name__}; it must give a list or None"
        )
    return [_one(value, _NOTHING, encode) for value in results]


_NOTHING = Record(None)
