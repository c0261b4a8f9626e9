"""The envelopes of the wire, and the limits that hold before anything else looks at a message.

The wire is JSON, so that `redis-cli PUBLISH svc '{"action": "ping"}'` is a request. An envelope is
decoded once; its payload stays raw bytes until the handler's side asks for it. Pure functions.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from daebus.errors import BadMessage, TooLarge

#: The version of the wire format that is spoken here. It grows when an older reader would take a
#: message for something else; new fields, which older readers ignore, leave it as it is.
#: Version 1 is that of messages without a version.
WIRE_VERSION = 2

#: Largest message by default, in bytes. Pub/Sub copies a message to every subscriber's buffer.
MAX_MESSAGE_BYTES = 1024 * 1024

#: Deepest nesting of lists and objects. Real payloads stay far below; parsers recurse.
MAX_DEPTH = 64

NO_PAYLOAD = msgspec.Raw(b"{}")


class RequestEnvelope(msgspec.Struct, gc=False, omit_defaults=True):
    """What a caller publishes to a service's channel."""

    action: str
    #: Any JSON value. A request without one is read as `{}`.
    payload: Any = msgspec.UNSET
    reply_to: str | None = None
    request_id: str | int | None = None
    #: The service that sent it, if a service did.
    service: str | None = None
    #: What remained of the caller's deadline when it was sent, in milliseconds.
    timeout_ms: float | None = None
    headers: dict[str, str] | None = None
    #: A request with a key that was handled before gets the answer of that time.
    idempotency_key: str | None = None
    #: Whether the caller waits as long again for each response that follows another.
    stream: bool = False
    #: The version of the wire format; a message without one is of version 1.
    v: int | msgspec.UnsetType = msgspec.UNSET


class _IncomingRequest(RequestEnvelope, gc=False):
    payload: msgspec.Raw = NO_PAYLOAD


class ControlEnvelope(msgspec.Struct, gc=False, omit_defaults=True):
    """What is said to all replicas of a service, on its control channel."""

    #: The id of a request that nobody wants to be handled any more.
    cancel: str = ""
    #: The id of the replica that is to stop; `*` for all of them.
    drain: str = ""


class ReplyEnvelope(msgspec.Struct, gc=False):
    """What a service publishes to a caller's reply channel."""

    status: str
    payload: Any = None
    request_id: str | int | None = None
    final: bool = True
    #: The version of the request that it answers.
    v: int | msgspec.UnsetType = msgspec.UNSET


class ErrorEnvelope(msgspec.Struct, gc=False):
    """An error reply; `code` is the error's name on the wire, see `daebus.errors`."""

    error: str
    code: str
    request_id: str | int | None = None
    final: bool = True
    status: str = "error"
    #: The version of the request that it answers.
    v: int | msgspec.UnsetType = msgspec.UNSET


class StreamEnvelope(ReplyEnvelope, gc=False):
    """A reply of a stream; `seq` counts from 0, so that a caller sees a gap or a repeat."""

    seq: int = 0


class IncomingReply(msgspec.Struct, gc=False):
    """Any reply, as a caller reads it."""

    status: str
    request_id: str | int | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None
    code: str = "error"
    final: bool = True
    seq: int | None = None
    v: int | msgspec.UnsetType = msgspec.UNSET


class _OldError(msgspec.Struct, gc=False):
    error: Any


class _Ids(msgspec.Struct, gc=False):
    """What is needed to answer a request that is otherwise wrong."""

    reply_to: Any = None
    request_id: Any = None


_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(_IncomingRequest)
_reply_decoder = msgspec.json.Decoder(IncomingReply)
_control_decoder = msgspec.json.Decoder(ControlEnvelope)
_old_error_decoder = msgspec.json.Decoder(_OldError)
_ids_decoder = msgspec.json.Decoder(_Ids)

#: What msgspec raises for bytes that are not the JSON asked for.
DECODE_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def encode(envelope: object, max_bytes: int) -> bytes:
    """Encode a value as JSON.

    Raises:
        TooLarge: the result is larger than `max_bytes`.
        BadMessage: the value has something that JSON cannot hold; the text names its type.
    """
    try:
        data = _encoder.encode(envelope)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadMessage(f"cannot be sent as JSON: {error}") from error
    if len(data) > max_bytes:
        raise TooLarge(len(data), max_bytes)
    return data


def decode_payload(raw: bytes | msgspec.Raw) -> Any:
    """Decode a JSON value.

    Raises:
        BadMessage: it is not JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS as error:
        raise BadMessage(f"the payload is not valid JSON: {error}") from error


def decode_request(data: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> RequestEnvelope:
    """Decode a request; its payload stays a `msgspec.Raw`.

    Raises:
        BadMessage: it is too large, too deep, not JSON, or a field has the wrong type.
    """
    check_limits(data, max_bytes)
    try:
        request = _request_decoder.decode(data)
    except DECODE_ERRORS as error:
        raise BadMessage(f"the request cannot be read: {error}") from error
    if request.v is not msgspec.UNSET and request.v > WIRE_VERSION:
        raise BadMessage(_too_new("request", request.v, "the service"))
    return request


def decode_reply(data: bytes) -> IncomingReply:
    """Decode a reply; its payload stays a `msgspec.Raw`. One that is too new becomes an error.

    Raises:
        BadMessage: it is not a reply.
    """
    try:
        reply = _reply_decoder.decode(data)
    except DECODE_ERRORS as error:
        raise BadMessage(f"the reply cannot be read: {error}") from error
    if reply.v is not msgspec.UNSET and reply.v > WIRE_VERSION:
        text = _too_new("reply", reply.v, "the caller")
        return IncomingReply("error", reply.request_id, error=text)
    if reply.status == "error" and reply.error is None:
        reply.error = _error_in(reply.payload)
    return reply


def _error_in(payload: msgspec.Raw) -> str:
    """What daebus 0.0.31 says in an error reply; its text is a field of the payload."""
    try:
        return str(_old_error_decoder.decode(payload).error)
    except DECODE_ERRORS:
        return "the service gave no reason"


def decode_control(data: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> ControlEnvelope:
    """Decode what came on a service's control channel.

    Raises:
        BadMessage: it is not such a message.
    """
    check_limits(data, max_bytes)
    try:
        return _control_decoder.decode(data)
    except DECODE_ERRORS as error:
        raise BadMessage(f"the control message cannot be read: {error}") from error


def _too_new(what: str, version: int, reader: str) -> str:
    return (
        f"the {what} has version {version} of the wire format, and {reader} reads versions up to "
        f"{WIRE_VERSION}; update its daebus"
    )


def decode_ids(data: bytes, max_bytes: int) -> tuple[str | None, str | int | None]:
    """Where to answer a request that could not be read: its reply_to and request_id, if any."""
    if len(data) > max_bytes:
        return None, None
    try:
        ids = _ids_decoder.decode(data)
    except DECODE_ERRORS:
        return None, None
    reply_to = ids.reply_to if isinstance(ids.reply_to, str) else None
    request_id = ids.request_id if isinstance(ids.request_id, (str, int)) else None
    return reply_to, request_id


def check_limits(data: bytes, max_bytes: int) -> None:
    """Raise when a message is larger or deeper than the limits allow.

    Raises:
        TooLarge: more than `max_bytes`.
        BadMessage: more than `MAX_DEPTH` levels.
    """
    if len(data) > max_bytes:
        raise TooLarge(len(data), max_bytes)
    # Too short to be deep, or too few brackets: nearly every message ends here.
    if (
        len(data) > 2 * MAX_DEPTH
        and data.count(b"[") + data.count(b"{") > MAX_DEPTH
        and _is_too_deep(data)
    ):
        raise BadMessage(f"the message is nested deeper than {MAX_DEPTH} levels")


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")


def _is_too_deep(data: bytes) -> bool:
    """Take away the innermost brackets, a level at a time: no Python step for each byte."""
    brackets = _STRING.sub(b"", data).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            return False  # Unbalanced: not JSON, which the decoder says better.
        brackets = shorter
    return bool(brackets)
