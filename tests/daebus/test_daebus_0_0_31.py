"""Callers and services of PyPI's daebus 0.0.31 are understood: what they say, to the letter."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest
import redis

from daebus import Daebus, DaebusCaller, RemoteError, SettingsError
from fixtures.listening import Subscriber

REPLY_TO = "caller:a984f676-544f-47d0-b0a8-512b1ef1a932"


def test_an_old_caller_is_answered(start: Callable[[Daebus], DaebusCaller], url: str) -> None:
    app = Daebus("app")
    app.action("double")(lambda: app.request.payload["number"] * 2)
    service = start(app).service
    request = {
        "action": "double",
        "payload": {"number": 4},
        "reply_to": REPLY_TO,
        "request_id": "6d5c2a52-5ad6-4a3c-8f0b-5d1a4c9d8e11",
        "service": service,
    }

    with Subscriber(url, REPLY_TO) as replies, redis.Redis.from_url(url) as client:
        client.publish(service, json.dumps(request))
        reply = replies.next()

    assert (reply["status"], reply["payload"], reply["final"]) == ("success", 8, True)
    assert reply["request_id"] == request["request_id"]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"error": "went wrong"}, "went wrong"),
        ({"reason": "?"}, "gave no reason"),
        (7, "no reason"),
    ],
)
def test_the_text_of_an_old_services_error_is_read(
    url: str, service_name: str, payload: object, said: str
) -> None:
    with Subscriber(url, service_name) as requests, redis.Redis.from_url(url) as client:

        def answer() -> None:
            request = requests.next()
            ids = {"request_id": request["request_id"], "final": True}
            reply = {"status": "error", "payload": payload, **ids}
            client.publish(request["reply_to"], json.dumps(reply))

        service = threading.Thread(target=answer)
        service.start()
        with DaebusCaller(service_name, url) as caller, pytest.raises(RemoteError, match=said):
            caller.call("anything", timeout=10)
        service.join()


def test_no_service_is_named_like_a_reply_channel(url: str) -> None:
    with pytest.raises(SettingsError, match="caller:"):
        DaebusCaller("caller:me", url)
