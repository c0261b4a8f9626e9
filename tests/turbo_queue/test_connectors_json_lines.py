"""Files of lines as source and sink: where they go on, and what they leave behind."""

from __future__ import annotations

import gzip
import logging
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from fixtures import disks
from fixtures.connecting import Notebook, read, take, values, write
from fixtures.processes import Processes
from turbo_queue import Queue
from turbo_queue.connectors import JsonLinesSink, JsonLinesSource, Record, empty, fill
from turbo_queue.connectors.gzip_members import member
from turbo_queue.errors import BadEvent, SettingsError, SinkFailed, SourceFailed


@pytest.fixture
def intake() -> Notebook:
    return Notebook()


def lines_of(path: Path) -> bytes:
    """What any reader of such files finds in it."""
    if path.suffix != ".gz":
        return path.read_bytes()
    return subprocess.run(["gunzip", "--stdout", path], capture_output=True, check=True).stdout


# --- the source ---


def test_each_line_knows_where_it_came_from(tmp_path: Path, intake: Notebook) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_bytes(b'{"id": 1}\n\n  \r\nno json\n3')

    assert read(JsonLinesSource(path), intake) == [
        Record(b'{"id": 1}', origin=f"{path}:1"),
        Record(b"no json", origin=f"{path}:4"),
        Record(b"3", origin=f"{path}:5"),
    ]


def test_a_mark_of_utf_8_at_the_beginning_is_left_out(tmp_path: Path, intake: Notebook) -> None:
    (tmp_path / "lines").write_bytes("1\r\n2\r\n".encode("utf-8-sig"))
    source = JsonLinesSource(tmp_path / "lines")

    values = [source.decode(record.value) for record in read(source, intake)]

    assert values == [1, 2]


def test_a_bad_line_fails_alone(tmp_path: Path, intake: Notebook) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_bytes(b"1\nno json\n3\n")
    source = JsonLinesSource(path)

    records = read(source, intake)

    assert [source.decode(records[0].value), source.decode(records[2].value)] == [1, 3]
    with pytest.raises(msgspec.DecodeError):
        source.decode(records[1].value)


@pytest.mark.parametrize(("form", "expected"), [("text", "é"), ("bytes", "é".encode())])
def test_lines_may_be_text_or_bytes(
    tmp_path: Path, intake: Notebook, form: str, expected: object
) -> None:
    path = tmp_path / "words"
    path.write_text("é\n")
    source = JsonLinesSource(path, format=form)

    assert values(source, read(source, intake)) == [expected]


def test_files_are_read_one_after_the_other(tmp_path: Path, intake: Notebook) -> None:
    (tmp_path / "1.jsonl").write_bytes(b"1\n2")
    (tmp_path / "2.jsonl.gz").write_bytes(gzip.compress(b"3\n4\n"))
    (tmp_path / "3.jsonl").write_bytes(b"")
    (tmp_path / "4.jsonl").write_bytes(b"5\n")
    source = JsonLinesSource(sorted(tmp_path.iterdir()))
    seen = []

    while records := read(source, intake, 1):
        seen += values(source, records)

    assert seen == [1, 2, 3, 4, 5]


def test_lines_longer_than_a_read_are_whole(tmp_path: Path, intake: Notebook) -> None:
    lines = [b"x" * 700_000, b"y", b"z" * 300_000]
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))

    assert [record.value for record in read(JsonLinesSource(path), intake)] == lines


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_that_has_grown_is_read_on(tmp_path: Path, intake: Notebook, name: str) -> None:
    path = tmp_path / name
    sink, source = JsonLinesSink(path), JsonLinesSource(path)
    write(sink, range(1_000))
    read(source, intake, 2_000)

    write(sink, [1_000])

    records = read(source, intake)
    assert [(record.value, record.origin) for record in records] == [(b"1000", f"{path}:1001")]


@pytest.mark.parametrize("rest", [b"\n2\n", b"", b"\n2"])
def test_a_last_line_without_an_end_is_not_read_twice(
    tmp_path: Path, intake: Notebook, rest: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"0\n1")
    _lines_read(path, intake)

    with path.open("ab") as file:
        file.write(rest)

    for _ in range(2):
        assert _lines_read(path, intake) == ([b"2"] if rest else [])
        rest = b""


def test_a_last_line_that_was_only_half_written_is_read_whole(
    tmp_path: Path, intake: Notebook
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'0\n{"a":')
    _lines_read(path, intake)

    with path.open("ab") as file:
        file.write(b" 1}\n2\n")

    assert _lines_read(path, intake) == [b'{"a": 1}', b"2"]


@pytest.mark.parametrize(
    "change", ["shorter", "replaced", "rewritten", "elsewhere", "of another source"]
)
def test_another_file_is_read_from_its_first_line(
    tmp_path: Path, intake: Notebook, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"0\n1\n2\n")
    _lines_read(path, intake)

    if change == "shorter":
        path.write_bytes(b"0\n1\n")
    elif change == "replaced":
        (tmp_path / "new").write_bytes(b"0\n1\n2\n3\n")
        (tmp_path / "new").replace(path)
    elif change == "rewritten":
        path.write_bytes(b"5\n6\n7\n8\n")
    elif change == "elsewhere":
        path = path.rename(tmp_path / "b.jsonl")
    else:
        intake.position = 3

    assert _lines_read(path, intake) == path.read_bytes().split()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_what_stands_before_a_tear_is_read_once(tmp_path: Path, intake: Notebook) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"1\n2\n") + gzip.compress(os.urandom(5_000).hex().encode() + b"\n")
    path.write_bytes(whole[:-100])
    reader = JsonLinesSource(path).open(intake)
    assert [record.value for record in take(reader, 2)] == [b"1", b"2"]

    for _ in range(2):
        with pytest.raises(SourceFailed, match="cannot be read on"):
            while True:
                assert take(reader, 1) == []
        reader.close()
        reader = JsonLinesSource(path).open(intake)
    reader.close()

    assert intake.flushes == 2
    path.write_bytes(whole)
    assert len(_lines_read(path, intake)) == 1


def test_stdin_is_read_as_it_comes(tmp_path: Path) -> None:
    program = f"""if True:
        from turbo_queue import Queue
        from turbo_queue.connectors import JsonLinesSource, fill
        print(fill(Queue({str(tmp_path / "queue")!r}, codec="record"), JsonLinesSource("-")))
        """

    done = subprocess.run(
        [sys.executable, "-c", program], input=b"1\n2", capture_output=True, check=True
    )

    assert done.stdout == b"2\n"
    assert [record.origin for record in Queue(tmp_path / "queue").peek()] == ["stdin:1", "stdin:2"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, intake: Notebook) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.jsonl"):
        JsonLinesSource(tmp_path / "missing.jsonl").open(intake)


@pytest.mark.parametrize("path", ["", [], 3, ["a", None], b"a"])
def test_a_path_that_is_none_is_refused(path: object) -> None:
    with pytest.raises(SettingsError):
        JsonLinesSource(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [JsonLinesSource, JsonLinesSink])
def test_settings_are_sent_to_other_processes(kind: type, tmp_path: Path) -> None:
    made = kind(tmp_path / "a.jsonl", format="text")

    assert vars(pickle.loads(pickle.dumps(made))) == vars(made)
    with pytest.raises(SettingsError, match="'yaml'"):
        kind("a", format="yaml")


# --- the sink ---


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_another_run_appends(tmp_path: Path, name: str) -> None:
    write(JsonLinesSink(tmp_path / name), [1, {"text": "one\ntwo"}])
    write(JsonLinesSink(tmp_path / name), [None, b"[3]"])

    assert lines_of(tmp_path / name) == b'1\n{"text":"one\\ntwo"}\nnull\n[3]\n'


def test_half_a_line_that_a_kill_has_left_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'1\n{"id"')

    write(JsonLinesSink(path), [2])

    assert path.read_bytes() == b'1\n{"id"\n2\n'


def test_what_a_kill_has_left_of_a_member_is_taken_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.gz"
    torn = member(b"2\n")
    for size in range(1, len(torn)):
        path.write_bytes(gzip.compress(b"0\n") + member(b"1\n") + torn[:size])

        write(JsonLinesSink(path), [3])

        assert lines_of(path) == b"0\n1\n3\n", size
    assert len(caplog.records) == len(torn) - 1


def test_a_member_that_a_loss_of_power_has_left_damaged_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    damaged = bytearray(member(b"2\n"))
    damaged[-9:] = bytes(9)
    path.write_bytes(member(b"1\n") + damaged)

    write(JsonLinesSink(path), [3])

    assert lines_of(path) == b"1\n3\n"


@pytest.mark.parametrize(
    "foreign", [b"plain text\n", gzip.compress(b"1\n") + b"\0text", gzip.compress(b"1\n")[:-3]]
)
def test_what_others_have_written_is_never_taken_out(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(foreign)

    with pytest.raises(SinkFailed, match="name another file"):
        write(JsonLinesSink(path), [3])

    assert path.read_bytes() == foreign


@pytest.mark.parametrize("name", ["a.jsonl", "a.gz"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    with disks.small_disk(tmp_path / "disk") as folder:
        path = folder / name
        write(JsonLinesSink(path), ["first"])
        filler = disks.fill(folder)
        with pytest.raises(OSError, match="No space left"):
            write(JsonLinesSink(path), [os.urandom(500_000).hex()])
        before = lines_of(path)
        filler.unlink()

        write(JsonLinesSink(path), ["last"])

        assert (before, lines_of(path)) == (b'"first"\n', b'"first"\n"last"\n')


def test_two_sinks_do_not_write_to_one_file(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a.jsonl")
    writer = sink.open(threading.Event())

    with pytest.raises(SinkFailed, match="another sink writes"):
        sink.open(threading.Event())

    writer.close()
    write(sink, [1])


@pytest.mark.parametrize(("form", "event"), [("text", "a\nb"), ("text", None), ("bytes", 3)])
def test_what_is_no_line_is_refused(tmp_path: Path, form: str, event: object) -> None:
    sink = JsonLinesSink(tmp_path / "a", format=form)
    with pytest.raises(BadEvent):
        sink.encode(event)
    writer = sink.open(threading.Event())
    writer.write([Record(event), Record("fine")])

    assert [one.record.value for one in writer.flush()] == [event]
    writer.close()
    assert (tmp_path / "a").read_bytes() == b"fine\n"


def test_what_was_not_flushed_is_not_in_the_file(tmp_path: Path) -> None:
    writer = JsonLinesSink(tmp_path / "a").open(threading.Event())
    writer.write([Record(b"1")])

    writer.close()

    assert (tmp_path / "a").read_bytes() == b""


def test_only_its_owner_may_read_a_new_file(tmp_path: Path) -> None:
    write(JsonLinesSink(tmp_path / "a"), [1])

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_queue_is_emptied_to_stdout(tmp_path: Path, queue: Queue) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n")
    raw = Queue(queue.path, codec="raw")
    fill(raw, JsonLinesSource(tmp_path / "a.jsonl"))
    program = f"""if True:
        from turbo_queue import Queue
        from turbo_queue.connectors import JsonLinesSink, empty
        empty(Queue({str(queue.path)!r}), JsonLinesSink("-"), stop_when_empty=True)
        """

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout == b"1\n2\n"


def test_a_reader_of_stdout_that_does_not_read_does_not_hold_up_the_end(
    queue: Queue, processes: Processes
) -> None:
    with queue.producer() as producer:
        producer.put_many(["x" * 1_000] * 1_000)
    program = """if True:
        import os, sys, threading
        from turbo_queue import Queue
        from turbo_queue.connectors import JsonLinesSink, empty
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        stopping = threading.Event()
        threading.Timer(0.3, stopping.set).start()
        empty(Queue(sys.argv[1]), JsonLinesSink("-"), stopping=stopping)
        """

    process = processes.python(program, str(queue.path))

    assert process.wait() == 0
    assert queue.stats().ready.events == 1_000


def test_whoever_reads_stdout_may_go_and_nothing_is_lost(
    queue: Queue, processes: Processes
) -> None:
    with queue.producer() as producer:
        producer.put_many([1, 2, 3])
    program = """if True:
        import os, sys
        from turbo_queue import Queue
        from turbo_queue.connectors import JsonLinesSink, empty
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(reading)
        empty(Queue(sys.argv[1]), JsonLinesSink("-"))
        """

    process = processes.python(program, str(queue.path))

    assert process.wait() == 1
    assert "SinkGone: whoever read stdout has gone" in process.output
    assert queue.stats().ready.events == 3


def test_a_named_pipe_takes_nothing_while_nobody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = JsonLinesSink(path)
    with pytest.raises(SinkFailed, match="nobody reads the pipe"):
        sink.open(threading.Event())
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = sink.open(threading.Event())
    writer.write([Record(1)])
    writer.flush()
    assert os.read(reading, 10) == b"1\n"
    os.close(reading)

    writer.write([Record(2)])
    with pytest.raises(BrokenPipeError):
        writer.flush()

    writer.close()


def _lines_read(path: Path, intake: Notebook) -> list[object]:
    return [record.value for record in read(JsonLinesSource(path), intake)]


def test_a_file_goes_through_a_queue(tmp_path: Path, queue: Queue) -> None:
    write(JsonLinesSink(tmp_path / "a.gz"), range(10_000))
    raw = Queue(queue.path, codec="raw")

    fill(raw, JsonLinesSource(tmp_path / "a.gz"))
    empty(raw, JsonLinesSink(tmp_path / "b.gz"), stop_when_empty=True)

    assert lines_of(tmp_path / "b.gz") == lines_of(tmp_path / "a.gz")
