"""Calls that an event loop waits for, whose payloads stay JSON: for what passes them on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from daebus import settings
from daebus.bus.connection import check_url
from daebus.channels import check_service_name
from daebus.client.calling import Calling
from daebus.client.calls import Post, Way
from daebus.client.envelopes import Envelopes
from daebus.client.loop_calls import LoopCall, LoopStream, Mailbox, call_limit
from daebus.deadline import Deadline
from daebus.messages import MAX_MESSAGE_BYTES

C = TypeVar("C", LoopCall, LoopStream)


class LoopCalling(Calling):
    """Calls one service from one event loop.

    Args:
        service: the service's name.
        mailbox: the loop's mailbox.
        url: as for `DaebusCaller`.
        max_message_bytes: as for `DaebusCaller`.

    Raises:
        SettingsError: a value makes no sense; the text says which.
    """

    def __init__(
        self,
        service: str,
        mailbox: Mailbox,
        url: str | None = None,
        *,
        max_message_bytes: int | None = None,
    ) -> None:
        most = settings.whole_number("max_message_bytes", max_message_bytes, MAX_MESSAGE_BYTES)
        address = None if url is None else check_url(url)
        super().__init__(check_service_name(service), address, 0.0, Envelopes(most))
        self._mailbox = mailbox

    async def call_raw(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> msgspec.Raw:
        """Call an action; to cancel the task that waits for it cancels the call, too.

        Args:
            action: the action's name.
            payload: any JSON value; a `msgspec.Raw` goes out as it is.
            timeout_s: how long to wait, in seconds.
            headers: as for `DaebusCaller.call`.
            idempotency_key: as for `DaebusCaller.call`.

        Returns:
            The result, as JSON.

        Raises:
            DaebusError: as for `DaebusCaller.call`.
        """
        make = partial(LoopCall, mailbox=self._mailbox)
        call, left_s = await self._begin(
            make, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        return await call.wait(left_s, timeout_s)

    async def stream_raw(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> LoopStream:
        """Call an action for each of its responses; `close` what this gives, whatever happens.

        Args:
            action: the action's name.
            payload: as for `call_raw`.
            timeout_s: how long to wait for the first response and again for each further one.
            headers: as for `DaebusCaller.call`.
            idempotency_key: as for `DaebusCaller.call`.

        Raises:
            DaebusError: as for `DaebusCaller.stream`.
        """
        make = partial(LoopStream, mailbox=self._mailbox)
        stream, _ = await self._begin(
            make, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        stream.timeout_s = timeout_s
        return stream

    async def send_raw(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Ask for an action without wanting a reply.

        Args:
            action: the action's name.
            payload: as for `call_raw`.
            timeout_s: how long to wait for the server, in seconds.
            headers: as for `DaebusCaller.call`.
            idempotency_key: as for `DaebusCaller.call`.

        Returns:
            1 when a replica or the service's inbox has it; 0 when nobody serves this name.

        Raises:
            DaebusError: as for `DaebusCaller.send_message`.
        """
        send = partial(self.send, expires=None)
        async with call_limit(self._service, action, timeout_s):
            return await asyncio.to_thread(
                send, action, payload, timeout_s, headers, idempotency_key
            )

    async def _begin(
        self,
        make: Callable[[Way, str, str, Post], C],
        action: str,
        payload: Any,
        timeout_s: float,
        headers: dict[str, str] | None,
        *,
        idempotency_key: str | None,
    ) -> tuple[C, float]:
        """Send a request; the seconds that are left of `timeout_s` come with it."""
        deadline = Deadline.after(timeout_s)
        if self.replies is None or not self.replies.is_ready:
            # The one step that may wait. What follows finds the link up, or fails at once.
            async with call_limit(self._service, action, timeout_s):
                await asyncio.to_thread(self._connect, deadline)
            timeout_s = deadline.remaining_s()
        call, _, _ = self._send(
            make, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        return call, timeout_s
