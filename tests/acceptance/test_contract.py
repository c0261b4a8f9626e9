"""`daebus contract`: export, diff and client, with the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.commands import COMMAND, daebus, daebus_each
from fixtures.processes import Processes
from fixtures.shop import write_shop

TOOLS = Path(sys.executable).parent


@dataclass
class Exported:
    """A folder with a shop, and its contract in each format."""

    folder: Path

    def path(self, kind: str) -> str:
        return str(self.folder / f"{kind}.json")

    def __getitem__(self, kind: str) -> Any:
        return json.loads(Path(self.path(kind)).read_text())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    kinds = {"asyncapi": [], "again": [], "daebus": ["-f", "daebus", "--service", "store"]}
    kinds["json-schema"] = ["--format", "json-schema"]
    done = daebus_each(
        (
            ["contract", "export", "shop:app", *options, "-o", f"{kind}.json"]
            for kind, options in kinds.items()
        ),
        cwd=folder,
    )
    assert [(each.code, each.out, each.err) for each in done] == [(0, "", "")] * 4
    return Exported(folder)


def references_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for inner in value for each in references_in(inner)]
    if not isinstance(value, dict):
        return []
    mine = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return [*mine, *(each for inner in value.values() for each in references_in(inner))]


def at(document: Any, reference: str) -> Any:
    for key in reference.removeprefix("#/").split("/"):
        document = document[key]
    return document


def test_an_app_is_exported_without_a_server(exported: Exported) -> None:
    document = exported["asyncapi"]

    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["requests"]["address"] == "shop"
    assert {each["address"] for each in document["channels"].values()} >= {"orders.*", "returns"}
    assert all(at(document, reference) for reference in references_in(document))


def test_the_same_app_makes_the_same_document(exported: Exported) -> None:
    assert exported["again"] == exported["asyncapi"]


def test_an_action_is_an_operation_with_a_reply(exported: Exported) -> None:
    document = exported["asyncapi"]

    operation = document["operations"]["total"]
    assert operation["action"] == "receive"
    assert operation["summary"] == "Tell what items cost."
    assert operation["reply"]["address"] == {"location": "$message.payload#/reply_to"}
    (request,) = (at(document, each["$ref"]) for each in operation["messages"])
    assert request["payload"]["properties"]["action"] == {"const": "total"}
    assert request["payload"]["required"] == ["action", "payload"]
    replies = [at(document, each["$ref"])["name"] for each in operation["reply"]["messages"]]
    assert replies == ["total done", "progress", "error"]


def test_json_schema_has_the_types_of_each_action(exported: Exported) -> None:
    document = exported["json-schema"]

    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$defs"]["total:payload"]["required"] == ["items"]
    assert document["$defs"]["list:result"]["items"] == {"$ref": "#/$defs/Item"}
    assert all(at(document, reference) for reference in references_in(document))


def test_the_service_may_have_another_name_than_its_app(exported: Exported) -> None:
    assert exported["daebus"]["service"] == "store"


def test_what_was_exported_does_not_differ_from_its_app(exported: Exported) -> None:
    same, other = daebus_each(
        (["contract", "diff", f"{kind}.json", "shop:app"] for kind in ("asyncapi", "daebus")),
        cwd=exported.folder,
    )

    assert (same.code, same.out) == (0, "")
    assert "0 breaking changes, 0 compatible changes" in same.err
    assert other.out == "breaking    service: was 'store', is 'shop'\n"


def test_a_breaking_change_ends_with_1(tmp_path: Path, exported: Exported) -> None:
    write_shop(tmp_path, ("name: str\n    price", "name: str\n    code: str\n    price"))

    done = daebus("contract", "diff", exported.path("asyncapi"), "shop:app", cwd=tmp_path)

    assert done.code == 1
    assert "breaking    action total, payload $.items[...].code: a new field, required" in (
        done.out.splitlines()
    )


def test_a_compatible_change_is_told_and_ends_with_0(tmp_path: Path, exported: Exported) -> None:
    write_shop(tmp_path, ('kind: Literal["a", "b"]', 'kind: Literal["a", "b", "c"]'))

    done = daebus("contract", "diff", exported.path("asyncapi"), "shop:app", "--json", cwd=tmp_path)

    assert done.code == 0
    found = json.loads(done.out)
    assert not found["is_breaking"]
    assert [change["text"] for change in found["changes"]] == ['may be "c", too']


def test_what_is_no_contract_ends_with_2(exported: Exported) -> None:
    done = daebus("contract", "diff", exported.path("json-schema"), exported.path("daebus"))

    assert (done.code, done.out) == (2, "")
    assert "has only the types of a contract" in done.err


def test_one_target_is_needed() -> None:
    done = daebus("contract", "export", "shop:app", "--live", "shop")

    assert done.code == 2
    assert "--live SERVICE" in done.err


@pytest.fixture
def shop(tmp_path: Path, processes: Processes, service_name: str, url: str) -> str:
    """The name of a shop that runs."""
    write_shop(tmp_path)
    run = [*COMMAND, "run", "shop:app", "--service", service_name]
    processes.run(run, cwd=tmp_path).wait_for("is ready")
    return service_name


def test_nobody_there_ends_with_1(url: str) -> None:
    done = daebus("contract", "export", "--live", "nobody")

    assert done.code == 1
    assert "no service 'nobody' is listening" in done.err


PROGRAM = """
import sys
from datetime import date
from decimal import Decimal
from uuid import UUID

from shop_client import Card, Cash, Item, ShopClient, Tree

with ShopClient(service=sys.argv[1]) as shop:
    price: Decimal = shop.total([Item(name="tea", price=Decimal("1.5"), count=2)])
    assert price == Decimal("3.0"), price
    card = Card(card_number="1")
    paid: Card | Cash | None = shop.pay(card, date(2026, 1, 1), UUID(int=1))
    assert paid == card, paid
    items: list[Item] = shop.list_([1], Item_=Item(name="tea", price=Decimal(1)))
    assert items == [Item(name="tea", price=Decimal(1), colours=None)], items
    tree: Tree = shop.plant_a_tree(Tree(value=1, children=[Tree(value=2)]), (3, 4))
    assert (tree.value, tree.children[0].value) == (4, 2), tree
    assert shop.class_() == {}
    assert shop.choose("huge", data=b"x") == "huge"
    assert shop.anything({"a": 1}) == {"a": 1}
    assert shop.anything() == {}
    shop.nothing()
    assert shop.steps(2, timeout=5) == 2
    assert list(shop.caller.stream("steps", {"n": 2})) == [0, 1, 2]
"""


def test_a_client_is_typed_formatted_and_calls_the_service(
    tmp_path: Path, shop: str, processes: Processes
) -> None:
    made = daebus("contract", "client", "shop:app", "-o", "shop_client.py", cwd=tmp_path)
    assert (made.code, made.out) == (0, "")
    (tmp_path / "use.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")

    for check in (
        [TOOLS / "ruff", "format", "--isolated", "--diff", "shop_client.py"],
        [TOOLS / "ruff", "check", "--isolated", "shop_client.py"],
        [TOOLS / "mypy", "--config-file", "mypy.ini", "use.py", "shop_client.py"],
        [sys.executable, "use.py", shop],
    ):
        done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (check, done.stdout, done.stderr)


def test_a_service_that_runs_tells_the_same_as_its_app(tmp_path: Path, shop: str) -> None:
    named = ["shop:app", "--service", shop]
    daebus("contract", "export", "--live", shop, "-o", "live.json", cwd=tmp_path)

    diff, *made = daebus_each(
        [
            ["contract", "diff", "live.json", *named],
            *(["contract", "client", *source] for source in (named, ["live.json"])),
        ],
        cwd=tmp_path,
    )

    assert (diff.code, diff.out) == (0, "")
    assert made[0].out.startswith('"""A client of the service')
    assert made[0].out == made[1].out
