"""Listeners to channels in an event loop: what is told of those that read too slowly."""

from __future__ import annotations

import asyncio

import pytest

from daebus import logs
from daebus.operate.web.asking import Asking
from daebus.operate.web.fan_out import MAX_MESSAGES, TooSlow


def test_each_time_that_a_listener_is_too_slow_is_told(
    url: str, service_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "BURST_S", 0.0)

    async def overflow(asking: Asking) -> None:
        listener = await asking.listen([service_name])
        for number in range(MAX_MESSAGES + 1):
            listener.give(service_name, b"%d" % number)
        with pytest.raises(TooSlow):
            await anext(listener)
        await listener.close()

    async def twice() -> None:
        async with Asking(url) as asking:
            await overflow(asking)
            await overflow(asking)

    asyncio.run(twice())
    told = [record for record in caplog.records if "reads too slowly" in record.message]
    assert len(told) == 2
