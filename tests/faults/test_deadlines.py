"""No call outlives its deadline, whatever the server or the clock does (F12, F17)."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
import redis

from daebus import Broadcast, Daebus, DaebusCaller, ServiceUnavailable
from daebus.bus.embedded import EmbeddedServer
from fixtures import services
from fixtures.processes import Processes
from fixtures.proxy import Proxy
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]

#: The clock of the wall jumps in the middle of each call; the rest of the program is real.
JUMPING_CLOCK = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
jump_s, real = 0.0, time.time
time.time = lambda: real() + jump_s
import datetime
from daebus import *

def timed(call):
    began = time.monotonic()
    try:
        call()
    except TimeoutError:
        return time.monotonic() - began

caller = DaebusCaller(sys.argv[1], timeout=1.0)
caller.call("echo", 1)
for jump_s_next in (3600.0, -3600.0):
    def jump():
        global jump_s
        jump_s = jump_s_next
    threading.Timer(0.3, jump).start()
    with ThreadPoolExecutor(2) as pool:
        for took in pool.map(timed, [
            lambda: caller.call("sleep", {"seconds": 5}),
            lambda: caller.submit("sleep", {"seconds": 5}).result(10),
        ]):
            print("took", round(took, 3), flush=True)
"""


def test_a_jump_of_the_clock_moves_no_deadline(
    url: str, service_name: str, processes: Processes
) -> None:
    services.start(processes, service_name, url, json.dumps({"grace": 0.1}))

    program = processes.python(JUMPING_CLOCK, service_name, env={"DAEBUS_URL": url})

    assert program.wait() == 0, program.output
    took = [float(line.split()[1]) for line in program.lines]
    assert len(took) == 4
    assert all(1.0 <= each <= 1.2 for each in took), took


def timed(call: Callable[[], object]) -> tuple[float, type]:
    began = monotonic()
    try:
        call()
    except (TimeoutError, ServiceUnavailable) as error:
        return monotonic() - began, type(error)
    return monotonic() - began, type(None)


def test_calls_end_while_the_server_is_paused_and_work_afterwards(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    services.start(processes, service_name, own_server.url)
    broadcaster = Broadcast(own_server.url)
    with (
        DaebusCaller(service_name, own_server.url) as caller,
        redis.Redis.from_url(own_server.url) as client,
        ThreadPoolExecutor(30) as pool,
    ):
        assert caller.call("echo", 1) == 1
        broadcaster.send("paused", 1)

        client.execute_command("CLIENT", "PAUSE", 3000, "ALL")
        ends = list(
            pool.map(
                timed,
                [
                    *[lambda: caller.call("echo", "x" * 500_000, timeout=0.5)] * 20,
                    *[lambda: caller.send_message("echo", timeout=0.5)] * 5,
                    *[lambda: broadcaster.send("paused", 1, timeout=0.5)] * 5,
                ],
            )
        )

        assert all(0.5 <= took <= 0.7 for took, _ in ends), ends
        assert all(issubclass(kind, TimeoutError) for _, kind in ends)
        eventually(lambda: timed(lambda: caller.call("echo", 2, timeout=0.5))[1] is type(None))
    broadcaster.close()


@pytest.mark.timeout(120)
def test_calls_end_on_a_link_that_is_half_open_and_the_link_comes_back(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    services.start(processes, service_name, own_server.url)
    with (
        Proxy(own_server.socket_path) as proxy,
        DaebusCaller(service_name, proxy.url) as caller,
        ThreadPoolExecutor(70) as pool,
    ):
        assert caller.call("echo", 1) == 1

        proxy.stall()
        # More than the socket's buffers hold, so that the senders meet a full one too.
        ends = list(pool.map(timed, [lambda: caller.call("echo", "x" * 900_000, timeout=0.5)] * 70))
        assert all(took <= 0.7 for took, _ in ends), sorted(ends)[-3:]

        # Nothing comes back for so long that the link is given up, and a new one is tried.
        eventually(
            lambda: caller._calling.replies is not None and not caller._calling.replies.link.is_up,
            timeout_s=20,
        )
        proxy.cut()
        proxy.resume()
        eventually(lambda: timed(lambda: caller.call("echo", 2, timeout=0.5))[1] is type(None))


def test_a_cut_link_fails_its_calls_at_once(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    services.start(processes, service_name, own_server.url)
    with Proxy(own_server.socket_path) as proxy, DaebusCaller(service_name, proxy.url) as caller:
        future = caller.submit("sleep", {"seconds": 5}, timeout=30)
        assert caller.call("echo", 1) == 1

        proxy.cut()

        took, kind = timed(lambda: future.result(10))
        assert took < 0.5
        assert issubclass(kind, ServiceUnavailable)
        eventually(lambda: timed(lambda: caller.call("echo", 2, timeout=0.5))[1] is type(None))
