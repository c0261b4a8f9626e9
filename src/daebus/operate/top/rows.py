"""The rows of `daebus top`: columns, order, filter, and what a row says. Pure.

Names came over the wire or from a disk: whatever in them does not print is escaped, and nothing
is taken for markup.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from rich.text import Text

from daebus.operate.fleet.views import ActionView, Fleet, ReplicaView, ServiceView
from daebus.operate.output import span

View = TypeVar("View")

#: Longest name that is shown, in characters.
MOST_CHARACTERS = 200

#: What is wrong, and what may become so. Both are light, to be read without colours, too.
BAD, CAUTION = "bold #ff7070", "yellow"


class Column(NamedTuple, Generic[View]):
    """One column, which the rows may be sorted by."""

    #: How the command line names it.
    name: str
    title: str
    #: In characters; 0 for the one that takes what room there is.
    width: int
    #: What rows are sorted by; None goes to the end.
    value: Callable[[View], float | str | None]
    #: For people who ask what it means.
    meaning: str


@dataclass(frozen=True, slots=True)
class Order:
    """How rows are sorted: names begin with A, figures with the largest."""

    column: int = 0
    is_reversed: bool = False

    def moved(self, by: int, columns: int) -> Order:
        """By a column further right or left."""
        return Order((self.column + by) % columns)

    def reversed(self) -> Order:
        """The other way round."""
        return replace(self, is_reversed=not self.is_reversed)

    @property
    def is_descending(self) -> bool:
        """Whether the largest comes first."""
        return self.is_reversed == (self.column == 0)

    @property
    def mark(self) -> str:
        """What stands beside the title of the column."""
        return "▼" if self.is_descending else "▲"


Cells = tuple[Text, ...]


class Row(NamedTuple):
    """A row of a table. What it says is made when it is shown: most rows are out of sight."""

    #: What tells it from all others, also at the next look.
    key: str
    #: The key of the row that it belongs to; its own for one that may be opened.
    owner: str
    make_cells: Callable[[], Cells]
    make_detail: Callable[[], Text]

    @property
    def cells(self) -> Cells:
        """What stands in the columns."""
        return self.make_cells()

    @property
    def detail(self) -> Text:
        """All there is to say about it, for the line below the tables."""
        return self.make_detail()


def ordered(views: Iterable[View], columns: Sequence[Column[View]], order: Order) -> list[View]:
    """The views as they are to stand; those without a value come last, whichever way round."""
    value = columns[order.column].value
    by_name = sorted(views, key=lambda view: str(columns[0].value(view)))
    known = [(found, view) for view in by_name if (found := value(view)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=order.is_descending)
    return [view for _, view in known] + [view for view in by_name if value(view) is None]


def matching(views: Iterable[View], name: Callable[[View], str], wanted: str) -> list[View]:
    """Those whose name has this text in it, in capitals or not."""
    return [view for view in views if wanted.casefold() in name(view).casefold()]


def shown(text: str) -> str:
    r"""A name as it may be shown: with escapes for what does not print, or turns the line round.

    Example:
        >>> shown("a" + chr(27) + "[31m" + chr(0x202E) + "b")
        'a\\x1b[31m\\u202eb'
    """
    cut = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut
    )


def amount(number: float | None) -> str:
    """A number in five characters at most; a dash for none.

    Example:
        >>> [amount(number) for number in (None, 0, 0.25, 7, 9_999, 12_345, 2_500_000, 3.1e9)]
        ['-', '0', '0.2', '7', '9999', '12.3k', '2.5M', '3.1G']
    """
    if number is None:
        return "-"
    if number < 10 and number != int(number):  # noqa: PLR2004
        return f"{number:.1f}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"  # noqa: PLR2004
    return f"{number:.0f}"


def latency(ms: float | None) -> str:
    """A latency in six characters at most; a dash for none.

    Example:
        >>> [latency(ms) for ms in (None, 0.153, 1.5, 48.2, 950.0, 12_500.0)]
        ['-', '0.15ms', '1.5ms', '48ms', '950ms', '12.5s']
    """
    if ms is None:
        return "-"
    if ms >= 1000:  # noqa: PLR2004
        return f"{ms / 1000:.1f}s"
    digits = 2 if ms < 1 else 1 if ms < 10 else 0  # noqa: PLR2004
    return f"{ms:.{digits}f}ms"


SERVICE_COLUMNS: tuple[Column[ServiceView], ...] = (
    Column("service", "SERVICE", 0, lambda view: view.service, "its name"),
    Column("ready", "READY", 5, lambda view: len(view.replicas), "replicas that are ready, of all"),
    Column("requests", "REQ/S", 6, lambda view: view.requests_per_s, "messages handled a second"),
    Column("p50", "P50", 6, lambda view: view.p50_ms, "half of them took less, from arrival on"),
    Column("p99", "P99", 6, lambda view: view.p99_ms, "99 of 100 took less"),
    Column("errors", "ERR/S", 5, lambda view: view.errors_per_s, "… that failed, a second"),
    Column("busy", "BUSY", 5, lambda view: view.in_progress, "messages in a handler now"),
    Column("backlog", "BACKLOG", 7, lambda view: view.backlog, "… that wait in memory"),
    Column("spilled", "SPILLED", 7, lambda view: view.spilled, "… that wait on disk"),
    Column("inbox", "INBOX", 5, lambda view: view.waiting_in_inbox, "… on the server"),
    Column(
        "dead", "DEAD", 5, lambda view: view.dead_letters, "… that failed too often, and are kept"
    ),
)


def service_rows(
    fleet: Fleet, order: Order, wanted: str = "", opened: Collection[str] | None = None
) -> list[Row]:
    """A row for each service, and below those that are open their replicas and actions."""
    views = matching(fleet.services, lambda view: view.service, wanted)
    rows: list[Row] = []
    for view in ordered(views, SERVICE_COLUMNS, order):
        rows.append(_service_row(view, mark(view.service, opened)))
        if opened and view.service in opened:
            rows += [_replica_row(view, replica) for replica in view.replicas]
            rows += [_action_row(view, action) for action in view.actions]
    return rows


def mark(key: str, opened: Collection[str] | None) -> str:
    """What stands before a name that may be opened; nothing where none can be."""
    if opened is None:
        return ""
    return "▾ " if key in opened else "▸ "


def _service_row(view: ServiceView, mark: str) -> Row:
    return Row(
        view.service,
        view.service,
        lambda: _service_cells(view, mark),
        lambda: _about_service(view),
    )


def _service_cells(view: ServiceView, mark: str) -> Cells:
    is_well = 0 < len(view.replicas) == view.ready
    return (
        Text(mark + shown(view.service), "bold"),
        Text(f"{view.ready}/{len(view.replicas)}", "" if is_well else BAD),
        *_rates(view),
        Text(amount(view.in_progress)),
        Text(amount(view.backlog)),
        Text(amount(view.spilled), CAUTION if view.spilled else ""),
        Text(amount(view.waiting_in_inbox)),
        Text(amount(view.dead_letters), BAD if view.dead_letters else ""),
    )


def _about_service(view: ServiceView) -> Text:
    text = Text.assemble((shown(view.service), "bold"), f"  {shown(view.delivery)}")
    text.append(f"  handled {view.handled:,}, errors {view.errors:,}, gaps {view.gaps:,}")
    if not view.replicas:
        text.append("  no replica is alive", BAD)
    return text


def _replica_row(service: ServiceView, view: ReplicaView) -> Row:
    return Row(
        f"{service.service}\0replica\0{view.replica_id}",
        service.service,
        lambda: _replica_cells(view),
        lambda: _about_replica(view),
    )


def _replica_cells(view: ReplicaView) -> Cells:
    return (
        Text(f"  {shown(view.host)}:{view.pid}"),
        Text("ready" if view.is_ready else "not", "" if view.is_ready else BAD),
        *_rates(view),
        Text(amount(view.in_progress)),
        Text(amount(view.backlog)),
        Text(amount(view.spilled), CAUTION if view.spilled else ""),
        Text(),
        Text(),
    )


def _about_replica(view: ReplicaView) -> Text:
    text = Text.assemble(
        (f"{shown(view.host)}:{view.pid}", "bold"),
        f"  {shown(view.version)}, up {span(view.uptime_s)}",
        f"  handled {view.handled:,}, errors {view.errors:,}, gaps {view.gaps:,}",
    )
    if not view.is_ready:
        text.append(f"  not ready: {shown('; '.join(view.troubles)) or 'no reason given'}", BAD)
    if view.incidents:
        counted = ", ".join(f"{shown(kind)} {number:,}" for kind, number in view.incidents.items())
        text.append(f"  {counted}")
    return text


def _action_row(service: ServiceView, view: ActionView) -> Row:
    kind = "channel" if view.is_channel else "action"
    return Row(
        f"{service.service}\0{kind}\0{view.name}",
        service.service,
        lambda: (Text(f"  {shown(view.name)}", "cyan"), Text(), *_rates(view), *[Text()] * 5),
        lambda: _about_action(service, kind, view),
    )


def _about_action(service: ServiceView, kind: str, view: ActionView) -> Text:
    return Text.assemble(
        f"{kind} ",
        (shown(view.name), "bold"),
        f" of {shown(service.service)}  handled {view.handled:,}, errors {view.errors:,}",
    )


def _rates(view: ServiceView | ReplicaView | ActionView) -> tuple[Text, Text, Text, Text]:
    return (
        Text(amount(view.requests_per_s)),
        Text(latency(view.p50_ms)),
        Text(latency(view.p99_ms)),
        Text(amount(view.errors_per_s), BAD if view.errors_per_s else ""),
    )
