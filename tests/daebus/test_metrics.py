"""The port of a service: its figures for Prometheus, and whether it is live and ready."""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter

import daebus.service
from daebus import Broadcast, Daebus, DaebusCaller, RemoteError, SettingsError, response
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import Figures, find_replicas
from fixtures.processes import Processes
from fixtures.services import Gate
from fixtures.services import start as start_service
from fixtures.status import get, metric, scraped, url_in, value
from fixtures.waiting import eventually

#: Where the code reports an incident.
_REPORTS = re.compile(r'\.report\(\s*"(\w+)"')

Start = Callable[[Daebus], DaebusCaller]


@pytest.fixture
def port(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Gives the address of the port that was opened last."""
    caplog.set_level(logging.INFO, logger="daebus")
    return lambda: str(url_in(caplog.text))


def test_what_was_handled_is_counted_by_handler(start: Start, port, service_name: str) -> None:
    app = Daebus("app", metrics_port=0)
    app.action("echo")(lambda: response.send(app.request.payload))
    app.action("fail")(lambda: 1 / 0)
    app.action("never")(lambda: None)
    caller = start(app)
    for number in range(20):
        caller.call("echo", number)
    with pytest.raises(RemoteError):
        caller.call("fail")

    eventually(lambda: metric(port(), "daebus_requests_total", handler="fail") == 1)
    seen = scraped(port())
    labels = {"service": service_name, "kind": "action"}

    assert value(seen, "daebus_requests_total", handler="echo", **labels) == 20
    assert value(seen, "daebus_request_errors_total", handler="echo", **labels) == 0
    assert value(seen, "daebus_request_errors_total", handler="fail", **labels) == 1
    assert value(seen, "daebus_requests_total", handler="never", **labels) == 0
    duration = "daebus_request_duration_seconds"
    assert value(seen, f"{duration}_count", handler="echo", **labels) == 20
    assert value(seen, f"{duration}_bucket", handler="echo", le="+Inf", **labels) == 20
    assert 0 < value(seen, f"{duration}_sum", handler="echo", **labels) < 10


def test_the_buckets_hold_what_took_no_longer(start: Start, port) -> None:
    app = Daebus("app", metrics_port=0)
    app.action("wait")(lambda seconds: threading.Event().wait(seconds))
    caller = start(app)
    caller.call("wait", {"seconds": 0.3})

    eventually(lambda: metric(port(), "daebus_requests_total", handler="wait") == 1)
    seen = scraped(port())
    bucket = "daebus_request_duration_seconds_bucket"
    assert [value(seen, bucket, handler="wait", le=le) for le in ("0.2", "2.0", "100.0")] == [
        0,
        1,
        1,
    ]


def test_what_is_listened_to_counts_as_a_channel(
    start: Start, port, broadcaster: Broadcast
) -> None:
    app = Daebus("app", metrics_port=0)
    app.listen("metrics.*")(lambda data: data)
    start(app)
    broadcaster.send("metrics.one", {})

    labels = {"kind": "channel", "handler": "metrics.*"}
    eventually(lambda: metric(port(), "daebus_requests_total", **labels) == 1)


def test_messages_that_wait_and_that_are_handled_are_told_apart(
    start: Start, port, service_name: str
) -> None:
    app = Daebus("app", max_workers=2, metrics_port=0)
    with Gate() as gate:
        gate.close()
        app.action("pass")(gate.pass_through)
        caller = start(app)
        futures = [caller.submit("pass") for _ in range(5)]

        eventually(lambda: metric(port(), "daebus_backlog_messages") == 3)
        assert metric(port(), "daebus_requests_in_progress") == 2
        gate.open()
        assert all(future.result() for future in futures)
    eventually(lambda: metric(port(), "daebus_backlog_messages") == 0)


def test_the_inbox_and_the_dead_letters_are_told(start: Start, port, service_name: str) -> None:
    app = Daebus("app", max_workers=1, delivery="stream", max_deliveries=1, metrics_port=0)
    with Gate() as gate:
        gate.close()
        app.action("pass")(gate.pass_through)
        caller = start(app)
        futures = [caller.submit("pass") for _ in range(3)]

        eventually(lambda: metric(port(), "daebus_inbox_messages") == 3)
        gate.open()
        assert all(future.result() for future in futures)
    eventually(lambda: metric(port(), "daebus_inbox_messages") == 0)
    assert metric(port(), "daebus_dead_letters") == 0


def test_incidents_are_counted_by_kind(
    start: Start, port, service_name: str, broadcaster: Broadcast
) -> None:
    start(Daebus("app", metrics_port=0))
    assert metric(port(), "daebus_incidents_total", kind="bad_message") == 0
    broadcaster.send(service_name, "no request")

    eventually(lambda: metric(port(), "daebus_incidents_total", kind="bad_message") == 1)


def test_every_kind_of_incident_is_there_before_the_first_one(start: Start, port) -> None:
    start(Daebus("app", metrics_port=0))
    files = Path(daebus.service.__file__).parent.glob("*.py")
    kinds = {kind for file in files for kind in re.findall(_REPORTS, file.read_text())}

    told = [one for one in scraped(port()) if one.name == "daebus_incidents_total"]
    assert "rejected" in kinds
    assert {one.labels["kind"] for one in told} == kinds


def test_scrapes_under_load_add_up(processes: Processes, url: str, service_name: str) -> None:
    process = start_service(processes, service_name, url, '{"metrics_port": 0}')
    address = str(url_in(process.output))

    def total() -> float:
        return metric(address, "daebus_requests_total", handler="echo")

    seen = []
    with DaebusCaller(service_name, url) as caller:
        futures = [caller.submit("echo", number) for number in range(5_000)]
        while not all(future.done() for future in futures):
            seen.append(total())
        assert sorted(future.result() for future in futures) == list(range(5_000))

    eventually(lambda: total() == 5_000)
    assert seen == sorted(seen)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_worker_processes_count_in_their_parent(
    processes: Processes, url: str, service_name: str
) -> None:
    code = """
        import sys
        from daebus import Daebus

        app = Daebus("app", processes=2, metrics_port=0)
        app.action("add", workers="process")(sum)
        app.run(sys.argv[1])
    """
    process = processes.python(code, service_name, env={"DAEBUS_URL": url})
    process.wait_for("is ready at")
    address = str(url_in(process.output))
    with DaebusCaller(service_name, url) as caller:
        assert [caller.call("add", {"iterable": [1, 2]}) for _ in range(3)] == [3, 3, 3]

    eventually(lambda: metric(address, "daebus_requests_total", handler="add") == 3)
    assert metric(address, "daebus_worker_processes") == 2


def test_the_programs_own_metrics_are_there_too(start: Start, port) -> None:
    orders = Counter("test_orders", "Orders.")
    app = Daebus("app", metrics_port=0)
    app.action("order")(orders.inc)
    try:
        start(app).call("order", {})

        assert metric(port(), "test_orders_total") == 1
        assert metric(port(), "process_cpu_seconds_total") > 0
    finally:
        REGISTRY.unregister(orders)


def test_the_presence_key_tells_the_same(
    start: Start, port, service_name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus.service.heartbeat.REFRESH_S", 0.1)
    app = Daebus("app", metrics_port=0)
    app.action("echo")(lambda: app.request.payload)
    caller = start(app)
    for number in range(20):
        caller.call("echo", number)

    def told() -> Figures:
        return find_replicas(url, service_name)[0].figures.get("echo", Figures())

    eventually(lambda: told().handled == 20)
    seen = scraped(port())
    duration = "daebus_request_duration_seconds"
    assert value(seen, f"{duration}_count", handler="echo") == sum(told().latency) == 20
    assert value(seen, f"{duration}_sum", handler="echo") == pytest.approx(told().total_s, abs=1e-6)


# --- live and ready ---


def test_a_service_is_live_before_it_is_ready_and_while_it_stops(
    port, url: str, service_name: str
) -> None:
    app = Daebus("app", url=url, metrics_port=0)
    starting: list[tuple[int, str]] = []
    stopping: list[tuple[int, str]] = []
    app.on_start(lambda: starting.extend([get(port(), "ready"), get(port(), "live")]))
    app.on_stop(lambda: stopping.extend([get(port(), "ready"), get(port(), "live")]))
    app.start(service_name)
    try:
        assert starting == [(503, "it is starting\n"), (200, "ok\n")]
        assert get(port(), "ready") == (200, "ok\n")
        assert metric(port(), "daebus_ready") == 1
    finally:
        app.stop()

    assert stopping == [(503, "it is stopping\n"), (200, "ok\n")]
    with pytest.raises(OSError, match="refused"):
        get(port(), "ready")


def test_a_service_without_its_server_is_not_ready_and_still_live(
    port, own_server: EmbeddedServer, service_name: str
) -> None:
    app = Daebus("app", url=own_server.url, metrics_port=0)
    app.start(service_name)
    try:
        own_server.kill()
        eventually(lambda: get(port(), "ready")[0] == 503)
        assert "it is not connected to unix://" in get(port(), "ready")[1]
        assert get(port(), "live") == (200, "ok\n")
        assert metric(port(), "daebus_ready") == 0
    finally:
        app.stop()


def test_messages_that_nobody_finishes_make_it_neither_ready_nor_live(start: Start, port) -> None:
    app = Daebus("app", max_workers=1, max_stall=0.5, metrics_port=0)
    with Gate() as gate:
        gate.close()
        app.action("pass")(gate.pass_through)
        caller = start(app)
        futures = [caller.submit("pass") for _ in range(3)]

        eventually(lambda: get(port(), "live")[0] == 503)
        assert "2 messages wait, and none was finished" in get(port(), "live")[1]
        assert get(port(), "ready")[0] == 503
        gate.open()
        assert all(future.result() for future in futures)
    eventually(lambda: get(port(), "live")[0] == 200)


# --- the port itself ---


def test_a_port_in_use_keeps_the_service_from_starting(url: str, service_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        app = Daebus("app", url=url, metrics_port=number)

        with pytest.raises(SettingsError, match=f"metrics port {number} at '127.0.0.1' cannot be"):
            app.start(service_name)
        assert not app.is_running()


@pytest.mark.parametrize("number", [-1, 65_536, True, "http", 1.5])
def test_what_is_no_port_is_refused(number: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_METRICS_PORT", str(number))

    for given in (number, None):
        with pytest.raises(SettingsError, match="metrics_port is .*; it must be a number from 0"):
            Daebus("app", metrics_port=given)  # type: ignore[arg-type]


def test_nothing_of_it_is_loaded_unless_it_is_asked_for(
    processes: Processes, url: str, service_name: str
) -> None:
    code = """
        import sys
        from daebus import Daebus

        app = Daebus("app")
        app.start(sys.argv[1])
        print({"http.server", "prometheus_client", "turbo_queue.status_port"} & set(sys.modules))
        app.stop()
    """
    process = processes.python(code, service_name, env={"DAEBUS_URL": url})

    assert process.wait() == 0
    assert "set()" in process.output


def test_probes_work_without_the_extra_and_metrics_say_what_is_missing(
    processes: Processes, url: str, service_name: str
) -> None:
    code = """
        import sys
        sys.modules["prometheus_client"] = None
        from daebus import Daebus

        Daebus("app", metrics_port=0).run(sys.argv[1])
    """
    process = processes.python(code, service_name, env={"DAEBUS_URL": url})
    process.wait_for("is ready at")
    address = str(url_in(process.output))

    assert get(address, "ready") == get(address, "live") == (200, "ok\n")
    status, text = get(address, "metrics")
    assert status == 501
    assert text.endswith("install it with: pip install 'daebus[metrics]'\n")
    assert "pip install 'daebus[metrics]'" in process.output


def test_a_worker_process_does_not_hold_the_port_of_a_parent_that_was_killed(
    processes: Processes, url: str, service_name: str
) -> None:
    code = """
        import sys
        from daebus import Daebus

        app = Daebus("app", processes=1, start_method="fork", metrics_port=int(sys.argv[2]))
        app.action("add", workers="process")(sum)
        app.run(sys.argv[1])
    """
    first = processes.python(code, service_name, "0", env={"DAEBUS_URL": url})
    first.wait_for("is ready at")
    number = str(url_in(first.output)).rpartition(":")[2]
    first.kill()
    first.wait()

    again = processes.python(code, service_name, number, env={"DAEBUS_URL": url})
    again.wait_for("is ready at")
    assert get(str(url_in(again.output)), "ready") == (200, "ok\n")
