"""`daebus call`: an action's responses, and how errors end it."""

from __future__ import annotations

import json
import socket

import pytest

from fixtures.commands import COMMAND, daebus, daebus_each, daebus_on_a_terminal
from fixtures.processes import Processes

pytestmark = pytest.mark.usefixtures("url")


def test_the_result_is_printed_as_json(service: str) -> None:
    done = daebus("call", service, "add", '{"a": 1, "b": 2}')

    assert (done.code, done.out, done.err) == (0, "3\n", "")


def test_the_payload_may_come_from_stdin(service: str) -> None:
    done = daebus("call", service, "echo", "-", stdin='{"text": "grüß\\u001b[31m dich"}')

    assert json.loads(done.out) == {"text": "grüß\x1b[31m dich"}
    assert "\x1b" not in done.out


def test_an_error_response_ends_with_1_and_is_told_on_stderr(service: str) -> None:
    done = daebus("call", service, "fail")

    assert (done.code, done.out) == (1, "")
    assert "no such luck" in done.err


def test_a_wrong_type_is_told_with_its_field(service: str) -> None:
    done = daebus("call", service, "add", '{"a": "one"}')

    assert done.code == 1
    assert "$.a" in done.err
    assert "bad_request" in done.err


def test_with_json_each_response_is_a_line(service: str, processes: Processes) -> None:
    call = processes.run([*COMMAND, "call", service, "two_steps", "--json"])

    call.wait_for('{"step":1}')
    assert call.is_running, "the first response was only shown with the last"
    daebus("call", service, "go_on")

    assert call.wait() == 0
    assert [json.loads(line) for line in call.lines] == [
        {"status": "success", "payload": {"step": 1}},
        {"status": "success", "payload": "done"},
    ]


def test_with_json_an_error_is_a_line_too(service: str) -> None:
    done = daebus("call", service, "fail", "--json")

    assert done.code == 1
    error = json.loads(done.out)
    assert (error["status"], error["code"]) == ("error", "handler_error")
    assert "no such luck" in error["error"]


def test_a_terminal_shows_a_result_over_several_lines(service: str) -> None:
    shown = daebus_on_a_terminal("call", service, "echo", '{"a": "[red]\x9b31m", "b": 2}')

    assert shown.count("\n") == 4
    assert "[red]" in shown, "what came over the wire was taken for markup"
    assert "\x9b" not in shown


def test_nobody_there_ends_with_1() -> None:
    done = daebus("call", "nobody", "action")

    assert done.code == 1
    assert "no service 'nobody' is listening" in done.err


def test_no_response_in_time_ends_with_1(service: str) -> None:
    done = daebus("call", service, "never", "--timeout", "0.3")

    assert done.code == 1
    assert "within 0.3 s" in done.err


def test_a_payload_that_is_no_json_is_a_typo() -> None:
    payloads = ["{a: 1}", "", "{", "'x'"]

    ends = daebus_each(["call", "any", "action", payload] for payload in payloads)

    for payload, done in zip(payloads, ends, strict=True):
        assert done.code == 2
        assert f"the payload {payload!r} is not valid JSON" in done.err
        assert "Traceback" not in done.err


def test_no_time_to_wait_is_a_typo() -> None:
    given = ["0", "-1", "soon"]

    ends = daebus_each(["call", "any", "action", "--timeout", timeout] for timeout in given)

    for done in ends:
        assert done.code == 2
        assert "'--timeout'" in done.err


ADDRESSES = {
    "redis://:secret@localhost:1/0": 3,
    "redis://u:sec/ret@localhost": 2,
    "redis://u:secret@localhost:port": 2,
    "http://u:secret@localhost": 2,
    "u:secret@localhost": 2,
}


def test_an_address_that_does_not_work_is_told_without_its_password() -> None:
    for command in (["call", "any", "action"], ["ps"]):
        ends = daebus_each([*command, "--url", address] for address in ADDRESSES)

        for (address, code), done in zip(ADDRESSES.items(), ends, strict=True):
            assert (address, done.code) == (address, code)
            assert "localhost" in done.err
            assert "sec" not in done.err
            assert "Traceback" not in done.err


def test_the_default_address_that_refuses_tells_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as sock:
        if sock.connect_ex(("localhost", 6379)) == 0:
            pytest.skip("a server runs at the default address of this machine")
    monkeypatch.delenv("DAEBUS_URL")

    for done in daebus_each(
        [["call", "any", "action"], ["send", "any", "action"], ["ps"], ["listen", "channel"]]
    ):
        assert done.code == 3
        assert "Start a Redis or Valkey server" in done.err
        assert "DAEBUS_URL=embedded://" in done.err
