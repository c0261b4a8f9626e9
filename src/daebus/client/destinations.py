"""Where the calls of a service go: what this process knows of it, and the way of each call.

A call goes to one live replica's own channel. Where nobody receives it, the next replica is tried,
then the server is asked anew, and only a service none of whose replicas has a channel of its own
(one that speaks the plain wire) is called over the channel that is its name: what is published
there reaches every replica. The calls of a service with an inbox are stored there, also when it is
down.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from time import monotonic

from daebus.bus.commands import publish, published
from daebus.bus.link import Link
from daebus.bus.mode import STREAM, Mode
from daebus.bus.stream import SEND, Stored, store
from daebus.client.calls import Call, MessageCall
from daebus.client.looks import Found, Look
from daebus.client.replicas import LiveReplica, least_busy
from daebus.errors import DaebusError, ServiceUnavailable

#: How often one call may have the server asked anew, when all that were found die at once.
MAX_LOOKS = 3


class Destination:
    """One service. All methods may be called from any thread, and none of them waits.

    Attributes:
        service: its name.
        replicas: those that calls are given to.
        is_current: whether what is known may be used; else the server is asked first.
        is_used: set by each call; the watch takes it back.
        last_used_at: when the watch saw that last.
        read_at: when the server was asked last.
        lost_at: when a replica went away last.
    """

    def __init__(self, service: str, link: Link, directory: Directory) -> None:
        self.service = service
        self.replicas: tuple[LiveReplica, ...] = ()
        self.is_current = False
        self.is_used = False
        self.last_used_at = self.read_at = monotonic()
        self.lost_at = float("-inf")
        self._link = link
        self._directory = directory
        self._turns = count()
        self._known: dict[str, LiveReplica] = {}
        #: The channel that all replicas listen to, and whether only it was found to be served.
        self._shared = LiveReplica.shared(service)
        self._is_plain = False
        #: How its inbox works, if it takes requests from there.
        self._inbox: Mode | None = None
        self._lock = threading.Lock()
        self._is_looking = False
        self._waiting: list[tuple[Call, bytes]] = []

    def send(self, call: Call, body: bytes) -> None:
        """Send a call on its way.

        Args:
            call: the call.
            body: its request, encoded.

        Raises:
            ServerUnavailable: so much waits to be sent already that memory would not be bounded.
        """
        if self.is_current:
            self._dispatch(call, body)
        else:
            self._look_for(call, body)

    def _dispatch(self, call: Call, body: bytes) -> None:
        replicas = self.replicas
        if not replicas:
            if self._inbox is not None:
                self._store(call, body, self._inbox)
            else:
                self._look_for(call, body)
            return
        self.is_used = True
        # The one replica that many services have costs no choice.
        replica = replicas[0] if len(replicas) == 1 else least_busy(replicas, next(self._turns))
        call.replica = replica
        call.data = publish(replica.channel, body)
        replica.calls[call.request_id] = None
        self._link.send(call)

    def take_back(self, call: Call, replica: LiveReplica) -> None:
        """Nobody received a call: it goes to the next replica, as long as there is one."""
        replica.calls.pop(call.request_id, None)
        self.drop(replica)
        if replica.is_shared:
            self._is_plain = False
            call.fail(ServiceUnavailable(self.service))
        else:
            self._send_again(call, published(call.data))

    def drop(self, replica: LiveReplica) -> None:
        """Give no more calls to a replica, until the server says that it is back."""
        self.replicas = tuple(each for each in self.replicas if each is not replica)
        self.lost_at = monotonic()

    def confirm_plain(self) -> None:
        """Somebody listens to the service's own channel: ask whether it is the only one.

        A replica may have started in this very moment.
        """
        if not self._is_plain:
            self._is_plain = True
            self.look()

    def under_way(self) -> list[LiveReplica]:
        """The replicas that have calls of this process, also those that are given no more."""
        return [each for each in (*self._known.values(), self._shared) if each.calls]

    def forget(self) -> None:
        """Drop what is known."""
        self.is_current = False
        self.replicas = ()
        self._known = {name: each for name, each in self._known.items() if each.calls}
        self._directory.leave(self)

    def look(self) -> None:
        """Ask the server, if that is not being done."""
        with self._lock:
            if self._is_looking:
                return
            self._is_looking = True
        self.read_at = monotonic()
        Look(self._link, self.service, self._take).start()

    def _look_for(self, call: Call, body: bytes) -> None:
        """Ask the server before a call is sent."""
        call.looks = getattr(call, "looks", 0) + 1
        if call.looks > MAX_LOOKS:
            call.fail(ServiceUnavailable(self.service))
            return
        self.is_used = True
        self._directory.enter(self)
        with self._lock:
            is_known = self.is_current and (self.replicas or self._inbox is not None)
            if not is_known:
                self._waiting.append((call, body))
        if is_known:  # By now.
            self._dispatch(call, body)
        else:
            self.look()

    def _take(self, found: Found | DaebusError) -> None:
        """What a look has found."""
        if isinstance(found, DaebusError):
            for call, _ in self._take_waiting(ends=True):
                call.fail(found)
            return
        self._learn(found)
        # The watch may have forgotten it meanwhile: what is known must be kept fresh.
        self._directory.enter(self)
        while calls := self._take_waiting():
            for call, body in calls:
                if call.is_wanted():
                    self._send_waiting(call, body)

    def _take_waiting(self, *, ends: bool = False) -> list[tuple[Call, bytes]]:
        """The calls that wait; once there are none, later ones need not wait any more.

        Only then: else they would overtake those that had to wait.

        Args:
            ends: the look has failed, and is over whatever waits.
        """
        with self._lock:
            calls, self._waiting = self._waiting, []
            if ends or not calls:
                self._is_looking = False
                self.is_current = self.is_current or not ends
            return calls

    def _send_waiting(self, call: Call, body: bytes) -> None:
        try:
            if self.replicas or self._inbox is not None:
                self._dispatch(call, body)
            else:
                self._publish_to_all(call, body)
        except DaebusError as error:
            call.fail(error)

    def _learn(self, found: Found) -> None:
        is_stored = found.mode is not None and found.mode.delivery == STREAM
        self._inbox = found.mode if is_stored else None
        known = {}
        for replica_id, beat in found.replicas.items():
            replica = self._known.get(replica_id) or LiveReplica.of(self.service, replica_id)
            replica.learn(beat)
            known[replica_id] = replica
        if known:
            self._is_plain = False
        self.replicas = tuple(known.values()) or ((self._shared,) if self._is_plain else ())
        gone = {name: each for name, each in self._known.items() if each.calls}
        self._known = {**gone, **known}

    def _send_again(self, call: Call, body: bytes) -> None:
        """Send a call that was not received, from the link's reader thread."""
        if call.is_wanted():
            try:
                self.send(call, body)
            except DaebusError as error:
                call.fail(error)

    def _publish_to_all(self, call: Call, body: bytes) -> None:
        """Send a call to whoever listens to the service's own channel."""
        call.replica = self._shared
        call.data = publish(self._shared.channel, body)
        self._shared.calls[call.request_id] = None
        self._link.send(call)

    def _store(self, call: Call, body: bytes, inbox: Mode) -> None:
        self.is_used = True
        self._link.load(SEND)
        stored = _StoredCall(
            call,
            self._link,
            self.service,
            store(
                self.service,
                body,
                message_id=call.request_id,
                max_inbox=inbox.max_inbox,
                window_ms=inbox.window_ms,
            ),
            # Who gets a reply need not know what the server's replicas have.
            inbox.replicas if isinstance(call, MessageCall) else 0,
        )
        self._link.send_all(stored.commands())


class _StoredCall(Stored):
    """A call on its way to an inbox."""

    __slots__ = ("_call",)

    def __init__(self, call: Call, link: Link, service: str, data: bytes, replicas: int) -> None:
        super().__init__(link, service, data, replicas)
        self._call = call

    def settle(self, error: DaebusError | None) -> None:
        """See `Stored`."""
        super().settle(error)
        if error is None:
            self._call.on_stored()
        else:
            self._call.fail(error)


class Directory:
    """The destinations of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        #: Callers keep theirs; here are those of them that are used.
        self._all: weakref.WeakValueDictionary[str, Destination] = weakref.WeakValueDictionary()
        self._used: set[Destination] = set()
        #: Called when there may be something to watch.
        self.on_enter: Callable[[], None] = lambda: None

    def destination(self, service: str) -> Destination:
        """What is known of a service: one for all its callers."""
        with self._lock:
            found = self._all.get(service)
            if found is None:
                found = self._all[service] = Destination(service, self._link, self)
            return found

    def enter(self, destination: Destination) -> None:
        """A destination is used."""
        self._used.add(destination)
        self.on_enter()

    def leave(self, destination: Destination) -> None:
        """… and not used any more."""
        self._used.discard(destination)

    def clear(self) -> None:
        """Trust nothing that is known: the connection was lost."""
        for destination in list(self._used):
            destination.forget()

    def __iter__(self) -> Iterator[Destination]:
        return iter(list(self._used))
