"""The processes of `turbo-queue bench`, seen from the one that starts them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

from turbo_queue.errors import TurboQueueError
from turbo_queue.operate.stopping import Stop, Stopped
from turbo_queue.queue import Queue

Role = Callable[[Queue, int, Connection], None]


class MemberLost(TurboQueueError):
    """A process of the measurement has ended before its time."""


class Crew:
    """Some processes; all are gone at the end of the `with` block.

    Args:
        stop: Ends a wait.
        look: Called while something is waited for.
    """

    def __init__(self, stop: Stop, look: Callable[[], None]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._stop = stop
        self._look = look
        self._processes: list[SpawnProcess] = []

    def add(self, role: Role, queue: Queue, events: int) -> Connection:
        """Start a process; gives the line to it."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=role, args=(queue, events, theirs), daemon=True)
        with _ctrl_c_kept_from_children():
            process.start()
        self._processes.append(process)
        theirs.close()  # So that its end is seen here.
        return ours

    def answers(self, members: list[Connection], others: list[Connection]) -> list[Any]:
        """One answer of each of these members.

        Args:
            members: Whose answers are waited for.
            others: Those that are expected to say nothing meanwhile, unless they fail.

        Raises:
            Stopped: a signal came.
            MemberLost: a member has ended.
            TurboQueueError: what a member has failed with; OSError likewise.
        """
        answers: dict[Connection, Any] = {}
        while len(answers) < len(members):
            pending = [member for member in members if member not in answers]
            for found in wait([*pending, *others, self._stop.descriptor], timeout=0.1):
                if isinstance(found, Connection):
                    answers[found] = _answer(found)
            if self._stop.is_wanted:
                raise Stopped
            self._look()
        return [answers[member] for member in members]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if error is not None:
                process.kill()
            process.join()


def _answer(member: Connection) -> Any:
    try:
        answer = member.recv()
    except (EOFError, ConnectionResetError):
        raise MemberLost("a process of the measurement has ended before its time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def _ctrl_c_kept_from_children() -> Iterator[None]:
    """Start children that a Ctrl-C at the terminal does not reach; their parent ends them."""
    resource_tracker.ensure_running()  # Its start would end the blocking below.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
