"""redis-py's own listen() loop, and a pipelined publisher."""

from __future__ import annotations

import json
import threading
from time import monotonic

import redis
from common import PAYLOAD, cpu_s, give, main, ready

#: Messages of one pipeline.
PIPELINE = 100


def listen(port: int, count: int) -> None:
    client = redis.Redis(port=port)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("bench.events")
    heard, last, ended_at = 0, -1, 0.0

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
    cpu = cpu_s()
    try:
        for message in pubsub.listen():
            if message is None:
                continue
            json.loads(message["data"])
            heard += 1
            if heard == count:
                ended_at = monotonic()
                break
    except (redis.RedisError, OSError, AttributeError, ValueError):
        pass  # It was cut off, or nothing came for a long time.
    give(received=heard, ended_at=ended_at, cpu_us=(cpu_s() - cpu) / count * 1e6)


def publish(port: int, count: int) -> None:
    client = redis.Redis(port=port)
    client.ping()
    began_at = monotonic()
    for _ in range(0, count, PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for _ in range(PIPELINE):
            pipeline.publish("bench.events", json.dumps(PAYLOAD))
        pipeline.execute()
    give(sent=count, began_at=began_at)


main(listen=listen, publish=publish)
