"""Logs: a record is one entry, tells where it belongs, and a burst is logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from daebus import Daebus, DaebusCaller, direct_logger, logger, logs
from daebus.logs import Incidents, get_logger

Start = Callable[[Daebus], DaebusCaller]


def test_the_logger_knows_the_service_the_action_and_the_request(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("app")

    @app.action("note")
    def note() -> object:
        logger.info("100%% of %s", "it", extra={"mine": 1})
        direct_logger.info("plain")
        return app.request.request_id

    caller = start(app)
    with caplog.at_level(logging.INFO, "daebus.app"):
        request_id = caller.call("note")

    [record, plain] = [each for each in caplog.records if each.name == "daebus.app"]
    assert (record.service, record.action, record.request_id, record.mine) == (
        caller.service,
        "note",
        request_id,
        1,
    )
    assert record.getMessage() == f"[{caller.service} note {request_id}] 100% of it"
    assert plain.getMessage() == "plain"


def test_the_logger_works_outside_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "daebus.app"):
        logger.info("nothing is handled")

    assert caplog.messages == ["nothing is handled"]


def test_no_text_makes_a_second_entry(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("daebus.test")
    try:
        raise ValueError("bad\nERROR forged\x1b[2J")
    except ValueError:
        log.exception("name %s", "a\r\nb\x00")

    [record] = caplog.records
    text = logging.Formatter("%(message)s").format(record)
    head, *rest = text.split("\n")
    assert head == r"name a\r\nb\x00"
    assert all(line.startswith("  | ") for line in rest)
    assert "\x1b" not in text


def test_a_very_long_text_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("daebus.test").warning("x" * 1_000_000)

    assert len(caplog.messages[0]) < 11_000
    assert "1,000,000 characters" in caplog.messages[0]


def test_an_exception_that_cannot_be_printed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

        __repr__ = __str__

    try:
        raise Unprintable
    except Unprintable:
        get_logger("daebus.test").exception("failed")

    assert "failed" in caplog.text


def test_a_burst_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    incidents = Incidents(get_logger("daebus.test"))

    for _ in range(1000):
        incidents.report("bad_message", "refused a message")
    incidents.report("other", lambda: "made when needed")
    incidents.flush(everything=True)

    assert caplog.messages == [
        "refused a message",
        "made when needed",
        "bad_message: 999 more since then",
    ]
    assert incidents.counts() == {"bad_message": 1000, "other": 1}


def test_a_burst_that_nobody_ends_is_ended_by_the_next_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    incidents = Incidents(get_logger("daebus.test"))
    incidents.report("bad_message", "the first")
    incidents.report("bad_message", "the second")

    monkeypatch.setattr(logs, "BURST_S", 0.0)
    incidents.report("bad_message", "the third")

    assert caplog.messages == ["the first", "bad_message: 1 more since then", "the third"]
