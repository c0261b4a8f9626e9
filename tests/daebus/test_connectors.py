"""Streams and channels as sources and sinks."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from daebus import Broadcast
from daebus.bus.arrivals import Arrivals
from daebus.bus.connection import client
from daebus.bus.embedded import EmbeddedServer
from daebus.connectors import ChannelSink, ChannelSource, RedisStreamSink, RedisStreamSource
from daebus.errors import BadMessage, ServerUnavailable, SettingsError
from fixtures.connecting import Notebook, read, take, values, write
from fixtures.proxy import Proxy
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, Record, empty, fill
from turbo_queue.pipeline import Pipeline


@pytest.fixture
def name() -> str:
    """A stream or channel that no other test uses."""
    return f"events-{uuid.uuid4().hex}"


@pytest.fixture
def server_client(url: str) -> Iterator[redis.Redis]:
    with closing(client(url)) as opened:
        yield opened


# --- streams as a source ---


def test_an_entry_becomes_an_event_with_its_time_and_its_id(
    name: str, url: str, server_client: redis.Redis
) -> None:
    server_client.xadd(name, {"id": 1, "text": "é", "data": b"\xff"}, id="1700000000123-4")

    assert read(RedisStreamSource(name, group="g", url=url), Notebook(), 1) == [
        Record(
            {"id": "1", "text": "é", "data": b"\xff"},
            timestamp_ms=1700000000123,
            origin=f"{name}@1700000000123-4",
        )
    ]


@pytest.mark.parametrize(("start", "expected"), [("0", ["before", "after"]), ("$", ["after"])])
def test_a_new_group_begins_where_it_is_told_to(
    name: str, url: str, start: str, expected: list[str]
) -> None:
    sink = RedisStreamSink(name, url=url, field="event")
    source = RedisStreamSource(name, group="g", url=url, start=start, field="event")
    write(sink, ["before"])
    with closing(source.open(Notebook())) as reader:
        write(sink, ["after"])

        assert values(source, take(reader, len(expected))) == expected


def test_a_group_that_is_gone_begins_with_all_that_came_since(
    name: str, url: str, server_client: redis.Redis
) -> None:
    source, intake = RedisStreamSource(name, group="g", url=url, start="$"), Notebook()
    source.open(intake).close()
    server_client.delete(name)
    server_client.xadd(name, {"id": 1})

    assert values(source, read(source, intake, 1)) == [{"id": "1"}]


def test_what_was_committed_is_acknowledged_and_nothing_else(
    name: str, url: str, server_client: redis.Redis
) -> None:
    write(RedisStreamSink(name, url=url), range(2_500))
    with closing(RedisStreamSource(name, group="g", url=url).open(Notebook())) as reader:
        take(reader, 2_300)
        reader.commit()
        take(reader, 100)

        assert server_client.xpending(name, "g")["pending"] == 100


def test_readers_of_one_group_share_the_entries(name: str, url: str) -> None:
    write(RedisStreamSink(name, url=url), range(20))
    source = RedisStreamSource(name, group="g", url=url)
    with closing(source.open(Notebook())) as one, closing(source.open(Notebook())) as other:
        first, second = take(one, 8), take(other, 12)

    assert sorted(int(record.value["value"]) for record in first + second) == list(range(20))


def test_what_a_dead_reader_had_is_taken_over(name: str, url: str) -> None:
    write(RedisStreamSink(name, url=url), range(5))
    source = RedisStreamSource(name, group="g", url=url, take_over=0.2)
    dead = source.open(Notebook())
    had = take(dead, 5)
    dead.close()

    assert read(source, Notebook(), 5) == had


def test_what_a_living_reader_holds_is_given_to_it_once(name: str, url: str) -> None:
    write(RedisStreamSink(name, url=url), range(5))
    with closing(
        RedisStreamSource(name, group="g", url=url, take_over=0.05).open(Notebook())
    ) as reader:
        take(reader, 5)

        assert [reader.read(5, 0.1) for _ in range(5)] == [[]] * 5


def test_a_reader_that_comes_back_has_at_once_what_it_had(name: str, url: str) -> None:
    write(RedisStreamSink(name, url=url), range(6))
    source, intake = RedisStreamSource(name, group="g", url=url), Notebook()
    with closing(source.open(intake)) as reader:
        had = take(reader, 3)

    assert read(source, intake, 6)[:3] == had


def test_entries_that_were_removed_meanwhile_are_told(
    name: str, url: str, server_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    write(RedisStreamSink(name, url=url), range(3))
    source, intake = RedisStreamSource(name, group="g", url=url), Notebook()
    with closing(source.open(intake)) as reader:
        take(reader, 3)
    server_client.delete(name)
    server_client.xgroup_create(name, "g", id="0", mkstream=True)
    write(RedisStreamSink(name, url=url), range(3))
    with closing(source.open(intake)) as reader:
        ids = [record.origin.partition("@")[2] for record in take(reader, 3)]
    server_client.xdel(name, ids[1])

    assert len(read(source, intake, 2)) == 2

    assert [record.event for record in caplog.records] == ["stream.removed"]
    assert server_client.xpending(name, "g")["pending"] == 0


def test_a_field_that_holds_the_event_fails_alone_where_it_does_not(
    name: str, url: str, server_client: redis.Redis
) -> None:
    for value in ({"data": "[1]"}, {"other": "2"}, {"data": "no json"}):
        server_client.xadd(name, value)
    source = RedisStreamSource(name, group="g", url=url, field="data")

    first, *others = read(source, Notebook(), 3)

    assert source.decode(first.value) == [1]
    for record in others:
        with pytest.raises(BadMessage):
            source.decode(record.value)


def test_a_group_that_was_removed_is_made_again(
    name: str, url: str, server_client: redis.Redis, queue: Queue
) -> None:
    write(RedisStreamSink(name, url=url), range(10))
    with _filling(queue, RedisStreamSource(name, group="g", url=url)):
        eventually(lambda: len(list(queue.peek())) >= 10)

        server_client.xgroup_destroy(name, "g")
        write(RedisStreamSink(name, url=url), [{"id": "new"}])

        eventually(lambda: {"id": "new"} in list(queue.peek()))


def test_a_lost_connection_loses_nothing(
    name: str, server: EmbeddedServer, queue: Queue, tmp_path: Path
) -> None:
    source_queue = Queue(tmp_path / "source", max_events_per_file=100)
    fill(source_queue, IterableSource(range(5_000)))
    with Proxy(server.socket_path) as proxy:
        source = RedisStreamSource(name, group="g", url=proxy.url, field="event", take_over=0.5)
        sink = RedisStreamSink(name, url=proxy.url, field="event")
        with _filling(queue, source):
            sending = threading.Thread(
                target=empty, args=(source_queue, sink), kwargs={"stop_when_empty": True}
            )
            sending.start()
            for _ in range(3):
                threading.Event().wait(0.1)
                proxy.cut()
            sending.join(20)

            eventually(lambda: _numbers(source, queue) == set(range(5_000)), 20)


# --- streams as a sink ---


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            {"a": 1, "b": 0.5, "c": "é", "d": b"\xff"},
            {b"a": b"1", b"b": b"0.5", b"c": "é".encode(), b"d": b"\xff"},
        ),
        ({}, {b"value": b"{}"}),
        ({"a": [1]}, {b"value": b'{"a":[1]}'}),
        ({"a": True}, {b"value": b'{"a":true}'}),
        ("", {b"value": b'""'}),
        (None, {b"value": b"null"}),
        (b"\xff", {b"value": b"\xff"}),
    ],
)
def test_events_become_fields(
    name: str, url: str, server_client: redis.Redis, event: object, fields: dict[bytes, bytes]
) -> None:
    sink = RedisStreamSink(name, url=url)
    writer = sink.open(threading.Event())

    write(sink, [event])
    writer.write([Record(event)])  # As `empty` does, whose events no worker has encoded.
    writer.close()

    assert [entry for _, entry in server_client.xrange(name)] == [fields, fields]


def test_a_stream_is_kept_near_its_length(name: str, url: str, server_client: redis.Redis) -> None:
    write(RedisStreamSink(name, url=url, max_length=1_000), range(5_000))

    assert 1_000 <= server_client.xlen(name) < 1_500


def test_what_the_server_refuses_is_an_error(
    name: str, url: str, server_client: redis.Redis
) -> None:
    server_client.set(name, "no stream")

    with pytest.raises(ServerUnavailable, match="refused an entry"):
        write(RedisStreamSink(name, url=url), range(3))


def test_an_event_that_is_no_json_is_refused_alone(name: str, url: str) -> None:
    writer = RedisStreamSink(name, url=url).open(threading.Event())

    writer.write([Record(1), Record(object()), Record(2)])

    assert [type(one.record.value) for one in writer.flush()] == [object]
    writer.close()
    assert len(read(RedisStreamSource(name, group="g", url=url), Notebook(), 2)) == 2


# --- channels ---


def test_a_pattern_hears_all_its_channels(name: str, url: str, broadcaster: Broadcast) -> None:
    source = ChannelSource(f"{name}.*", url=url)
    with closing(source.open(Notebook())) as reader:
        broadcaster.send(f"{name}.a", 1)
        broadcaster.send(f"{name}.b", 2)
        records = take(reader, 2)

    assert [(source.decode(record.value), record.origin) for record in records] == [
        (1, f"{name}.a"),
        (2, f"{name}.b"),
    ]


def test_a_message_that_is_no_json_fails_alone(
    name: str, url: str, server_client: redis.Redis
) -> None:
    source = ChannelSource(name, url=url)
    with closing(source.open(Notebook())) as reader:
        server_client.publish(name, "no json")
        [record] = take(reader, 1)

    with pytest.raises(BadMessage):
        source.decode(record.value)


def test_a_channel_is_heard_again_after_a_gap(
    name: str, server: EmbeddedServer, broadcaster: Broadcast, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Proxy(server.socket_path) as proxy,
        closing(ChannelSource(name, url=proxy.url).open(Notebook())) as reader,
    ):
        proxy.cut()
        eventually(lambda: "link.back" in [getattr(one, "event", "") for one in caplog.records])
        broadcaster.send(name, "after")

        assert [record.value for record in take(reader, 1)] == [b'"after"']


def test_messages_that_nobody_takes_are_dropped_and_counted() -> None:
    arrivals = Arrivals(most=2)

    for number in range(5):
        arrivals.on_messages([[b"message", b"c", b"%d" % number]])

    assert [arrivals.take(0) for _ in range(4)][:3] == [
        [[b"message", b"c", b"%d" % number]] for number in range(3)
    ]
    assert arrivals.dropped == 2


def test_a_message_that_is_too_large_is_refused_alone(name: str, url: str) -> None:
    source = ChannelSource(name, url=url)
    writer = ChannelSink(name, url=url).open(threading.Event())
    with closing(source.open(Notebook())) as reader:
        writer.write([Record("x" * 2_000_000), Record(b"x" * 2_000_000), Record("fine")])

        assert values(source, take(reader, 1)) == ["fine"]
    assert len(writer.flush()) == 2
    writer.close()


# --- all of them ---


@pytest.mark.parametrize(
    "made",
    [
        RedisStreamSource("s", group="g", url="redis://host"),
        RedisStreamSink("s", max_length=10),
        ChannelSource("c"),
        ChannelSink("c"),
    ],
    ids=lambda made: type(made).__name__,
)
def test_settings_are_sent_to_other_processes(made: object) -> None:
    assert vars(pickle.loads(pickle.dumps(made))) == vars(made)


@pytest.mark.parametrize("kind", [RedisStreamSource, RedisStreamSink, ChannelSource, ChannelSink])
def test_a_setting_that_makes_no_sense_is_refused(kind: type) -> None:
    more = {"group": "g"} if kind is RedisStreamSource else {}
    for bad in ({"url": "http://host"}, *_BAD.get(kind, [])):
        with pytest.raises(SettingsError):
            kind("name", **more | bad)
    with pytest.raises(SettingsError):
        kind("", **more)


_BAD: dict[type, list[dict[str, object]]] = {
    RedisStreamSource: [{"take_over": 0}, {"take_over": True}, {"take_over": "soon"}],
    RedisStreamSink: [{"max_length": 0}, {"max_length": True}, {"max_length": 1.5}],
}


@pytest.mark.parametrize("kind", [RedisStreamSource, RedisStreamSink, ChannelSource])
def test_a_server_that_is_not_there_is_told(kind: type, tmp_path: Path) -> None:
    more = {"group": "g"} if kind is RedisStreamSource else {}
    made = kind("name", url=f"unix://{tmp_path}/none.sock", **more)

    with pytest.raises(ServerUnavailable):
        made.open(Notebook())


def test_a_pipeline_from_stream_to_stream(name: str, url: str, tmp_path: Path) -> None:
    write(RedisStreamSink(name, url=url), [{"id": number} for number in range(500)])
    results = RedisStreamSource(f"{name}:out", group="g", url=url, field="event")
    pipeline = Pipeline(
        RedisStreamSource(name, group="g", url=url),
        _twice,
        RedisStreamSink(f"{name}:out", url=url, field="event"),
        folder=tmp_path / "pipeline",
        processes=1,
    )
    running = threading.Thread(target=pipeline.run)
    running.start()
    try:
        found = values(results, read(results, Notebook(), 500))
    finally:
        pipeline.stop()
        running.join(30)

    assert sorted(found) == [number * 2 for number in range(500)]


def _twice(event: dict[str, str]) -> int:
    return int(event["id"]) * 2


@contextmanager
def _filling(queue: Queue, source: RedisStreamSource) -> Iterator[None]:
    """Fill the queue, in a thread, meanwhile."""
    queue.producer().close()  # Now it has a folder to look at.
    stopping = threading.Event()
    thread = threading.Thread(target=fill, args=(queue, source), kwargs={"stopping": stopping})
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(20)


def _numbers(source: RedisStreamSource, queue: Queue) -> set[int]:
    return {source.decode(event) for event in queue.peek()}
