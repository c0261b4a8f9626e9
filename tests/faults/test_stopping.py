"""A service finishes what is in progress, and always ends (F8, F9)."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from daebus import DaebusCaller, ServiceStopping
from fixtures import services
from fixtures.processes import Processes
from fixtures.waiting import eventually


@pytest.mark.timeout(120)
def test_sigterm_lets_running_handlers_finish(
    url: str, service_name: str, processes: Processes
) -> None:
    def one_round(number: int) -> tuple[int, int, float]:
        name = f"{service_name}_{number}"
        service = services.start(processes, name, url, json.dumps({"max_workers": 9}))
        with DaebusCaller(name, url) as caller:
            futures = [caller.submit("sleep", {"seconds": 0.5}) for _ in range(8)]
            assert caller.call("echo", 1) == 1  # The eight are running by now.
            began = monotonic()
            service.signal(signal.SIGTERM)
            replies = sum(future.result(15) == 0.5 for future in futures)
        return replies, service.wait(), monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(one_round, range(20)))

    assert sum(replies for replies, _, _ in rounds) == 160
    assert [code for _, code, _ in rounds] == [0] * 20
    assert max(took for _, _, took in rounds) <= 10


@pytest.mark.timeout(120)
def test_sigint_ends_a_service_whose_handler_never_returns(
    url: str, service_name: str, processes: Processes
) -> None:
    def one_round(number: int) -> tuple[type, int, float, str]:
        name = f"{service_name}_{number}"
        service = services.start(processes, name, url, json.dumps({"grace": 1}))
        with DaebusCaller(name, url) as caller:
            stuck = caller.submit("stuck")
            assert caller.call("echo", 1) == 1
            began = monotonic()
            service.signal(signal.SIGINT)
            error = stuck.exception(10)
            code = service.wait()
        return type(error), code, monotonic() - began, service.output

    with ThreadPoolExecutor(6) as pool:
        rounds = list(pool.map(one_round, range(20)))

    assert [kind for kind, _, _, _ in rounds] == [ServiceStopping] * 20
    assert [code for _, code, _, _ in rounds] == [0] * 20
    assert max(took for _, _, took, _ in rounds) <= 2
    assert all("1 messages were cut off after 1.0 s" in output for _, _, _, output in rounds)


def test_a_second_signal_ends_at_once(url: str, service_name: str, processes: Processes) -> None:
    service = services.start(processes, service_name, url, json.dumps({"grace": 60}))
    with DaebusCaller(service_name, url) as caller:
        caller.submit("stuck")
        assert caller.call("echo", 1) == 1

        service.signal(signal.SIGTERM)
        eventually(lambda: caller.send_message("echo") == 0)
        service.signal(signal.SIGTERM)

        assert service.wait() == 128 + signal.SIGTERM


STUCK = """
import sys, threading, time
from daebus import Daebus

app = Daebus("stuck", grace=0.5)

@app.action("in_a_thread")
def in_a_thread():
    print("the thread is stuck")
    threading.Event().wait()

@app.action("in_the_loop")
async def in_the_loop():
    print("the loop is stuck")
    time.sleep(1000)

@app.on_stop
def clean_up():
    time.sleep(1000)

app.run(sys.argv[1])
"""


def test_what_blocks_everywhere_at_once_holds_up_no_stop(
    url: str, service_name: str, processes: Processes
) -> None:
    service = processes.python(STUCK, service_name, env={"DAEBUS_URL": url})
    service.wait_for("is ready at")
    with DaebusCaller(service_name, url) as caller:
        calls = [caller.submit("in_a_thread"), caller.submit("in_the_loop")]
        service.wait_for("the thread is stuck")
        service.wait_for("the loop is stuck")
        asked_at = monotonic()
        service.signal(signal.SIGTERM)

        assert service.wait() == 0
        assert monotonic() - asked_at <= 0.5 + 1.0
        assert all(isinstance(call.exception(), ServiceStopping) for call in calls)


STUCK_AT_THE_START = """
import sys, time
from daebus import Daebus

app = Daebus("stuck", grace=0.5)

@app.on_start
def connect():
    print("the start is stuck", flush=True)
    time.sleep(1000)

app.run(sys.argv[1])
"""


def test_a_start_that_hangs_holds_up_no_stop(
    url: str, service_name: str, processes: Processes
) -> None:
    service = processes.python(STUCK_AT_THE_START, service_name, env={"DAEBUS_URL": url})
    service.wait_for("the start is stuck")
    asked_at = monotonic()

    service.signal(signal.SIGTERM)

    assert service.wait() == 1
    assert monotonic() - asked_at <= 0.5 + 1.0
    assert "an on_start function still runs 0.5 s after the signal" in service.output
