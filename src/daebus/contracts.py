"""The contract of a service: its actions and channels with their types, as data. Pure.

Types are JSON Schema (draft 2020-12). A named type stands once in `schemas`, and is referred to as
`#/components/schemas/NAME`, which is where AsyncAPI and OpenAPI have it, too.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: A JSON Schema; an empty one allows any value.
Schema = dict[str, Any]


class ActionContract(msgspec.Struct, kw_only=True):
    """What an action takes and gives."""

    name: str
    #: The handler's docstring.
    description: str = ""
    #: What the payload must be.
    payload: Schema = {}
    #: What the final response is; empty where the handler does not say.
    result: Schema = {}
    #: The handler's time limit in seconds.
    timeout_s: float | None = None


class ChannelContract(msgspec.Struct, kw_only=True):
    """What a service expects on a channel that it listens to."""

    #: A name, or a pattern such as `events.*`.
    channel: str
    description: str = ""
    payload: Schema = {}
    is_durable: bool = False


class Contract(msgspec.Struct, kw_only=True):
    """All that a service offers."""

    service: str
    #: How requests reach it: `pubsub` or `stream`.
    delivery: str = "pubsub"
    #: The version of the wire format that it speaks.
    wire_version: int
    actions: list[ActionContract] = []
    channels: list[ChannelContract] = []
    #: The types that have a name.
    schemas: dict[str, Schema] = {}
