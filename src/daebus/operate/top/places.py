"""The rows of queues and pipelines in `daebus top`. Pure."""

from __future__ import annotations

from collections.abc import Collection

from rich.text import Text

from daebus.operate.fleet.views import Fleet, PipelineView, QueueView, StateView
from daebus.operate.output import span
from daebus.operate.top.rows import (
    BAD,
    CAUTION,
    Cells,
    Column,
    Order,
    Row,
    amount,
    mark,
    matching,
    ordered,
    shown,
)

#: A queue, or a pipeline with its queues.
Place = QueueView | PipelineView

#: Where the events lie that nobody has finished.
_WAITING = ("ready", "chosen")


def _queues(view: Place) -> list[QueueView]:
    return [view] if isinstance(view, QueueView) else view.queues


def _dead(view: Place) -> int:
    return view.dead_letters if isinstance(view, PipelineView) else _state(view, "dead").events


def _state(queue: QueueView, name: str) -> StateView:
    return queue.states.get(name) or StateView()


def _batches(view: Place, name: str) -> int:
    return sum(_state(queue, name).batches for queue in _flow(view))


def _flow(view: Place) -> list[QueueView]:
    """The queues that events go through: without the dead letters of a pipeline."""
    if isinstance(view, QueueView):
        return [view]
    return [queue for queue in view.queues if queue.name != "dead"]


def _waiting(view: Place) -> int:
    if isinstance(view, PipelineView):
        return view.waiting
    return sum(_state(view, name).events for name in _WAITING)


def _oldest_s(view: Place) -> float | None:
    ages = [
        _state(queue, name).oldest_s
        for queue in _flow(view)
        for name in _WAITING
        if _state(queue, name).batches
    ]
    return max(ages, default=None)


def _status(view: Place) -> str:
    if isinstance(view, PipelineView):
        return "running" if view.is_running else "stopped"
    if view.trouble:
        return "trouble"
    return "closed" if view.is_closed else "open"


PLACE_COLUMNS: tuple[Column[Place], ...] = (
    Column("name", "QUEUE/PIPELINE", 0, lambda view: view.name, "its folder"),
    Column("status", "STATUS", 7, _status, "whether a pipeline runs, or a queue takes events"),
    Column("waiting", "WAITING", 7, _waiting, "events that are not finished"),
    Column("ready", "READY", 5, lambda view: _batches(view, "ready"), "batches that wait"),
    Column("chosen", "CHOSEN", 6, lambda view: _batches(view, "chosen"), "batches in work"),
    Column("oldest", "OLDEST", 7, _oldest_s, "the age of the oldest batch"),
    Column("in", "IN/S", 6, lambda view: view.in_per_s, "events that come in a second"),
    Column("out", "OUT/S", 6, lambda view: view.out_per_s, "events that go out a second"),
    Column("ends", "ENDS", 5, lambda view: _ends(view)[1], "producers and consumers"),
    Column("dead", "DEAD", 5, _dead, "events that failed too often, and are kept"),
)

#: What waits stands first: a service's folders stay when it has gone, and are empty then.
PLACE_ORDER = Order(2)


def place_rows(
    fleet: Fleet, order: Order, wanted: str = "", opened: Collection[str] | None = None
) -> list[Row]:
    """A row for each queue and pipeline, and below those that are opened what they consist of."""
    places: list[Place] = [*fleet.pipelines, *fleet.queues]
    views = matching(places, lambda view: view.name, wanted)
    rows: list[Row] = []
    for view in ordered(views, PLACE_COLUMNS, order):
        rows.append(_place_row(view, mark(view.path, opened)))
        is_open = opened and view.path in opened
        if is_open and isinstance(view, PipelineView):
            rows += [_inner_row(view, queue) for queue in view.queues]
        elif is_open and isinstance(view, QueueView):
            rows += [_state_row(view, name, state) for name, state in view.states.items()]
    return rows


def _place_row(view: Place, mark: str) -> Row:
    return Row(
        view.path,
        view.path,
        lambda: (Text(mark + shown(view.name), "bold"), *_figures(view)),
        lambda: _about(view),
    )


def _inner_row(pipeline: PipelineView, queue: QueueView) -> Row:
    return Row(
        queue.path,
        pipeline.path,
        lambda: (Text(f"  {queue.name}", "cyan"), *_figures(queue)),
        lambda: _about(queue),
    )


def _state_row(queue: QueueView, name: str, state: StateView) -> Row:
    return Row(
        f"{queue.path}\0{name}",
        queue.path,
        lambda: _state_cells(name, state),
        lambda: _about_state(queue, name, state),
    )


def _state_cells(name: str, state: StateView) -> Cells:
    cells = {
        "name": Text(f"  {name}", "cyan"),
        "waiting": Text("" if name == "loading" else amount(state.events)),
        "ready": Text(amount(state.batches)),
        "oldest": Text(_age(state.oldest_s) if state.batches else "-"),
    }
    return tuple(cells.get(column.name, Text()) for column in PLACE_COLUMNS)


def _about_state(queue: QueueView, name: str, state: StateView) -> Text:
    detail = Text(f"{shown(queue.path)}: {state.batches:,} {name} batches")
    if state.abandoned:
        detail.append(f", {state.abandoned:,} of dead owners", CAUTION)
    return detail


def _figures(view: Place) -> tuple[Text, ...]:
    status, oldest_s, dead = _status(view), _oldest_s(view), _dead(view)
    producers, consumers = _ends(view)
    return (
        Text(status, BAD if status == "trouble" else ""),
        Text(amount(_waiting(view))),
        Text(amount(_batches(view, "ready"))),
        Text(amount(_batches(view, "chosen"))),
        Text("-" if oldest_s is None else _age(oldest_s)),
        Text(amount(view.in_per_s)),
        Text(amount(view.out_per_s)),
        Text(f"{producers}+{consumers}"),
        Text(amount(dead), BAD if dead else ""),
    )


def _ends(view: Place) -> tuple[int, int]:
    """How many producers and consumers live."""
    queues = _queues(view)
    return sum(len(each.producers) for each in queues), sum(len(each.consumers) for each in queues)


def _about(view: Place) -> Text:
    text = Text.assemble((shown(view.path), "bold"))
    if isinstance(view, PipelineView):
        pid = f", pid {view.pid}" if view.pid else ""
        return text.append(f"  pipeline, {_status(view)}{pid}")
    if view.trouble:
        return text.append(f"  {shown(view.trouble)}", BAD)
    text.append(f"  in {view.events_in:,}, out {view.events_out:,} events")
    abandoned = sum(state.abandoned for state in view.states.values())
    if abandoned:
        text.append(f", {abandoned:,} batches of dead owners", CAUTION)
    if view.bad_files:
        text.append(f", {view.bad_files:,} bad files", BAD)
    return text


def _age(seconds: float) -> str:
    return span(seconds).replace(" ", "")
