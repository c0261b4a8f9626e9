"""What a service offers, as data: made from its handlers' type hints and docstrings. Pure.

A schema says what the service accepts: parameters are taken from a payload as `parameters` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, get_type_hints

from daebus.contracts import ActionContract, ChannelContract, Contract, Schema
from daebus.messages import WIRE_VERSION
from daebus.service.parameters import parameters_of
from daebus.service.registry import Action, Function, Listener, Registry
from daebus.service.schemas import Schemas, default


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
    types = Schemas()
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


def _action(action: Action, types: Schemas) -> ActionContract:
    parameters = parameters_of(action.function)
    return ActionContract(
        name=action.name,
        description=_description(action.function),
        payload=_fields(parameters, types) if parameters else {},
        result=_result(action.function, types),
        timeout_s=action.timeout_s,
    )


def _channel(name: str, listeners: list[Listener], types: Schemas) -> ChannelContract:
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


def _published(listener: Function, types: Schemas) -> Schema:
    parameters = parameters_of(listener)
    if len(parameters) == 1:
        ((kind, _),) = parameters.values()
        return types.schema_of(kind)
    return _fields(parameters, types) if parameters else {}


def _fields(parameters: dict[str, tuple[Any, Any]], types: Schemas) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for name, (kind, value) in parameters.items():
        properties[name] = types.schema_of(kind)
        if value is inspect.Parameter.empty:
            required.append(name)
        else:
            properties[name] |= default(value)
    return {"type": "object", "properties": properties, "required": required}


def _result(function: Function, types: Schemas) -> Schema:
    hints = get_type_hints(function, include_extras=True)
    return types.schema_of(hints["return"]) if "return" in hints else {}


def _description(function: Function) -> str:
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        return ""  # The docstring of an object is its class's.
    return inspect.getdoc(function) or ""
