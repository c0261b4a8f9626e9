"""Calls under way: each is a command on the wire, and takes the replies that come for it.

All methods but the waiting ones are called from the link's reader thread, and never block.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from daebus.bus.commands import Command, ServerReply
from daebus.client.replicas import LiveReplica
from daebus.deadline import Deadline
from daebus.errors import (
    CallTimeout,
    ConnectionLost,
    DaebusError,
    RemoteError,
    ServerUnavailable,
    ServiceUnavailable,
    remote_error,
)
from daebus.messages import IncomingReply, decode_payload


class Way(Protocol):
    """Where the calls of one service go; see `Destination`."""

    service: str

    def take_back(self, call: Call, replica: LiveReplica) -> None:
        """Nobody received a call."""

    def confirm_plain(self) -> None:
        """Somebody received a call on the service's own channel."""


class Post(Protocol):
    """Who gives the replies to the calls; see `Replies`."""

    def forget(self, request_id: str) -> None:
        """Drop replies with this id from now on."""

    def cancel(self, request_id: str) -> None:
        """… and tell the service that nobody wants them."""

    def expects(self, request_id: str) -> bool:
        """Whether replies with this id are wanted."""


class Call(Command):
    """One request and what becomes of it.

    Args:
        way: where it goes.
        action: the action that is asked for.
        request_id: tells the replies apart.
        post: who gives it its replies.
    """

    __slots__ = ("_post", "_way", "action", "looks", "replica", "request_id")

    #: Whether every reply is wanted, not only the final one.
    is_stream = False
    #: How often the server was asked where to send it; not set while that is never.
    looks: int

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        self.data = b""  # Known once it is on its way.
        self.action = action
        self.request_id = request_id
        #: The place that it was published to last.
        self.replica: LiveReplica | None = None
        self._way = way
        self._post = post

    @property
    def service(self) -> str:
        """The service that is called."""
        return self._way.service

    def is_wanted(self) -> bool:
        """Whether anybody still waits for what becomes of it."""
        return self._post.expects(self.request_id)

    def resolve(self, reply: ServerReply) -> None:
        """The server's answer to PUBLISH: how many received the request."""
        replica = self.replica
        if replica is None or not isinstance(reply, int):
            self.fail(ServerUnavailable("the server", f"it refused the request: {reply!r}"))
        elif reply == 0:
            self._way.take_back(self, replica)
        elif replica.is_shared:
            self._way.confirm_plain()

    def on_stored(self) -> None:
        """The service's inbox has it."""

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._end(error)

    def take(self, reply: IncomingReply) -> bool:
        """Take a reply; True when the call is over with it."""
        raise NotImplementedError

    def give_up(self, error: DaebusError) -> None:
        """End with an error."""
        raise NotImplementedError

    def _end(self, error: DaebusError) -> None:
        self._post.forget(self.request_id)
        self.give_up(error)

    def error_of(self, reply: IncomingReply) -> RemoteError:
        """The error that an error reply stands for."""
        return remote_error(reply.code, str(reply.error), service=self.service, action=self.action)


class WaitingCall(Call):
    """A call whose thread waits for the final reply. Replies before that one are dropped."""

    __slots__ = ("_done", "_error", "_reply")
    reads_for_itself = True

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        super().__init__(way, action, request_id, post)
        self._done = threading.Lock()  # The cheapest thing that one thread can wait for.
        self._done.acquire()
        self._reply: IncomingReply | None = None
        self._error: DaebusError | None = None

    def take(self, reply: IncomingReply) -> bool:
        """See `Call`."""
        if not reply.final:
            return False
        self._reply = reply
        self._done.release()
        return True

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        if self._reply is None and self._error is None:
            self._error = error
            self._done.release()

    def is_done(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self._reply is not None or self._error is not None

    def wait(self, deadline: Deadline, timeout_s: float) -> IncomingReply:
        """Wait for the final reply.

        Raises:
            CallTimeout: it did not come in time.
            ServiceUnavailable: nobody received the request, or the connection was lost.
        """
        if not self._done.acquire(timeout=deadline.remaining_s()):
            raise CallTimeout(self.service, self.action, timeout_s)
        if self._reply is None:
            assert self._error is not None  # noqa: S101 - one of the two woke this thread
            raise self._error
        return self._reply


_cancelling = threading.RLock()


class CallFuture(Future[Any]):
    """What a call that was submitted will give. To cancel it tells the service, too."""

    #: Who has the call, and its id. No reference to the call: they would keep each other alive.
    origin: tuple[Post, str]

    def cancel(self) -> bool:
        """Want no result any more; False when there is one already.

        A request that was not started is dropped, an `async def` handler is cancelled, a worker
        process is ended; a handler in a thread may look at `request.is_cancelled`.
        """
        with _cancelling:  # Who waits for several futures is told once.
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()
        post, request_id = self.origin
        post.cancel(request_id)
        return True


class FutureCall(Call):
    """A call whose result goes into a Future. Replies before the final one are dropped."""

    __slots__ = ("expires_in", "future", "timeout_s")

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        super().__init__(way, action, request_id, post)
        self.future = CallFuture()
        self.future.origin = (post, request_id)
        #: When it expires, and the bucket of the expiry that holds it.
        self.timeout_s = 0.0
        self.expires_in = 0

    def take(self, reply: IncomingReply) -> bool:
        """See `Call`."""
        if not reply.final:
            return False
        try:
            if reply.status == "error":
                self.future.set_exception(self.error_of(reply))
            else:
                self.future.set_result(decode_payload(reply.payload))
        except InvalidStateError:
            pass  # The future was cancelled.
        except DaebusError as error:
            self.give_up(error)
        return True

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass  # It was cancelled, or has its result.


class ResponsesCall(Call):
    """A call of which every reply is wanted, in order, each once."""

    __slots__ = ("_expected",)
    is_stream = True

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        super().__init__(way, action, request_id, post)
        self._expected = 0

    def take(self, reply: IncomingReply) -> bool:
        """See `Call`."""
        if reply.seq is not None:
            if reply.seq < self._expected:
                return False  # Sent again after a lost connection, and here already.
            if reply.seq > self._expected:
                self._put(ConnectionLost("the server", "a part of a stream is missing"))
                return True
            self._expected += 1
        self._put(reply)
        return reply.final

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        self._put(error)

    def _put(self, item: IncomingReply | DaebusError) -> None:
        raise NotImplementedError


class StreamCall(ResponsesCall):
    """A call that yields every reply to a thread that waits for them."""

    __slots__ = ("_replies",)

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        super().__init__(way, action, request_id, post)
        self._replies: SimpleQueue[IncomingReply | DaebusError] = SimpleQueue()

    def next(self, timeout_s: float) -> IncomingReply:
        """Wait for the next reply.

        Raises:
            CallTimeout: none came in time.
            ServiceUnavailable: nobody received the request, or the connection was lost.
        """
        try:
            reply = self._replies.get(timeout=timeout_s)
        except Empty:
            raise CallTimeout(self.service, self.action, timeout_s) from None
        if isinstance(reply, DaebusError):
            raise reply
        return reply

    def _put(self, item: IncomingReply | DaebusError) -> None:
        self._replies.put(item)


class MessageCall(Call):
    """A request without a reply, whose thread waits until somebody has received it."""

    __slots__ = ("_done", "_error", "_receivers")

    def __init__(self, way: Way, action: str, request_id: str, post: Post) -> None:
        super().__init__(way, action, request_id, post)
        self._done = threading.Event()
        self._error: DaebusError | None = None
        self._receivers = 0

    def is_wanted(self) -> bool:
        """See `Call`."""
        return not self._done.is_set()

    def resolve(self, reply: ServerReply) -> None:
        """See `Call`."""
        super().resolve(reply)
        if isinstance(reply, int) and reply > 0:
            self._end_with(reply)

    def on_stored(self) -> None:
        """See `Call`."""
        self._end_with(1)

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        self._error = error
        self._end_with(0)

    def _end_with(self, receivers: int) -> None:
        if self.replica is not None:  # No reply comes that would end it there.
            self.replica.calls.pop(self.request_id, None)
        self._receivers = receivers
        self._done.set()

    def wait(self, deadline: Deadline, timeout_s: float) -> int:
        """How many received it; 0 when nobody serves this name.

        Raises:
            ServerUnavailable: the connection was lost, or the server refused.
            CallTimeout: the server did not answer in time.
        """
        if not self._done.wait(deadline.remaining_s()):
            self._done.set()  # Not wanted any more, wherever it is on its way.
            raise CallTimeout(self.service, self.action, timeout_s)
        if self._error is None:
            return self._receivers
        if type(self._error) is ServiceUnavailable:
            return 0
        raise self._error
