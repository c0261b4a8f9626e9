"""A service with delivery="stream": messages wait on the server until they are handled."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from daebus import Daebus, InboxFull, SettingsError, request
from daebus.bus.mode import Mode, read_mode
from daebus.channels import inbox_key, mode_key
from daebus.deadline import Deadline
from fixtures.inboxes import Inbox
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

Serve = Callable[..., Daebus]


@pytest.fixture
def inbox(url: str, service_name: str) -> Iterator[Inbox]:
    with Inbox(url, service_name) as inbox:
        yield inbox


@pytest.fixture
def app(url: str) -> Iterator[Callable[..., Daebus]]:
    apps: list[Daebus] = []

    def make(**settings: object) -> Daebus:
        apps.append(Daebus("app", url=url, **{"delivery": "stream", "lease": 0.3, **settings}))
        return apps[-1]

    yield make
    for each in apps:
        each.stop()


def test_a_message_waits_until_the_service_is_there(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    inbox.send({"number": 1})
    service, seen = app(), []
    service.action("work")(lambda number: seen.append((number, request.delivery_count)))

    service.start(service_name)

    eventually(lambda: seen == [(1, 1)])
    eventually(lambda: inbox.waiting == 0)


def test_each_message_is_handled_by_one_replica(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    seen: list[list[int]] = [[], [], []]
    for heard in seen:
        service = app(prefetch=4)
        service.action("work")(
            lambda number, heard=heard: (time.sleep(0.001), heard.append(number))
        )
        service.start(service_name)

    inbox.send_all({"number": number} for number in range(900))

    eventually(lambda: sum(map(len, seen)) == 900)
    assert sorted(number for heard in seen for number in heard) == list(range(900))
    assert min(map(len, seen)) > 100


def test_the_same_send_twice_makes_one_entry(inbox: Inbox) -> None:
    for _ in range(3):  # Not even a full inbox refuses what it has.
        inbox.send({"number": 1}, message_id="one", max_inbox=1)

    assert inbox.waiting == 1


def test_a_request_is_answered_and_then_removed(
    app: Serve, inbox: Inbox, service_name: str, url: str
) -> None:
    service = app()
    service.action("work")(lambda number: number * 2)
    service.start(service_name)

    with Subscriber(url, "caller_test") as replies:
        inbox.send({"number": 4}, reply_to="caller_test", request_id="a")

        assert replies.next()["payload"] == 8
    eventually(lambda: inbox.waiting == 0)


def test_a_failed_message_is_tried_again_and_then_kept_with_its_reason(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service, counts, ids = app(max_deliveries=3), [], set()

    @service.action("work")
    def work(number: int) -> None:
        counts.append(request.delivery_count)
        ids.add(request.message_id)
        raise RuntimeError(f"no luck with {number}")

    service.start(service_name)
    inbox.send({"number": 7}, message_id="seven")

    eventually(lambda: inbox.dead)
    [letter] = inbox.dead
    assert counts == [1, 2, 3]
    assert ids == {"seven"}
    assert letter["reason"] == "RuntimeError: no luck with 7"
    assert letter["id"] == "seven"
    assert letter["deliveries"] == "3"
    assert json.loads(letter["data"])["payload"] == {"number": 7}
    assert abs(int(letter["at"]) / 1000 - time.time()) < 60
    assert "-" in letter["entry"]
    assert inbox.waiting == 0


def test_a_failed_request_whose_caller_was_told_is_not_tried_again(
    app: Serve, inbox: Inbox, service_name: str, url: str
) -> None:
    service, runs = app(), []

    @service.action("work")
    def work() -> None:
        runs.append(request.message_id)
        raise RuntimeError("no")

    service.start(service_name)
    with Subscriber(url, "caller_test") as replies:
        inbox.send({}, reply_to="caller_test", request_id="a")

        assert replies.next()["code"] == "handler_error"
    eventually(lambda: inbox.waiting == 0)
    assert len(runs) == 1
    assert inbox.dead == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "cannot be read"),
        (b'{"action": "unheard_of"}', "there is no action 'unheard_of'"),
        (b'{"action": "work", "payload": {"number": "x"}}', "number"),
    ],
)
def test_what_can_never_be_handled_is_kept_at_once(
    app: Serve, inbox: Inbox, service_name: str, data: bytes, reason: str
) -> None:
    service = app()
    service.action("work")(_takes_a_number)
    service.start(service_name)

    inbox.server.xadd(inbox_key(service_name), {"data": data, "id": "bad"})

    eventually(lambda: inbox.dead)
    [letter] = inbox.dead
    assert reason in letter["reason"]
    assert letter["deliveries"] == "1"
    assert inbox.waiting == 0


def _takes_a_number(number: int) -> int:
    return number


def test_a_request_that_waited_past_its_deadline_is_not_begun(
    app: Serve, inbox: Inbox, service_name: str, url: str
) -> None:
    inbox.send({"number": 1}, reply_to="caller_test", request_id="late", timeout_ms=100)
    inbox.send({"number": 2}, reply_to="caller_test", request_id="soon", timeout_ms=60_000)
    began = time.monotonic()
    service, seen = app(), []
    service.action("work")(lambda number: seen.append(number))
    eventually(lambda: time.monotonic() - began > 0.15)

    with Subscriber(url, "caller_test") as replies:
        service.start(service_name)
        found = {reply["request_id"]: reply for reply in (replies.next(), replies.next())}

    assert found["late"]["code"] == "expired"
    assert found["soon"]["status"] == "success"
    assert seen == [2]


def test_no_more_than_the_prefetch_is_held(app: Serve, inbox: Inbox, service_name: str) -> None:
    release = threading.Event()
    service = app(prefetch=5, max_workers=2)
    service.action("work")(lambda number: release.wait(20))
    service.start(service_name)

    inbox.send_all({"number": number} for number in range(50))

    try:
        eventually(lambda: sum(inbox.pending.values()) == 5)
        eventually(lambda: service.stats().in_progress == 2)
        assert sum(inbox.pending.values()) == 5
    finally:
        release.set()
    eventually(lambda: inbox.waiting == 0)


@pytest.mark.leaves_threads
def test_what_is_in_hand_at_a_stop_goes_to_another_replica_at_once(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    first, begun = app(grace=0.2, lease=3, prefetch=8, max_workers=2), threading.Semaphore(0)
    release = threading.Event()
    first.action("work")(lambda number: (begun.release(), release.wait(20)))
    first.start(service_name)
    inbox.send_all({"number": number} for number in range(8))
    begun.acquire()
    begun.acquire()
    eventually(lambda: sum(inbox.pending.values()) == 8)

    first.stop()
    second, seen = app(lease=3), []
    second.action("work")(lambda number: seen.append((number, request.delivery_count)))
    stopped_at = time.monotonic()
    second.start(service_name)

    eventually(lambda: len(seen) == 8)
    assert time.monotonic() - stopped_at < 1
    assert sorted(number for number, _ in seen) == list(range(8))
    assert {count for _, count in seen} == {2}
    eventually(lambda: inbox.waiting == 0)
    assert first.stats().replica_id not in inbox.consumers
    release.set()


def test_what_a_replica_has_without_knowing_is_given_back_at_its_stop(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service, key = app(lease=60), inbox_key(service_name)

    @service.action("work")
    def work(number: int) -> None:
        raise RuntimeError("not now")

    service.start(service_name)
    # As if the answer to its last read had been lost with a connection.
    name = service.stats().replica_id
    inbox.send({"number": 1})
    eventually(lambda: inbox.pending == {"nobody": 1})
    [entry] = inbox.server.xrange(key)
    inbox.server.xclaim(key, service_name, name, 0, [entry[0]])

    service.stop()

    assert inbox.pending == {"nobody": 1}
    assert inbox.consumers == ["nobody"]


def test_an_idle_replica_that_stops_leaves_no_name(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service = app()
    service.start(service_name)
    eventually(lambda: inbox.consumers)

    service.stop()

    assert inbox.consumers == []


def test_messages_that_a_full_backlog_has_no_room_for_wait_on_the_server(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service, seen = app(prefetch=50, max_workers=1, max_backlog=1, overflow="reject"), []
    service.action("work")(lambda number: (time.sleep(0.002), seen.append(number)))
    service.start(service_name)

    inbox.send_all({"number": number} for number in range(60))

    eventually(lambda: len(seen) == 60)
    assert seen == list(range(60))
    assert "rejected" not in service.stats().incidents


def test_a_full_inbox_is_an_error_to_the_sender(inbox: Inbox) -> None:
    outcomes = inbox.send_all(({} for _ in range(5)), max_inbox=3)

    assert [type(each) for each in outcomes] == [type(None)] * 3 + [InboxFull] * 2
    assert inbox.waiting == 3


def test_how_requests_reach_a_service_is_known_also_when_it_is_down(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    assert read_mode(inbox.link, Deadline.after(5), service_name) is None
    service = app(max_inbox=77, deduplication=5)
    service.start(service_name)
    service.stop()

    mode = read_mode(inbox.link, Deadline.after(5), service_name)

    assert mode == Mode(delivery="stream", max_inbox=77, window_ms=5000, durability="memory")
    assert inbox.server.ttl(mode_key(service_name)) == -1

    plain = app(delivery="pubsub")
    plain.start(service_name)
    found = read_mode(inbox.link, Deadline.after(5), service_name)
    assert found is not None
    assert found.delivery == "pubsub"


def test_messages_in_an_inbox_that_nobody_reads_are_told(
    app: Serve, inbox: Inbox, service_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.send_all({"number": number} for number in range(3))

    app(delivery="pubsub").start(service_name)

    assert "3 messages wait in the inbox" in caplog.text


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ("crash", "in memory only"),
        ("power", "appendfsync always"),
        ("replicas=1", "0 replicas connected"),
        ("for ever", "must be 'memory'"),
    ],
)
def test_a_promise_that_the_server_cannot_keep_is_refused(
    app: Serve, service_name: str, level: str, text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        app(durability=level).start(service_name)


def test_scripts_that_somebody_removed_are_loaded_again(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service, seen = app(), []
    service.action("work")(lambda number: seen.append(number))
    service.start(service_name)

    for number in range(20):
        inbox.server.script_flush()
        inbox.send({"number": number})

    eventually(lambda: inbox.waiting == 0)
    assert sorted(seen) == list(range(20))


def test_async_handlers_take_from_the_inbox_too(
    app: Serve, inbox: Inbox, service_name: str
) -> None:
    service, seen = app(max_deliveries=2), []

    @service.action("work")
    async def work(number: int) -> None:
        seen.append(number)
        if number == 3:
            raise RuntimeError("three")

    service.start(service_name)
    inbox.send_all({"number": number} for number in range(5))

    eventually(lambda: inbox.waiting == 0)
    assert sorted(seen) == [0, 1, 2, 3, 3, 4]
    assert [letter["reason"] for letter in inbox.dead] == ["RuntimeError: three"]
