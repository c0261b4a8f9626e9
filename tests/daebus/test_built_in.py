"""The actions that every service has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis

from daebus import BadRequest, Daebus, DaebusCaller, RegistrationError
from daebus.channels import control_channel
from fixtures.services import Gate
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


@pytest.fixture(params=["pubsub", "stream"])
def app(request: pytest.FixtureRequest) -> Daebus:
    app = Daebus("app", delivery=request.param)

    @app.action("add")
    def add(a: int, b: int = 0) -> int:
        """Add two numbers."""
        return a + b

    return app


def test_a_service_that_handles_messages_answers_a_ping(app: Daebus, start: Start) -> None:
    caller = start(app)

    answer = caller.call("daebus.ping")

    assert answer == {"service": caller.service, "replica_id": app.stats().replica_id}


def test_a_service_tells_what_it_offers(app: Daebus, start: Start) -> None:
    info = start(app).call("daebus.info")

    (action,) = info["contract"]["actions"]
    assert info["wire_version"] == 2
    assert (action["name"], action["description"]) == ("add", "Add two numbers.")
    assert action["result"] == {"type": "integer"}


def test_a_service_tells_what_it_has_done(app: Daebus, start: Start) -> None:
    caller = start(app)
    caller.call("add", {"a": 1})
    with pytest.raises(BadRequest):
        caller.call("add", {"a": "one"})

    eventually(lambda: caller.call("daebus.stats")["figures"]["add"]["handled"] == 2)

    figures = caller.call("daebus.stats")["figures"]["add"]
    assert figures["errors"] == 1
    assert sum(figures["latency"]) == 2
    assert 0 < figures["total_s"] < 10


def test_what_took_long_is_counted_as_long(start: Start) -> None:
    app = Daebus("app")

    @app.action("wait")
    def wait() -> None:
        time.sleep(0.11)  # The latency that is to be seen.

    start(app).call("wait")

    eventually(lambda: "wait" in app.stats().figures)
    figures = app.stats().figures["wait"]
    assert sum(figures.latency[:10]) == 0
    assert sum(figures.latency) == 1


def test_a_drained_service_finishes_what_it_has_and_ends(
    app: Daebus, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "daebus")
    caller = start(app)
    under_way = [caller.submit("add", {"a": number}) for number in range(50)]

    answer = caller.call("daebus.drain")

    assert answer == {"draining": "*"}
    assert [future.result(10) for future in under_way] == list(range(50))
    eventually(lambda: not app.is_running())
    eventually(lambda: "is to stop: asked by daebus.drain" in caplog.text)


def test_one_replica_is_drained_by_its_id(
    url: str, service_name: str, start: Start, app: Daebus
) -> None:
    other = Daebus("other")
    other.start(service_name)
    try:
        caller = start(app)
        caller.call("daebus.drain", {"replica": other.stats().replica_id})

        eventually(lambda: not other.is_running())
        assert app.is_running()
        assert caller.call("add", {"a": 1}) == 1
    finally:
        other.stop()


def test_a_drain_that_is_asked_for_again_and_again_starts_one_stop(url: str, start: Start) -> None:
    app = Daebus("app")

    with Gate() as gate, redis.Redis.from_url(url) as client:
        app.action("wait")(gate.pass_through)
        gate.close()
        caller = start(app)
        call = caller.submit("wait")
        eventually(gate.is_waited_for)

        for _ in range(100):
            client.publish(control_channel(caller.service), b'{"drain":"*"}')
        client.publish(control_channel(caller.service), b"the last one")
        eventually(lambda: app.stats().incidents.get("bad_message"))

        names = [thread.name for thread in threading.enumerate()]
        assert names.count("daebus-stop") == 1
        gate.open()
        assert call.result(10)
    eventually(lambda: not app.is_running())


def test_a_replica_that_does_not_live_cannot_be_drained(app: Daebus, start: Start) -> None:
    with pytest.raises(BadRequest, match="no replica 'nobody'"):
        start(app).call("daebus.drain", {"replica": "nobody"})

    assert app.is_running()


def test_no_action_may_take_a_built_in_name() -> None:
    with pytest.raises(RegistrationError, match=r"daebus\."):
        Daebus("app").action("daebus.ping")
