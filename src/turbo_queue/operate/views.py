"""What is in a queue, as a table for people and as a line for logs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from turbo_queue.escapes import printable
from turbo_queue.monitor import QueueStats, StateStats
from turbo_queue.operate import output
from turbo_queue.states import State

_STYLES = {State.READY: "green", State.CHOSEN: "cyan", State.DEAD: "red"}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a queue.

    Args:
        stats: What was seen.
        in_per_s: How many events came in per second since the look before, if there was one.
        out_per_s: … and went out.
    """

    stats: QueueStats
    in_per_s: float | None = None
    out_per_s: float | None = None

    def since(self, before: Look | None, elapsed_s: float) -> Look:
        """The same look with the rates since the one before."""
        if before is None:
            return self
        now, then = self.stats.traffic, before.stats.traffic
        # While an owner hands its figures over to the totals, a look may see them once too few.
        return Look(
            self.stats,
            max(now.events_in - then.events_in, 0) / elapsed_s,
            max(now.events_out - then.events_out, 0) / elapsed_s,
        )


def as_line(look: Look) -> str:
    """A look as one line."""
    stats = look.stats
    parts = [
        f"ready {_amount(stats.ready)} (oldest {age(stats.ready.oldest_s)})",
        f"chosen {_amount(stats.chosen)}",
        f"loading {output.count(stats.loading.batches, 'batch')}",
        f"dead {_amount(stats.dead)}",
        f"bad files {stats.bad_files:,}",
        f"in {_rate(look.in_per_s)}",
        f"out {_rate(look.out_per_s)}",
        f"producers {len(stats.producers)}",
        f"consumers {len(stats.consumers)}",
    ]
    return "; ".join([*parts, "closed"] if stats.is_closed else parts)


def as_table(look: Look, title: str) -> RenderableType:
    """A look as a table of the states, and what else there is to say."""
    return Group(Text(printable(title), "bold"), _states(look.stats), _facts(look))


def age(seconds: float) -> str:
    """A time in its two largest units.

    Example:
        >>> age(0.2), age(59.9), age(3_700), age(180_000)
        ('0s', '59s', '1h 1m', '2d 2h')
    """
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def _states(stats: QueueStats) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("STATE")
    for name in ("BATCHES", "EVENTS", "OLDEST", "ABANDONED"):
        table.add_column(name, justify="right", no_wrap=True)
    for state in State:
        seen: StateStats = getattr(stats, state.value)
        table.add_row(
            Text(state.value, _STYLES.get(state, "") if seen.batches else "dim"),
            f"{seen.batches:,}",
            # What a producer fills is in its memory.
            "-" if state is State.LOADING else f"{seen.events:,}",
            age(seen.oldest_s) if seen.batches else "-",
            f"{seen.abandoned:,}",
        )
    return table


def _facts(look: Look) -> Table:
    stats, traffic = look.stats, look.stats.traffic
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, events, batches, rate in (
        ("in", traffic.events_in, traffic.batches_in, look.in_per_s),
        ("out", traffic.events_out, traffic.batches_out, look.out_per_s),
    ):
        text = f"{output.count(events, 'event')} in {output.count(batches, 'batch')}"
        table.add_row(name, text if rate is None else f"{text}, now {_rate(rate)}")
    table.add_row("producers", _owners(stats.producers))
    table.add_row("consumers", _owners(stats.consumers))
    table.add_row("bad files", Text(f"{stats.bad_files:,}", "red" if stats.bad_files else ""))
    table.add_row("closed", "yes" if stats.is_closed else "no")
    return table


def _owners(pids: tuple[int, ...]) -> str:
    return f"{len(pids)} (pid {', '.join(map(str, pids))})" if pids else "0"


def _amount(seen: StateStats) -> str:
    return f"{output.count(seen.batches, 'batch')}, {output.count(seen.events, 'event')}"


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else f"{per_s:,.0f}/s"
