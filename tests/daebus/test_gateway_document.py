"""The gateway's OpenAPI document: made for many who ask at once."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from daebus import Daebus
from daebus.operate.gateway import app as gateway
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.gateway.limits import Limits
from daebus.operate.web import asking
from daebus.operate.web.server import Ending

LIMITS = Limits(
    max_body_bytes=1000, max_timeout_s=5.0, max_requests=10, max_streams=1, max_sockets=1
)


def test_a_document_is_made_again_after_a_while_and_not_for_each_who_asks(
    url: str, service_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Daebus("any")
    app.action("act")(lambda: None)
    door = gateway.Door(url=url, exposed=Exposed([service_name]), limits=LIMITS)

    async def ask() -> None:
        async with gateway.opener(door)(Ending()) as served:
            transport = httpx.ASGITransport(app=served)
            async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:

                async def is_in(path: str) -> bool:
                    return service_name in (await client.get(path)).text

                monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.0)
                monkeypatch.setattr(gateway, "LOOK_EVERY_S", 1000.0)
                assert not await is_in("/openapi.json")

                await asyncio.to_thread(app.start, service_name)
                async with asyncio.timeout(10):
                    while not await is_in("/services"):
                        pass  # To ask takes a moment each time.
                assert not await is_in("/openapi.json")

                monkeypatch.setattr(gateway, "LOOK_EVERY_S", 0.0)
                assert await is_in("/openapi.json")

    try:
        asyncio.run(ask())
    finally:
        app.stop()
