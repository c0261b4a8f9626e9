"""The rights that docs/how-to/acl.md gives are enough, and no more than that (S2)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from daebus import Broadcast, Daebus, DaebusCaller, ServerUnavailable, broadcast
from daebus.bus.dead_letters import DeadStream
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.mode import read_mode
from daebus.bus.overview import Inbox as Stored
from daebus.bus.overview import Overview
from daebus.bus.presence import find_replicas
from daebus.deadline import Deadline
from fixtures.inboxes import Inbox
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "acl.md"


@pytest.fixture
def users(own_server: EmbeddedServer) -> Iterator[dict[str, str]]:
    """The page's users on a server, by name, with the address that each connects to."""
    rules = re.findall(
        r"^```text\n(ACL SETUSER .*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(rules) == 6
    addresses = {}
    with redis.Redis.from_url(own_server.url) as admin:
        for rule in rules:
            words = rule.replace("PASSWORD", "pw").split()
            # A selector in brackets is one argument.
            admin.execute_command(*re.findall(r"\([^)]*\)|\S+", " ".join(words)))
            addresses[words[2]] = own_server.url.replace("unix://", f"unix://{words[2]}:pw@")
    yield addresses
    broadcast.close()


def test_what_the_parts_need_is_allowed(users: dict[str, str], own_server: EmbeddedServer) -> None:
    app, heard = Daebus("billing", url=users["billing"]), []
    app.listen("orders.*")(lambda data: heard.append(data))

    @app.action("bill")
    def bill(amount: int) -> int:
        broadcast.send("invoices", {"amount": amount})
        return amount

    app.start()
    with (
        DaebusCaller("billing", users["web"]) as caller,
        Subscriber(own_server.url, "invoices") as invoices,
    ):
        assert caller.call("bill", {"amount": 5}) == 5
        assert invoices.next() == {"amount": 5}
        assert list(caller.stream("bill", {"amount": 6})) == [6]
        assert caller.send_message("bill", {"amount": 7}) == 1
    orders = Broadcast(own_server.url)
    assert orders.send("orders.new", 1) == 1
    orders.close()
    assert [replica.service for replica in find_replicas(users["watcher"])] == ["billing"]
    app.stop()
    assert heard == [1]


def test_a_service_without_the_right_to_ask_for_subscribers_is_ready_and_can_be_ended(
    users: dict[str, str], own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus.service.heartbeat.REFRESH_S", 0.1)
    monkeypatch.setattr("daebus.service.health.BELIEVED_S", 2.0)
    with redis.Redis.from_url(own_server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "billing", "-pubsub")
    app = Daebus("billing", url=users["billing"])
    app.start()

    assert not threading.Event().wait(2.5)

    assert app.health().troubles == []
    with DaebusCaller("billing", users["web"]) as caller:
        caller.call("daebus.drain", {"replica": app.stats().replica_id})
    eventually(lambda: not app.is_running())
    app.stop()


def test_what_an_inbox_needs_is_allowed(users: dict[str, str], own_server: EmbeddedServer) -> None:
    app, seen = Daebus("ledger", url=users["ledger"], delivery="stream", lease=0.3), []
    app.listen("sales", durable=True)(lambda data: seen.append(data))

    @app.action("work")
    def work(number: int) -> None:
        seen.append(number)
        if number == 0:
            raise RuntimeError("no")

    app.start()
    with Inbox(users["shop"], "ledger", admin_url=own_server.url) as inbox:
        inbox.send_all([{"number": number} for number in range(3)])
        shop = Broadcast(users["shop"])
        assert shop.send("sales", "shirt") == 1
        shop.close()
        assert read_mode(inbox.link, Deadline.after(5), "ledger") is not None
        eventually(lambda: inbox.dead)
        eventually(lambda: inbox.waiting == 0)
        overview = Overview(users["watcher"])
        assert overview.look().inboxes == {"ledger": Stored(waiting=0, dead=1)}
        assert [beat.replica.service for beat in overview.look().beats] == ["ledger"]
        overview.close()
        dead = DeadStream(users["operator"], "ledger")
        [letter] = dead.entries()
        assert dead.retry(letter.entry)
        eventually(lambda: inbox.waiting == 0 and inbox.dead)
        app.stop()
        assert app.stats().replica_id not in inbox.consumers
    assert sorted(map(str, seen)) == ["0"] * 10 + ["1", "2", "shirt"]
    assert set(app.stats().incidents) == {"dead_letter"}


REFUSED = {
    "ledger": [
        ("XADD", "daebus:{billing}:inbox", "*", "a", "b"),
        ("XREADGROUP", "GROUP", "a", "b", "STREAMS", "daebus:{billing}:inbox", ">"),
        ("SADD", "daebus:{orders}:durable", "ledger"),
        ("XTRIM", "daebus:{ledger}:inbox", "MAXLEN", "0"),
        ("SUBSCRIBE", "billing"),
        ("PSUBSCRIBE", "*"),
    ],
    "shop": [
        ("XREAD", "STREAMS", "daebus:{ledger}:inbox", "0"),
        ("XRANGE", "daebus:{ledger}:inbox", "-", "+"),
        ("XDEL", "daebus:{ledger}:inbox", "1-1"),
        ("XTRIM", "daebus:{ledger}:inbox", "MAXLEN", "0"),
        ("DEL", "daebus:{ledger}:inbox"),
        ("SET", "daebus:{ledger}:inbox", "x"),
        ("XADD", "daebus:{ledger}:dead", "*", "a", "b"),
        ("XADD", "daebus:{billing}:inbox", "*", "a", "b"),
        ("HSET", "daebus:{ledger}:mode", "delivery", "pubsub"),
        ("SADD", "daebus:{sales}:durable", "shop"),
        ("PUBLISH", "ledger", "{}"),
        ("SUBSCRIBE", "sales"),
    ],
    "billing": [
        ("PUBLISH", "payroll", "{}"),
        ("SUBSCRIBE", "payroll"),
        ("PSUBSCRIBE", "*"),
        ("SET", "daebus:{payroll}:replica:1", "x"),
        ("GET", "daebus:{billing}:replica:1"),
    ],
    "web": [
        ("SUBSCRIBE", "billing"),
        ("PUBLISH", "payroll", "{}"),
        ("PUBLISH", "caller_x", "{}"),
        ("PSUBSCRIBE", "*"),
        ("SET", "daebus:{billing}:replica:1", "x"),
        ("DEL", "daebus:{billing}:replica:1"),
        ("HGETALL", "daebus:{billing}:answer:key"),
        ("SCAN", "0"),
    ],
    "watcher": [
        ("PUBLISH", "billing", "{}"),
        ("SUBSCRIBE", "billing"),
        ("SET", "daebus:{billing}:replica:1", "x"),
        ("MGET", "another:key"),
    ],
    "operator": [
        ("PUBLISH", "ledger", "{}"),
        ("SUBSCRIBE", "ledger"),
        ("XTRIM", "daebus:{ledger}:inbox", "MAXLEN", "0"),
        ("XRANGE", "daebus:{billing}:dead", "-", "+"),
    ],
}
ALWAYS_REFUSED = [
    ("FLUSHALL",),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("KEYS", "*"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("EVAL", "return 1", "0"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
]


@pytest.mark.parametrize("user", REFUSED)
def test_everything_else_is_refused(users: dict[str, str], user: str) -> None:
    for command in [*REFUSED[user], *ALWAYS_REFUSED]:
        with redis.Redis.from_url(users[user]) as client, pytest.raises(redis.ResponseError) as no:
            client.execute_command(*command)
        assert "permissions" in str(no.value), command


def test_a_script_may_do_no_more_than_its_user(users: dict[str, str]) -> None:
    for user in ("shop", "ledger"):
        with redis.Redis.from_url(users[user]) as client:
            run = client.register_script("return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)")
            with pytest.raises(redis.ResponseError, match="permission|ACL failure"):
                run(keys=["daebus:{ledger}:inbox"])


def test_a_service_without_the_right_to_its_channel_is_told(users: dict[str, str]) -> None:
    app = Daebus("payroll", url=users["billing"])

    with pytest.raises(ServerUnavailable, match="it refused to subscribe"):
        app.start()


def test_a_caller_without_the_right_to_a_service_is_told(users: dict[str, str]) -> None:
    with (
        DaebusCaller("payroll", users["web"]) as caller,
        pytest.raises(ServerUnavailable, match="it refused the request"),
    ):
        caller.call("anything")
