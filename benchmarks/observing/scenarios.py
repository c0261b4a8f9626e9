"""One service with nothing on, with its metrics scraped, and with traces; they take turns."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.processes import Party
from benchmarks.harness.run import Run

PARTY = "daebus, observed"

#: How often metrics are scraped, in seconds; Prometheus does it every 15 or 60.
SCRAPE_S = 1.0


@dataclass(frozen=True)
class Way:
    """A way to look at a service: by metrics, or by traces of a share of the requests."""

    name: str
    is_scraped: bool = False
    traces: float | None = None


NOTHING = Way("nothing")
METRICS = Way("metrics, scraped each second", is_scraped=True)
FEW_TRACES = Way("traces of 1 %", traces=0.01)
ALL_TRACES = Way("traces of all", traces=1.0)
WAYS = [NOTHING, METRICS, FEW_TRACES, ALL_TRACES]


def observing(run: Run) -> None:
    """All services run all the time; a caller asks each in turn, in another order each round."""
    if PARTY not in run.parties:
        return
    run.note("requests to a service that is looked at")
    rounds, count = (3, 20_000) if run.is_quick else (7, 100_000)
    measured: dict[str, list[dict[str, float]]] = {way.name: [] for way in WAYS}
    with ExitStack() as stack:
        services = {way: _service(run, stack, way) for way in WAYS}
        for number in range(rounds):
            turn = number % len(WAYS)
            for way in [*WAYS[turn:], *WAYS[:turn]]:
                measured[way.name].append(_measured(run, way, *services[way], count))
    for way in WAYS:
        _add(run, way.name, measured[way.name], measured[NOTHING.name])


def _service(run: Run, stack: ExitStack, way: Way) -> tuple[Party, int | None]:
    port = _free_port() if way.is_scraped else None
    options = {"service": _service_name(way), "metrics_port": port, "traces": way.traces}
    return stack.enter_context(run.start(PARTY, "serve", **options)).ready(), port


def _measured(run: Run, way: Way, service: Party, port: int | None, count: int) -> dict[str, float]:
    before = sum(service.cpu_s().values())
    with nullcontext(list) if port is None else _scraping(port) as scrapes:
        options = {"service": _service_name(way), "count": count, "traces": way.traces}
        with run.start(PARTY, "submit", **options) as caller:
            result = caller.result()
    used = sum(service.cpu_s().values()) - before
    requests = count + 500 + count // 100 + 200  # … of the caller's warming up.
    return {**result, "service_cpu_us": used / requests * 1e6, "scrapes": len(scrapes())}


def _add(
    run: Run, name: str, results: list[dict[str, float]], base: list[dict[str, float]]
) -> None:
    def ratios(figure: str) -> list[float]:
        return [one[figure] / other[figure] for one, other in zip(results, base, strict=True)]

    for scenario, figure, unit in (
        ("rate", "rate", "requests/s"),
        ("p50", "p50_us", "us p50"),
        ("service cpu", "service_cpu_us", "us of CPU a request"),
        ("caller cpu", "cpu_us", "us of CPU a request"),
    ):
        found = ratios(figure)
        run.add(
            scenario,
            name,
            median(one[figure] for one in results),
            unit,
            of_nothing=round(median(found), 3),
            spread=[round(min(found), 3), round(max(found), 3)],
            scrapes=int(sum(one["scrapes"] for one in results)),
        )
    run.add("ratio", name, median(ratios("rate")), "of the rate with nothing")


@contextmanager
def _scraping(port: int) -> Iterator[Callable[[], list[int]]]:
    """Scrape in this block; gives what gives the sizes of the answers, in bytes."""
    stopping, sizes = threading.Event(), []

    def scrape() -> None:
        while not stopping.is_set():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                sizes.append(len(answer.read()))
            stopping.wait(SCRAPE_S)

    thread = threading.Thread(target=scrape, name="scrape")
    thread.start()
    try:
        yield lambda: sizes
    finally:
        stopping.set()
        thread.join()


def _service_name(way: Way) -> str:
    return f"observed_{WAYS.index(way)}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


SCENARIOS: dict[str, Callable[[Run], None]] = {"observing": observing}
