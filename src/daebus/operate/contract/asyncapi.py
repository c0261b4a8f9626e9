"""A contract as an AsyncAPI 3 document, and back. Pure functions.

A message's payload there is what is on the wire, so an action's payload stands inside its request.
No server is named: a contract says what a service offers, not where it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from daebus.channels import inbox_key
from daebus.contracts import ActionContract, ChannelContract, Contract, Schema
from daebus.messages import ErrorEnvelope, ReplyEnvelope, RequestEnvelope, StreamEnvelope

VERSION = "3.0.0"

#: What AsyncAPI has no word for stands under this key.
EXTENSION = "x-daebus"

#: The keywords that hold schemas, apart from `properties`.
_SCHEMAS = frozenset(
    {"items", "prefixItems", "additionalItems", "additionalProperties", "propertyNames"}
    | {"anyOf", "allOf", "not"}
)

Document = dict[str, Any]


def document_of(contract: Contract) -> Document:
    """The AsyncAPI document of a contract; the same contract always makes the same one.

    Its version is made of the contract's contents: it changes when they do.
    """
    keys = _Keys("requests", "replies")
    requests: Document = {}
    replies: Document = {"progress": _progress(), "error": _error()}
    channels: Document = {
        "requests": _requests(contract, requests),
        "replies": {
            "address": None,
            "title": "Replies",
            "description": "The channel that a request names in reply_to.",
            "messages": replies,
        },
    }
    operations: Document = {}
    for action in contract.actions:
        key = keys.free(action.name)
        requests[key] = _request(action)
        replies[key] = _reply(action)
        operations[key] = _answering(action, key)
    for channel in contract.channels:
        key = keys.free(channel.channel)
        channels[key] = _listened(channel)
        operations[key] = _listening(channel, key)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": contract.service,
            "version": _digest(contract),
            EXTENSION: {"delivery": contract.delivery, "wire_version": contract.wire_version},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": _named(contract.schemas, _older)},
    }


def contract_of_document(document: Document) -> Contract:
    """The contract that `document_of` has made a document of.

    Raises:
        KeyError, TypeError, AttributeError: it is another program's document.
    """
    channels = document["channels"]
    facts = document["info"][EXTENSION]
    actions, listened = [], []
    for key, operation in document["operations"].items():
        if "reply" in operation:
            request = channels["requests"]["messages"][key]["payload"]
            reply = channels["replies"]["messages"][key]["payload"]
            actions.append(
                ActionContract(
                    description=_description(operation),
                    payload=_newer(request["properties"]["payload"]),
                    result=_newer(reply["properties"]["payload"]),
                    **operation[EXTENSION],
                )
            )
        else:
            listened.append(
                ChannelContract(
                    description=_description(operation),
                    payload=_newer(channels[key]["messages"]["message"]["payload"]),
                    **operation[EXTENSION],
                )
            )
    return Contract(
        service=document["info"]["title"],
        actions=actions,
        channels=listened,
        schemas=_named(document["components"]["schemas"], _newer),
        **facts,
    )


class _Keys:
    """Names for the parts of the document: others may have characters that references cannot."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def free(self, name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
        key, number = plain, 1
        while key in self._taken:
            number += 1
            key = f"{plain}_{number}"
        self._taken.add(key)
        return key


def _digest(contract: Contract) -> str:
    return hashlib.sha256(msgspec.json.encode(contract, order="sorted")).hexdigest()[:12]


def _requests(contract: Contract, messages: Document) -> Document:
    if contract.delivery == "stream":
        address = inbox_key(contract.service)
        text = "A stream: each entry holds a request in its field 'data', and an 'id'."
    else:
        address = contract.service
        text = "Published here a request reaches each replica; a DaebusCaller picks one."
    return {"address": address, "title": "Requests", "description": text, "messages": messages}


def _request(action: ActionContract) -> Document:
    payload = _older(action.payload)
    needed = ["payload"] if payload.get("required") else []
    envelope = _envelope(
        RequestEnvelope,
        {"action": {"const": action.name}, "payload": payload},
        ["action", *needed],
    )
    return {"name": action.name, "contentType": "application/json", "payload": envelope}


def _reply(action: ActionContract) -> Document:
    envelope = _envelope(
        ReplyEnvelope,
        {
            "status": {"const": "success"},
            "payload": _older(action.result),
            "final": {"const": True},
        },
        ["status", "payload", "request_id", "final"],
    )
    return {"name": f"{action.name} done", "contentType": "application/json", "payload": envelope}


def _progress() -> Document:
    envelope = _envelope(
        StreamEnvelope,
        {"status": {"const": "success"}, "final": {"const": False}},
        ["status", "payload", "request_id", "final", "seq"],
    )
    return {"name": "progress", "summary": "A reply before the final one.", "payload": envelope}


def _error() -> Document:
    envelope = _envelope(
        ErrorEnvelope,
        {"status": {"const": "error"}, "final": {"const": True}},
        ["status", "error", "code", "request_id", "final"],
    )
    return {"name": "error", "summary": "An error, which is final.", "payload": envelope}


def _envelope(kind: type[msgspec.Struct], known: dict[str, Schema], needed: list[str]) -> Schema:
    """The schema of an envelope, with what is known of some fields."""
    _, named = msgspec.json.schema_components((kind,))
    fields = named[kind.__name__]["properties"]
    return {"type": "object", "properties": {**fields, **known}, "required": needed}


def _answering(action: ActionContract, key: str) -> Document:
    replies = "#/channels/replies"
    return {
        "action": "receive",
        "channel": {"$ref": "#/channels/requests"},
        **_texts(action.description),
        "messages": [{"$ref": f"#/channels/requests/messages/{key}"}],
        "reply": {
            "address": {"location": "$message.payload#/reply_to"},
            "channel": {"$ref": replies},
            "messages": [
                {"$ref": f"{replies}/messages/{name}"} for name in (key, "progress", "error")
            ],
        },
        EXTENSION: {"name": action.name, "timeout_s": action.timeout_s},
    }


def _listened(channel: ChannelContract) -> Document:
    payload = _older(channel.payload)
    message = {"name": channel.channel, "contentType": "application/json", "payload": payload}
    return {"address": channel.channel, "messages": {"message": message}}


def _listening(channel: ChannelContract, key: str) -> Document:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        **_texts(channel.description),
        "messages": [{"$ref": f"#/channels/{key}/messages/message"}],
        EXTENSION: {"channel": channel.channel, "is_durable": channel.is_durable},
    }


def _texts(description: str) -> Document:
    summary = " ".join(description.partition("\n\n")[0].split())
    texts = {"summary": summary, "description": description}
    if summary == description:
        del texts["description"]
    return {key: text for key, text in texts.items() if text}


def _description(operation: Document) -> str:
    text: str = operation.get("description") or operation.get("summary", "")
    return text


def _named(schemas: dict[str, Schema], change: Callable[[Schema], Schema]) -> dict[str, Schema]:
    return {name: change(schema) for name, schema in schemas.items()}


def _older(schema: Schema) -> Schema:
    """A schema in the words of draft 7, which AsyncAPI has."""
    found = _each_inside(schema, _older)
    if "prefixItems" in found:
        first = found.pop("prefixItems")
        if "items" in found:
            found["additionalItems"] = found["items"]
        found["items"] = first
    return found


def _newer(schema: Schema) -> Schema:
    """What `_older` was given."""
    found = _each_inside(schema, _newer)
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
        if "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
    return found


def _each_inside(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A schema whose inner ones are changed; values that it names, such as defaults, are not."""
    found: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: change(field) for name, field in value.items()}
        elif key in _SCHEMAS and isinstance(value, list):
            found[key] = [change(each) for each in value]
        elif key in _SCHEMAS and isinstance(value, dict):
            found[key] = change(value)
        else:
            found[key] = value
    return found
