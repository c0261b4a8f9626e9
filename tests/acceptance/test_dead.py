"""`daebus dead`: the messages that failed too often."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from daebus.channels import dead_key, inbox_key
from daebus.service.parcels import Parcel
from daebus.service.spool import spool_folder
from fixtures.commands import COMMAND, daebus, daebus_each, daebus_on_a_terminal
from turbo_queue import Queue

REQUEST = b'{"action": "bill", "payload": {"amount": 5}, "request_id": "r1"}'


@pytest.fixture
def stored(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture
def bury(stored: redis.Redis, service_name: str) -> Callable[..., str]:
    """Put a message among the dead of the inbox, as the service does; gives its id."""

    def add(data: bytes = REQUEST, **fields: str | int) -> str:
        usual = {"id": "m1", "reason": "ValueError: no such luck", "deliveries": 5}
        whole = {"data": data, **usual, "at": 1_795_247_780_123, "entry": "1-0", **fields}
        return str(stored.xadd(dead_key(service_name), whole).decode())

    return add


@pytest.fixture
def disk(url: str, service_name: str, spool: Path) -> Queue:
    """The queue of a replica's worker processes, in which one batch is dead."""
    folder = spool_folder(spool, service_name, url) / "0" / "work"
    queue = Queue(folder, codec="raw", max_failures=1)
    requests = [REQUEST.replace(b"5", b"%d" % number) for number in range(2)]
    with queue.producer() as producer:
        producer.put_many(
            msgspec.msgpack.encode(
                Parcel("action:bill", service_name, data, None, 1, None, None, 0, 0)
            )
            for data in requests
        )
    with queue.consumer(stop_when_empty=True) as consumer:
        for _ in consumer:
            consumer.give_back("worker died")
    assert len(queue.dead) == 1
    return queue


def test_a_letter_of_the_inbox_is_listed_shown_and_given_back(
    bury: Callable[..., str], stored: redis.Redis, service_name: str
) -> None:
    entry = bury()

    listed = daebus("dead", "list", service_name)
    shown = daebus("dead", "show", service_name, entry)
    retried = daebus("dead", "retry", service_name, entry)

    header, line = listed.out.splitlines()
    assert header.split() == ["ID", "WHERE", "FOR", "DELIVERIES", "AGE", "REASON"]
    assert line.split()[:5] == [entry, "inbox", "action", "bill", "5"]
    assert "ValueError: no such luck" in line
    assert json.loads(shown.out) == json.loads(REQUEST)
    assert "reason: ValueError: no such luck" in shown.err
    assert "message id: m1" in shown.err
    assert retried.out == "1 dead letter given back\n"
    assert stored.xlen(dead_key(service_name)) == 0
    ((_, fields),) = stored.xrange(inbox_key(service_name))
    assert fields == {b"data": REQUEST, b"id": b"m1"}


def test_a_letter_of_a_channel_keeps_it(
    bury: Callable[..., str], stored: redis.Redis, service_name: str
) -> None:
    bury(b'{"order": 1}', channel="orders.new")

    (listed,) = map(json.loads, daebus("dead", "list", service_name, "--json").out.splitlines())
    daebus("dead", "retry", service_name, "--all")

    assert (listed["channel"], listed["action"]) == ("orders.new", None)
    ((_, fields),) = stored.xrange(inbox_key(service_name))
    assert fields == {b"data": b'{"order": 1}', b"id": b"m1", b"channel": b"orders.new"}


def test_a_batch_on_disk_is_listed_shown_and_given_back(disk: Queue, service_name: str) -> None:
    (listed,) = map(json.loads, daebus("dead", "list", service_name, "--json").out.splitlines())
    shown = daebus("dead", "show", service_name, listed["id"])
    row = daebus("dead", "list", service_name).out.splitlines()[1]
    retried = daebus("dead", "retry", service_name, "--all", "--json")

    assert (listed["where"], listed["action"], listed["messages"]) == ("disk", "bill", 2)
    assert "action bill and 1 more" in row
    assert [json.loads(line)["payload"]["amount"] for line in shown.out.splitlines()] == [0, 1]
    assert "reason: worker died" in shown.err
    assert json.loads(retried.out) == {"retried": 1, "unknown": []}
    assert len(disk.dead) == 0
    assert disk.stats().ready.batches == 1


def test_hundreds_are_given_back_in_their_order(
    bury: Callable[..., str], stored: redis.Redis, service_name: str
) -> None:
    for number in range(250):
        bury(b"%d" % number)

    plain = daebus("dead", "list", service_name)
    as_json = daebus("dead", "list", service_name, "--json")
    retried = daebus("dead", "retry", service_name, "--all")

    assert len(plain.out.splitlines()) == 101
    assert "There are more than these 100" in plain.err
    assert len(as_json.out.splitlines()) == 250
    assert retried.out == "250 dead letters given back\n"
    waiting = [fields[b"data"] for _, fields in stored.xrange(inbox_key(service_name))]
    assert waiting == [b"%d" % number for number in range(250)]


def test_letters_are_dropped_for_good_when_that_is_confirmed(
    bury: Callable[..., str], stored: redis.Redis, disk: Queue, service_name: str
) -> None:
    first, _second = bury(), bury()

    refused = daebus("dead", "drop", service_name, first)
    one = daebus("dead", "drop", service_name, first, "--yes")
    rest = daebus("dead", "drop", service_name, "--all", "--yes")

    assert refused.code == 2
    assert "lost for good; say --yes" in " ".join(refused.err.replace("│", "").split())
    assert one.out == "1 dead letter removed\n"
    assert rest.out == "2 dead letters removed\n"
    assert (stored.xlen(dead_key(service_name)), len(disk.dead)) == (0, 0)
    assert stored.xlen(inbox_key(service_name)) == 0
    assert disk.stats().ready.batches == 0


def test_an_unknown_id_is_told_and_stops_no_other(
    bury: Callable[..., str], service_name: str
) -> None:
    entry = bury()
    unknown = ["1-1", "../../etc", "9" * 30 + "-0"]

    ends = daebus_each(["dead", "show", service_name, each] for each in unknown)
    retried = daebus("dead", "retry", service_name, *unknown, entry)

    for done in [*ends, retried]:
        assert done.code == 1
        assert "has no dead letter" in done.err
        assert "Traceback" not in done.err
    assert retried.out == "1 dead letter given back\n"


def test_a_service_without_dead_letters_says_so(url: str) -> None:
    listed, retried = daebus("dead", "list", "nobody"), daebus("dead", "retry", "nobody", "--all")

    assert (listed.code, listed.out) == (0, "No dead letters of service 'nobody'\n")
    assert (retried.code, retried.out) == (0, "0 dead letters given back\n")


def test_what_stands_in_a_message_cannot_drive_the_terminal(
    bury: Callable[..., str], service_name: str
) -> None:
    evil = "\x1b]0;owned\x07\u009b"
    data = json.dumps({"action": evil, "payload": evil}).encode()
    entries = [bury(data, reason=evil, id=evil), bury(b"\xff\x1b[2J", channel=evil)]

    outputs = [
        daebus_on_a_terminal("dead", "list", service_name),
        *(daebus_on_a_terminal("dead", "show", service_name, entry) for entry in entries),
    ]

    for shown in outputs:
        for sequence in ("\x1b]", "\x07", "\u009b", "\x1b[2J"):
            assert sequence not in shown


def test_bad_usage_is_told_without_a_traceback(url: str, service_name: str, tmp_path: Path) -> None:
    a_file = tmp_path / "file"
    a_file.touch()
    ends = daebus_each(
        [
            ["dead", "retry", service_name],
            ["dead", "retry", service_name, "1-0", "--all"],
            ["dead", "list"],
            ["dead", "list", "caller_x"],
            ["dead", "nonsense"],
        ]
    )
    away = daebus("dead", "list", service_name, "--url", "redis://:secret@localhost:1")

    for done in ends:
        assert done.code == 2
        assert "Traceback" not in done.err
    assert away.code == 3
    assert "secret" not in away.err


def test_a_service_gets_back_what_was_on_disk_of_another_place(
    disk: Queue, service_name: str, spool: Path, tmp_path: Path
) -> None:
    elsewhere = daebus("dead", "list", service_name, "--spool", str(tmp_path))
    here = daebus("dead", "list", service_name, "--spool", str(spool))

    assert "No dead letters" in elsewhere.out
    assert "worker died" in here.out


def test_help_teaches_by_examples() -> None:
    for done in daebus_each(["dead", verb, "--help"] for verb in ("list", "show", "retry", "drop")):
        assert done.code == 0
        assert "Examples:" in done.out
        assert "daebus dead" in done.out.split("Examples:")[1]


def test_drop_asks_a_person(
    bury: Callable[..., str], stored: redis.Redis, service_name: str
) -> None:
    bury()
    terminal, its_side = pty.openpty()
    os.write(terminal, b"n\ny\n")

    ends = [
        subprocess.run(
            [*COMMAND, "dead", "drop", service_name, "--all"],
            stdin=its_side,
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2)
    ]

    assert [done.returncode for done in ends] == [1, 0]
    assert f"Remove all dead letters of '{service_name}' for good?" in ends[0].stdout
    assert "1 dead letter removed" in ends[1].stdout
    os.close(its_side)
    os.close(terminal)
