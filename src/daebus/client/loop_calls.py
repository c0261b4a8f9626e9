"""Calls whose replies an event loop waits for: no thread waits, and JSON stays bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import msgspec

from daebus.client.calls import Call, Post, ResponsesCall, Way
from daebus.errors import CallTimeout, DaebusError, Overloaded, RemoteError
from daebus.messages import IncomingReply

#: What comes for a call: a reply, or the error that says that none will come.
Item = IncomingReply | DaebusError

#: Responses of one stream that may wait for who reads them, in number and in bytes.
MAX_RESPONSES = 10_000
MAX_BYTES = 8 * 1024 * 1024


class Mailbox:
    """Carries what the link's reader thread receives over to one event loop.

    Args:
        loop: the loop; `put` may be called from any thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[tuple[LoopCall | LoopStream, Item]] = deque()
        self._is_awake = False

    def put(self, call: LoopCall | LoopStream, item: Item) -> None:
        """Give something to a call, in the loop's thread."""
        self._items.append((call, item))
        # To wake the loop is a system call: one for all that comes before it looks.
        if not self._is_awake:
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                pass  # The loop was closed: nobody waits any more.

    def _deliver(self) -> None:
        self._is_awake = False  # First: what is put from here on wakes the loop again.
        while self._items:
            call, item = self._items.popleft()
            call.deliver(item)


class LoopCall(Call):
    """A call of which the final reply is wanted."""

    __slots__ = ("_mailbox", "future")

    def __init__(
        self, way: Way, action: str, request_id: str, post: Post, *, mailbox: Mailbox
    ) -> None:
        super().__init__(way, action, request_id, post)
        self._mailbox = mailbox
        self.future: asyncio.Future[Item] = asyncio.get_running_loop().create_future()

    def take(self, reply: IncomingReply) -> bool:
        """See `Call`."""
        if reply.final:
            self._mailbox.put(self, reply)
        return reply.final

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        self._mailbox.put(self, error)

    def deliver(self, item: Item) -> None:
        """Take what has come, in the loop's thread."""
        if not self.future.done():
            self.future.set_result(item)

    async def wait(self, timeout_s: float, asked_s: float) -> msgspec.Raw:
        """Wait for the result; whatever ends the wait earlier cancels the call.

        Args:
            timeout_s: how long to wait, in seconds.
            asked_s: how long the caller wanted to wait, for the error's text.

        Raises:
            CallTimeout: it did not come in time.
            RemoteError: the service answered with an error.
            ServiceUnavailable: nobody received the request, or the connection was lost.
        """
        try:
            async with asyncio.timeout(timeout_s):
                item = await self.future
        except TimeoutError:
            self._post.forget(self.request_id)  # The service knows the deadline by itself.
            raise CallTimeout(self.service, self.action, asked_s) from None
        except asyncio.CancelledError:
            self._post.cancel(self.request_id)
            raise
        return reply_of(self, item).payload


class LoopStream(ResponsesCall):
    """A call of which every reply is wanted: an iterator that yields each as it comes.

    What its reader does not take is bounded: a stream whose reader is too slow is cancelled, and
    ends with `Overloaded`.
    """

    __slots__ = ("_bytes", "_changed", "_due_at", "_is_over", "_items", "_mailbox", "timeout_s")

    def __init__(
        self, way: Way, action: str, request_id: str, post: Post, *, mailbox: Mailbox
    ) -> None:
        super().__init__(way, action, request_id, post)
        self._mailbox = mailbox
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._is_over = False
        #: How long the next response may take, in seconds, from when it is asked for first.
        self.timeout_s = 0.0
        self._due_at: float | None = None

    def _put(self, item: Item) -> None:
        self._mailbox.put(self, item)

    def deliver(self, item: Item) -> None:
        """Take what has come, in the loop's thread."""
        if self._is_over:
            return
        self._items.append(item)
        self._bytes += _size(item)
        # One that is larger than all that is allowed is to be read, too.
        if len(self._items) > MAX_RESPONSES or (self._bytes > MAX_BYTES and len(self._items) > 1):
            self.close()
            self._items.append(_too_slow(self))
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> IncomingReply:
        """The next response. To cancel the wait loses nothing: it may be asked for again.

        Raises:
            CallTimeout: it did not come in time.
            RemoteError: the service answered with an error.
            ServiceUnavailable: nobody received the request, or the connection was lost.
        """
        while not self._items:
            if self._is_over:
                raise StopAsyncIteration
            await self._wait()
        self._due_at = None
        item = self._items.popleft()
        self._bytes -= _size(item)
        if not self._items:
            self._changed.clear()
        self._is_over = self._is_over or isinstance(item, DaebusError) or item.final
        return reply_of(self, item)

    def close(self) -> None:
        """End it: the request is cancelled if its final response has not come."""
        self._is_over = True
        self._items.clear()
        self._bytes = 0
        self._changed.set()
        self._post.cancel(self.request_id)

    async def _wait(self) -> None:
        if self._due_at is None:
            self._due_at = asyncio.get_running_loop().time() + self.timeout_s
        try:
            async with asyncio.timeout_at(self._due_at):
                await self._changed.wait()
        except TimeoutError:
            self.close()
            raise CallTimeout(self.service, self.action, self.timeout_s) from None


@asynccontextmanager
async def call_limit(service: str, action: str, timeout_s: float) -> AsyncIterator[None]:
    """End what takes longer: a thread that would do it may not even be free.

    Raises:
        CallTimeout: the time is over.
    """
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise  # What was tried says so itself.
        raise CallTimeout(service, action, timeout_s) from None


def reply_of(call: Call, item: Item) -> IncomingReply:
    """A reply that is no error.

    Raises:
        DaebusError: it is one.
    """
    if isinstance(item, DaebusError):
        raise item
    if item.status == "error":
        raise call.error_of(item)
    return item


def _size(item: Item) -> int:
    return 0 if isinstance(item, DaebusError) else memoryview(item.payload).nbytes


def _too_slow(call: Call) -> RemoteError:
    return Overloaded(
        "its responses came faster than they were read, so it was cancelled",
        code="overloaded",
        service=call.service,
        action=call.action,
    )
