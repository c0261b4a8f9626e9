"""What the gateway decides without a network: what is exposed, what errors are, what it tells."""

from __future__ import annotations

import pytest

from daebus import errors
from daebus.contracts import ActionContract, Contract
from daebus.errors import Code
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.gateway.openapi import openapi
from daebus.operate.gateway.shown import shown
from daebus.operate.web.event_stream import event
from daebus.operate.web.http_errors import problem_of


@pytest.mark.parametrize(
    ("given", "service", "action", "is_exposed"),
    [
        ("shop", "shop", "order", True),
        ("shop", "shop.internal", "order", False),
        ("shop.order", "shop", "order", True),
        ("shop.order", "shop", "orders", False),
        ("shop.order", "shop.order", "anything", False),
        ("shop.*", "shop", "order", True),
        ("shop.*", "shop.internal", "order", False),
        ("shop.get_*", "shop", "get_order", True),
        ("shop.users.create", "shop", "users.create", True),
        ("shop.orders/create", "shop.orders", "create", True),
        ("shop.orders/*", "shop.orders", "create", True),
        ("sh*", "shop", "order", True),
        ("*", "shop", "daebus.drain", False),
        ("*.*", "shop", "daebus.drain", False),
        ("shop.d*", "shop", "daebus.drain", False),
        ("shop.daebus.*", "shop", "daebus.ping", True),
        ("SHOP", "shop", "order", False),
    ],
)
def test_only_what_was_named_is_exposed(
    given: str, service: str, action: str, is_exposed: bool
) -> None:
    assert Exposed([given]).has_action(service, action) is is_exposed


@pytest.mark.parametrize("given", ["", ".", "shop.", ".order", "/", "a\nb"])
def test_what_names_nothing_is_refused(given: str) -> None:
    with pytest.raises(errors.SettingsError):
        Exposed([given])


@pytest.mark.parametrize("given", ["a.[^s]*", "a.[!s]*", r"a.\**", "a.[s", "a.[]s]*", "[^a].x"])
def test_a_pattern_that_can_be_read_in_two_ways_is_refused(given: str) -> None:
    for arguments in ([[given]], [[], [given]], [[], [], [given]]):
        with pytest.raises(errors.SettingsError, match="cannot be exposed"):
            Exposed(*arguments)


def test_a_pattern_may_name_characters() -> None:
    exposed = Exposed(["shop.[ab]_?"], ["logs.[0-9].*"])

    assert exposed.has_action("shop", "b_1")
    assert exposed.has_channel("logs.7.x")
    assert not exposed.has_action("shop", "c_1")
    assert not exposed.has_channel("logs.x.x")


def test_a_pattern_of_a_client_counts_only_as_it_was_named() -> None:
    exposed = Exposed([], ["events.*"], ["events.in"])

    assert exposed.has_channel("events.new")
    assert exposed.has_channel("events.*")
    for channel in ("*", "events.n*", "events.[a-z]", "other"):
        assert not exposed.has_channel(channel)
    assert exposed.may_publish("events.in")
    assert not exposed.may_publish("events.new")


CODES = {value for name, value in vars(Code).items() if name.isupper()}


@pytest.mark.parametrize("code", sorted(CODES))
def test_each_code_of_the_wire_has_a_status_of_its_own(code: str) -> None:
    error = errors.remote_error(code, "said", service="shop", action="order")
    problem = problem_of(error)

    assert (problem.code, problem.detail) == (code, "said")
    assert (problem.service, problem.action) == ("shop", "order")
    assert problem.status >= 500 or code in {
        Code.BAD_REQUEST,
        Code.UNKNOWN_ACTION,
        Code.CANCELLED,
    }


def test_an_error_of_a_later_version_is_the_services_failure() -> None:
    error = errors.remote_error("of_later", "said", service="shop", action="order")

    assert (problem_of(error).status, problem_of(error).code) == (500, "of_later")


def test_the_subclass_counts_before_its_base() -> None:
    for error, status in (
        (errors.ServiceUnavailable("shop"), 404),
        (errors.ServerUnavailable("redis://host", "refused"), 503),
        (errors.ConnectionLost("redis://host", "reset"), 502),
        (errors.ReplicaLost("shop", "order"), 502),
        (errors.ServerFull("shop", "no memory"), 503),
        (errors.TooLarge(2, 1), 413),
        (errors.BadMessage("what"), 400),
    ):
        assert problem_of(error).status == status


def test_a_line_break_ends_no_event() -> None:
    assert (
        event("message", b'{\r\n"a":\n1}') == b'event: message\ndata: {\ndata: "a":\ndata: 1}\n\n'
    )


CARD = {"$ref": "#/components/schemas/Card"}


def a_shop(service: str, field: str) -> Contract:
    """A contract whose type `Order` is the same for all, and refers to one that is not."""
    order, item = ({"$ref": f"#/components/schemas/{name}"} for name in ("Order", "Item"))
    return Contract(
        service=service,
        wire_version=1,
        actions=[ActionContract(name="get", result=order)],
        schemas={
            "Order": {"type": "object", "properties": {"item": item}},
            "Item": {"type": "object", "properties": {field: {"type": "string"}, "of": order}},
        },
    )


def test_types_of_one_name_that_differ_stay_apart() -> None:
    contracts = [a_shop("a", "x"), a_shop("b", "y"), a_shop("c", "x")]
    document = openapi(contracts, Exposed(["*"]), version="1", needs_token=False)

    schemas = document["components"]["schemas"]
    for service, field in (("a", "x"), ("b", "y"), ("c", "x")):
        answers = document["paths"][f"/services/{service}/actions/get"]["post"]["responses"]
        reference = answers["200"]["content"]["application/json"]["schema"]
        order = schemas[reference["$ref"].rpartition("/")[2]]
        item = schemas[order["properties"]["item"]["$ref"].rpartition("/")[2]]
        assert item["properties"] == {field: {"type": "string"}, "of": reference}
    assert sorted(schemas) == ["Item", "Item_b", "Order", "Order_b", "Problem"]


def test_a_type_of_a_service_is_not_taken_for_an_error() -> None:
    contract = a_shop("shop", "x")
    contract.schemas |= {"Problem": {"type": "string"}, "GatewayProblem": {"type": "string"}}

    schemas = openapi([contract], Exposed(["*"]), version="1", needs_token=False)["components"]

    assert schemas["schemas"]["Problem"] == schemas["schemas"]["GatewayProblem"]
    assert schemas["schemas"]["Problem_2"]["required"] == ["status", "code", "title"]


def test_each_operation_has_an_id_of_its_own() -> None:
    contracts = [
        Contract(service=service, wire_version=1, actions=[ActionContract(name=action)])
        for service, action in (("a.b", "c"), ("a", "b.c"), ("listen", "x"))
    ]

    paths = openapi(contracts, Exposed(["*"], ["x"]), version="1", needs_token=False)["paths"]

    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert ids == ["a.b.c", "a.b.c_2", "listen.x", "listen.x_2"]


def test_types_that_only_hidden_actions_need_are_hidden_too() -> None:
    contract = a_shop("shop", "x")
    contract.actions.append(ActionContract(name="pay", payload={"properties": {"a": CARD}}))
    contract.schemas["Card"] = {"type": "string"}

    assert list(shown(contract, Exposed(["shop.get"])).schemas) == ["Order", "Item"]
    assert list(shown(contract, Exposed(["shop.p*"])).schemas) == ["Card"]


def test_names_in_paths_are_escaped() -> None:
    contract = Contract(service="a{b}/?", wire_version=1, actions=[ActionContract(name="ü {id}")])

    document = openapi([contract], Exposed(["*"]), version="1", needs_token=False)

    assert list(document["paths"]) == ["/services/a%7Bb%7D%2F%3F/actions/%C3%BC%20%7Bid%7D"]
