"""Handlers that run in worker processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from daebus import (
    BadRequest,
    Broadcast,
    Daebus,
    DaebusCaller,
    HandlerTimeout,
    RegistrationError,
    RemoteError,
    SettingsError,
)
from fixtures import process_handlers
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def make_app(**settings: object) -> Daebus:
    return process_handlers.register(Daebus("app", **{"processes": 2, **settings}))


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_handler_has_in_a_process_all_that_it_has_in_a_thread(
    start: Start, url: str, service_name: str, start_method: str
) -> None:
    app = make_app(start_method=start_method)
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
    assert found == {"heard": 1, "answer": {"n": 1}, "action": "use_everything"}
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


def test_a_handler_past_its_limit_is_ended_and_its_process_replaced(start: Start) -> None:
    app = make_app(processes=1)
    caller = start(app)
    first = caller.call("pid")

    with pytest.raises(HandlerTimeout, match="longer than its 1 s"):
        caller.call("limited", {"seconds": 60})

    assert caller.call("pid") != first
    assert app.stats().incidents == {"handler_timeout": 1}


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
    assert codes.count(None) >= 6


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
