"""`daebus listen`, `daebus publish` and `daebus send`."""

from __future__ import annotations

import json
import signal
from datetime import datetime

import pytest

from daebus.bus.connection import client
from fixtures.commands import COMMAND, daebus
from fixtures.processes import Process, Processes

pytestmark = pytest.mark.usefixtures("url")


def listen(processes: Processes, *arguments: str) -> Process:
    process = processes.run([*COMMAND, "listen", *arguments])
    process.wait_for("Listening")
    return process


def test_each_message_is_a_line_of_json(processes: Processes, service_name: str) -> None:
    plain, pattern = f"{service_name}.plain", f"{service_name}_p.*"
    listener = listen(processes, plain, pattern, "--json", "-n", "2")

    assert daebus("publish", plain, '{"id": 1}').out == "received by 1 subscriber\n"
    assert json.loads(daebus("publish", f"{service_name}_p.x", "null", "--json").out) == {
        "receivers": 1
    }

    assert listener.wait() == 0
    assert [json.loads(line) for line in listener.lines[1:]] == [
        {"channel": plain, "payload": {"id": 1}},
        {"channel": f"{service_name}_p.x", "pattern": pattern, "payload": None},
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_sees_time_channel_and_message_until_a_signal_ends_it(
    processes: Processes, service_name: str, number: int
) -> None:
    listener = listen(processes, service_name)

    daebus("publish", service_name, '"one\\ntwo"')
    listener.wait_for("one")
    listener.signal(number)

    assert listener.wait() == 0
    time, channel, text = listener.lines[1].split()
    assert datetime.strptime(time, "%H:%M:%S")  # noqa: DTZ007
    assert (channel, text) == (service_name, '"one\\ntwo"')


def test_a_message_that_is_no_json_is_shown_as_text(
    processes: Processes, service_name: str, url: str
) -> None:
    listener = listen(processes, service_name, "--json", "-n", "1")

    with client(url) as server:
        server.publish(service_name, b"\x1b[31m\xff")

    assert listener.wait() == 0
    assert json.loads(listener.lines[-1]) == {"channel": service_name, "text": "\x1b[31m\ufffd"}
    assert "\x1b" not in listener.output


def test_a_message_that_nobody_receives_ends_with_1() -> None:
    for arguments, text in (
        (["send", "nobody", "action"], "no service 'nobody' is listening"),
        (["publish", "nobody", "1"], "nobody listens to 'nobody'"),
    ):
        done = daebus(*arguments)

        assert (done.code, done.out) == (1, "")
        assert text in done.err


def test_send_tells_how_many_received_it(service: str) -> None:
    assert daebus("send", service, "add", '{"a": 1}').out == "accepted\n"
    assert json.loads(daebus("send", service, "add", "--json").out) == {"receivers": 1}


def test_send_and_publish_refuse_what_is_no_json() -> None:
    for arguments in (["send", "any", "action", "{"], ["publish", "any", "{"]):
        done = daebus(*arguments)

        assert done.code == 2
        assert "is not valid JSON" in done.err
