"""The reply channel of this process, and the calls that wait for something to come on it."""

from __future__ import annotations

import secrets
import threading
from itertools import count

from daebus.bus.commands import Receivers, publish
from daebus.bus.link import Link
from daebus.channels import REPLY_PREFIX, control_channel
from daebus.client.calls import Call, FutureCall
from daebus.client.destinations import Destination, Directory
from daebus.client.expiry import Expiry
from daebus.client.replicas import LiveReplica
from daebus.client.watch import Watch
from daebus.deadline import Deadline
from daebus.errors import (
    BadMessage,
    CallTimeout,
    Code,
    ConnectionLost,
    DaebusError,
    ReplicaLost,
    ServerUnavailable,
)
from daebus.logs import Incidents, get_logger
from daebus.messages import MAX_MESSAGE_BYTES, ControlEnvelope, decode_reply, encode

log = get_logger(__name__)

#: Longest wait, in seconds, until the server has taken a cancel: as long as a link takes to be back
#: whose receiving thread was interrupted.
CANCEL_S = 0.5


class Replies:
    """The consumer of a shared link: one reply channel for all callers of the process.

    A reply is given to the call that waits for its id, once; what is late, sent twice or unknown
    is dropped and counted.
    """

    def __init__(self, link: Link) -> None:
        # 128 random bits each: who does not know them can neither answer a call nor listen to it.
        self.channel = REPLY_PREFIX + secrets.token_hex(16)
        self.incidents = Incidents(log)
        self.link = link
        self._prefix = secrets.token_hex(16)
        self._numbers = count()
        self._calls: dict[str, Call] = {}
        self._expiry = Expiry(self._expire)
        #: What is known of the services that are called.
        self.directory = Directory(link)
        self._watch = Watch(link, self.directory, self._lose)
        self.directory.on_enter = self._watch.start
        self._subscribing = threading.Lock()
        self._is_subscribed = False
        self._last_cancel: Receivers | None = None

    def ensure_subscribed(self, deadline: Deadline) -> None:
        """Subscribe to the reply channel, if that was not done yet.

        Raises:
            ServerUnavailable: the server is away, or refuses.
            CallTimeout: the server did not confirm in time.
        """
        self.link.ensure_up(deadline)
        if self._is_subscribed:
            return
        if not self._subscribing.acquire(timeout=deadline.remaining_s()):
            raise ServerUnavailable(self.link.address, "it does not confirm the subscription")
        try:
            if not self._is_subscribed:
                self.link.subscribe(deadline, [self.channel])
                self._is_subscribed = True
        finally:
            self._subscribing.release()

    def new_id(self) -> str:
        """An id for a request, unique and not to be guessed."""
        return f"{self._prefix}{next(self._numbers):x}"

    @property
    def is_ready(self) -> bool:
        """Whether a call can be made at once."""
        return self._is_subscribed and self.link.is_up

    def send(self, call: Call, body: bytes, destination: Destination, deadline: Deadline) -> None:
        """Send a call, and give the replies with its id to it.

        Args:
            call: the call.
            body: its request, encoded.
            destination: where it goes.
            deadline: when it expires.

        Raises:
            ServerUnavailable: so much waits to be sent already that memory would not be bounded.
        """
        self._calls[call.request_id] = call
        if isinstance(call, FutureCall):
            # Nobody waits for it who would see its deadline pass.
            call.expires_in = self._expiry.add(call.request_id, deadline)
        try:
            destination.send(call, body)
        except ServerUnavailable:
            self.forget(call.request_id)
            raise

    def forget(self, request_id: str) -> None:
        """Drop replies with this id from now on."""
        call = self._calls.pop(request_id, None)
        if call is None:
            return
        if (replica := call.replica) is not None:
            replica.calls.pop(request_id, None)
        if isinstance(call, FutureCall):
            self._expiry.remove(request_id, call.expires_in)

    def expects(self, request_id: str) -> bool:
        """Whether replies with this id are wanted."""
        return request_id in self._calls

    def cancel(self, request_id: str) -> None:
        """Drop replies with this id from now on, and tell the service that nobody wants them."""
        call = self._calls.get(request_id)
        if call is None:
            return
        self.forget(request_id)
        notice = encode(ControlEnvelope(request_id), MAX_MESSAGE_BYTES)
        try:
            cancel = _Cancel(publish(control_channel(call.service).encode(), notice))
            self.link.send(cancel)
            self._last_cancel = cancel
        except DaebusError:
            pass  # The server takes nothing: the request's deadline ends it.

    def finish_cancelling(self) -> None:
        """Wait a moment until the server has what was cancelled: the connection may be closed."""
        if (cancel := self._last_cancel) is not None and not self.link.is_reader():
            try:
                cancel.wait(CANCEL_S)
            except DaebusError:
                pass  # As above.
            self._last_cancel = None

    @property
    def under_way(self) -> int:
        """How many calls wait for a reply."""
        return len(self._calls)

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        calls = self._calls
        call: Call | None = None
        for message in messages:
            try:
                reply = decode_reply(message[-1])
            except BadMessage as error:
                reason = error.reason
                self.incidents.report("bad_reply", f"dropped a reply: {reason}")
                continue
            call = calls.get(reply.request_id)  # type: ignore[arg-type]
            if call is None:
                if reply.code != Code.CANCELLED:
                    self.incidents.report("unknown_reply", _UNKNOWN)
            elif call.take(reply):
                self.forget(call.request_id)
        return call is not None and call.reads_for_itself and not calls

    @property
    def is_expecting(self) -> bool:
        """See `Consumer`."""
        return bool(self._calls)

    def on_lost(self, error: ConnectionLost) -> None:
        """Replies to calls under way may be missed, so what became of them is unknown."""
        for request_id in list(self._calls):
            call = self._calls.get(request_id)
            self.forget(request_id)
            if call is not None:
                call.give_up(error)
        self.directory.clear()
        self._watch.wake()

    def on_back(self, gap_s: float, reason: str) -> None:
        """See `Consumer`."""

    def _expire(self, request_id: str) -> None:
        call = self._calls.get(request_id)
        self.forget(request_id)
        if isinstance(call, FutureCall):
            call.give_up(CallTimeout(call.service, call.action, call.timeout_s))

    def _lose(self, destination: Destination, replica: LiveReplica) -> None:
        """A replica has died: what became of the calls that it had is unknown."""
        destination.drop(replica)
        for request_id in list(replica.calls):
            call = self._calls.get(request_id)
            self.forget(request_id)
            replica.calls.pop(request_id, None)
            if call is not None:
                call.give_up(ReplicaLost(call.service, call.action))


class _Cancel(Receivers):
    """Tells a service that a request is not wanted any more; it may arrive twice."""

    __slots__ = ()
    resend = True


_UNKNOWN = "dropped a reply that no call waits for: late or sent twice"

_creating = threading.Lock()


def replies_of(link: Link) -> Replies:
    """The replies of a shared link; made for the first caller that uses it."""
    consumer = link.consumer
    if consumer is None:
        with _creating:
            consumer = link.consumer
            if consumer is None:
                consumer = link.consumer = Replies(link)
    assert isinstance(consumer, Replies)  # noqa: S101 - shared links have no other consumer
    return consumer
