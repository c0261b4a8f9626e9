"""What the scenarios of one run share: who takes part, and what was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.harness.environments import Unavailable, python_of
from benchmarks.harness.processes import Party
from benchmarks.harness.servers import Servers


@dataclass
class Row:
    """One measured figure of one party."""

    scenario: str
    party: str
    value: float
    unit: str
    more: dict[str, object] = field(default_factory=dict)


@dataclass
class Run:
    """What the scenarios share."""

    servers: Servers
    parties: list[str]
    is_quick: bool
    rows: list[Row] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Tell how far the run is."""
        print(text, file=sys.stderr, flush=True)

    def add(self, scenario: str, party: str, value: float, unit: str, **more: object) -> None:
        """Keep a figure, and show it."""
        self.rows.append(Row(scenario, party, value, unit, more))
        self.note(f"  {party:20} {value:12,.1f} {unit}  {more or ''}")

    def of(self, wanted: Iterable[str]) -> list[str]:
        """Those of the wanted parties that take part and can be set up."""
        found = []
        for party in wanted:
            if party not in self.parties or (party == "nats-py" and self.servers.why_no_nats):
                continue
            try:
                python_of(party)
            except Unavailable as error:
                self.note(f"left out: {error}")
                continue
            found.append(party)
        return found

    def start(self, party: str, role: str, **options: object) -> Party:
        """Start a program of a party."""
        return Party(party, role, port=self.servers.port_for(party), **options)
