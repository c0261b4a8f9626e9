"""Kafka as a source and as a sink, with a real broker and with the one inside librdkafka."""

from __future__ import annotations

import logging
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from fixtures.kafka import Cluster, Lap
from fixtures.queues import drain
from fixtures.queues import fill as put
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.connectors import Reader, Record, Refused, Writer, empty, fill
from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.connectors.kafka import reader as reader_module
from turbo_queue.connectors.kafka import troubles as troubles_module
from turbo_queue.errors import SettingsError, SinkFailed, SinkRefused, SourceFailed


@contextmanager
def reading(
    cluster: Cluster, topic: str, lap: Lap, group: str = "group", **settings: Any
) -> Iterator[Reader]:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    source = KafkaSource(
        topic,
        group=group,
        bootstrap_servers=cluster.bootstrap,
        settings=cluster.short | named,
    )
    reader = source.open(lap)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def writing(cluster: Cluster, topic: str, **settings: Any) -> Iterator[Writer]:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    sink = KafkaSink(topic, bootstrap_servers=cluster.bootstrap, settings=named)
    writer = sink.open(threading.Event())
    try:
        yield writer
    finally:
        writer.close()


def written(cluster: Cluster, topic: str, *records: Record, **settings: Any) -> list[Refused]:
    with writing(cluster, topic, **settings) as writer:
        writer.write(list(records))
        return writer.flush()


@contextmanager
def running(work: Callable[[], object], stopping: threading.Event) -> Iterator[None]:
    """Run it in a thread, and stop it at the end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def values(messages: list[Message]) -> Counter[str]:
    return Counter((message.value() or b"").decode() for message in messages)


def names(records: list[Record]) -> Counter[str]:
    return Counter(record.value.decode() for record in records)


def numbers(end: int) -> Counter[str]:
    return Counter(map(str, range(end)))


def test_key_headers_and_timestamp_make_the_round_trip(cluster: Cluster) -> None:
    topic, lap = cluster.topic(), Lap()
    whole = Record(b"v", b"k", (("a", b"1"), ("a", b"2"), ("none", None)), 1_234_567_890_123)

    written(cluster, topic, whole, Record(None, key=b"gone"), Record("text", "k", timestamp_ms=5))
    with reading(cluster, topic, lap) as reader:
        lap.read(reader, 3)

    records = {record.value: record for record in lap.records}
    assert records[b"v"].replace(origin="") == whole
    assert records[None].key == b"gone"
    assert (records[b"text"].key, records[b"text"].timestamp_ms) == (b"k", 5)
    assert records[None].timestamp_ms > 1_700_000_000_000
    assert records[b"v"].origin.startswith(f"{topic}[")
    assert records[b"v"].origin.endswith("]@0")


def test_what_was_only_read_is_read_again(cluster: Cluster) -> None:
    topic = cluster.topic()
    cluster.put(topic, range(100))
    first, second = Lap(), Lap()

    with reading(cluster, topic, first) as reader:
        first.read(reader, 100)
    assert cluster.committed(topic, "group") == 0
    with reading(cluster, topic, second) as reader:
        second.read(reader, 100)
        reader.commit()

    assert names(second.records) == numbers(100)
    assert cluster.committed(topic, "group") == 100


def test_a_commit_is_made_while_more_is_read(kafka: Cluster) -> None:
    topic, lap = kafka.topic(), Lap()
    kafka.put(topic, range(100))

    with reading(kafka, topic, lap) as reader:
        lap.read(reader, 100)
        reader.commit()
        eventually(lambda: reader.read(1, 0.01) == [] and kafka.committed(topic, "group") == 100)


def test_several_topics_and_patterns_are_read(kafka: Cluster) -> None:
    topics, lap = [kafka.topic(1), kafka.topic(1)], Lap()
    for topic in topics:
        kafka.put(topic, [topic])

    with reading(kafka, f"^({'|'.join(topics)})$", lap) as reader:
        lap.read(reader, 2)

    assert names(lap.records) == Counter(topics)


def test_a_rebalance_loses_nothing(cluster: Cluster) -> None:
    """A second reader joins in the middle, and leaves again."""
    topic, laps, put_so_far = cluster.topic(), [Lap(), Lap()], [0]

    def read(lap: Lap) -> None:
        with reading(cluster, topic, lap) as reader:
            while not lap.stopping.is_set():
                lap.records += reader.read(50, 0.02) or []
                lap.flush()
                reader.commit()

    def put_more() -> None:
        cluster.put(topic, range(put_so_far[0], put_so_far[0] + 100))
        put_so_far[0] += 100

    with running(lambda: read(laps[0]), laps[0].stopping):
        eventually(lambda: put_more() or len(laps[0]) > 500)
        with running(lambda: read(laps[1]), laps[1].stopping):
            eventually(lambda: put_more() or len(laps[1]) > 200, 30)
        put_more()
        end = put_so_far[0]
        eventually(lambda: len(names(laps[0].records + laps[1].records)) >= end, 30)

    assert set(names(laps[0].records + laps[1].records)) == set(numbers(end))


def test_partitions_are_flushed_before_they_are_given_away(kafka: Cluster) -> None:
    """The first reader never commits by itself; what it read is safe and not read again."""
    topic, first, second = kafka.topic(), Lap(), Lap()
    kafka.put(topic, range(400))

    def go_on(reader: Reader) -> None:
        while not first.stopping.is_set():
            first.records += reader.read(100, 0.05) or []

    with reading(kafka, topic, first) as one:
        first.read(one, 400)
        with running(lambda: go_on(one), first.stopping), reading(kafka, topic, second) as other:
            eventually(lambda: other.read(10, 0.05) == [] and first.flushed == 400)
            eventually(lambda: kafka.committed(topic, "group") == 400)
            second.records += other.read(100, 0.5) or []

    assert names(first.records) == numbers(400)
    assert second.records == []


def test_while_there_is_no_room_the_reader_stays_in_the_group(
    kafka: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    topic, lap = kafka.topic(), Lap()
    kafka.put(topic, range(10_000))
    caplog.set_level(logging.WARNING)

    with reading(kafka, topic, lap, queued_max_messages_kbytes=64) as reader:
        lap.read(reader, 100)
        end = threading.Event()
        timer = threading.Timer(4.0, end.set)
        timer.start()
        while not end.is_set():
            reader.rest(0.02)
        timer.join()
        lap.read(reader, 10_000)
        reader.commit()

    assert names(lap.records) == numbers(10_000)
    assert [record.getMessage() for record in caplog.records] == []
    assert kafka.committed(topic, "group") == 10_000


def test_pauses_lose_and_repeat_nothing(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "UNPAUSED_REST_S", 0.0)
    topic, lap = kafka.topic(), Lap()
    kafka.put(topic, range(20_000))

    with reading(kafka, topic, lap, queued_max_messages_kbytes=64) as reader:
        for _ in range(30):
            lap.records += reader.read(100, 0.05)
            reader.rest(0.001)
        lap.read(reader, 20_000)

    assert names(lap.records) == numbers(20_000)


def test_partitions_that_come_and_go_during_a_pause_are_read(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are paused when another reader joins, takes some, and leaves; or they come anew."""
    monkeypatch.setattr(reader_module, "UNPAUSED_REST_S", 0.0)
    topic, lap, others = kafka.topic(), Lap(), Lap()
    kafka.put(topic, range(1000))

    with reading(kafka, topic, lap) as reader:
        eventually(lambda: lap.records.extend(reader.read(10, 0.05)) or lap)  # Not all of them.
        reader.rest(0.01)
        with reading(kafka, topic, others) as other:
            eventually(
                lambda: reader.rest(0.05) or others.records.extend(other.read(10, 0.05)) or others
            )
            other.commit()
            others.flush()
        eventually(lambda: reader.rest(0.05) or len(reader._consumer.assignment()) == 4)
        reader.rest(0.05)
        kafka.put(topic, range(1000, 2000))
        eventually(
            lambda: lap.records.extend(reader.read(100, 0.05)) or len(lap) + len(others) >= 2000
        )

    assert names(lap.records + others.records) == numbers(2000)


def test_events_that_come_before_the_pause_are_kept(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions are assigned while the reader rests already."""
    monkeypatch.setattr(reader_module, "UNPAUSED_REST_S", 0.0)
    topic, lap = kafka.topic(), Lap()
    kafka.put(topic, range(1000))

    with reading(kafka, topic, lap) as reader:
        eventually(lambda: reader.rest(1.0) or reader._early)
        reader.rest(0.01)
        lap.read(reader, 1000)
        reader.commit()

    assert names(lap.records) == numbers(1000)
    assert kafka.committed(topic, "group") == 1000


def test_an_event_that_is_too_large_does_not_stop_the_others(cluster: Cluster) -> None:
    topic = cluster.topic()
    large = Record(b"x" * 2_000_000)
    others = [Record(str(number).encode()) for number in range(100)]

    refused = written(cluster, topic, *others[:50], large, *others[50:])

    assert [each.record for each in refused] == [large]
    assert "too large" in refused[0].reason
    assert values(cluster.messages(topic)) == numbers(100)


def test_events_that_kafka_cannot_hold_are_refused(cluster: Cluster) -> None:
    topic = cluster.topic()
    bad = [Record({"a": 1}), Record("\ud800"), Record(b"", key=3), Record(b"", headers=(("h", 5),))]

    refused = written(cluster, topic, *bad, Record(b"good"))

    assert [each.record for each in refused] == bad
    assert values(cluster.messages(topic)) == {"good": 1}


def test_what_the_broker_refuses_does_not_stop_the_others(kafka: Cluster) -> None:
    """A compacted topic takes no event without a key, and refuses the request that holds one."""
    topic = kafka.topic(1, {"cleanup.policy": "compact"})
    bad = Record(b"bad")
    good = [Record(str(number).encode(), key=str(number)) for number in range(50)]

    refused = written(kafka, topic, *good[:20], bad, *good[20:])

    assert [each.record for each in refused] == [bad]
    assert values(kafka.messages(topic)) == numbers(50)


def test_small_events_do_not_suffer_from_a_limit_on_requests(kafka: Cluster) -> None:
    """The broker's limit is for a whole batch of events; each of these is far below it."""
    topic = kafka.topic(1, {"max.message.bytes": "2000"})
    small = [Record(str(number).encode() * 20) for number in range(100)]
    large = Record(b"x" * 3000)

    refused = written(kafka, topic, *small, large, compression_type="none")

    assert [each.record for each in refused] == [large]
    assert values(kafka.messages(topic)) == Counter(str(number) * 20 for number in range(100))


def test_more_than_librdkafka_holds_is_written(cluster: Cluster) -> None:
    topic = cluster.topic()

    refused = written(
        cluster,
        topic,
        *(Record(str(number).encode()) for number in range(5000)),
        queue_buffering_max_messages=100,
    )

    assert refused == []
    assert values(cluster.messages(topic)) == numbers(5000)


def test_a_topic_fills_a_queue_and_a_queue_fills_a_topic(cluster: Cluster, tmp_path: Path) -> None:
    inbound, outbound = cluster.topic(), cluster.topic()
    cluster.put(inbound, range(1000), key=b"k", headers=[("h", b"x")], timestamp=5)
    queue = Queue(tmp_path / "records", codec="record", max_events_per_file=100)
    source = KafkaSource(
        inbound, group="g", bootstrap_servers=cluster.bootstrap, settings=cluster.short
    )
    stopping = threading.Event()

    with running(lambda: fill(queue, source, stopping=stopping), stopping):
        eventually(lambda: cluster.committed(inbound, "g") == 1000, 20)
    sink = KafkaSink(outbound, bootstrap_servers=cluster.bootstrap)
    assert empty(queue, sink, stop_when_empty=True) == 1000

    messages = cluster.messages(outbound)
    assert values(messages) == numbers(1000)
    assert {message.key() for message in messages} == {b"k"}
    assert {message.timestamp()[1] for message in messages} == {5}
    assert messages[0].headers() == [("h", b"x")]


def test_values_alone_go_through_a_queue_of_another_codec(kafka: Cluster, tmp_path: Path) -> None:
    topic, queue = kafka.topic(), Queue(tmp_path / "raw", codec="raw")
    put(queue, [b"a", "b"])

    empty(queue, KafkaSink(topic, bootstrap_servers=kafka.bootstrap), stop_when_empty=True)

    assert values(kafka.messages(topic)) == {"a": 1, "b": 1}


def test_a_refused_event_stays_in_its_queue(cluster: Cluster, tmp_path: Path) -> None:
    topic, queue = cluster.topic(), Queue(tmp_path / "raw", codec="raw")
    put(queue, [b"a", b"x" * 2_000_000])

    with pytest.raises(SinkRefused, match="too large"):
        empty(queue, KafkaSink(topic, bootstrap_servers=cluster.bootstrap), stop_when_empty=True)

    assert len(drain(queue)) == 2


def test_a_topic_that_does_not_exist_is_told(kafka: Cluster) -> None:
    source = KafkaSource("missing", group="g", bootstrap_servers=kafka.bootstrap)
    sink = KafkaSink("missing", bootstrap_servers=kafka.bootstrap)

    with pytest.raises(SourceFailed, match="there is no topic 'missing' at .*; create it first"):
        source.open(Lap())
    with pytest.raises(SinkFailed, match="there is no topic 'missing' at .*; create it first"):
        sink.open(threading.Event())


def test_a_broker_that_does_not_answer_is_told_within_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr(troubles_module, "OPEN_TIMEOUT_S", 1.0)
    secret = {"sasl.username": "me", "sasl.password": "swordfish", "sasl.mechanism": "PLAIN"}
    settings = secret | {"security.protocol": "SASL_PLAINTEXT"}

    source = KafkaSource("topic", group="g", settings=settings)
    with pytest.raises(SourceFailed, match="no broker answers at 127.0.0.1:1 ") as error:
        source.open(Lap())
    with pytest.raises(SinkFailed, match="KAFKA_BOOTSTRAP"):
        KafkaSink("topic", settings=settings).open(threading.Event())

    assert "swordfish" not in f"{error.value} {source!r} {caplog.text}"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"enable.auto.commit": True}, "only once its event is on disk"),
        ({"auto.commit.enable": "true"}, "only once its event is on disk"),
        ({"enable.auto.offset.store": True}, "only once its event is on disk"),
        ({"group.id": "other"}, "give it as group="),
        ({"bootstrap.servers": "other:9092"}, "give it as bootstrap_servers="),
        ({"default.topic.config": "acks=1"}, "settings of their own"),
    ],
)
def test_settings_that_would_lose_events_are_refused_by_a_source(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        KafkaSource("topic", group="g", settings=settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"acks": 1}, "only once all replicas have it"),
        ({"request.required.acks": "0"}, "only once all replicas have it"),
        ({"delivery.report.only.error": False}, "the connector sets it itself"),
        ({"transactional.id": "t"}, "without transactions"),
    ],
)
def test_settings_that_would_lose_events_are_refused_by_a_sink(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        KafkaSink("topic", settings=settings)


def test_a_setting_that_librdkafka_does_not_know_is_told(kafka: Cluster) -> None:
    sink = KafkaSink("topic", bootstrap_servers=kafka.bootstrap, settings={"no.such": 1})

    with pytest.raises(SettingsError, match="no.such"):
        sink.open(threading.Event())


@pytest.mark.parametrize("topics", ["", [], [""]])
def test_a_source_without_topics_makes_no_sense(topics: Any) -> None:
    with pytest.raises(SettingsError, match="topic"):
        KafkaSource(topics, group="g")


def test_sources_and_sinks_can_be_sent_to_other_processes() -> None:
    source = KafkaSource(["a", "b"], group="g", format="json", settings={"client.id": "c"})
    sink = pickle.loads(pickle.dumps(KafkaSink("c", format="json")))

    twin = pickle.loads(pickle.dumps(source))

    assert repr(twin) == "KafkaSource(['a', 'b'], group='g')"
    assert twin.decode(b'{"id": 1}') == {"id": 1}
    assert sink.encode({"id": 1}) == b'{"id":1}'
