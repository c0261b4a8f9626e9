"""What a gateway tells of a service: its exposed actions, and the types that they need. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from daebus.contracts import Contract, Schema
from daebus.operate.contract.json_schema import HERE
from daebus.operate.gateway.exposed import Exposed


def shown(contract: Contract, exposed: Exposed) -> Contract:
    """The part of a contract that clients may see.

    Args:
        contract: all that a service offers.
        exposed: what of it may be called.
    """
    actions = [each for each in contract.actions if exposed.has_action(contract.service, each.name)]
    needed = _needed(
        [each.payload for each in actions] + [each.result for each in actions], contract
    )
    return msgspec.structs.replace(contract, actions=actions, channels=[], schemas=needed)


def _needed(schemas: list[Schema], contract: Contract) -> dict[str, Schema]:
    """The named types that some schemas refer to, and those that these refer to."""
    found: set[str] = set()
    waiting: list[Any] = list(schemas)
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, str) and value.startswith(HERE):
            name = value.removeprefix(HERE)
            if name in contract.schemas and name not in found:
                found.add(name)
                waiting.append(contract.schemas[name])
    return {name: schema for name, schema in contract.schemas.items() if name in found}
