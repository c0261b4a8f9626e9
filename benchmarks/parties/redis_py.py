"""redis-py's own listen() loop, and a pipelined publisher."""

from __future__ import annotations

import json
import threading
from time import perf_counter

import redis
from common import PAYLOAD, cpu_s, give, main, ready

#: Messages of one pipeline.
PIPELINE = 100


def listen(port: int, count: int) -> None:
    client = redis.Redis(port=port)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("bench.events")
    heard, last = 0, -1

    def give_up_when_silent() -> None:
        nonlocal last
        while heard < count:
            if not threading.Event().wait(10) and heard == last:
                client.close()
                pubsub.connection.disconnect()
                return
            last = heard

    threading.Thread(target=give_up_when_silent, daemon=True).start()
    pubsub.get_message(timeout=5)
    ready()
    try:
        for message in pubsub.listen():
            if message is None:
                continue
            json.loads(message["data"])
            heard += 1
            if heard == count:
                break
    except (redis.RedisError, OSError, AttributeError, ValueError):
        pass  # It was cut off, or nothing came for a long time.
    give(received=heard, cpu_us=cpu_s() / count * 1e6)


def publish(port: int, count: int) -> None:
    client = redis.Redis(port=port)
    began = perf_counter()
    for _ in range(0, count, PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for _ in range(PIPELINE):
            pipeline.publish("bench.events", json.dumps(PAYLOAD))
        pipeline.execute()
    give(sent=count, took_s=perf_counter() - began)


main(listen=listen, publish=publish)
