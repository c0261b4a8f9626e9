"""Any interleaving of producers, consumers, crashes and recoveries loses and invents nothing.

A crash is what the kernel makes of one: the locks of the handle are free, and nothing else
happens; the handle itself is left as a child of `fork` leaves it. The tests in `faults` kill real
processes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fixtures.queues import drain, files
from turbo_queue import Consumer, Producer, Queue, QueueEmpty
from turbo_queue.exits import sigterm_exits
from turbo_queue.locks import release

CHECKPOINT = 3

INDEX = st.integers(0, 2)


def crash(handle: Producer | Consumer) -> None:
    if isinstance(handle, Producer):
        handle._ager.stop()  # Threads and signal handlers die with their process.
        sigterm_exits.leave()
        held = [handle._held] if handle._held else []
    else:
        held = [batch._get_held() for batch in handle._claims.held]
    for one in held:
        one.release()
    release(handle._owner._descriptor)
    handle._at_exit.cancel()
    handle.after_fork()


class QueueMachine(RuleBasedStateMachine):
    """Three producers and three consumers at one queue, in one process."""

    @initialize(max_events=st.integers(1, 8), max_failures=st.integers(1, 3))
    def begin(self, max_events: int, max_failures: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.queue = Queue(
            self.folder / "queue",
            max_events_per_file=max_events,
            checkpoint=CHECKPOINT,
            max_failures=max_failures,
        )
        self.numbers = count()
        self.producers: list[Producer] = [self.queue.producer() for _ in range(3)]
        self.consumers: list[Consumer] = [self.queue.consumer() for _ in range(3)]
        self.put: set[int] = set()
        self.unflushed: list[set[int]] = [set(), set(), set()]
        self.perhaps_lost: set[int] = set()
        self.given: Counter[int] = Counter()
        self.repeats_allowed = 0

    @rule(index=INDEX, number=st.integers(1, 12), together=st.booleans())
    def put_events(self, index: int, number: int, together: bool) -> None:
        events = [next(self.numbers) for _ in range(number)]
        if together:
            self.producers[index].put_many(events)
        else:
            for event in events:
                self.producers[index].put(event)
        self.put.update(events)
        self.unflushed[index].update(events)

    @rule(index=INDEX)
    def flush(self, index: int) -> None:
        self.producers[index].flush()
        self.unflushed[index].clear()

    @rule(index=INDEX)
    def close_and_make_a_producer(self, index: int) -> None:
        self.producers[index].close()
        self.unflushed[index].clear()
        self.producers[index] = self.queue.producer()

    @rule(index=INDEX)
    def crash_a_producer(self, index: int) -> None:
        crash(self.producers[index])
        self.perhaps_lost |= self.unflushed[index]
        self.unflushed[index].clear()
        self.producers[index] = self.queue.producer()

    @rule(index=INDEX, number=st.integers(1, 12))
    def consume(self, index: int, number: int) -> None:
        for _ in range(number):
            try:
                self.given[self.consumers[index].get(block=False)] += 1
            except QueueEmpty:
                break

    @rule(index=INDEX, fails=st.booleans())
    def give_back(self, index: int, fails: bool) -> None:
        self.consumers[index].give_back("no" if fails else None)
        self.repeats_allowed += 1

    @rule(index=INDEX)
    def close_and_make_a_consumer(self, index: int) -> None:
        self.consumers[index].close()
        self.consumers[index] = self.queue.consumer()

    @rule(index=INDEX)
    def crash_a_consumer(self, index: int) -> None:
        crash(self.consumers[index])
        self.repeats_allowed += CHECKPOINT
        self.consumers[index] = self.queue.consumer()

    @rule()
    def recover(self) -> None:
        self.queue.recover()

    @rule()
    def retry_the_dead(self) -> None:
        for batch in list(self.queue.dead):
            self.queue.dead.retry(batch.name)

    @invariant()
    def nothing_is_invented(self) -> None:
        assert set(self.given) <= self.put

    @invariant()
    def nothing_is_repeated_without_a_cause(self) -> None:
        assert sum(times - 1 for times in self.given.values()) <= self.repeats_allowed

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        for handle in (*self.producers, *self.consumers):
            handle.close()
        self.queue.recover()
        self.retry_the_dead()
        self.given.update(drain(self.queue))
        left = files(self.queue)
        bad = list((self.queue.path / "bad").iterdir())
        shutil.rmtree(self.folder)

        assert not left
        assert not bad
        self.nothing_is_invented()
        self.nothing_is_repeated_without_a_cause()
        assert self.put - set(self.given) <= self.perhaps_lost


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
