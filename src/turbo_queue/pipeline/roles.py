"""What the processes of a pipeline run: one reads, some work, one writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from turbo_queue.connectors.emptying import Emptying
from turbo_queue.connectors.filling import Filling
from turbo_queue.connectors.interface import Refused
from turbo_queue.errors import BadEvent, PipelineFailed, SinkGone, TurboQueueError
from turbo_queue.pipeline import failures
from turbo_queue.pipeline.logs import show_logs
from turbo_queue.pipeline.plan import Plan
from turbo_queue.pipeline.positions import PositionFile
from turbo_queue.pipeline.tally import Tally
from turbo_queue.pipeline.working import Working
from turbo_queue.producer import Producer
from turbo_queue.records import Record
from turbo_queue.worker_ends import Parent


def begin(
    parent: Parent, role: Callable[[Parent, Plan], None], plan: Plan, log_level: int | None
) -> None:
    """What each process runs first.

    Args:
        parent: The supervisor.
        role: `read`, `work` or `write`.
        plan: What the pipeline does.
        log_level: From which level on the supervisor shows records, if it does; so does this one.
    """
    if log_level is not None:
        show_logs(log_level)
    role(parent, plan)


def read(parent: Parent, plan: Plan) -> None:
    """Read the source until it has ended, or the parent asks for the end."""
    tally = Tally(parent.send)
    with plan.dead.producer(is_bounded=False) as dead:

        def bury(record: Record, error: BadEvent) -> None:
            _put(dead, [failures.failed(failures.as_text(record), str(error), 1)])
            tally.count(dead=1)

        filling = Filling(
            plan.incoming,
            plan.source,
            stopping=parent.stopping,
            position=PositionFile(plan.position_file, fsync=plan.fsync),
            on_read=lambda events: tally.count(read=events),
            on_refused=bury,
        )
        with _in_one_line("source"):
            filling.run(on_open=parent.ready)
    tally.tell(has_ended=not parent.stopping.is_set())
    parent.stopping.wait()


def work(parent: Parent, plan: Plan) -> None:
    """Do the work until the parent asks for the end."""
    Working(plan, stopping=parent.stopping, tally=Tally(parent.send)).run(on_open=parent.ready)


def write(parent: Parent, plan: Plan) -> None:
    """Write the results until the parent asks for the end."""
    tally = Tally(parent.send)
    with plan.dead.producer(is_bounded=False) as dead:

        def bury(refused: list[Refused]) -> None:
            _put(dead, [failures.refused(one.record, one.reason) for one in refused])
            tally.count(dead=len(refused))

        emptying = Emptying(
            plan.outgoing,
            plan.sink,
            stopping=parent.stopping,
            on_refused=bury,
            on_written=lambda events: tally.count(written=events),
        )
        try:
            with _in_one_line("sink"):
                emptying.run(on_open=parent.ready)
        except SinkGone as error:
            tally.tell(gone=str(error))
            parent.stopping.wait()
            return
    tally.tell()


def _put(dead: Producer, letters: list[Record]) -> None:
    dead.put_many(letters)
    dead.flush()
    failures.log_dead(letters)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Say what the system refuses without a traceback, which would say nothing more."""
    try:
        yield
    except TurboQueueError:
        raise
    except OSError as error:
        raise PipelineFailed(f"the {what} cannot be opened: {error}") from error
