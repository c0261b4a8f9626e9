"""From an event through the user's work to the records that go on: none, one or many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turbo_queue.records import Record

#: From a value outside to one for the work, or from a result to one for the sink.
Conversion = Callable[[Any], Any]

#: Does the work on a record, and adds its results to a list; adds nothing if it raises.
Step = Callable[[Record, list[Record]], None]

#: Types of results that are looked at no further: the usual ones.
_SINGLE = frozenset({bytes, str, dict, int, float, bool, Record})


def step(
    work: Callable[[Any], Any],
    decode: Conversion,
    encode: Conversion,
    *,
    is_batched: bool = False,
    takes_records: bool = False,
) -> Step:
    """What is done with each event.

    A result that is None stands for nothing, a list, a tuple or an iterator for many results,
    anything else for one. A `Record` goes on as it is; another value takes key, headers, timestamp
    and origin of its input, unless the work is one for lists of events.

    Args:
        work: The user's.
        decode: From a record's value to what the work is given.
        encode: From a result to what the sink carries.
        is_batched: Whether the work takes lists, and gives them.
        takes_records: Whether it takes whole records.

    Example:
        >>> results = []
        >>> step(str.split, str, str.upper)(Record("a b", key=b"1"), results)
        >>> [(result.value, result.key) for result in results]
        [('A', b'1'), ('B', b'1')]
    """

    def on_value(record: Record, results: list[Record]) -> None:
        add_results(results, work(decode(record.value)), record, encode)

    def on_record(record: Record, results: list[Record]) -> None:
        result = work(record.replace(value=decode(record.value)))
        add_results(results, result, record, encode)

    def on_list(record: Record, results: list[Record]) -> None:
        value = decode(record.value)
        argument = record.replace(value=value) if takes_records else value
        results += results_of_list(work([argument]), encode)

    if is_batched:
        return on_list
    return on_record if takes_records else on_value


def add_results(results: list[Record], result: Any, of: Record, encode: Conversion) -> None:
    """Add the records that a result of the work stands for."""
    if type(result) in _SINGLE or not isinstance(result, list | tuple | Iterator | None):
        results.append(_record(result, of, encode))
    elif result is not None:
        results += [_record(value, of, encode) for value in result]


def results_of_list(results: Any, encode: Conversion) -> list[Record]:
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
    return [_record(value, _NOTHING, encode) for value in results]


_NOTHING = Record(None)


def _record(value: Any, of: Record, encode: Conversion) -> Record:
    if type(value) is Record:
        return value.replace(value=encode(value.value))
    return Record(encode(value), of.key, of.headers, of.timestamp_ms, of.origin)
