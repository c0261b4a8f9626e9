"""A contract as one JSON Schema document, draft 2020-12. Pure functions."""

from __future__ import annotations

from typing import Any

from daebus.contracts import Contract

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Where a contract has its named types.
HERE = "#/components/schemas/"


def document_of(contract: Contract) -> dict[str, Any]:
    """The document: what is in `$defs` are the types, and each action's and channel's own.

    An action's are `ACTION:payload` and `ACTION:result`, a channel's is `CHANNEL:message`; the
    names of types have no colon.
    """
    found: dict[str, Any] = {}
    for action in contract.actions:
        about = {"description": action.description} if action.description else {}
        found[f"{action.name}:payload"] = {**about, **action.payload}
        found[f"{action.name}:result"] = action.result
    for channel in contract.channels:
        about = {"description": channel.description} if channel.description else {}
        found[f"{channel.channel}:message"] = {**about, **channel.payload}
    return {
        "$schema": DIALECT,
        "title": contract.service,
        "$defs": _moved({**found, **contract.schemas}),
    }


def _moved(value: Any) -> Any:
    """A part of a schema, whose references lead to `$defs`."""
    if isinstance(value, dict):
        return {key: _moved(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each) for each in value]
    if isinstance(value, str) and value.startswith(HERE):
        return f"#/$defs/{value.removeprefix(HERE)}"
    return value
