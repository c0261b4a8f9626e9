"""Asking services from an event loop: how the web commands call, listen and look around."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any, Self

import msgspec

from daebus.bus import shared
from daebus.bus.broadcast import Broadcast
from daebus.bus.overview import Overview
from daebus.bus.presence import Replica
from daebus.client.loop_calling import LoopCalling
from daebus.client.loop_calls import Mailbox
from daebus.contracts import Contract
from daebus.deadline import Deadline
from daebus.errors import BadMessage
from daebus.messages import MAX_MESSAGE_BYTES, check_limits
from daebus.operate.web.fan_out import FanOut, Listener

#: How long the first connection may take, in seconds.
CONNECT_S = 10.0

#: What is known of the replicas that are alive is looked up again after so long, in seconds.
LOOK_EVERY_S = 1.0

#: How long a service may take to tell its contract, in seconds.
CONTRACT_S = 5.0

#: Most callers and contracts that are kept: names come from outside.
MAX_KEPT = 1_000


class _Info(msgspec.Struct):
    """What is read of the answer to `daebus.info`."""

    contract: Contract


class Asking:
    """Speaks with the services of one server, for all tasks of one event loop.

    Use it as `async with Asking(url) as asking:`; it connects there, and closes everything at
    the end. A connection that is lost comes back by itself.

    Args:
        url: the server's address.
        max_message_bytes: larger requests are refused.

    Raises:
        SettingsError: the address makes no sense.
    """

    def __init__(self, url: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.url = url
        self._max_bytes = max_message_bytes
        self._link = shared.borrow(url)
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._callers: dict[str, LoopCalling] = {}
        self._broadcast = Broadcast(url, max_message_bytes=max_message_bytes)
        self._fan_out = FanOut(url)
        self._overview = Overview(url)
        self._looking = asyncio.Lock()
        self._replicas: list[Replica] = []
        self._looked_at = float("-inf")
        self._contracts: dict[str, tuple[frozenset[str], Contract]] = {}

    @property
    def is_connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._link.is_up

    @property
    def address(self) -> str:
        """The server's address as it may be shown, without a password."""
        return self._link.address

    async def connect(self) -> None:
        """Wait for the first connection.

        Raises:
            ServerUnavailable: the server cannot be reached.
        """
        await asyncio.to_thread(self._link.ensure_up, Deadline.after(CONNECT_S))

    async def close(self) -> None:
        """Close the connections."""
        await self._fan_out.close()
        await asyncio.to_thread(self._close_callers)

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def caller(self, service: str) -> LoopCalling:
        """What calls this service. Ask for it anew each time: few are kept, for names from outside.

        Raises:
            SettingsError: the name cannot be one.
        """
        caller = self._callers.get(service)
        if caller is None:
            caller = LoopCalling(
                service, self._mailbox, self.url, max_message_bytes=self._max_bytes
            )
            if len(self._callers) >= MAX_KEPT:
                oldest = self._callers.pop(next(iter(self._callers)))
                # It may wait for the server, which the loop must not.
                asyncio.get_running_loop().run_in_executor(None, oldest.close)
            self._callers[service] = caller
        return caller

    # --- channels ---

    async def listen(self, channels: Iterable[str]) -> Listener:
        """Listen to channels, and to patterns such as `events.*`.

        Returns:
            An iterator of (channel, payload as bytes); `await listener.close()` at the end. It
            raises `TooSlow` when it does not keep up.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses the subscription.
        """
        return await self._fan_out.listen(channels)

    async def publish(self, channel: str, payload: Any) -> int:
        """Publish a message; gives how many received it.

        Raises:
            DaebusError: as for `Broadcast.send`.
        """
        return await asyncio.to_thread(self._broadcast.send, channel, payload)

    # --- who is there ---

    async def replicas(self) -> list[Replica]:
        """The replicas that are alive, as they were a second ago at most; see `Overview.replicas`.

        Raises:
            ServerUnavailable: the server cannot be reached.
        """
        async with self._looking:
            if monotonic() - self._looked_at > LOOK_EVERY_S:
                self._replicas = await asyncio.to_thread(self._overview.replicas)
                self._looked_at = monotonic()
            return self._replicas

    async def contract(self, service: str) -> Contract:
        """What a service offers, as one of its replicas tells it.

        It is asked again when the replicas have changed: one of them may be a later version.

        Raises:
            UnknownAction: the service is of a version that does not tell it.
            ServiceUnavailable: nobody serves this name, or the server cannot be reached.
            DaebusError: as for `call`.
        """
        replicas = await self.replicas()
        ids = frozenset(each.replica_id for each in replicas if each.service == service)
        known = self._contracts.get(service)
        if known is not None and known[0] == ids:
            return known[1]
        answer = await self.caller(service).call_raw("daebus.info", timeout_s=CONTRACT_S)
        try:
            contract = msgspec.json.decode(answer, type=_Info).contract
        except msgspec.MsgspecError as error:
            raise BadMessage(f"the service {service!r} tells no contract: {error}") from error
        if ids:
            _make_room(self._contracts)
            self._contracts[service] = ids, contract
        return contract

    def _close_callers(self) -> None:
        for caller in self._callers.values():
            caller.close()
        self._broadcast.close()
        self._overview.close()
        shared.give_back(self._link)


def raw_json(data: bytes) -> msgspec.Raw:
    """JSON that was written elsewhere, checked and ready to be passed on as it is.

    Args:
        data: the JSON; nothing stands for `{}`.

    Raises:
        BadMessage: it is not JSON, or too deep.

    Example:
        >>> bytes(raw_json(b' {"a": 1}'))
        b'{"a": 1}'
    """
    if not data:
        return msgspec.Raw(b"{}")
    check_limits(data, len(data))
    try:
        data.decode()  # The check below leaves the characters in texts alone.
        return msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"the body is not valid JSON: {error}") from error


def _make_room(kept: dict[str, Any]) -> None:
    if len(kept) >= MAX_KEPT:
        del kept[next(iter(kept))]
