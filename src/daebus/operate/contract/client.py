"""A contract as a Python module: a client with a method for each action, and its types. Pure."""

from __future__ import annotations

import re

from daebus.contracts import ActionContract, Contract, Schema
from daebus.operate.contract.python_text import Names, bracketed, docstring, literal
from daebus.operate.contract.python_types import UNSET, PythonTypes

#: What the module needs if it says this, in the order in which it is imported.
_IMPORTS = (
    (r"\bdt\.", "import datetime as dt"),
    (r"\bDecimal\b", "from decimal import Decimal"),
    (r"", "from types import TracebackType"),
    (r"", "from typing import {typing}"),
    (r"\bUUID\b", "from uuid import UUID"),
    (r"", ""),
    (r"\bmsgspec\.", "import msgspec"),
    (r"", "from daebus import DaebusCaller"),
)

_GIVEN = f'''def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not left out."""
    return {{name: value for name, value in fields.items() if value is not {UNSET}}}'''

_ABOUT = """Calls the service {service}; threads may share it.

Its `caller` is there for all that is not typed: `caller.submit`, `caller.stream`.

Args:
    url: the server's address; else the environment's DAEBUS_URL.
    service: the service's name.
    timeout: how long a call waits, in seconds; 30 if None.
"""

_BEGINNING = """
    def __init__(
        self,
        url: str | None = None,
        *,
        service: str = {service},
        timeout: float | None = None,
    ) -> None:
        self.caller = DaebusCaller(service, url, timeout=timeout)
"""

_ENDING = '''    def close(self) -> None:
        """Free the connection; the next call opens it again."""
        self.caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
'''

_CALL = """    def _call(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        kind: Any,
    ) -> Any:
        return msgspec.convert(self.caller.call(action, payload, timeout=timeout), kind)
"""


_BODY = " " * 8

#: A payload that is longer than this, in characters, is made in a statement of its own.
_LONGEST_PAYLOAD = 50


def client_of(contract: Contract) -> str:
    """The source of the module; the same contract always makes the same one."""
    names = Names()
    client = names.free(f"{_in_camel_case(contract.service)}Client", "Service")
    types = PythonTypes(contract.schemas, names)
    methods = _methods(contract.actions, types, names)
    if any("self._call(" in method for method in methods):
        methods.append(_CALL)
    about = docstring(_ABOUT.format(service=repr(contract.service)), "    ")
    beginning = _BEGINNING.format(service=literal(contract.service))
    parts = [f"class {client}:\n{about}{beginning}", *methods, _ENDING]
    given = [_GIVEN] if any("_given(" in method for method in methods) else []
    blocks = [*types.declarations(), *given, "\n".join(parts)]
    body = "\n\n\n".join(block.rstrip("\n") for block in blocks)
    between = "\n\n\n" if body.startswith(("class ", "def ")) else "\n\n"
    return f"{_head(contract.service, body)}{between}{body}\n"


def _head(service: str, body: str) -> str:
    about = docstring(
        f"A client of the service {service!r}, made by 'daebus contract client'.\n\n"
        f"Make it again when the contract changes, instead of editing it.",
        "",
    )
    typing = [name for name in ("Any", "Literal", "Self") if re.search(rf"\b{name}\b", body)]
    imports = [text for pattern, text in _IMPORTS if re.search(pattern, body)]
    lines = "\n".join(imports).format(typing=", ".join(typing))
    return f"{about}\nfrom __future__ import annotations\n\n{lines}"


def _in_camel_case(text: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", text))


def _methods(actions: list[ActionContract], types: PythonTypes, names: Names) -> list[str]:
    mine = Names({*names.taken, "caller", "close"})
    return [_method(mine.free(each.name, "action"), each, types, names) for each in actions]


def _method(name: str, action: ActionContract, types: PythonTypes, names: Names) -> str:
    parameters, first, payload = _payload(action.payload, types, names)
    result = types.annotation(action.result)
    items = ["self", *parameters, "*", "timeout: float | None = None"]
    about = action.description or f"Call the action {action.name!r}."
    return (
        bracketed(f"def {name}(", items, f") -> {result}:", "    ")
        + docstring(about, _BODY)
        + first
        + _calling(literal(action.name), payload, result)
    )


def _calling(action: str, payload: str, result: str) -> str:
    if result in {"Any", "None"}:
        start = "return self.caller.call(" if result == "Any" else "self.caller.call("
        return bracketed(start, [action, payload, "timeout=timeout"], ")", _BODY)
    start = f"converted: {result} = self._call("
    call = bracketed(start, [action, payload, "timeout", result], ")", _BODY)
    return f"{call}{_BODY}return converted\n"


def _payload(payload: Schema, types: PythonTypes, names: Names) -> tuple[list[str], str, str]:
    """The parameters of a method, what it does first, and what it sends."""
    if "properties" not in payload:
        annotation, default = types.optional(payload)
        return [f"payload: {annotation} = {default}"], "", "payload"
    mine = Names({*names.taken, "self", "timeout", "converted", "fields"})
    needed, optional, fields = [], [], []
    for field, schema in payload["properties"].items():
        name = mine.free(field, "field")
        fields.append(f"{literal(field)}: {name}")
        if field in payload.get("required", []):
            needed.append(f"{name}: {types.annotation(schema)}")
        else:
            annotation, default = types.optional(schema)
            optional.append(f"{name}: {annotation} = {default}")
    sent = f"{{{', '.join(fields)}}}"
    first = ""
    if len(sent) > _LONGEST_PAYLOAD:
        first, sent = bracketed("fields = {", fields, "}", _BODY), "fields"
    is_sparse = any(each.endswith(f" = {UNSET}") for each in optional)
    return [*needed, *optional], first, f"_given({sent})" if is_sparse else sent
