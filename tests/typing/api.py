"""What typical code looks like to a type checker. Checked by `make lint`, never run."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, assert_type

from daebus import (
    Blueprint,
    Daebus,
    DaebusCaller,
    Gap,
    Lease,
    broadcast,
    logger,
    request,
    response,
)
from turbo_queue import Batch, Queue
from turbo_queue.connectors import IterableSource, JsonLinesSource, QueueSink
from turbo_queue.pipeline import Outcome, Pipeline, Record
from turbo_queue.tracing import current_headers

app = Daebus("typed", max_workers=20, url="embedded://", grace=5.0, traces=True)


@app.action("add")
def add(a: int, b: int = 0) -> int:
    return a + b


assert_type(add(1, b=2), int)


@app.action("later", timeout=5.0)
async def later(name: str) -> str:
    return name


@app.listen("events.*")
def on_event(data: dict[str, Any]) -> None:
    logger.info("%s on %s", data, request.channel)
    assert_type(request.request_id, str | int | None)
    assert_type(request.remaining(), float | None)
    if response.send({"progress": 1}, final=False) == 0:
        response.error("nobody is there")


@app.background("tick", 60)
def tick() -> None:
    assert_type(broadcast.send("ticks", {"n": 1}), int)
    assert_type(broadcast.send_many("ticks", range(10)), int)


@app.background("bill", "0 3 * * *", scope="cluster", misfire="run")
def bill(lease: Lease) -> None:
    assert_type(lease.token, int)
    assert_type(lease.is_held(), bool)


@app.thread("worker")
def worker(goes_on: Callable[[], bool]) -> None:
    while goes_on() and app.is_running():
        pass


@app.on_start
def started() -> None: ...


@app.on_gap
def missed(gap: Gap) -> None:
    assert_type(gap.seconds, float)


users = Blueprint("users")


@users.action("get")
def get(user_id: str) -> dict[str, str]:
    return {"id": user_id}


app.register_blueprint(users)

with DaebusCaller("typed", timeout=2.0, traces=False) as caller:
    assert_type(caller, DaebusCaller)
    result = caller.call("add", {"a": 1})
    assert_type(caller.submit("add", {"a": 1}), Future[Any])
    assert_type(caller.send_message("add", {"a": 1}, expires=5.0, idempotency_key="k"), int)
    assert_type(caller.cancel(caller.submit("add", idempotency_key="k")), bool)
    for part in caller.stream("add", {"a": 1}, headers={"trace": "1"}):
        print(part)


def move(source: Queue, sink: Queue) -> int:
    with source.consumer(stop_when_empty=True) as consumer, sink.producer() as producer:
        for event in consumer:
            producer.put(event, timeout=1.0)
        producer.put_many([1, "two", None], block=False)
    return sink.stats().ready.events


def store(queue: Queue) -> None:
    with queue.consumer() as consumer:
        for batch in consumer.batches():
            with batch:
                assert_type(len(batch), int)
        assert_type(consumer.take(timeout=0), Batch | None)
    for dead in queue.dead:
        assert_type(dead.reason, str)
        queue.dead.retry(dead.name)


orders = Queue("orders", codec="msgpack", max_ready_files=5, fsync=True)


def clean(order: dict[str, Any]) -> dict[str, Any] | None:
    return order or None


pipeline = Pipeline(
    JsonLinesSource("orders.jsonl"), clean, QueueSink(orders), processes=2, folder="waiting"
)
assert_type(Record({"id": 1}, headers=current_headers()), Record)
assert_type(pipeline.run(progress=False), Outcome)
assert_type(Pipeline.from_toml("orders.toml", processes=4), Pipeline)
assert_type(pipeline.run().counts.written, int)
Pipeline(IterableSource(["a", "b"]), "work:clean", QueueSink("results", codec="record")).stop()
