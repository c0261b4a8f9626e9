"""Records as lines of JSON: legible, and the same when they are read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.queue_commands import drained, filled, queue_command
from turbo_queue import Queue
from turbo_queue.operate import json_lines
from turbo_queue.records import Record

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
names = st.text().filter(lambda name: not name.startswith("$"))  # $bytes and $utf8 mean bytes.
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=8,
)
bytes_or_text = st.none() | st.text() | st.binary()
records = st.builds(
    Record,
    value=json_values,
    key=bytes_or_text,
    headers=st.lists(st.tuples(st.text(), bytes_or_text), max_size=3).map(tuple),
    timestamp_ms=st.none() | st.integers(0, 2**62),
    origin=st.text(),
)


@given(records)
def test_a_record_is_the_same_when_it_is_read_back(record: Record) -> None:
    line = json_lines.to_line(record)

    assert "\n" not in line
    assert json_lines.record_from_line(line.encode()) == record


def test_what_is_empty_is_left_out_and_bytes_that_are_text_are_legible() -> None:
    assert json_lines.to_line(Record(None)) == '{"value":null}'
    assert json_lines.to_line(Record(b"caf\xc3\xa9", headers=(("n", b"\xff"),))) == (
        '{"value":{"$utf8":"café"},"headers":[["n",{"$bytes":"/w=="}]]}'
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"key": "k"}', "missing required field `value`"),
        ('{"value": 1, "kex": "k"}', "unknown field `kex`"),
        ('{"value": 1, "key": 7}', "'key' is int; it must be bytes, text or null"),
        ('{"value": 1, "headers": [["n", 7]]}', "'n' is int"),
        ('{"value": 1, "headers": {"n": "v"}}', "Expected `array`"),
        ('{"value": 1, "timestamp_ms": "now"}', "Expected `int | null`"),
        ("17", "Expected `object`"),
    ],
)
def test_a_line_that_is_no_record_is_told(line: str, why: str) -> None:
    with pytest.raises(json_lines.NoJson, match="not a record") as raised:
        json_lines.record_from_line(line.encode())

    assert why in str(raised.value)


def test_records_go_through_a_file_and_back(tmp_path: Path) -> None:
    events = [
        Record(b'{"id":1}', b"k", (("turbo-queue-error", "ValueError: no"),), 17, "orders[0]@1"),
        Record(b"\xff\xfe"),
    ]
    queue = filled(tmp_path / "dead", events, codec="record")
    file = tmp_path / "dead.jsonl"

    peeked = queue_command("peek", queue.path, "--number", 1)
    assert queue_command("export", queue.path, "--output", file).code == 0
    done = queue_command("import", tmp_path / "again", file, "--codec", "record")

    assert json.loads(peeked.out)["headers"] == [["turbo-queue-error", "ValueError: no"]]
    assert (done.code, done.out) == (0, "2 events put\n")
    assert drained(Queue(tmp_path / "again")) == events


def test_an_import_names_the_line_that_is_no_record(tmp_path: Path) -> None:
    stdin = '{"value": 1}\n{"valeu": 2}\n'

    done = queue_command("import", tmp_path / "queue", "--codec", "record", stdin=stdin)

    assert done.code == 1
    assert "stdin, line 2: not a record: Object contains unknown field `valeu`" in done.err
    assert drained(Queue(tmp_path / "queue")) == [Record(1)]
