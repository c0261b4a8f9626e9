"""The client that is made of a contract: whatever the contract says, it is only a client."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from daebus.contracts import ActionContract, Contract
from daebus.operate.contract.client import client_of

RUFF = Path(sys.executable).parent / "ruff"

HOSTILE = '"""\nimport os; os.abort()\n"""'
TEXTS = st.text(st.sampled_from("ab\"'\\\n\t {}()#;\x00\x9b\u2028é"), max_size=12)


def contract_with(name: str, text: str, choice: str) -> Contract:
    fields = {name: {"enum": [choice], "default": choice}, "other": {"type": "string"}}
    record = {"type": "object", "properties": fields, "required": [name], "description": text}
    reference = {"$ref": f"#/components/schemas/{name}"}
    actions = [
        ActionContract(
            name=each, description=text, payload={**record, "required": []}, result=reference
        )
        for each in (name, f"{name}_", "close", "list", "def")
    ]
    service = f"shop {name}"
    return Contract(service=service, wire_version=2, actions=actions, schemas={name: record})


def format_of(source: str) -> str:
    """What `ruff format` makes of it."""
    done = subprocess.run(
        [RUFF, "format", "--isolated", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@settings(max_examples=40, deadline=None)
@given(name=TEXTS, text=TEXTS, choice=TEXTS)
@example(name=HOSTILE, text=HOSTILE, choice=HOSTILE)
@example(name="class", text='a "quote"', choice='it\'s "both"')
@example(name="1", text='"', choice="\\'")
@example(name="Any", text="\\", choice='\\"')
@example(name="self", text="a\\", choice="'")
def test_no_text_of_a_contract_becomes_code(name: str, text: str, choice: str) -> None:
    tree = ast.parse(client_of(contract_with(name, text, choice)))

    for node in tree.body[1:]:
        if isinstance(node, ast.Assign):
            assert ast.unparse(node.value).startswith("Literal[")
        else:
            assert isinstance(node, (ast.ImportFrom, ast.Import, ast.ClassDef, ast.FunctionDef))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert choice in strings
    client = tree.body[-1]
    assert isinstance(client, ast.ClassDef)
    methods = [node.name for node in client.body if isinstance(node, ast.FunctionDef)]
    assert len(set(methods)) == len(methods)
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {
        "DaebusCaller",
        "_given",
        "fields.items",
        "msgspec.convert",
        "msgspec.field",
        "self._call",
        "self.caller.call",
        "self.caller.close",
        "self.close",
    }


@settings(max_examples=40, deadline=None)
@given(name=TEXTS, text=TEXTS, choice=TEXTS)
@example(name="class", text='a "quote"', choice='it\'s "both"')
@example(name="a", text='"', choice='"')
@example(name="a", text="first\n\n\tthen \\\n  more", choice="\\")
@example(name="a" * 40, text="b" * 100, choice="c" * 100)
def test_it_is_formatted(name: str, text: str, choice: str) -> None:
    source = client_of(contract_with(name, text, choice))

    assert format_of(source) == source


def test_parameters_that_are_optional_come_last_and_may_be_left_out() -> None:
    payload: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "default": 1},
            "d": {"enum": ["x = y"]},
            "b": {"type": "integer"},
            "c": {"type": "string", "format": "uuid", "default": "x"},
        },
        "required": ["b", "d"],
    }
    action = ActionContract(name="act", payload=payload)
    source = client_of(Contract(service="shop", wire_version=2, actions=[action]))

    places = [
        source.index(f"        {each},\n")
        for each in (
            'd: Literal["x = y"]',
            "b: int",
            "a: int = 1",
            "c: UUID | msgspec.UnsetType = msgspec.UNSET",
        )
    ]
    assert places == sorted(places)
    assert '_given({"a": a, "d": d, "b": b, "c": c})' in source
