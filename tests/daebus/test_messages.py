"""No bytes from outside can do more than be refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daebus.channels import is_reply_channel, presence_key, presence_pattern
from daebus.errors import BadMessage, SettingsError, TooLarge
from daebus.logs import printable
from daebus.messages import (
    MAX_DEPTH,
    RequestEnvelope,
    check_limits,
    decode_ids,
    decode_payload,
    decode_reply,
    decode_request,
    encode,
)

LIMIT = 100_000

texts = st.text(st.characters(exclude_categories=("Cs",)))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b'{"action": "\\ud800"}')
@example(b'{"action": NaN}')
@example(b"[" * 200_000)
@example(b'{"action":"a","payload":' + b"[" * 63 + b"]" * 63 + b"}")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (lambda: decode_request(data, LIMIT), lambda: decode_reply(data)):
        try:
            read()
        except BadMessage as error:
            assert error.reason
    decode_ids(data, LIMIT)
    try:
        decode_payload(data)
    except BadMessage:
        pass


@given(
    st.fixed_dictionaries(
        {"action": json_values},
        optional={
            "payload": json_values,
            "reply_to": json_values,
            "request_id": json_values,
            "timeout_ms": json_values,
            "headers": json_values,
            "unknown": json_values,
        },
    )
)
def test_wrong_types_are_refused_and_right_ones_kept(message: dict[str, object]) -> None:
    data = json.dumps(message).encode()
    try:
        request = decode_request(data, LIMIT)
    except BadMessage:
        right = (
            isinstance(message["action"], str)
            and isinstance(message.get("reply_to"), str | None)
            and (message.get("request_id") is None or type(message["request_id"]) in {str, int})
            and (message.get("timeout_ms") is None or type(message["timeout_ms"]) in {int, float})
            and isinstance(message.get("headers"), dict | None)
            and all(isinstance(each, str) for each in (message.get("headers") or {}).values())
        )
        assert not right
    else:
        assert request.action == message["action"]
        assert decode_payload(request.payload) == message.get("payload", {})


@given(json_values)
def test_a_request_comes_back_as_it_was_sent(payload: object) -> None:
    sent = RequestEnvelope("act", payload, "caller_1", "id", None, 5.0, {"a": "b"})

    read = decode_request(encode(sent, LIMIT), LIMIT)

    assert msgspec.structs.asdict(read) | {"payload": None} == msgspec.structs.asdict(sent) | {
        "payload": None
    }
    assert decode_payload(read.payload) == payload


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(json_values, st.integers(0, 70), st.booleans())
def test_the_limit_on_depth_is_exact(inner: object, levels: int, brackets_in_text: bool) -> None:
    value = [inner, '[{\\"' * 40 if brackets_in_text else ""]
    for level in range(levels):
        value = [value] if (level + levels) % 3 else {"k": value}
    data = json.dumps(value).encode()

    try:
        check_limits(data, LIMIT)
    except BadMessage:
        assert depth_of(value) > MAX_DEPTH
    else:
        assert depth_of(value) <= MAX_DEPTH


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_limit_on_size_is_exact(extra: int) -> None:
    data = b'"' + b"x" * (LIMIT - 2 + extra) + b'"'

    if extra > 0:
        with pytest.raises(TooLarge, match="100,001 bytes is over the limit of 100,000"):
            check_limits(data, LIMIT)
    else:
        check_limits(data, LIMIT)


@pytest.mark.parametrize("value", [object(), {1, object()}, {"a": lambda: None}])
def test_what_json_cannot_hold_is_refused_by_name(value: object) -> None:
    with pytest.raises(BadMessage, match="cannot be sent as JSON"):
        encode(value, LIMIT)


@given(st.text())
@example("caller_")
@example("caller_" + "x" * 122)
@example("caller_a\n")
@example("CALLER_a")
def test_only_callers_channels_are_answered(name: str) -> None:
    if is_reply_channel(name):
        assert name.startswith("caller_")
        assert 7 < len(name) <= 128
        assert name.isascii()
        assert not set(name) & set(" \n\r*?[]{}")


def test_presence_keys_of_a_service_match_its_pattern_only() -> None:
    assert presence_key("a*b", "1") == "daebus:{a*b}:replica:1"
    assert presence_pattern("a*b[c]") == r"daebus:{a\*b\[c\]}:replica:*"


@given(st.text())
def test_a_printable_text_is_one_line(text: str) -> None:
    shown = printable(text)

    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown


def test_settings_error_is_a_value_error() -> None:
    assert issubclass(SettingsError, ValueError)
