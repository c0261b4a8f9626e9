"""One change of a schema: where it is, and by which rule. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """The ways in which a schema may change."""

    NARROWED = "narrowed"
    WIDENED = "widened"
    CHANGED = "changed"
    REQUIRED_FIELD_ADDED = "required-field-added"
    OPTIONAL_FIELD_ADDED = "optional-field-added"
    FIELD_REMOVED = "field-removed"
    FIELD_NOW_REQUIRED = "field-now-required"
    FIELD_NOW_OPTIONAL = "field-now-optional"
    DEFAULT_CHANGED = "default-changed"


@dataclass(frozen=True)
class Difference:
    """One change: where in the value, by which rule, and in words."""

    path: str
    rule: Rule
    text: str
