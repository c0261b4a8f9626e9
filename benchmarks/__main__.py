"""`python -m benchmarks`: measure Daebus beside its peers, in one run."""

from __future__ import annotations

import argparse

from benchmarks.harness import report
from benchmarks.harness.processes import PROGRAMS
from benchmarks.harness.servers import Servers
from benchmarks.service.scenarios import SCENARIOS, Run


def main() -> None:
    """Run the scenarios that are asked for, and report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Daebus beside its peers' released packages, in one run over real "
        "servers on this machine. The peers are installed into .benchmarks on demand.",
        epilog="example: python -m benchmarks --quick --only latency throughput",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and messages")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--parties", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument(
        "--dry", action="store_true", help="write no files, only show what was measured"
    )
    options = parser.parse_args()
    with Servers() as servers:
        run = Run(servers, options.parties, options.quick)
        if servers.why_no_nats and "nats-py" in options.parties:
            run.note(f"left out: {servers.why_no_nats}")
        for name in options.only:
            SCENARIOS[name](run)
    report.show(run.rows)
    if not options.dry:
        report.write(run.rows, is_quick=options.quick)


if __name__ == "__main__":
    main()
