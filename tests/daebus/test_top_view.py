"""`daebus top` as a person uses it: keys, a small terminal, hostile names, a server that goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from daebus.bus.connection import client
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import Replica, encode_replica
from daebus.operate.top.rows import SERVICE_COLUMNS, Order
from fixtures.pipelines import fails_at_13
from fixtures.queues import fill_in_batches
from fixtures.top import Screen, say, watch_top
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, JsonLinesSink
from turbo_queue.pipeline import Pipeline


@pytest.fixture
def three(own_server: EmbeddedServer) -> str:
    """A server with three services: `b` has most waiting, `c` least."""
    say(own_server.url, "a", backlog=5, errors=1)
    say(own_server.url, "b", backlog=9, actions=["add", "echo"])
    say(own_server.url, "c", backlog=1, is_ready=False, troubles=["it is deaf"])
    return own_server.url


async def loaded(screen: Screen) -> None:
    await screen.eventually(lambda: len(screen.lines()) > 1)


def test_all_columns_fit_a_terminal_of_80_by_24(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        titles = screen.lines()[0].replace("▲", "").split()
        assert titles == [column.title for column in SERVICE_COLUMNS]
        assert all(len(line) <= 80 for line in screen.lines())
        assert screen.names() == ["a", "b", "c"]
        assert "3 services, 3 replicas" in screen.text("summary")

    watch_top(three, look_on)


def test_keys_sort_and_reverse(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press(*["s"] * 7)
        assert "▼BACKLOG" in screen.lines()[0]
        assert screen.names() == ["b", "a", "c"]
        await screen.press("r")
        assert "▲BACKLOG" in screen.lines()[0]
        assert screen.names() == ["c", "a", "b"]
        await screen.press("less_than_sign")
        assert "▼BUSY" in screen.lines()[0]
        await screen.press("greater_than_sign", "greater_than_sign")
        assert "▼SPILLED" in screen.lines()[0]

    watch_top(three, look_on)


def test_the_filter_shows_what_has_a_text_in_its_name(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("slash", "B")
        assert screen.names() == ["b"]
        await screen.press("enter", "s")  # A key again, no letter of a name.
        assert screen.names() == ["b"]
        assert "▼READY" in screen.lines()[0]
        await screen.press("slash", "slash")
        assert screen.names() == []
        await screen.press("escape")
        assert len(screen.names()) == 3

    watch_top(three, look_on)


def test_filter_and_order_may_be_given(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        assert screen.names() == ["c"]
        await screen.press("escape")
        assert screen.names() == ["b", "a", "c"]

    watch_top(three, look_on, wanted="C", order=Order(7))


def test_while_it_is_paused_nothing_changes(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("space")
        assert "PAUSED" in screen.text("summary")
        say(three, "a", backlog=77)
        await screen.pilot.pause(0.5)  # Five looks.
        assert "77" not in screen.lines()[1]
        await screen.press("p")
        await screen.eventually(lambda: "77" in screen.lines()[1])
        assert "PAUSED" not in screen.text("summary")

    watch_top(three, look_on)


def test_a_service_opens_to_its_replicas_and_actions(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("down", "enter")
        assert screen.names() == ["a", "b", "host:1", "add", "echo", "c"]
        await screen.press("down", "down")
        await screen.eventually(lambda: "action add of b" in screen.text("detail"))
        await screen.press("e")  # It belongs to b.
        assert screen.names() == ["a", "b", "c"]
        await screen.eventually(lambda: screen.text("detail").startswith("b "))

    watch_top(three, look_on)


def test_the_cursor_stays_on_its_service(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("end")
        await screen.eventually(lambda: screen.text("detail").startswith("c "))
        for name in ("A1", "A2", "d"):
            say(three, name)
        await screen.eventually(lambda: len(screen.names()) == 6)
        await screen.pilot.pause()
        assert screen.text("detail").startswith("c ")

    watch_top(three, look_on)


def test_a_replica_that_is_not_ready_says_why(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        assert screen.lines()[3].split()[:3] == ["▸", "c", "0/1"]
        await screen.press("end", "enter", "down")
        await screen.eventually(lambda: "not ready: it is deaf" in screen.text("detail"))

    watch_top(three, look_on)


HOSTILE = ["[red]mark[/red]up[", "\x1b[2J\x1b]0;owned\x07", "turned\u202eround", "宽" * 100, "\n\t"]


def test_hostile_names_do_nothing(own_server: EmbeddedServer) -> None:
    for name in HOSTILE:
        say(own_server.url, name, host=name, actions=[name], version=name, is_ready=False,
            troubles=[name], incidents={name: 1}, delivery=name)  # fmt: skip

    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        for _ in HOSTILE:
            await screen.press("enter", "down")
            assert all(map(str.isprintable, screen.text("detail").splitlines()))
            await screen.press("down", "down")
        assert len(screen.lines()) == 1 + 3 * len(HOSTILE)
        assert all(line.isprintable() for line in screen.lines())
        assert [line[2:7] for line in screen.lines()[1::3]] == [
            "\\n\\t ", "\\x1b[", "[red]", "turne", "宽宽宽宽宽",
        ]  # fmt: skip

    watch_top(own_server.url, look_on)


def test_thousands_of_services_can_be_looked_through(own_server: EmbeddedServer) -> None:
    with client(own_server.url) as server, server.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            name = f"svc-{number:04}"
            pipeline.set(f"daebus:{{{name}}}:replica:1", _said_by(name), px=8000)
        pipeline.execute()

    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        assert "1,000 services" in screen.text("summary")
        await screen.press("end")
        await screen.eventually(lambda: screen.text("detail").startswith("svc-0999"))
        assert screen.names()[-1] == "svc-0999"
        await screen.press("slash", *"0567")
        await screen.eventually(lambda: screen.names() == ["svc-0567"])

    watch_top(own_server.url, look_on)


def _said_by(name: str) -> bytes:
    return encode_replica(
        Replica(service=name, replica_id="1", host="h", pid=1, version="1", started_at=1.0)
    )


def test_a_server_that_goes_is_told_and_waited_for(own_server: EmbeddedServer) -> None:
    say(own_server.url, "a")

    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        own_server.kill()
        await screen.eventually(lambda: "cannot use the server" in screen.text("trouble"))
        assert screen.names() == ["a"]
        own_server.start()
        await screen.eventually(lambda: not screen.text("trouble"))

    watch_top(own_server.url, look_on)


def test_queues_and_pipelines_stand_below_and_open(three: str, tmp_path: Path) -> None:
    fill_in_batches(Queue(tmp_path / "q"), range(30))
    sink = JsonLinesSink(tmp_path / "out")
    Pipeline(
        IterableSource(range(20)), fails_at_13, sink, folder=tmp_path / "p", processes=1, attempts=1
    ).run(progress=False)

    async def look_on(screen: Screen) -> None:
        await screen.eventually(lambda: screen.names("places") == ["q", "p"])
        assert screen.lines("places")[2].split()[-1] == "1"  # A dead letter.
        await screen.press("tab", "down", "enter")
        assert screen.names("places") == ["q", "p", "in", "retry", "out", "dead"]
        await screen.eventually(lambda: "pipeline, stopped" in screen.text("detail"))

    watch_top(three, look_on, tmp_path)


def test_help_tells_the_keys_and_goes_again(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("question_mark")
        assert len(screen.pilot.app.screen_stack) == 2
        await screen.pilot.pause(0.3)  # Looks go on meanwhile.
        await screen.press("slash", "q")
        assert len(screen.pilot.app.screen_stack) == 1
        assert screen.pilot.app.is_running

    watch_top(three, look_on)


def test_q_ends_it(three: str) -> None:
    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        await screen.press("q")
        await screen.eventually(lambda: not screen.pilot.app.is_running)

    assert watch_top(three, look_on).return_code == 0


def test_another_size_shows_as_much_as_there_is_room_for(three: str) -> None:
    say(three, "a-service-whose-name-is-rather-long")

    async def look_on(screen: Screen) -> None:
        await loaded(screen)
        assert "a-service-…" in screen.lines()[2]
        await screen.pilot.resize_terminal(120, 20)
        await screen.eventually(lambda: "whose-name-is-rather-long" in screen.lines()[2])
        await screen.pilot.resize_terminal(40, 10)
        await screen.press("right")
        assert all(len(line) <= 40 for line in screen.lines())

    watch_top(three, look_on)
