"""The JSON Schema of a type, as msgspec reads and writes it. Pure.

msgspec can describe types itself, but gives up where a class is unknown to it or two have one name,
and takes a `datetime` for any text.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec
from msgspec import inspect as types

from daebus.contracts import Schema

#: Where AsyncAPI and OpenAPI have the types that have a name.
REFERENCE = "#/components/schemas/{}"

#: What msgspec raises for a type that it cannot take apart.
_UNREADABLE = (TypeError, ValueError, NameError, AttributeError, RecursionError)

_SIMPLE: dict[type[types.Type], Schema] = {
    types.NoneType: {"type": "null"},
    types.BoolType: {"type": "boolean"},
    types.IntType: {"type": "integer"},
    types.FloatType: {"type": "number"},
    types.StrType: {"type": "string"},
    types.BytesType: {"type": "string", "contentEncoding": "base64"},
    types.ByteArrayType: {"type": "string", "contentEncoding": "base64"},
    types.MemoryViewType: {"type": "string", "contentEncoding": "base64"},
    types.DateTimeType: {"type": "string", "format": "date-time"},
    types.TimeType: {"type": "string", "format": "time"},
    types.DateType: {"type": "string", "format": "date"},
    types.TimeDeltaType: {"type": "string", "format": "duration"},
    types.UUIDType: {"type": "string", "format": "uuid"},
    types.DecimalType: {"type": "string", "format": "decimal"},
}

_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}

#: What the shortest and the longest are called, by the type of what is counted.
_LENGTHS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}

#: The end of a time that must say its zone; `format` does not, as msgspec takes both by default.
_ZONE = "([Zz]|[+-][0-9]{2}:?[0-9]{2})$"

#: Names of fields are texts; these are the texts of whole numbers.
_WHOLE_NUMBER = "^-?(0|[1-9][0-9]*)$"

_Record = types.StructType | types.TypedDictType | types.DataclassType | types.NamedTupleType


class Schemas:
    """Describes types.

    Attributes:
        named: the types with a name, each once.
    """

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def schema_of(self, kind: Any) -> Schema:
        """The schema of a type; an empty one, which allows any value, if there is none."""
        try:
            return self._of(types.type_info(kind))
        except _UNREADABLE:
            return {}

    def _of(self, info: types.Type) -> Schema:
        if isinstance(info, types.Metadata):
            return {**self._of(info.type), **_in_json(info.extra_json_schema or {}, {})}
        if isinstance(info, (*_Record.__args__, types.EnumType)):
            return {"$ref": REFERENCE.format(self._name(info))}
        if isinstance(info, types.LiteralType):
            return {"enum": list(info.values)}
        if isinstance(info, types.UnionType):
            return {"anyOf": self._union([self._of(each) for each in info.types])}
        return self._limited(info, self._container(info) or dict(_SIMPLE.get(type(info), {})))

    def _container(self, info: types.Type) -> Schema:
        if isinstance(info, types.TupleType):
            return _tuple([self._of(each) for each in info.item_types])
        if isinstance(info, types.CollectionType):
            unique = {"uniqueItems": True} if isinstance(info, _SETS) else {}
            return {"type": "array", **_unless_any("items", self._of(info.item_type)), **unique}
        if isinstance(info, (types.DictType, types.FrozenDictType)):
            keys = _unless_any("propertyNames", self._key(info.key_type))
            others = _unless_any("additionalProperties", self._of(info.value_type))
            return {"type": "object", **keys, **others}
        return {}

    def _union(self, schemas: list[Schema]) -> list[Schema]:
        """The alternatives; msgspec takes no whole number for a float where there is an integer."""
        if not any(self._limits_integers(schema) for schema in schemas):
            return schemas
        return [
            {**schema, "not": {"type": "integer"}} if schema.get("type") == "number" else schema
            for schema in schemas
        ]

    def _limits_integers(self, schema: Schema) -> bool:
        if "$ref" in schema:
            schema = self.named[schema["$ref"].rpartition("/")[2]]
        choices = {type(value) for value in schema.get("enum", [])}
        return int in choices or (schema.get("type") == "integer" and len(schema) > 1)

    def _limited(self, info: types.Type, schema: Schema) -> Schema:
        for name, keyword in _LIMITS.items():
            if (limit := getattr(info, name, None)) is not None:
                schema[keyword] = limit
        zone = getattr(info, "tz", None)
        if zone is False:
            schema["format"] += "-local"
        elif zone:
            schema["pattern"] = _ZONE
        lengths = (getattr(info, "min_length", None), getattr(info, "max_length", None))
        is_encoded = "contentEncoding" in schema
        for keyword, limit in zip(_LENGTHS.get(schema.get("type", ""), ()), lengths, strict=False):
            if limit is not None:
                schema[keyword] = (limit + 2) // 3 * 4 if is_encoded else limit
        return schema

    def _key(self, info: types.Type) -> Schema:
        """What the names of fields must be, apart from texts."""
        schema = self._of(info)
        if "$ref" in schema:
            schema = self.named[schema["$ref"].rpartition("/")[2]]
        if "enum" in schema:
            return {"enum": [str(value) for value in schema["enum"]]}
        if schema.get("type") == "integer":
            return {"pattern": _WHOLE_NUMBER}
        return {key: value for key, value in schema.items() if key != "type"}

    def _name(self, info: Any) -> str:
        """The name of a class; it is described where it is met first."""
        if info.cls not in self._names:
            name = plain = _plain_name(info.cls)
            number = 1
            while name in self.named:
                number += 1
                name = f"{plain}_{number}"
            self._names[info.cls] = name
            self.named[name] = {}  # It may hold itself.
            self.named[name] |= self._described(info)
        return self._names[info.cls]

    def _described(self, info: Any) -> Schema:
        about: Schema = {"title": _plain_name(info.cls)}
        if text := _docstring(info):
            about["description"] = text
        if isinstance(info, types.EnumType):
            choices = _in_json([each.value for each in info.cls], [])
            return {**about, "enum": choices} if choices else about
        properties = {each.encode_name: self._field(each) for each in info.fields}
        required = [each.encode_name for each in info.fields if each.required]
        if getattr(info, "tag_field", None) is not None:
            properties = {info.tag_field: {"enum": [info.tag]}, **properties}
            required.insert(0, info.tag_field)
        is_closed = getattr(info, "forbid_unknown_fields", False)
        if isinstance(info, types.NamedTupleType) or getattr(info, "array_like", False):
            is_closed = is_closed or isinstance(info, types.NamedTupleType)
            most = {"maxItems": len(properties)} if is_closed else {}
            # Their names tell a reader, and `contract diff`, which is which.
            named = [{"title": name, **field} for name, field in properties.items()]
            items = {"prefixItems": named, "minItems": len(required)}
            return {**about, "type": "array", **items, **most}
        others = {"additionalProperties": False} if is_closed else {}
        fields = {"properties": properties, "required": required}
        return {**about, "type": "object", **fields, **others}

    def _field(self, field: types.Field) -> Schema:
        schema = self._of(field.type)
        if field.required:
            return schema
        if field.default_factory in {list, dict, set}:
            return {**schema, **default(field.default_factory())}
        return {**schema, **default(field.default)}


_SETS = (types.SetType, types.FrozenSetType)


def default(value: Any) -> Schema:
    """The keyword for a default; nothing for one that JSON cannot hold."""
    if value is msgspec.NODEFAULT or value is msgspec.UNSET:
        return {}
    found = _in_json(value, msgspec.UNSET)
    return {} if found is msgspec.UNSET else {"default": found}


def _in_json(value: Any, otherwise: Any) -> Any:
    """A value as a reader of the contract sees it; `otherwise` if JSON cannot hold it."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return otherwise


def _tuple(items: list[Schema]) -> Schema:
    length = {"minItems": len(items), "maxItems": len(items)}
    return {"type": "array", **({"prefixItems": items, "items": False} if items else {}), **length}


def _unless_any(keyword: str, schema: Schema) -> Schema:
    return {keyword: schema} if schema else {}


def _plain_name(cls: Any) -> str:
    arguments = [getattr(each, "__name__", str(each)) for each in getattr(cls, "__args__", ())]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join([cls.__name__, *arguments]))


def _docstring(info: Any) -> str:
    cls = getattr(info.cls, "__origin__", info.cls)
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    # Python writes these itself.
    is_made = text.startswith(f"{cls.__name__}(") or text == "An enumeration."
    return "" if is_made and not isinstance(info, (types.StructType, types.TypedDictType)) else text
