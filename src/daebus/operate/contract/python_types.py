"""The types of a contract as Python: annotations, and the classes that they name. Pure.

A record becomes a `msgspec.Struct`, a named list of choices a `Literal`; limits on numbers and
lengths are left to the service, which checks them.
"""

from __future__ import annotations

from typing import Any

from daebus.contracts import Schema
from daebus.operate.contract.python_text import Names, bracketed, docstring, literal, statement
from daebus.operate.contract.schema_kinds import alternatives, as_json, choices_of, kind_of

#: Texts that stand for something else.
_FORMATS = {
    "date": "dt.date",
    "date-time": "dt.datetime",
    "date-time-local": "dt.datetime",
    "decimal": "Decimal",
    "duration": "dt.timedelta",
    "time": "dt.time",
    "time-local": "dt.time",
    "uuid": "UUID",
}

_PLAIN = {"null": "None", "boolean": "bool", "integer": "int", "number": "float"}

#: A longer list of choices than this, in characters, gets a name.
_LONGEST_CHOICES = 30

UNSET = "msgspec.UNSET"


class PythonTypes:
    """Annotations for schemas.

    Args:
        named: the contract's named types.
        names: where names of classes are taken from.
    """

    def __init__(self, named: dict[str, Schema], names: Names) -> None:
        self._named = named
        self._names = names
        self._class_of = {
            name: names.free(name, "Type")
            for name, schema in named.items()
            if _is_record(schema) or _is_choice(schema)
        }
        self._choices: dict[str, str] = {}
        self._resolving: list[str] = []

    def annotation(self, schema: Schema) -> str:
        """The annotation for the values of a schema."""
        if "$ref" in schema:
            return self._reference(schema["$ref"].rpartition("/")[2])
        if "anyOf" in schema:
            return self._union(schema["anyOf"])
        if (choices := choices_of(schema)) is not None:
            return self._choice(choices)
        described = {"string": _text, "array": self._array, "object": self._map}
        plain = _PLAIN.get(kind_of(schema), "Any")
        return described.get(kind_of(schema), lambda _: plain)(schema)

    def optional(self, schema: Schema, factories: bool = False) -> tuple[str, str]:
        """The annotation and the default of what may be left out.

        Args:
            schema: its schema; where that has no default, or one that Python cannot write here,
                what is left out is not sent.
            factories: whether an empty list or dict can be the default.
        """
        annotation = self.annotation(schema)
        if "default" in schema:
            default = schema["default"]
            if self._is_plain(default, schema):
                return annotation, literal(default)
            for kind, empty in (("list", []), ("dict", {})):
                if factories and default == empty and annotation.startswith(f"{kind}["):
                    return annotation, f"msgspec.field(default_factory={kind})"
        return f"{annotation} | msgspec.UnsetType", UNSET

    def declarations(self) -> list[str]:
        """The source of each class and each named choice."""
        records = [
            self._record(self._class_of[name], schema)
            for name, schema in self._named.items()
            if _is_record(schema)
        ]
        choices = [
            _assigned(self._class_of[name], schema["enum"])
            for name, schema in self._named.items()
            if _is_choice(schema)
        ]
        more = [f"{name} = {text}" for text, name in self._choices.items()]
        return [*choices, *more, *records]

    def _reference(self, name: str) -> str:
        if name in self._class_of:
            return self._class_of[name]
        if name in self._resolving:
            return "Any"  # A type that holds itself needs a class.
        self._resolving.append(name)
        try:
            return self.annotation(self._named[name])
        finally:
            self._resolving.pop()

    def _union(self, schemas: list[Schema]) -> str:
        if not self._can_be_told_apart(schemas):
            return "Any"
        found = dict.fromkeys(self.annotation(schema) for schema in schemas)
        if "Any" in found:
            return "Any"
        return " | ".join(sorted(found, key=lambda each: each == "None"))

    def _can_be_told_apart(self, schemas: list[Schema]) -> bool:
        """Records in a union need a tag each, in a field of one name."""
        records = [
            each
            for schema in schemas
            for each in alternatives(schema, self._named)
            if kind_of(each) == "object"
        ]
        tags = [_tag(each) for each in records]
        return len(records) <= 1 or (
            all(tags)
            and len({tag[0] for tag in tags if tag}) == 1
            and len({as_json(tag[1]) for tag in tags if tag}) == len(tags)
        )

    def _choice(self, choices: list[Any]) -> str:
        if not _are_literals(choices):
            return "Any"
        text = f"Literal[{', '.join(map(literal, choices))}]"
        if len(text) <= _LONGEST_CHOICES:
            return text
        key = bracketed("Literal[", [literal(each) for each in choices], "]", "").rstrip("\n")
        if key not in self._choices:
            self._choices[key] = self._names.free("Choice", "Choice")
        return self._choices[key]

    def _map(self, schema: Schema) -> str:
        others = schema.get("additionalProperties")
        return f"dict[str, {self.annotation(others) if isinstance(others, dict) else 'Any'}]"

    def _array(self, schema: Schema) -> str:
        first = [self.annotation(each) for each in schema.get("prefixItems", [])]
        if first and schema.get("minItems") == schema.get("maxItems") == len(first):
            return f"tuple[{', '.join(first)}]"
        rest = schema.get("items", {})
        return f"list[{self.annotation(rest)}]" if rest and not first else "list[Any]"

    def _is_plain(self, default: Any, schema: Schema) -> bool:
        """Whether a default is a scalar that the annotation allows as it is."""
        for each in alternatives(schema, self._named):
            choices = choices_of(each)
            if choices is not None:
                if as_json(default) in map(as_json, choices):
                    return True
            elif isinstance(default, _SCALARS.get(kind_of(each), ())):
                return kind_of(each) != "string" or _text(each) == "str"
        return False

    def _record(self, name: str, schema: Schema) -> str:
        tag = _tag(schema)
        bases = ["msgspec.Struct", "kw_only=True"]
        if tag:
            bases += [f"tag={literal(tag[1])}", f"tag_field={literal(tag[0])}"]
        names = Names(self._names.taken)
        fields = "".join(
            self._field(names.free(field, "field"), field, inner, schema)
            for field, inner in schema["properties"].items()
            if not tag or field != tag[0]
        )
        text = docstring(schema["description"], "    ") if schema.get("description") else ""
        between = "\n" if text and fields else ""
        header = bracketed(f"class {name}(", bases, "):", "")
        return f"{header}{text}{between}{fields or ('' if text else '    pass')}".rstrip("\n")

    def _field(self, name: str, field: str, inner: Schema, schema: Schema) -> str:
        renamed = [f"name={literal(field)}"] if name != field else []
        if field in schema.get("required", []):
            annotation, default = self.annotation(inner), ""
        else:
            annotation, default = self.optional(inner, factories=True)
        if renamed and default.startswith("msgspec.field("):
            default = f"{default[:-1]}, {renamed[0]})"
        elif renamed:
            values = [f"default={default}"] if default else []
            default = f"msgspec.field({', '.join([*values, *renamed])})"
        return statement(f"{name}: {annotation}{f' = {default}' if default else ''}", "    ")


_SCALARS: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
}


def _is_record(schema: Schema) -> bool:
    return kind_of(schema) == "object" and "properties" in schema


def _is_choice(schema: Schema) -> bool:
    return _are_literals(schema.get("enum", []))


def _are_literals(choices: list[Any]) -> bool:
    return bool(choices) and all(isinstance(each, (str, int)) or each is None for each in choices)


def _tag(schema: Schema) -> tuple[str, Any] | None:
    """The field of a record that says of which kind it is, and what it says."""
    for name, field in schema.get("properties", {}).items():
        choices = choices_of(field) or []
        is_tag = len(choices) == 1 and isinstance(choices[0], (str, int))
        if is_tag and not isinstance(choices[0], bool) and name in schema.get("required", []):
            return name, choices[0]
    return None


def _text(schema: Schema) -> str:
    if schema.get("contentEncoding") == "base64":
        return "bytes"
    return _FORMATS.get(schema.get("format", ""), "str")


def _assigned(name: str, choices: list[Any]) -> str:
    return bracketed(f"{name} = Literal[", [literal(each) for each in choices], "]", "").rstrip()
