"""The work alone, on events in memory: what no pipeline can surpass on this machine."""

from __future__ import annotations

import json
from time import monotonic, process_time
from typing import Any

import line
from events import event, work


def alone(processes: int, events: int, **_: Any) -> None:
    gate = line.fork.Barrier(processes + 1)
    cpu = line.fork.RawArray("d", processes)

    def work_on(index: int) -> None:
        share = [event(number) for number in range(index, events, processes)]
        gate.wait()
        before = process_time()
        for data in share:
            work(data)
        cpu[index] = process_time() - before

    workers = [line.fork.Process(target=work_on, args=(index,)) for index in range(processes)]
    for worker in workers:
        worker.start()
    gate.wait()
    began = monotonic()
    for worker in workers:
        worker.join()
    rate = events / (monotonic() - began)
    print(json.dumps({"rate": rate, "cpu_us": sum(cpu) / events * 1e6}), flush=True)


line.main(alone=alone)
