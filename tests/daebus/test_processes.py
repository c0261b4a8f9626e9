"""Handlers that run in worker processes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from daebus import (
    BadRequest,
    Broadcast,
    Daebus,
    DaebusCaller,
    RegistrationError,
    RemoteError,
    SettingsError,
)
from daebus.channels import control_channel
from fixtures import process_handlers
from fixtures.listening import Subscriber
from fixtures.waiting import eventually
from turbo_queue import Queue

Start = Callable[[Daebus], DaebusCaller]


def make_app(**settings: object) -> Daebus:
    return process_handlers.register(Daebus("app", **{"processes": 2, **settings}))


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_handler_has_in_a_process_all_that_it_has_in_a_thread(
    start: Start,
    url: str,
    service_name: str,
    start_method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app(start_method=start_method, url=url)
    # A caller or `broadcast` in a handler goes to the server of its service.
    monkeypatch.delenv("DAEBUS_URL")
    app.on_worker_start(process_handlers.load)
    caller = start(app)

    with Subscriber(url, f"{service_name}.told") as told:
        pid = caller.call("pid")
        assert caller.call("what_is_loaded")[-1] not in {os.getpid(), None}
        found = caller.call(
            "use_everything", {"channel": f"{service_name}.told", "service": service_name}
        )
        heard = told.next()["from"]

    assert os.getpid() not in {pid, heard}
    left = found.pop("left")
    answer = [service_name, os.getpid()]
    assert found == {"heard": 1, "answer": answer, "action": "use_everything"}
    assert 0 < left <= 10
    assert list(caller.stream("count_to", {"number": 3})) == [0, 1, 2, "done"]
    assert caller.call("add", {"a": 1, "b": 2}) == 3
    with pytest.raises(BadRequest, match=r"\$\.a"):
        caller.call("add", {"a": "one"})
    with pytest.raises(RemoteError, match="TwoArguments: 1: no") as raised:
        caller.call("task", {"kind": "raise"})
    assert raised.value.code == "handler_error"


def test_messages_are_shared_between_the_processes_and_counted(start: Start) -> None:
    app = make_app()
    caller = start(app)

    calls = [caller.submit("sleep", {"seconds": 0.3}) for _ in range(2)]
    eventually(lambda: app.stats().in_progress == 2)
    pids = {call.result(10) for call in calls}

    assert len(pids) == 2
    eventually(lambda: app.stats().handled == 2)
    stats = app.stats()
    assert (stats.processes, stats.in_progress, stats.backlog, stats.errors) == (2, 0, 0, 0)


def test_a_listener_may_have_a_process(
    start: Start, broadcaster: Broadcast, tmp_path: Path
) -> None:
    start(make_app())

    broadcaster.send("notes.first", {"path": str(tmp_path / "notes")})

    eventually((tmp_path / "notes").exists)
    eventually(lambda: (tmp_path / "notes").read_text().strip())
    assert int((tmp_path / "notes").read_text()) != os.getpid()


def test_a_process_is_replaced_after_so_many_messages(start: Start) -> None:
    caller = start(make_app(processes=1, max_process_messages=5))
    pids: list[int] = []

    eventually(lambda: pids.append(caller.call("pid")) or len(set(pids)) >= 3)

    assert min(pids.count(pid) for pid in set(pids) - {pids[-1]}) >= 5


def test_a_process_is_replaced_when_it_has_too_much_memory(start: Start) -> None:
    caller = start(make_app(processes=1, max_process_bytes=200 * 1024 * 1024))
    first = caller.call("pid")

    assert caller.call("pid") == first
    assert caller.call("grow", {"mib": 200}) == first
    eventually(lambda: caller.call("pid") != first)


def test_a_handler_whose_caller_has_given_up_is_ended(start: Start) -> None:
    app = make_app(processes=1)
    caller = start(app)
    first = caller.call("pid")

    with pytest.raises(TimeoutError):
        caller.call("sleep", {"seconds": 60}, timeout=0.3)

    assert caller.call("pid") != first
    assert app.stats().incidents["expired"] == 1


def test_what_has_expired_before_it_starts_is_not_started(start: Start, tmp_path: Path) -> None:
    app = make_app(processes=1)
    caller = start(app)

    first = caller.submit("sleep", {"seconds": 0.5})
    with pytest.raises(TimeoutError):
        caller.call("hold_the_gil", {"path": str(tmp_path / "begun")}, timeout=0.1)
    first.result(10)

    assert caller.call("add", {"a": 1}) == 1
    assert not (tmp_path / "begun").exists()
    eventually(lambda: app.stats().incidents.get("expired") == 1)


def test_a_full_backlog_refuses(start: Start) -> None:
    app = make_app(processes=1, max_backlog=5, overflow="reject")
    caller = start(app)

    calls = [caller.submit("sleep", {"seconds": 0.2}) for _ in range(30)]
    codes = [getattr(call.exception(20), "code", None) for call in calls]

    assert set(codes) == {None, "overloaded"}
    assert codes.count(None) >= 5


def test_the_folder_is_its_owners_alone(start: Start, spool: Path, service_name: str) -> None:
    caller = start(make_app())
    caller.call("pid")

    (folder,) = spool.glob(f"{service_name}-*")
    folders = [folder, folder / "0", folder / "0" / "work"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in folders] == [0o700] * 3


def test_a_service_without_such_handlers_makes_no_folder(
    start: Start, spool: Path, service_name: str
) -> None:
    app = Daebus("app")
    app.action("echo")(process_handlers.echo)
    start(app).call("echo")

    assert not list(spool.glob(f"{service_name}-*"))
    assert app.stats().processes == 0


def test_a_folder_that_cannot_be_made_is_told_at_the_start(
    url: str, service_name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    app = make_app(spool=tmp_path / "file")

    with pytest.raises(SettingsError, match="DAEBUS_SPOOL"):
        app.start(service_name)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_handler_that_another_process_cannot_have_is_told_at_the_start(
    url: str, service_name: str, start_method: str
) -> None:
    app = Daebus("app", processes=1, start_method=start_method)
    app.action("inner", workers="process")(lambda: 1)

    with pytest.raises(RegistrationError, match="top level of a module"):
        app.start(service_name)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_worker_hook_that_raises_ends_the_start(
    url: str, service_name: str, start_method: str
) -> None:
    app = make_app(start_method=start_method)
    app.on_worker_start(process_handlers.fail_to_load)

    with pytest.raises(RegistrationError, match=r"fail_to_load raised .*there is no model"):
        app.start(service_name)
    assert not app.is_running()


def test_an_app_can_be_started_again(start: Start, service_name: str) -> None:
    app = make_app()
    caller = start(app)
    first = caller.call("pid")

    app.stop()
    app.start(service_name)

    assert caller.call("pid") != first


def cancel(url: str, service: str, request_id: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.publish(control_channel(service), json.dumps({"cancel": request_id}))


def ask(url: str, service: str, request: dict[str, object]) -> None:
    with redis.Redis.from_url(url) as client:
        client.publish(service, json.dumps({"reply_to": "caller_raw", **request}))


def test_a_cancelled_request_is_ended_whether_it_runs_or_waits(
    start: Start, url: str, service_name: str, tmp_path: Path
) -> None:
    app = make_app(processes=1)
    caller = start(app)
    first = caller.call("pid")
    eventually(lambda: app.stats().in_progress == 0)
    payload = {"path": str(tmp_path / "begun")}

    with Subscriber(url, "caller_raw") as replies:
        ask(url, service_name, {"action": "sleep", "payload": {"seconds": 60}, "request_id": "1"})
        ask(url, service_name, {"action": "hold_the_gil", "payload": payload, "request_id": "2"})
        eventually(lambda: (app.stats().in_progress, app.stats().backlog) == (1, 1))
        cancel(url, service_name, "2")
        cancel(url, service_name, "1")
        told = [replies.next() for _ in range(2)]

    assert [(reply["request_id"], reply["code"]) for reply in told] == [
        ("2", "cancelled"),
        ("1", "cancelled"),
    ]
    assert caller.call("pid") != first
    assert not (tmp_path / "begun").exists()


def test_a_request_that_is_cancelled_in_the_backlog_is_not_started(
    start: Start, tmp_path: Path
) -> None:
    app = make_app(processes=1)
    caller = start(app)
    calls = [caller.submit("sleep", {"seconds": 0.3}) for _ in range(5)]
    unwanted = caller.submit("hold_the_gil", {"path": str(tmp_path / "begun")})
    eventually(lambda: app.stats().backlog == 4)  # Two in the queue on disk, two in memory.

    unwanted.cancel()

    for call in calls:
        call.result(10)
    assert caller.call("add", {"a": 1}) == 1
    assert not (tmp_path / "begun").exists()


class Stored:
    """A message that is stored on the server until it is finished."""

    message_id, count, is_stored = "1-0", 1, True

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []

    def finished(self, failure: str | None) -> None:
        self.told.append(("finished", failure))

    def refused(self, reason: str) -> None:
        self.told.append(("refused", reason))

    def given_back(self) -> None:
        self.told.append(("given back", None))


def deliver(app: Daebus, action: str, payload: object) -> Stored:
    delivery = Stored()
    data = json.dumps({"action": action, "payload": payload}).encode()
    app._lifecycle._parts.subscription._intake.take_request(data, "svc", delivery)
    return delivery


def test_whoever_delivered_a_message_hears_what_became_of_it(
    start: Start, spool: Path, service_name: str
) -> None:
    app = make_app(max_attempts=1)
    start(app)

    good = deliver(app, "add", {"a": 1})
    bad = deliver(app, "task", {"kind": "raise"})
    late = deliver(app, "limited", {"seconds": 60})
    fatal = deliver(app, "task", {"kind": "kill"})
    eventually(lambda: good.told and bad.told and late.told and fatal.told)

    assert good.told == [("finished", None)]
    assert bad.told == [("finished", "TwoArguments: 1: no")]
    assert late.told == [("finished", "the handler ran longer than its 1 s")]
    assert fatal.told == [
        (
            "refused",
            "the worker process of 'task' died once; the last time it was killed by SIGKILL",
        )
    ]
    # Its dead letter is kept where the message was stored.
    queue = Queue(next(spool.glob(f"{service_name}-*")) / "0" / "work", codec="raw")
    eventually(lambda: not list(queue.peek()) and not list(queue.peek(state="chosen")))
    assert len(queue.dead) == 0


def test_a_stored_message_is_given_back_at_the_end_of_a_stop(start: Start) -> None:
    app = make_app(grace=0.2)
    start(app)
    delivery = deliver(app, "sleep", {"seconds": 60})
    eventually(lambda: app.stats().in_progress == 1)

    app.stop()

    assert delivery.told == [("given back", None)]


def test_a_worker_knows_how_often_a_message_was_tried(start: Start, tmp_path: Path) -> None:
    caller = start(make_app())

    assert caller.call("die_once", {"path": str(tmp_path / "died")}) == 2


def test_what_is_cancelled_while_it_waits_in_memory_is_not_started(
    start: Start, tmp_path: Path
) -> None:
    app = make_app(processes=1)
    caller = start(app)
    first = caller.submit("sleep", {"seconds": 60})
    others = [caller.submit("pid") for _ in range(8)]
    unwanted = caller.submit("leave_mark", {"path": str(tmp_path / "mark")})
    # The feeder has one in its hand that is not counted.
    eventually(lambda: (app.stats().in_progress, app.stats().backlog) == (1, 8))

    unwanted.cancel()
    first.cancel()

    assert len({other.result(10) for other in others}) == 1
    eventually(lambda: app.stats().handled == 10)
    assert not (tmp_path / "mark").exists()


def test_a_message_that_has_begun_in_time_may_go_on(start: Start, tmp_path: Path) -> None:
    caller = start(make_app(processes=1))
    payload = {"path": str(tmp_path / "mark"), "seconds": 1.0}

    caller.send_message("leave_mark", payload, expires=0.3)

    eventually((tmp_path / "mark").exists)


def test_a_stream_may_take_longer_than_the_wait_for_one_response(start: Start) -> None:
    caller = start(make_app(processes=1))

    stream = caller.stream("trickle", {"parts": 10, "pause_s": 0.1}, timeout=0.5)

    assert list(stream) == [*range(10), "over"]


def test_a_caller_may_be_very_patient(start: Start) -> None:
    caller = start(make_app(processes=1))

    assert caller.call("add", {"a": 1}, timeout=90 * 86_400) == 1
    assert caller.call("add", {"a": 2}) == 2
