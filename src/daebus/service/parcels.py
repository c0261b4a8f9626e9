"""A message as bytes, to wait on disk or to go to a worker process, and back."""

from __future__ import annotations

import time

import msgspec

from daebus.errors import BadMessage
from daebus.messages import decode_request
from daebus.service.exchange import Delivery, Exchange
from daebus.service.request import ActionRequest, Request
from daebus.service.response import NO_RESPONSE, Outlet, Response
from daebus.service.routes import Routes


class Parcel(msgspec.Struct, array_like=True, gc=False):
    """What is needed to handle a message elsewhere, or later."""

    #: The key of its route.
    route: str
    channel: str
    #: The message as it came on the wire.
    data: bytes
    message_id: str | None
    delivery_count: int
    #: Where its reply goes: decided when it came, because not every channel may be answered.
    reply_to: str | None
    #: What remained of its deadline when it was packed, in seconds, if it has one.
    remaining_s: float | None
    #: When that was, on the clock that all processes of one boot share, and on the wall.
    packed_at_s: float
    packed_on: float
    #: Tells the messages of one run of a service apart; None where nobody asks.
    key: str | None = None
    #: Whether it is stored on the server, too, until it is finished.
    is_stored: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Parcel)


def pack(exchange: Exchange, key: str | None = None) -> bytes:
    """The bytes of a message that waits.

    Args:
        exchange: the message.
        key: tells it apart from others, where somebody asks.
    """
    request, delivery = exchange.request, exchange.delivery
    return _encoder.encode(
        Parcel(
            exchange.route.key,
            request.channel,
            exchange.data,
            request.message_id,
            request.delivery_count,
            request.reply_to,
            request.remaining(),
            time.monotonic(),
            time.time(),
            key,
            delivery is not None and delivery.is_stored,
        )
    )


def open_parcel(data: bytes) -> Parcel:
    """Read the bytes of a message that waited.

    Raises:
        BadMessage: they are not such bytes.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(f"it is no message that waited here: {error}") from error


def unpack(
    parcel: Parcel, routes: Routes, outlet: Outlet, delivery: Delivery | None = None
) -> Exchange:
    """The message, ready to be handled; the time that it waited is off its deadline.

    Args:
        parcel: what waited.
        routes: the service's handlers.
        outlet: where its replies leave.
        delivery: who has to know what becomes of it.

    Raises:
        BadMessage: the service has no such handler any more, or the message cannot be read.
    """
    route = routes.by_key.get(parcel.route)
    if route is None:
        raise BadMessage(f"the service has no handler {parcel.route!r} any more")
    age_s = _age_s(parcel)
    if route.is_action:
        envelope = decode_request(parcel.data, len(parcel.data))
        envelope.timeout_ms = None if parcel.remaining_s is None else parcel.remaining_s * 1000
        request: Request = ActionRequest(envelope, parcel.channel, parcel.reply_to, age_s)
        response = Response(request, outlet)
    else:
        request, response = Request(parcel.data, parcel.channel), NO_RESPONSE
    request.message_id, request.delivery_count = parcel.message_id, parcel.delivery_count
    return Exchange(route, request, response, parcel.data, delivery, age_s=age_s)


def _age_s(parcel: Parcel) -> float:
    """How long it waited; by the wall clock if the monotonic one began anew, with a boot."""
    age_s = time.monotonic() - parcel.packed_at_s
    return age_s if age_s >= 0 else max(0.0, time.time() - parcel.packed_on)
