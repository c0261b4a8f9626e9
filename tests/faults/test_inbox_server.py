"""The server loses the inbox, is killed, or comes back with a damaged file (F27, F30, F45)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from daebus import Daebus, DaebusError, ServerUnavailable
from daebus.bus.embedded import EmbeddedServer
from daebus.channels import inbox_key
from daebus.deadline import Deadline
from fixtures.inboxes import Inbox
from fixtures.waiting import eventually


@pytest.fixture
def inbox(own_server: EmbeddedServer, service_name: str) -> Iterator[Inbox]:
    with Inbox(own_server.url, service_name) as inbox:
        yield inbox


@pytest.mark.parametrize("fault", ["flushall", "destroy", "delete"])
def test_an_inbox_that_was_removed_is_made_again(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str, fault: str
) -> None:
    app, seen = Daebus("app", url=own_server.url, delivery="stream", lease=3), []
    app.action("work")(lambda number: seen.append(number))
    app.listen("events", durable=True)(seen.append)
    app.start(service_name)
    for number in range(10):
        inbox.send({"number": number})
        eventually(lambda number=number: number in seen)
        if fault == "flushall":
            inbox.server.flushall()
        elif fault == "destroy":
            inbox.server.xgroup_destroy(inbox_key(service_name), service_name)
        else:
            inbox.server.delete(inbox_key(service_name))
        began = monotonic()
        inbox.send({"number": 100 + number})
        eventually(lambda number=number: 100 + number in seen)
        assert monotonic() - began < 1
    eventually(lambda: inbox.server.exists(f"daebus:{{{service_name}}}:mode"))
    eventually(lambda: inbox.server.smembers("daebus:{events}:durable"))
    eventually(lambda: inbox.waiting == 0)
    app.stop()
    assert set(seen) == {*range(10), *range(100, 110)}


def keep_sending(inbox: Inbox, done: threading.Event) -> list[int]:
    """Send until told to end; the numbers that were accepted."""
    accepted, number = [], 0
    while not done.is_set():
        under_way = []
        for _ in range(50):
            try:
                under_way.append((number, inbox.post({"number": number})))
            except DaebusError:
                pass
            number += 1
        for sent, stored in under_way:
            try:
                stored.wait(Deadline.after(20))
            except DaebusError:
                continue
            accepted.append(sent)
    return accepted


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_killed_server_loses_no_message_that_was_accepted(
    tmp_path: Path, service_name: str, fsync: str
) -> None:
    with EmbeddedServer(tmp_path / "aof", persistent=True) as server:
        app, seen = Daebus("app", url=server.url, delivery="stream", lease=1), set()
        app.action("work")(lambda number: seen.add(number))
        done, accepted = threading.Event(), []
        with Inbox(server.url, service_name) as inbox:
            inbox.server.config_set("appendfsync", fsync)
            app.start(service_name)
            sender = threading.Thread(target=lambda: accepted.extend(keep_sending(inbox, done)))
            sender.start()
            try:
                for _ in range(4):
                    before = len(seen)
                    eventually(lambda before=before: len(seen) > before + 500, 10)
                    server.kill()
                    server.start()
                    inbox.server.config_set("appendfsync", fsync)
            finally:
                done.set()
                sender.join(30)
            eventually(lambda: inbox.waiting == 0, 20)
        app.stop()

    assert len(accepted) > 2000
    assert set(accepted) - seen == set()


def test_a_killed_server_without_a_file_loses_what_waits_and_the_service_goes_on(
    own_server: EmbeddedServer, inbox: Inbox, service_name: str
) -> None:
    app, seen = Daebus("app", url=own_server.url, delivery="stream", lease=1), []
    app.action("work")(lambda number: seen.append(number))
    app.start(service_name)
    inbox.send({"number": 1})
    eventually(lambda: seen == [1])

    own_server.kill()
    own_server.start()
    inbox.send({"number": 2})

    eventually(lambda: seen == [1, 2])
    assert app.stats().incidents["inbox_lost"] == 1
    app.stop()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_a_clear_error_or_costs_only_its_end(
    tmp_path: Path, service_name: str, damage: str
) -> None:
    server = EmbeddedServer(tmp_path / "aof", persistent=True)
    with server, Inbox(server.url, service_name) as inbox:
        inbox.send_all({"number": number} for number in range(1000))
    [file] = [
        path for path in (tmp_path / "aof").rglob("*.incr.aof") if path.stat().st_size > 100_000
    ]
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-100:]
    else:
        data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)

    if damage == "flipped" and _refuses_to_start(server):
        assert file.read_bytes() == data
        return
    server.start()
    with Inbox(server.url, service_name) as inbox:
        assert inbox.waiting >= 998
    server.stop()


def _refuses_to_start(server: EmbeddedServer) -> bool:
    try:
        server.start()
    except ServerUnavailable as error:
        assert "its log ends with" in str(error)
        return True
    return False
