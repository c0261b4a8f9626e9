"""ZeroMQ push and pull over unix sockets, with msgspec's JSON."""

from __future__ import annotations

import tempfile
from time import monotonic
from typing import Any

import crew
import msgspec
import zmq
from crew import EVENT

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


def hand_over(producers: int, consumers: int, events: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        # Each consumer binds, each producer connects to all of them and deals in turn.
        ready = crew.fork.Barrier(producers + consumers)

        def produce(_: int, events: int) -> None:
            context = zmq.Context()
            push = context.socket(zmq.PUSH)
            ready.wait()
            for index in range(consumers):
                push.connect(f"ipc://{folder}/{index}")
            for _ in range(events):
                push.send(encode(EVENT))
            push.close()
            for index in range(consumers):
                last = context.socket(zmq.PUSH)
                last.connect(f"ipc://{folder}/{index}")
                last.send(b"")
                last.close()
            context.term()

        def consume(index: int) -> tuple[int, float]:
            context = zmq.Context()
            pull = context.socket(zmq.PULL)
            pull.bind(f"ipc://{folder}/{index}")
            ready.wait()
            got, ended, last = 0, 0, monotonic()
            while True:
                # The end may overtake events of another connection: wait a moment for those.
                if ended == producers and not pull.poll(300):
                    return got, last
                if data := pull.recv():
                    decode(data)
                    got += 1
                    if ended:
                        last = monotonic()
                else:
                    ended += 1
                    last = monotonic()

        return crew.hand_over(producers, consumers, events, produce, consume)


def wake_up(count: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        ends: dict[str, Any] = {}

        def take() -> Any:
            if not ends:
                ends["socket"] = zmq.Context().socket(zmq.PULL)
                ends["socket"].bind(f"ipc://{folder}/0")
            return decode(ends["socket"].recv())

        def put(event: Any) -> None:
            if not ends:
                ends["socket"] = zmq.Context().socket(zmq.PUSH)
                ends["socket"].connect(f"ipc://{folder}/0")
            ends["socket"].send(encode(event))

        return crew.wake_up(count, put, take)


crew.main(hand_over=hand_over, wake_up=wake_up)
