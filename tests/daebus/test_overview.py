"""Looking at a server again and again: what it finds, and what that costs the server."""

from __future__ import annotations

import asyncio

import pytest
import redis

from daebus.bus import overview
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.overview import Overview
from daebus.bus.presence import Replica, encode_replica, find_replicas
from daebus.channels import presence_key
from daebus.operate.web import asking
from daebus.operate.web.asking import Asking


def put(
    url: str, service: str, replica_id: str, *, under: str | None = None, started_at: float = 1.0
) -> None:
    """Write a replica's presence key."""
    replica = Replica(
        service=service,
        replica_id=replica_id,
        host="h",
        pid=1,
        version="1",
        started_at=started_at,
    )
    with redis.Redis.from_url(url) as client:
        client.set(presence_key(under or service, replica_id), encode_replica(replica))


def scans(url: str) -> int:
    """How often all keys were searched."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"])


@pytest.fixture
def rare_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server with so many keys that a search takes very long."""
    monkeypatch.setattr(overview, "SEARCH_SHARE", 1e-9)


def test_it_finds_the_replicas_that_are_alive_in_their_order(own_server: EmbeddedServer) -> None:
    url = own_server.url
    put(url, "shop", "two", started_at=2.0)
    put(url, "shop", "one")
    put(url, "bank", "three", started_at=3.0)
    look = Overview(url)

    found = look.replicas()
    assert [each.replica_id for each in found] == ["three", "one", "two"]
    assert found == find_replicas(url)
    look.close()


def test_a_foreign_key_is_no_replica(own_server: EmbeddedServer) -> None:
    put(own_server.url, "another", "foreign", under="shop")
    look = Overview(own_server.url)

    assert look.replicas() == []
    look.close()


def test_who_asks_again_and_again_walks_through_the_keys_once(
    own_server: EmbeddedServer, rare_searches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.0)
    put(own_server.url, "shop", "one")

    async def look_around() -> None:
        async with Asking(own_server.url) as asked:
            assert [each.replica_id for each in await asked.replicas()] == ["one"]
            searched = scans(own_server.url)
            for _ in range(5):
                assert [each.replica_id for each in await asked.replicas()] == ["one"]
            assert scans(own_server.url) == searched

    asyncio.run(look_around())


def test_a_server_that_is_back_is_looked_at_at_once(own_server: EmbeddedServer) -> None:
    look = Overview(own_server.url)
    put(own_server.url, "shop", "one")
    assert len(look.replicas()) == 1

    own_server.kill()
    own_server.restart()
    put(own_server.url, "shop", "one")

    assert len(look.replicas()) == 1
    look.close()
