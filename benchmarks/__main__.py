"""`python -m benchmarks`: measure Daebus beside its peers, in one run."""

from __future__ import annotations

import argparse

from benchmarks.harness.processes import PROGRAMS
from benchmarks.harness.run import Run
from benchmarks.harness.servers import Servers
from benchmarks.observing.results import SUITE as OBSERVING
from benchmarks.pipeline.results import SUITE as PIPELINE
from benchmarks.queue.results import SUITE as QUEUE
from benchmarks.service.results import SUITE as SERVICE

SUITES = {suite.name: suite for suite in (SERVICE, QUEUE, PIPELINE, OBSERVING)}
SCENARIOS = list(dict.fromkeys(name for suite in SUITES.values() for name in suite.scenarios))


def main() -> None:
    """Run the scenarios that are asked for, and report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Daebus beside its peers' released packages, in one run over real "
        "servers on this machine. The peers are installed into .benchmarks on demand.",
        epilog="example: python -m benchmarks queue --quick --only throughput",
    )
    parser.add_argument(
        "suite", nargs="*", help="service, queue, pipeline, observing; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and messages")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--parties", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument(
        "--dry", action="store_true", help="write no files, only show what was measured"
    )
    options = parser.parse_args()
    if unknown := set(options.suite) - set(SUITES):
        parser.error(f"there is no suite {unknown.pop()!r}; there are {', '.join(SUITES)}")
    for name in options.suite or SUITES:
        suite = SUITES[name]
        with Servers() as servers:
            run = Run(servers, options.parties, options.quick)
            if servers.why_no_nats and "nats-py" in options.parties:
                run.note(f"left out: {servers.why_no_nats}")
            for scenario in options.only:
                if scenario in suite.scenarios:
                    suite.scenarios[scenario](run)
        suite.show(run.rows)
        if run.rows and not options.dry:
            suite.write(run.rows, is_quick=options.quick)


if __name__ == "__main__":
    main()
