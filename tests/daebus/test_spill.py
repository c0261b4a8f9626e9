"""What memory has no room for waits on disk, comes back in order, and outlives a stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import Broadcast, Daebus, DaebusCaller, Overloaded, SettingsError, request
from daebus.service.context import current
from fixtures.services import Gate
from fixtures.waiting import eventually
from turbo_queue import Queue

Start = Callable[[Daebus], DaebusCaller]


@pytest.fixture
def channel(service_name: str) -> str:
    return f"{service_name}.numbers"


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    monkeypatch.setenv("DAEBUS_SPOOL", str(folder))
    return folder


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


def files(folder: Path) -> list[str]:
    """The batches in all folders of a spool."""
    return [path.name for path in folder.rglob("*.db")]


def one_after_the_other(channel: str, gate: Gate, **settings: object) -> tuple[Daebus, list[int]]:
    """A service that handles number after number, once the gate is open."""
    app, heard = Daebus("app", max_workers=1, **settings), []

    @app.listen(channel)
    def hear(number: int) -> None:
        gate.pass_through()
        heard.append(number)

    return app, heard


def test_bursts_beyond_the_backlog_are_handled_in_order_again_and_again(
    start: Start, broadcaster: Broadcast, channel: str, gate: Gate, own_spool: Path
) -> None:
    app, heard = one_after_the_other(channel, gate, max_backlog=20)
    start(app)
    for first in range(0, 9000, 3000):
        gate.close()

        broadcaster.send_many(channel, range(first, first + 3000))
        eventually(lambda: app.stats().spilled >= 2979)
        gate.open()

        eventually(lambda first=first: len(heard) == first + 3000)
        assert app.stats().spilled == 0
    assert heard == list(range(9000))
    eventually(lambda: files(own_spool) == [])


def test_requests_that_waited_on_disk_are_answered(start: Start) -> None:
    app = Daebus("app", max_workers=4, max_backlog=5)
    app.action("double")(lambda number: number * 2)
    caller = start(app)

    futures = [caller.submit("double", {"number": number}) for number in range(3000)]

    assert [future.result(20) for future in futures] == [number * 2 for number in range(3000)]


def test_async_handlers_spill_too(start: Start) -> None:
    app, together = Daebus("app", max_backlog=10), asyncio.Event()

    @app.action("work")
    async def work(number: int) -> int:
        if number == 999:
            together.set()
        await asyncio.sleep(0.001)
        return number

    caller = start(app)
    futures = [caller.submit("work", {"number": number}) for number in range(1000)]

    assert [future.result(20) for future in futures] == list(range(1000))


def test_async_handlers_have_no_more_bytes_than_a_backlog(start: Start) -> None:
    app, most, sizes = Daebus("app", max_backlog_bytes=10_000), 0, []

    @app.action("take")
    async def take(text: str) -> int:
        sizes.append(len(text))
        nonlocal most
        most = max(most, app.stats().in_progress)
        await asyncio.sleep(0.01)
        return len(text)

    caller = start(app)
    lengths = [3000] * 20 + [50_000] + [1] * 20
    futures = [caller.submit("take", {"text": "x" * length}) for length in lengths]

    assert [future.result(20) for future in futures] == lengths
    assert most < 25
    assert sizes == lengths


def test_what_has_no_room_by_bytes_spills_also_when_one_message_is_larger_than_all_room(
    start: Start, gate: Gate
) -> None:
    app, sizes = Daebus("app", max_workers=1, max_backlog_bytes=10_000), []

    @app.action("take")
    def take(text: str) -> None:
        gate.pass_through()
        sizes.append(len(text))

    caller = start(app)
    gate.close()
    lengths = [1, 3000, 3000, 50_000, 1, 3000, 100_000, 2]
    futures = [caller.submit("take", {"text": "x" * length}) for length in lengths]
    eventually(lambda: app.stats().spilled >= 5)
    gate.open()

    for future in futures:
        future.result(10)
    assert sizes == lengths


@pytest.mark.parametrize("limit", [{"max_spill": 100}, {"max_spill_bytes": 100_000}])
def test_beyond_the_limit_of_the_disk_callers_are_refused(
    start: Start, gate: Gate, limit: dict[str, int]
) -> None:
    app = Daebus("app", max_workers=1, max_backlog=10, **limit)
    app.action("work")(lambda text: gate.pass_through())
    caller = start(app)
    gate.close()
    first = caller.submit("work", {"text": ""})
    eventually(lambda: app.stats().in_progress == 1)

    futures = [caller.submit("work", {"text": "x" * 850}) for _ in range(200)]
    eventually(lambda: app.stats().spilled + app.stats().incidents.get("rejected", 0) == 190)
    gate.open()

    outcomes = [type(future.exception(10)) for future in (first, *futures)]
    refused = outcomes.count(Overloaded)
    assert set(outcomes) == {type(None), Overloaded}
    assert refused == 90 if "max_spill" in limit else 80 <= refused <= 100
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome is Overloaded)
    assert app.stats().incidents["rejected"] == refused


def test_beyond_the_limit_published_messages_are_dropped_and_counted(
    start: Start, broadcaster: Broadcast, channel: str, gate: Gate
) -> None:
    app, heard = one_after_the_other(channel, gate, max_backlog=10, max_spill=100)
    start(app)
    gate.close()
    broadcaster.send(channel, 0)
    eventually(lambda: app.stats().in_progress == 1)

    broadcaster.send_many(channel, range(1, 201))

    eventually(lambda: app.stats().incidents.get("dropped") == 90)
    gate.open()
    eventually(lambda: heard == list(range(111)))


def test_the_presence_and_the_log_show_how_much_waits(
    start: Start,
    broadcaster: Broadcast,
    channel: str,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, heard = one_after_the_other(channel, gate, max_backlog=10)
    start(app)
    gate.close()
    with caplog.at_level(logging.INFO, "daebus"):
        broadcaster.send_many(channel, range(2000))
        eventually(lambda: app.stats().spilled >= 1989)
        gate.open()
        eventually(lambda: len(heard) == 2000)
        eventually(lambda: app.stats().spilled == 0)

    lines = [record.getMessage() for record in caplog.records if "on disk" in record.getMessage()]
    assert len(lines) == 2
    assert "from now on they wait on disk, in " in lines[0]
    assert lines[1].startswith("nothing waits on disk any more; 1")


def test_a_deadline_that_passed_on_disk_is_told(start: Start, gate: Gate) -> None:
    app, handled = Daebus("app", max_workers=1, max_backlog=1), []

    @app.action("work")
    def work(number: int) -> None:
        gate.pass_through()
        handled.append(number)

    caller = start(app)
    gate.close()
    first = caller.submit("work", {"number": 0})
    eventually(lambda: app.stats().in_progress == 1)
    late = [caller.submit("work", {"number": 1}, timeout=0.1) for _ in range(300)]
    for future in late:
        assert isinstance(future.exception(10), TimeoutError)
    gate.open()

    first.result(10)
    eventually(lambda: app.stats().incidents.get("expired") == 300)
    assert handled == [0]


def test_what_waits_when_the_service_stops_is_handled_at_its_next_start_in_order(
    start: Start, broadcaster: Broadcast, channel: str
) -> None:
    """What was in memory and what was on disk stay in one order, and none is lost."""
    everything: list[int] = []
    for run, handled in enumerate((0, 10, 900, 10, 3000)):
        with Gate() as gate:
            app, heard = one_after_the_other(channel, gate, max_backlog=300, grace=0.2)
            gate.close(after=handled)
            start(app)
            if run == 0:
                broadcaster.send(channel, -1)
                eventually(lambda app=app: app.stats().in_progress == 1)
                broadcaster.send_many(channel, range(3000))
                eventually(lambda app=app: app.stats().spilled + app.stats().backlog == 3000)
            if run == 4:
                eventually(lambda heard=heard: heard[-1:] == [2999])
            else:
                eventually(gate.is_waited_for)
            app.stop()
            everything += heard

    assert everything == list(range(3000))


def test_a_message_from_disk_that_a_stop_cut_off_is_marked_when_it_is_handled_again(
    start: Start, broadcaster: Broadcast, channel: str
) -> None:
    deliveries = []
    for run in range(2):
        with Gate() as gate:
            app = Daebus("app", max_workers=1, max_backlog=1, grace=0.2)

            @app.listen(channel)
            def hear(number: int) -> None:
                gate.pass_through()
                deliveries.append((number, request.delivery_count))

            gate.close(after=300 * run)
            start(app)
            if run == 0:
                broadcaster.send_many(channel, range(600))
                eventually(lambda app=app: app.stats().spilled == 598)
                gate.close(after=300)
            eventually(lambda: len(deliveries) == 300 * (run + 1))  # noqa: B023
            eventually(gate.is_waited_for) if run == 0 else None
            app.stop()

    assert deliveries == [(number, 1 + (number == 300)) for number in range(600)]


def test_start_functions_come_before_what_was_left(
    start: Start, broadcaster: Broadcast, channel: str, gate: Gate
) -> None:
    app, _ = one_after_the_other(channel, gate, max_backlog=10, grace=0.2)
    gate.close()
    start(app)
    broadcaster.send_many(channel, range(1000))
    eventually(lambda: app.stats().spilled >= 989)
    app.stop()
    gate.end()
    again, order = Daebus("app", max_workers=1), []
    again.on_start(lambda: order.append("started"))
    again.listen(channel)(order.append)

    start(again)

    eventually(lambda: len(order) == 1000)
    assert order == ["started", *range(1, 1000)]


def test_a_replica_takes_over_what_another_one_left(
    start: Start, broadcaster: Broadcast, channel: str, own_spool: Path
) -> None:
    with Gate() as gate:
        gate.close()
        replicas = [one_after_the_other(channel, gate, max_backlog=10, grace=0.2)[0] for _ in "12"]
        for app in replicas:
            start(app)
        broadcaster.send_many(channel, range(1000))
        for app in replicas:
            eventually(lambda app=app: app.stats().spilled == 989)
            app.stop()
    assert {path.name for path in own_spool.glob("*/*")} == {"0", "1"}

    app, heard = one_after_the_other(channel, Gate())
    start(app)

    eventually(lambda: len(heard) == 1998)
    assert sorted(heard) == sorted([*range(1, 1000)] * 2)


def leave_on_disk(start: Start, broadcaster: Broadcast, app: Daebus, channel: str) -> None:
    """Stop an app that is closed by a gate, with what 1,000 numbers leave."""
    start(app)
    broadcaster.send_many(channel, range(1000))
    eventually(lambda: app.stats().spilled == 989)
    app.stop()


def test_a_handler_that_became_async_handles_what_was_left(
    start: Start, broadcaster: Broadcast, channel: str, gate: Gate
) -> None:
    gate.close()
    before, _ = one_after_the_other(channel, gate, max_backlog=10, grace=0.2)
    leave_on_disk(start, broadcaster, before, channel)
    app, heard = Daebus("app", max_backlog=10), []

    @app.listen(channel)
    async def hear(number: int) -> None:
        heard.append(number)

    start(app)

    eventually(lambda: sorted(heard) == list(range(1, 1000)))


def test_a_handler_that_was_async_handles_what_was_left(
    start: Start, broadcaster: Broadcast, channel: str
) -> None:
    before, began = Daebus("app", max_backlog=11, grace=0.2), []

    @before.listen(channel)
    async def hang(number: int) -> None:
        began.append(number)
        await asyncio.sleep(60)

    leave_on_disk(start, broadcaster, before, channel)
    app, heard = one_after_the_other(channel, Gate())
    start(app)

    eventually(lambda: len(heard) == 989)
    assert began + heard == list(range(1000))


def test_async_handlers_that_a_stop_cut_off_run_again_for_what_was_on_disk(
    start: Start, broadcaster: Broadcast, channel: str
) -> None:
    finished, again = [], {}
    before = Daebus("app", max_backlog=50, grace=0.2)

    @before.listen(channel)
    async def hang(number: int) -> None:
        await asyncio.sleep(60 if number >= 500 else 0.01)
        finished.append(number)

    start(before)
    broadcaster.send_many(channel, range(1000))
    eventually(lambda: len(finished) == 500)
    eventually(lambda: before.stats().in_progress == 50)
    before.stop()
    app = Daebus("app")

    @app.listen(channel)
    async def hear(number: int) -> None:
        again[number] = request.delivery_count

    start(app)

    eventually(lambda: len(again) == 500)
    assert again == {number: 2 if number < 550 else 1 for number in range(500, 1000)}


def test_what_no_handler_takes_any_more_is_kept_among_the_dead_batches(
    start: Start,
    broadcaster: Broadcast,
    channel: str,
    gate: Gate,
    own_spool: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate.close()
    before, _ = one_after_the_other(channel, gate, max_backlog=10, grace=0.2)
    leave_on_disk(start, broadcaster, before, channel)
    without = Daebus("app")
    start(without)
    eventually(lambda: without.stats().spilled == 0)
    without.stop()

    (folder,) = own_spool.glob("*/0/spill-thread-dead")
    dead = Queue(folder, codec="msgpack").dead
    assert {batch.reason for batch in dead} == {
        f"the service has no handler 'listener:channel:0:{channel}' any more"
    }
    assert "cannot be handled: the service has no handler" in caplog.text

    for batch in dead:
        dead.retry(batch.name)
    app, heard = one_after_the_other(channel, Gate())
    start(app)
    eventually(lambda: heard == list(range(1, 1000)))


def test_what_its_runner_refuses_for_good_is_kept_among_the_dead_batches(
    start: Start, broadcaster: Broadcast, channel: str, gate: Gate, own_spool: Path
) -> None:
    app, heard = Daebus("app", max_workers=1, max_backlog=10), []

    @app.listen(channel)
    def hear(number: int) -> None:
        gate.pass_through()
        if number == 500:  # As processes do with a message that kills each worker.
            current.get().delivery.refused("every worker died of it")
        heard.append(number)

    start(app)
    gate.close()
    broadcaster.send_many(channel, range(1000))
    eventually(lambda: app.stats().spilled >= 989)
    gate.open()
    eventually(lambda: heard == list(range(1000)))
    eventually(lambda: app.stats().spilled == 0)

    (folder,) = own_spool.glob("*/0/spill-thread-dead")
    dead = Queue(folder, codec="msgpack").dead
    (batch,) = dead
    assert batch.reason == "every worker died of it"
    ((message,),) = dead.events(batch.name)
    assert b"500" in message
    eventually(lambda: not list(own_spool.glob("*/0/spill-thread/*.db")))


def test_a_service_that_never_overflows_makes_no_files(start: Start, own_spool: Path) -> None:
    app = Daebus("app")
    app.action("give")(lambda: 1)

    assert start(app).call("give") == 1
    app.stop()

    assert not own_spool.exists()


def test_without_a_folder_the_default_is_to_refuse_with_a_warning(
    start: Start, gate: Gate, own_spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_spool.write_text("a file")
    app = Daebus("app", max_workers=1, max_backlog=10)
    app.action("work")(gate.pass_through)
    caller = start(app)
    gate.close()

    futures = [caller.submit("work") for _ in range(1000)]
    eventually(lambda: app.stats().incidents.get("rejected", 0) > 600)
    gate.open()

    outcomes = [type(future.exception(10)) for future in futures]
    assert set(outcomes) == {type(None), Overloaded}
    assert app.stats().incidents["rejected"] == outcomes.count(Overloaded)
    assert "cannot wait on disk" in caplog.text
    assert "Daebus(spool=…) or DAEBUS_SPOOL" in caplog.text
    assert caller.call("work") is True


def test_spilling_that_was_asked_for_needs_a_folder(
    url: str, service_name: str, own_spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_spool.write_text("a file")
    with pytest.raises(SettingsError, match="overflow='spill' needs a folder"):
        Daebus("app", url=url, overflow="spill").start(service_name)

    monkeypatch.setenv("DAEBUS_OVERFLOW", "spill")
    with pytest.raises(SettingsError, match="overflow='spill' needs a folder"):
        Daebus("app", url=url).start(service_name)
