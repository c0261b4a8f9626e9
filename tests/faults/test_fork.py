"""A fork harms neither the parent nor the child (F18)."""

from __future__ import annotations

import pytest

from fixtures import services
from fixtures.processes import Processes

PROGRAM = """
import os, sys, threading, warnings
from daebus import *

# That is what is tried here; Python tells of it since 3.12.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

caller = DaebusCaller(sys.argv[1], timeout=10)
assert caller.call("echo", 0) == 0
assert broadcast.send("fork.nobody", 1) == 0
busy = sys.argv[2] == "busy"
results, done = [], threading.Event()

def work():
    for number in range(1000):
        results.append(caller.call("echo", number) == number)
    done.set()

thread = threading.Thread(target=work)
thread.start()
if not busy:
    thread.join()
while busy and len(results) < 100:
    pass
pid = os.fork()
if pid == 0:
    try:
        ok = caller.call("echo", "child") == "child" and broadcast.send("fork.nobody", 1) == 0
        ok = ok and caller.submit("echo", 5).result(10) == 5
    except BaseException as error:
        print("child:", repr(error), flush=True)
        ok = False
    os._exit(0 if ok else 1)
_, status = os.waitpid(pid, 0)
thread.join()
print("child", os.waitstatus_to_exitcode(status), "parent", sum(results), flush=True)
assert caller.call("echo", "after") == "after"
"""


@pytest.mark.parametrize("threads", ["idle", "busy"])
def test_the_child_has_a_connection_of_its_own_and_the_parent_keeps_its(
    url: str, service_name: str, processes: Processes, threads: str
) -> None:
    services.start(processes, service_name, url)

    program = processes.python(PROGRAM, service_name, threads, env={"DAEBUS_URL": url})

    assert program.wait() == 0, program.output
    assert program.output == "child 0 parent 1000\n"
