"""What a sender is told is stored is stored once, and what finds no room is an error (F21-F29)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from daebus import Daebus, InboxFull, ServerFull, ServerUnavailable, SettingsError
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.mode import read_mode
from daebus.deadline import Deadline
from fixtures.inboxes import Inbox
from fixtures.processes import Processes
from fixtures.proxy import Proxy
from fixtures.waiting import eventually


@pytest.fixture
def inbox(own_server: EmbeddedServer, service_name: str) -> Iterator[Inbox]:
    with Inbox(own_server.url, service_name) as inbox:
        yield inbox


def serve(url: str, service: str, seen: list[int], **settings: object) -> Daebus:
    app = Daebus("app", url=url, delivery="stream", **settings)
    app.action("work")(lambda number: seen.append(number))
    app.start(service)
    return app


def test_a_send_whose_answer_was_lost_makes_one_entry(
    own_server: EmbeddedServer, service_name: str
) -> None:
    sends, lost = count(1), []

    def loses_every_tenth(data: bytes) -> bool:
        numbers = [next(sends) for _ in range(data.count(b"EVALSHA"))]
        lost.extend(number for number in numbers if number % 10 == 0)
        return any(number % 10 == 0 for number in numbers)

    with (
        Proxy(own_server.socket_path) as proxy,
        Inbox(proxy.url, service_name, admin_url=own_server.url) as inbox,
    ):
        proxy.loses_answer_to = loses_every_tenth
        for number in range(500):
            inbox.send({"number": number})
        proxy.loses_answer_to = lambda _: False

        assert len(lost) >= 50
        assert inbox.waiting == 500

    seen: list[int] = []
    app = serve(own_server.url, service_name, seen, max_workers=1)
    eventually(lambda: len(seen) == 500)
    app.stop()
    assert seen == list(range(500))


def test_a_full_inbox_refuses_and_loses_nothing(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str
) -> None:
    outcomes = inbox.send_all(({"number": number} for number in range(5000)), max_inbox=1000)

    accepted = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert len(accepted) == 1000
    assert sum(type(outcome) is InboxFull for outcome in outcomes) == 4000
    seen: list[int] = []
    app = serve(own_server.url, service_name, seen, max_inbox=1000)
    eventually(lambda: inbox.waiting == 0)
    app.stop()
    assert sorted(seen) == accepted


def test_a_server_without_memory_refuses_and_is_drained(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str
) -> None:
    seen: list[int] = []
    serve(own_server.url, service_name, seen).stop()
    used = int(inbox.server.info("memory")["used_memory"])
    inbox.server.config_set("maxmemory", used + 4 * 1024 * 1024)

    outcomes = inbox.send_all({"number": number, "text": "x" * 1000} for number in range(6000))

    accepted = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert 500 < len(accepted) < 6000
    assert {type(outcome) for outcome in outcomes} == {type(None), ServerFull}
    app = Daebus("app", url=own_server.url, delivery="stream")
    app.action("work")(lambda number, text: seen.append(number))
    app.start(service_name)
    eventually(lambda: inbox.waiting == 0)
    app.stop()
    assert sorted(seen) == accepted


def test_a_dead_letter_waits_for_the_servers_memory(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str
) -> None:
    app = Daebus("app", url=own_server.url, delivery="stream", max_deliveries=1, lease=0.3)

    @app.action("work")
    def work(number: int) -> None:
        inbox.server.config_set("maxmemory", 1)
        raise RuntimeError("no")

    app.start(service_name)
    inbox.send({"number": 1})
    eventually(lambda: app.stats().incidents.get("inbox_refused"))
    assert inbox.dead == []
    assert inbox.waiting == 1

    inbox.server.config_set("maxmemory", 0)

    eventually(lambda: len(inbox.dead) == 1)
    assert inbox.waiting == 0
    app.stop()


def test_a_server_that_evicts_what_waits_is_refused(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.server.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(SettingsError, match="allkeys-lru"):
        serve(own_server.url, service_name, [])

    inbox.server.config_set("maxmemory-policy", "volatile-lru")
    serve(own_server.url, service_name, []).stop()
    assert "volatile-lru" in caplog.text


def test_the_durability_of_the_server_is_read_and_told(
    tmp_path: Path, service_name: str, processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(tmp_path / "aof", persistent=True) as server:
        with caplog.at_level("INFO"):
            serve(server.url, service_name, [], durability="crash").stop()
        assert "of the server, not a loss of power" in caplog.text
        with pytest.raises(SettingsError, match="appendfsync is 'everysec'"):
            serve(server.url, service_name, [], durability="power")
        with Inbox(server.url, service_name) as inbox:
            inbox.server.config_set("appendfsync", "always")
        serve(server.url, service_name, [], durability="power").stop()


def test_a_message_counts_as_stored_when_a_replica_of_the_server_has_it(
    tmp_path: Path, service_name: str
) -> None:
    with EmbeddedServer(tmp_path / "primary", port=0) as primary:
        with redis.Redis.from_url(primary.url) as client:
            client.config_set("repl-diskless-sync-delay", 0)
        replica = EmbeddedServer(tmp_path / "replica")
        replica.start()
        address = urlsplit(primary.url)
        with redis.Redis.from_url(replica.url) as client:
            client.config_set("masterauth", address.password)
            client.replicaof(address.hostname, address.port)
        with Inbox(primary.url, service_name) as inbox:
            eventually(lambda: inbox.server.info("replication")["connected_slaves"] == 1)
            eventually(lambda: inbox.server.wait(1, 100) == 1)
            seen: list[int] = []
            app = serve(primary.url, service_name, seen, durability="replicas=1")
            mode = read_mode(inbox.link, Deadline.after(5), service_name)
            assert mode is not None
            assert mode.replicas == 1

            inbox.send({"number": 1}, replicas=1)
            inbox.server.script_flush()
            inbox.send({"number": 2}, replicas=1)
            replica.stop()
            with pytest.raises(ServerUnavailable, match="of 1 replicas: 0"):
                inbox.send({"number": 3}, replicas=1)

            eventually(lambda: sorted(seen) == [1, 2, 3])
            app.stop()
            with pytest.raises(SettingsError, match="0 replicas connected"):
                serve(primary.url, service_name, seen, durability="replicas=1")
