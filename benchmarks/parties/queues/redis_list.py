"""A Redis list: batches of a hundred in a pipeline, popped a hundred at a time."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

import crew
import msgspec
import redis
from crew import EVENT, TOGETHER

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
LIST = "bench-queue"


def hand_over(producers: int, consumers: int, events: int, port: int, **_: Any) -> dict[str, float]:
    redis.Redis(port=port).delete(LIST)
    is_done = crew.fork.RawValue("b", 0)

    def produce(_: int, events: int) -> None:
        client = redis.Redis(port=port)
        for number in range(events // TOGETHER):
            pipeline = client.pipeline(transaction=False)
            for _ in range(TOGETHER):
                pipeline.rpush(LIST, encode(EVENT))
            length = pipeline.execute()[-1]
            while length > 100_000 and number % 10 == 0:
                sleep(0.001)
                length = client.llen(LIST)

    def consume(_: int) -> tuple[int, float]:
        client, got, last = redis.Redis(port=port), 0, monotonic()
        while True:
            was_done = is_done.value
            some = client.lpop(LIST, TOGETHER)
            if some:
                for data in some:
                    decode(data)
                got += len(some)
                last = monotonic()
            elif was_done:
                return got, last
            elif popped := client.blpop([LIST], 0.2):
                decode(popped[1])
                got += 1
                last = monotonic()

    return crew.hand_over(
        producers, consumers, events, produce, consume, lambda: setattr(is_done, "value", 1)
    )


def wake_up(count: int, port: int, **_: Any) -> dict[str, float]:
    redis.Redis(port=port).delete(LIST)
    clients: dict[str, redis.Redis] = {}

    def client() -> redis.Redis:
        return clients.setdefault("mine", redis.Redis(port=port))

    return crew.wake_up(
        count,
        lambda event: client().rpush(LIST, encode(event)),
        lambda: decode(client().blpop([LIST], 0)[1]),
    )


crew.main(hand_over=hand_over, wake_up=wake_up)
