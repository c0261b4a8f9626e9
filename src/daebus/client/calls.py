"""Calls under way: each is a command on the wire, and takes the replies that come for it.

All methods but the waiting ones are called from the link's reader thread, and never block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from queue import Empty, SimpleQueue
from typing import Any

from daebus.bus.commands import Command, ServerReply
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


class Call(Command):
    """One request and what becomes of it.

    Args:
        service: the service that is called.
        action: the action that is asked for.
        request_id: tells the replies apart.
    """

    __slots__ = ("_forget", "action", "request_id", "service")

    def __init__(
        self, service: str, action: str, request_id: str, forget: Callable[[str], object]
    ) -> None:
        self.data = b""  # Known once the id is.
        self.service = service
        self.action = action
        self.request_id = request_id
        self._forget = forget

    def resolve(self, reply: ServerReply) -> None:
        """The server's answer to PUBLISH: how many received the request."""
        if reply == 0:
            self._end(ServiceUnavailable(self.service))
        elif not isinstance(reply, int):
            self._end(ServerUnavailable("the server", f"it refused the request: {reply!r}"))

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
        self._forget(self.request_id)
        self.give_up(error)

    def error_of(self, reply: IncomingReply) -> RemoteError:
        """The error that an error reply stands for."""
        return remote_error(reply.code, str(reply.error), service=self.service, action=self.action)


class WaitingCall(Call):
    """A call whose thread waits for the final reply. Replies before that one are dropped."""

    __slots__ = ("_done", "_error", "_reply")
    reads_for_itself = True

    def __init__(
        self, service: str, action: str, request_id: str, forget: Callable[[str], object]
    ) -> None:
        super().__init__(service, action, request_id, forget)
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


class FutureCall(Call):
    """A call whose result goes into a Future. Replies before the final one are dropped."""

    __slots__ = ("expires_in", "future", "timeout_s")

    def __init__(
        self, service: str, action: str, request_id: str, forget: Callable[[str], object]
    ) -> None:
        super().__init__(service, action, request_id, forget)
        self.future: Future[Any] = Future()
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
            self.future.set_exception(error)
        return True

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass  # It was cancelled, or has its result.


class StreamCall(Call):
    """A call that yields every reply."""

    __slots__ = ("_address", "_expected", "_replies")

    def __init__(
        self, service: str, action: str, request_id: str, forget: Callable[[str], object]
    ) -> None:
        super().__init__(service, action, request_id, forget)
        self._replies: SimpleQueue[IncomingReply | DaebusError] = SimpleQueue()
        self._expected = 0

    def take(self, reply: IncomingReply) -> bool:
        """See `Call`."""
        if reply.seq is not None:
            if reply.seq < self._expected:
                return False  # Sent again after a lost connection, and here already.
            if reply.seq > self._expected:
                self._replies.put(ConnectionLost("the server", "a part of a stream is missing"))
                return True
            self._expected += 1
        self._replies.put(reply)
        return reply.final

    def give_up(self, error: DaebusError) -> None:
        """See `Call`."""
        self._replies.put(error)

    def next(self, timeout_s: float) -> IncomingReply:
        """Wait for the next reply.

        Raises:
            CallTimeout: none came in time.
            ServiceUnavailable: nobody received the request, or the connection was lost.
        """
        try:
            reply = self._replies.get(timeout=timeout_s)
        except Empty:
            self._forget(self.request_id)
            raise CallTimeout(self.service, self.action, timeout_s) from None
        if isinstance(reply, DaebusError):
            raise reply
        return reply
