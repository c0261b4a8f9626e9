"""What is aimed at for services, and how the table of a run reads."""

from __future__ import annotations

from benchmarks.harness.report import Aim, Suite
from benchmarks.harness.run import Row
from benchmarks.service.scenarios import NOW, OLD, SCENARIOS

PARTIES = [NOW, OLD, "FastStream", "nats-py", "redis-py", "redis-py + hiredis", "bare sockets"]
LABELS = {
    "latency": "one caller, p50 in µs",
    "64 threads": "64 threads on one caller, requests/s",
    "64 tasks": "64 tasks of an event loop, requests/s",
    "submit": "`submit`, 500 under way, requests/s",
    "broadcast x1": "broadcast to 1 process, messages/s",
    "broadcast x4": "broadcast to 4 processes",
    "broadcast x16": "broadcast to 16 processes",
}


def aims(rows: list[Row]) -> list[Aim]:
    """What is aimed at: the text, the aim, the measured ratio, and whether it was reached."""
    value = {(row.scenario, row.party): row.value for row in rows}
    more = {(row.scenario, row.party): row.more for row in rows}
    found = []

    def at_least(text: str, aim: float, ours: tuple[str, str], theirs: tuple[str, str]) -> None:
        if ours in value and theirs in value:
            ratio = value[ours] / value[theirs]
            found.append(Aim(text, aim, ratio, ratio >= aim))

    if ("latency", NOW) in more and "times_bare" in more["latency", NOW]:
        ratio = float(str(more["latency", NOW]["times_bare"]))
        text = "one caller, p50: times the bare two hops, at most"
        found.append(Aim(text, 3.0, ratio, ratio <= 3))
    at_least("64 threads: times daebus 0.0.31", 10, ("64 threads", NOW), ("64 threads", OLD))
    at_least("64 threads: times nats-py", 2, ("64 threads", NOW), ("64 threads", "nats-py"))
    at_least("submit: times 64 threads of 0.0.31", 25, ("submit", NOW), ("64 threads", OLD))
    for listeners in (1, 4, 16):
        scenario = f"broadcast x{listeners}"
        ours = (scenario, NOW)
        at_least(f"{scenario}: times redis-py's listen()", 3, ours, (scenario, "redis-py"))
        at_least(f"{scenario}: times nats-py", 2, ours, (scenario, "nats-py"))
        if ours in more:
            lost = float(str(more[ours]["lost"]))
            found.append(Aim(f"{scenario}: messages lost", 0, lost, lost == 0))
    two = ("10 ms of Python", "2 processes")
    at_least("10 ms of Python: 2 processes to 1", 1.8, two, ("10 ms of Python", "1 process"))
    at_least("10 ms of Python: 2 processes to threads", 1.8, two, ("10 ms of Python", "threads"))
    if two in more:
        threads = more["10 ms of Python", "threads"]
        added_us = float(str(more[two]["empty_call_p50_us"])) - float(
            str(threads["empty_call_p50_us"])
        )
        text = "a call to a process, p50: ms more than to a thread, at most"
        found.append(Aim(text, 5, added_us / 1000, added_us <= 5_000))
    for row in rows:
        if row.scenario == "20 ms handler":
            linear = float(str(row.more["of_linear"]))
            found.append(Aim(f"20 ms handler, {row.party}: of linear", 0.9, linear, linear >= 0.9))
        if "unanswered" in row.more:
            unanswered = float(str(row.more["unanswered"]))
            found.append(Aim("burst: unanswered", 0, unanswered, unanswered == 0))
    return found


SUITE = Suite("service", SCENARIOS, PARTIES, LABELS, aims)
