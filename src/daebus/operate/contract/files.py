"""Where a contract comes from, an app, a file or a running service, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from daebus.client.caller import DaebusCaller
from daebus.contracts import Contract
from daebus.errors import SettingsError
from daebus.messages import DECODE_ERRORS, MAX_DEPTH
from daebus.operate import output
from daebus.operate.contract import asyncapi, json_schema
from daebus.operate.loading import load_app


class Format(StrEnum):
    """How a contract is written; all are JSON."""

    ASYNCAPI = "asyncapi"
    JSON_SCHEMA = "json-schema"
    DAEBUS = "daebus"


_DOCUMENTS: dict[Format, Callable[[Contract], Any]] = {
    Format.ASYNCAPI: asyncapi.document_of,
    Format.JSON_SCHEMA: json_schema.document_of,
    Format.DAEBUS: lambda contract: contract,
}


def written(contract: Contract, kind: Format) -> str:
    """The text of a contract's document, over several lines."""
    document = output.as_json(_DOCUMENTS[kind](contract))
    return f"{msgspec.json.format(document, indent=2)}\n"


def contract_at(target: str, service: str | None = None) -> Contract:
    """The contract of an app, or one that was exported.

    Args:
        target: `module:app`, or a file's path.
        service: the service's name, if it is not the app's.

    Raises:
        SettingsError: there is no such app, or the file has no contract; the text says why.
        RegistrationError: a handler of the app cannot be served.
    """
    path = Path(target)
    if path.suffix == ".json" or path.is_file():
        return _read(path)
    return load_app(target).contract(service)


def contract_of_running(service: str, url: str | None) -> Contract:
    """The contract of a service that runs; it is asked for it.

    Raises:
        ServiceUnavailable: nobody serves this name, or the server cannot be reached.
        RemoteError: it is of a version that does not tell.
    """
    with DaebusCaller(service, url) as caller:
        answer = caller.call("daebus.info")
    return _checked(answer.get("contract"), f"the answer of service {service!r}")


def _read(path: Path) -> Contract:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except DECODE_ERRORS as error:
        raise SettingsError(f"{path} is not JSON: {error}") from None
    if isinstance(found, dict) and "asyncapi" in found:
        try:
            found = msgspec.to_builtins(asyncapi.contract_of_document(found))
        except (KeyError, TypeError, AttributeError):
            raise SettingsError(
                f"{path} is an AsyncAPI document that 'daebus contract export' did not write"
            ) from None
    elif isinstance(found, dict) and "$defs" in found:
        raise SettingsError(
            f"{path} has only the types of a contract; export it with --format asyncapi or daebus"
        )
    return _checked(found, str(path))


def _checked(value: Any, source: str) -> Contract:
    try:
        contract = msgspec.convert(value, Contract)
        for schema in _schemas(contract):
            msgspec.convert(schema, _Shape)
        _check_references(contract)
    except (msgspec.ValidationError, RecursionError) as error:
        raise SettingsError(f"{source} is not a contract: {error}") from None
    return contract


def _schemas(contract: Contract) -> Iterator[dict[str, Any]]:
    for action in contract.actions:
        yield action.payload
        yield action.result
    for channel in contract.channels:
        yield channel.payload
    yield from contract.schemas.values()


def _check_references(contract: Contract) -> None:
    """Each name that is referred to must be there, and lead to a type at last."""
    names = {f"{json_schema.HERE}{name}": schema for name, schema in contract.schemas.items()}
    waiting: list[Any] = list(_schemas(contract))
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            steps = 0
            while isinstance(reference := value.get("$ref"), str):
                steps += 1
                if reference not in names or steps > MAX_DEPTH:
                    raise msgspec.ValidationError(f"{reference!r} leads to no type")
                value = names[reference]


_Given = TypeVar("_Given")

#: A keyword that may be left out.
_Maybe: TypeAlias = _Given | msgspec.UnsetType


class _Shape(msgspec.Struct, rename="camel"):
    """What those who work with schemas rely on."""

    ref: _Maybe[str] = msgspec.field(name="$ref", default=msgspec.UNSET)
    type: _Maybe[str] = msgspec.UNSET
    title: _Maybe[str] = msgspec.UNSET
    description: _Maybe[str] = msgspec.UNSET
    format: _Maybe[str] = msgspec.UNSET
    content_encoding: _Maybe[str] = msgspec.UNSET
    enum: _Maybe[list[Any]] = msgspec.UNSET
    required: _Maybe[list[str]] = msgspec.UNSET
    any_of: _Maybe[list[_Shape]] = msgspec.UNSET
    all_of: _Maybe[list[_Shape]] = msgspec.UNSET
    prefix_items: _Maybe[list[_Shape]] = msgspec.UNSET
    items: _Maybe[_Shape | bool] = msgspec.UNSET
    properties: _Maybe[dict[str, _Shape]] = msgspec.UNSET
    additional_properties: _Maybe[_Shape | bool] = msgspec.UNSET
    minimum: _Maybe[float] = msgspec.UNSET
    maximum: _Maybe[float] = msgspec.UNSET
    exclusive_minimum: _Maybe[float] = msgspec.UNSET
    exclusive_maximum: _Maybe[float] = msgspec.UNSET
    min_length: _Maybe[int] = msgspec.UNSET
    max_length: _Maybe[int] = msgspec.UNSET
    min_items: _Maybe[int] = msgspec.UNSET
    max_items: _Maybe[int] = msgspec.UNSET
    min_properties: _Maybe[int] = msgspec.UNSET
    max_properties: _Maybe[int] = msgspec.UNSET
