"""Pipelines on real parts, for `make demo`: file to file, and Kafka to Kafka if a broker can run.

Everything is in a folder that is removed at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from kafka_broker import ROOT, KafkaBroker, KafkaUnavailable
from turbo_queue import Queue
from turbo_queue.connectors import JsonLinesSource, empty, fill
from turbo_queue.connectors.kafka import KafkaSink

EXAMPLE = ROOT / "examples" / "pipeline"
ORDERS = 100_000

#: All but those without an address.
CLEAN_ORDERS = ORDERS - ORDERS // 100

PARTITIONS = 4
TOPICS = ("orders", "clean-orders")

#: How long the pipeline over Kafka may take, in seconds.
WAIT_S = 30.0


def main() -> None:
    """Show both."""
    with tempfile.TemporaryDirectory(prefix="daebus-demo-") as name:
        folder = Path(name)
        orders = folder / "orders.jsonl"
        subprocess.run(
            [sys.executable, EXAMPLE / "make_orders.py", orders, str(ORDERS)], check=True
        )
        from_file_to_file(folder, orders)
        try:
            with KafkaBroker() as broker:
                from_kafka_to_kafka(folder, orders, broker.bootstrap)
        except KafkaUnavailable as error:
            tell("From Kafka to Kafka", f"left out: {error}")


def from_file_to_file(folder: Path, orders: Path) -> None:
    """JSON lines, two processes, JSON lines."""
    tell("From file to file", f"{ORDERS:,} orders through two processes")
    clean = folder / "clean.jsonl"
    env = {"INPUT": str(orders), "OUTPUT": str(clean), "FOLDER": str(folder / "files")}
    done = subprocess.run(command("pipeline.toml"), env=os.environ | env, check=False)
    written = clean.read_bytes().count(b"\n")
    result(f"exit code {done.returncode}; {written:,} orders in the other file")
    if (done.returncode, written) != (0, CLEAN_ORDERS):
        sys.exit(f"it should have been 0 and {CLEAN_ORDERS:,}")


def from_kafka_to_kafka(folder: Path, orders: Path, bootstrap: str) -> None:
    """A topic, two processes, another topic."""
    tell("From Kafka to Kafka", f"over a real broker at {bootstrap}")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for created in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in TOPICS]).values():
        created.result()
    queue = Queue(folder / "orders", codec="record")
    fill(queue, JsonLinesSource(orders))
    empty(queue, KafkaSink("orders", bootstrap_servers=bootstrap), stop_when_empty=True)
    result(f"{events_of('orders', bootstrap):,} orders in the topic 'orders'")
    env = {"KAFKA_BOOTSTRAP": bootstrap, "FOLDER": str(folder / "kafka")}
    with subprocess.Popen(command("kafka.toml"), env=os.environ | env) as pipeline:
        try:
            written = wait_for_results(pipeline, bootstrap)
        finally:
            pipeline.send_signal(signal.SIGTERM)
    result(
        f"{written:,} orders in the topic 'clean-orders'; SIGTERM ended the pipeline with exit "
        f"code {pipeline.returncode}"
    )
    if (pipeline.returncode, written) != (0, CLEAN_ORDERS):
        sys.exit(f"it should have been 0 and {CLEAN_ORDERS:,}")


def wait_for_results(pipeline: subprocess.Popen[bytes], bootstrap: str) -> int:
    """Wait until all results are in the topic; gives how many are."""
    pause, end = threading.Event(), monotonic() + WAIT_S
    while (written := events_of("clean-orders", bootstrap)) < CLEAN_ORDERS:
        if pipeline.poll() is not None or monotonic() > end:
            break
        pause.wait(0.2)
    return written


def events_of(topic: str, bootstrap: str) -> int:
    """How many events a topic has."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "demo"})
    try:
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, number))
            for number in range(PARTITIONS)
        ]
    finally:
        consumer.close()
    return sum(high - low for low, high in ends)


def command(file: str) -> list[str]:
    """Run a pipeline of the examples with two processes."""
    shown = ["turbo-queue", "run", f"examples/pipeline/{file}", "--processes", "2"]
    print(f"    {' '.join(shown)}", flush=True)
    return [sys.executable, "-m", "turbo_queue", "run", str(EXAMPLE / file), "--processes", "2"]


def tell(title: str, text: str) -> None:
    """Begin a part."""
    print(f"\n{title}: {text}", flush=True)


def result(text: str) -> None:
    """Say what came out."""
    print(f"    -> {text}", flush=True)


if __name__ == "__main__":
    main()
