"""The OpenAPI 3.1 document of what a gateway exposes, from the services' contracts. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from daebus.contracts import ActionContract, Contract, Schema
from daebus.operate.gateway.exposed import Exposed

_REFERENCE = "#/components/schemas/"

#: What a problem looks like (RFC 9457).
PROBLEM: Schema = {
    "type": "object",
    "required": ["status", "code", "title"],
    "properties": {
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The error's name, for programs."},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "service": {"type": "string"},
        "action": {"type": "string"},
    },
}

#: The statuses that a client of an action should know, and what they say.
_ERRORS = {
    400: "The body is not JSON, or the request makes no sense.",
    404: "Nobody serves this name, or the action is not there or not exposed.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The payload is not what the action takes.",
    500: "The handler failed, or answered with an error.",
    502: "What was running the request died; whether it ran is unknown.",
    503: "The service, the gateway or the server takes nothing now; try again later.",
    504: "No result came in time; the handler may have run.",
}

_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "timeout",
        "in": "query",
        "description": "How long to wait, in seconds.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Stands for what is to be done once, so that it can be repeated.",
        "schema": {"type": "string", "maxLength": 200},
    },
]


def openapi(
    contracts: Iterable[Contract], exposed: Exposed, *, version: str, needs_token: bool
) -> dict[str, Any]:
    """The document.

    Args:
        contracts: those of the services that are alive.
        exposed: what of them may be called.
        version: the gateway's version.
        needs_token: whether each request needs one.
    """
    names = _Names()
    paths: dict[str, Any] = {}
    for contract in contracts:
        refer = names.add(contract)
        for action in contract.actions:
            if exposed.has_action(contract.service, action.name):
                path = f"/services/{_quoted(contract.service)}/actions/{_quoted(action.name)}"
                paths[path] = {"post": _operation(contract.service, action, refer)}
    for channel in exposed.channels:
        paths[f"/channels/{_quoted(channel)}"] = {"get": _listening(channel)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Daebus gateway", "version": version},
        "paths": paths,
        "components": {"schemas": {**names.schemas, names.problem: PROBLEM}},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return _completed(document, names.problem)


class _Names:
    """Gives the named types of all services names that differ."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def add(self, contract: Contract) -> dict[str, str]:
        """Take the types of a service; gives their new names."""
        plain = {name: _sound(name) for name in contract.schemas}
        if self._have_room(plain, contract):
            new = plain
        else:  # All of them: one that is the same may refer to one that is not.
            new = {}
            for name, sound in plain.items():
                new[name] = _free(f"{sound}_{_sound(contract.service)}", self.schemas)
                self.schemas[new[name]] = {}
        for name, schema in contract.schemas.items():
            self.schemas[new[name]] = _renamed(schema, new)
        return new

    @property
    def problem(self) -> str:
        """A name for the type of the errors."""
        return _free("Problem", self.schemas)

    def _have_room(self, plain: dict[str, str], contract: Contract) -> bool:
        """Whether each name is free, or stands for the same type already."""
        return len(set(plain.values())) == len(plain) and all(
            self.schemas.get(plain[name], schema) == schema
            for name, schema in contract.schemas.items()
        )


def _free(name: str, taken: Container[str]) -> str:
    """A name that is not taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _sound(name: str) -> str:
    """A name of the characters that OpenAPI allows for a type."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A part of a schema, in which each reference has the new name."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, str) and value.startswith(_REFERENCE):
        name = value.removeprefix(_REFERENCE)
        return _REFERENCE + names.get(name, name)
    return value


def _operation(service: str, action: ActionContract, names: dict[str, str]) -> dict[str, Any]:
    result = _renamed(action.result, names)
    payload = _renamed(action.payload, names)
    return {
        "operationId": f"{service}.{action.name}",
        "tags": [service],
        "summary": action.description.partition("\n")[0],
        "description": action.description,
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": bool(payload.get("required")),
            "content": {"application/json": {"schema": payload}},
        },
        "responses": {
            "200": {
                "description": "The result; or, where the client accepts events, each response "
                "as `message`, the result as `result`, or `error` with a problem.",
                "content": {
                    "application/json": {"schema": result},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{str(status): {"description": text} for status, text in _ERRORS.items()},
        },
    }


def _listening(channel: str) -> dict[str, Any]:
    return {
        "operationId": f"listen.{channel}",
        "tags": ["channels"],
        "summary": f"What is published to {channel}",
        "description": "Server-Sent Events; the same address is a WebSocket, too.",
        "responses": {
            "200": {
                "description": "Each message as an event of the name `message`.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **{str(status): {"description": _ERRORS[status]} for status in (404, 503)},
        },
    }


def _completed(document: dict[str, Any], problem: str) -> dict[str, Any]:
    """Give each operation an id of its own, and say of each error what it looks like."""
    content = {"application/problem+json": {"schema": {"$ref": _REFERENCE + problem}}}
    ids: set[str] = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            # `a.b` and `c`, and `a` and `b.c`, would be one.
            operation["operationId"] = _free(operation["operationId"], ids)
            ids.add(operation["operationId"])
            for status, response in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    response["content"] = content
    return document


def _quoted(name: str) -> str:
    # Braces would be a parameter of the path.
    return quote(name, safe="*" if "*" in name else "")
