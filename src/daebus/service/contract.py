"""What a service offers, as data: made from its handlers' type hints and docstrings. Pure.

A schema says what the service accepts: parameters are taken from a payload as `parameters` does,
and msgspec, which checks the payloads, describes the types.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, get_type_hints

import msgspec

from daebus.contracts import ActionContract, ChannelContract, Contract, Schema
from daebus.messages import WIRE_VERSION
from daebus.service.parameters import parameters_of
from daebus.service.registry import Action, Function, Listener, Registry

#: Where AsyncAPI and OpenAPI have the types that have a name.
REFERENCE = "#/components/schemas/{name}"

#: What msgspec raises for a type that it cannot describe.
_INDESCRIBABLE = (TypeError, ValueError, NameError, AttributeError, KeyError, RecursionError)

#: Stands for a class that msgspec cannot describe; it refuses an empty schema there.
_ANYTHING: Schema = {"$comment": "daebus: any value"}


def contract_of(service: str, delivery: str, registry: Registry) -> Contract:
    """All that a service offers.

    Args:
        service: the service's name.
        delivery: how requests reach it: `pubsub` or `stream`.
        registry: its handlers.

    Returns:
        The contract; actions in the order of their registration, a channel with several listeners
        once. A type that cannot be described allows any value.

    Raises:
        RegistrationError: a handler's parameters cannot be taken from a payload.

    Example:
        >>> contract_of("calculator", "pubsub", app.registry).actions[0].result
        {'type': 'integer'}
    """
    types = _Types()
    by_channel: dict[str, list[Listener]] = {}
    for listener in registry.listeners:
        by_channel.setdefault(listener.channel, []).append(listener)
    return Contract(
        service=service,
        delivery=delivery,
        wire_version=WIRE_VERSION,
        actions=[_action(action, types) for action in registry.actions.values()],
        channels=[_channel(name, group, types) for name, group in by_channel.items()],
        schemas=types.named,
    )


class _Types:
    """Describes types; those that have a name stand once in `named`."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def schema_of(self, kind: Any) -> Schema:
        """The schema of a type; an empty one if msgspec cannot describe it."""
        try:
            (schema,), named = msgspec.json.schema_components(
                (kind,), schema_hook=lambda _: _ANYTHING, ref_template=REFERENCE
            )
        except _INDESCRIBABLE:
            return {}
        suffix, number = "", 1
        while not self._has_room(found := _renamed(named, suffix)):
            number += 1
            suffix = f"_{number}"
        self.named.update(found)
        described: Schema = _with_suffix(schema, suffix)
        return described

    def _has_room(self, named: dict[str, Schema]) -> bool:
        """Whether each name is free, or stands for the same type already."""
        return all(self.named.get(name, schema) == schema for name, schema in named.items())


def _renamed(named: dict[str, Schema], suffix: str) -> dict[str, Schema]:
    return {f"{name}{suffix}": _with_suffix(schema, suffix) for name, schema in named.items()}


def _with_suffix(value: Any, suffix: str) -> Any:
    """A part of a schema, tidied; each reference in it is to the name with the suffix."""
    if isinstance(value, (list, tuple)):
        return [_with_suffix(each, suffix) for each in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _with_suffix(each, suffix) for key, each in value.items()}
    if isinstance(reference := copy.get("$ref"), str):
        copy["$ref"] = reference + suffix
    if isinstance(discriminator := copy.get("discriminator"), dict) and isinstance(
        mapping := discriminator.get("mapping"), dict
    ):
        discriminator["mapping"] = {tag: name + suffix for tag, name in mapping.items()}
    if copy.get("$comment") == _ANYTHING["$comment"]:
        del copy["$comment"]
    if isinstance(docstring := copy.get("description"), str):
        copy["description"] = inspect.cleandoc(docstring)
    return copy


def _action(action: Action, types: _Types) -> ActionContract:
    parameters = parameters_of(action.function)
    return ActionContract(
        name=action.name,
        description=_description(action.function),
        payload=_fields(parameters, types) if parameters else {},
        result=_result(action.function, types),
        timeout_s=action.timeout_s,
    )


def _channel(name: str, listeners: list[Listener], types: _Types) -> ChannelContract:
    """A channel; what is published there must suit all its listeners."""
    payloads = _unlike(_published(listener.function, types) for listener in listeners)
    return ChannelContract(
        channel=name,
        description="\n\n".join(
            text for listener in listeners if (text := _description(listener.function))
        ),
        payload=payloads[0] if len(payloads) == 1 else {"allOf": payloads},
        is_durable=any(listener.is_durable for listener in listeners),
    )


def _unlike(schemas: Iterable[Schema]) -> list[Schema]:
    """Each once; those that allow any value only where there is no other."""
    found: list[Schema] = []
    for schema in schemas:
        if schema and schema not in found:
            found.append(schema)
    return found or [{}]


def _published(listener: Function, types: _Types) -> Schema:
    parameters = parameters_of(listener)
    if len(parameters) == 1:
        ((kind, _),) = parameters.values()
        return types.schema_of(kind)
    return _fields(parameters, types) if parameters else {}


def _fields(parameters: dict[str, tuple[Any, Any]], types: _Types) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for name, (kind, default) in parameters.items():
        properties[name] = types.schema_of(kind)
        if default is inspect.Parameter.empty:
            required.append(name)
        else:
            properties[name] |= _default(default)
    return {"type": "object", "properties": properties, "required": required}


def _default(value: Any) -> Schema:
    try:
        return {"default": msgspec.json.decode(msgspec.json.encode(value))}
    except (TypeError, ValueError, OverflowError, RecursionError):
        return {}  # Only the handler can make it.


def _result(function: Function, types: _Types) -> Schema:
    hints = get_type_hints(function, include_extras=True)
    return types.schema_of(hints["return"]) if "return" in hints else {}


def _description(function: Function) -> str:
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        return ""  # The docstring of an object is its class's.
    return inspect.getdoc(function) or ""
