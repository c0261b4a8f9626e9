"""Contracts in files: read as they were written, refused when they are not contracts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daebus import Broadcast, Daebus, DaebusCaller, RegistrationError, SettingsError, response
from daebus.channels import replica_channel
from daebus.operate.contract.asyncapi import document_of
from daebus.operate.contract.files import Format, contract_at, written
from fixtures.json_schema import is_valid
from fixtures.listening import Subscriber


class Pair(NamedTuple):
    x: int
    y: str = ""


def with_type(schema: dict[str, Any]) -> str:
    return json.dumps({"service": "s", "wire_version": 2, "schemas": {"A": schema}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot read"),
        ("[", "is not JSON"),
        ("[]", "is not a contract"),
        ('{"asyncapi": "3.0.0"}', "did not write"),
        ('{"$defs": {}}', "has only the types"),
        (with_type({"$ref": "#/components/schemas/No"}), "leads to no type"),
        (with_type({"$ref": "#/components/schemas/A"}), "leads to no type"),
        (with_type({"type": 1}), "is not a contract"),
        (with_type({"anyOf": [{"properties": []}]}), "is not a contract"),
    ],
)
def test_what_is_no_contract_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(SettingsError, match=told):
        contract_at(str(path))


@pytest.mark.parametrize("kind", [Format.ASYNCAPI, Format.DAEBUS])
def test_a_contract_is_read_as_it_was_written(tmp_path: Path, kind: Format) -> None:
    app = Daebus("shop", delivery="stream")

    @app.action("it's/one", timeout=2)
    def one(a: Pair, b: tuple[int, str] = (1, "")) -> list[Pair]:
        """Do it.

        In this way.
        """
        return [a]

    @app.action("pack")
    def pack(items: dict[str, Any] = {"items": [1]}, default: Pair | None = None): ...  # noqa: B006

    @app.listen("orders ~1", durable=True)
    def on_order(a: dict[str, Pair]) -> None:
        """Take it."""

    path = tmp_path / "shop.json"
    path.write_text(written(app.contract(), kind))

    assert contract_at(str(path)) == app.contract()


def test_an_app_that_cannot_be_served_has_no_contract() -> None:
    app = Daebus("shop")
    app.action("it")(lambda *names: None)

    with pytest.raises(RegistrationError, match="cannot be taken from a payload"):
        app.contract()


def test_what_is_on_the_wire_is_what_the_document_says(
    start: Callable[[Daebus], DaebusCaller],
    broadcaster: Broadcast,
    url: str,
    service_name: str,
) -> None:
    app = Daebus("shop")

    @app.action("add")
    def add(a: int, b: int = 0) -> int:
        response.send("half", final=False)
        return a + b

    caller = start(app)
    channels = document_of(app.contract(service_name))["channels"]
    with Subscriber(url, replica_channel(service_name, app.stats().replica_id)) as requests:
        assert caller.call("add", {"a": 1}, headers={"k": "v"}, idempotency_key="once") == 1
        sent = requests.next()
    with Subscriber(url, "caller_document") as replies:
        asked = {"action": "add", "reply_to": "caller_document", "request_id": "r"}
        broadcaster.send(service_name, {**asked, "payload": {"a": 1}})
        progress, done = replies.next(), replies.next()
        broadcaster.send(service_name, {**asked, "payload": {}})
        error = replies.next()

    told = channels["requests"]["messages"] | {
        name: message for name, message in channels["replies"]["messages"].items() if name != "add"
    }
    told["done"] = channels["replies"]["messages"]["add"]
    for name, message in (("add", sent), ("progress", progress), ("done", done), ("error", error)):
        assert is_valid(message, told[name]["payload"], {}), (name, message)
        assert set(message) <= set(told[name]["payload"]["properties"])
    assert not is_valid(error, told["done"]["payload"], {})
    assert not is_valid(progress, told["done"]["payload"], {})
