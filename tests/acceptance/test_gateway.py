"""`daebus gateway`: calls over HTTP, and what each error is there."""

from __future__ import annotations

import gzip
import json
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from daebus import Broadcast, Daebus
from daebus.bus.embedded import EmbeddedServer
from fixtures.commands import daebus
from fixtures.gateway import Gateway, start_service, started_gateway
from fixtures.processes import Processes
from fixtures.waiting import eventually

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def gateway(server: EmbeddedServer) -> Iterator[Gateway]:
    name = f"svc_{uuid.uuid4().hex[:12]}"
    with Processes() as processes:
        start_service(processes, name, server.url)
        exposed = [name, f"{name}_new", "nobody"]
        options = [*(f"--expose={each}" for each in exposed), "--channel", "gateway.*"]
        with started_gateway(processes, name, server.url, *options) as started:
            yield started


@pytest.fixture(scope="module")
def small(server: EmbeddedServer, gateway: Gateway) -> Iterator[Gateway]:
    """A gateway before the same service that allows hardly anything, and needs a token."""
    name = gateway.service
    options = [
        *("--expose", f"{name}.add", "--expose", f"{name}/*limited*", "--expose", f"{name}.e*"),
        *(
            "--expose",
            f"{name}.steps",
            "--expose",
            f"{name}.daebus.ping",
            "--expose",
            f"{name}_narrow",
            "--max-body",
            "100",
        ),
        *(
            "--channel",
            "*",
            "--publish",
            "*",
            "--max-requests",
            "1",
            "--max-timeout",
            "5",
            "--show-errors",
        ),
        *("--cors", "https://app.example.com", "--allow-host", "gateway.example.com"),
    ]
    with (
        Processes() as processes,
        started_gateway(processes, name, server.url, *options, token="s3cret") as started,
    ):
        yield started


def test_the_body_is_the_payload_and_the_answer_the_result(gateway: Gateway) -> None:
    answer = gateway.post("add", '{"a": 1, "b": 2}')

    assert (answer.status_code, answer.text) == (200, "3")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("text", ["{}", "[1,2.5]", '"\\u00e9\\ud83d\\ude00"', "null", '{"é":"😀"}'])
def test_any_json_goes_through_as_it_is(gateway: Gateway, text: str) -> None:
    answer = gateway.post("echo", text.encode())

    assert answer.json() == httpx.Response(200, text=text).json()


def test_no_body_is_an_empty_object_and_a_chunked_one_is_read(gateway: Gateway) -> None:
    parts = iter([b'{"a": 1', b', "b": 5}'])

    assert gateway.post("echo").json() == {}
    assert gateway.post("add", parts).json() == 6


ERRORS = [
    ("add", b'{"a":', 400, "bad_json"),
    ("add", b'{"a": 1} x', 400, "bad_json"),
    ("echo", b'"\xff"', 400, "bad_json"),
    ("echo", b"[" * 100 + b"]" * 100, 400, "bad_json"),
    ("nothing", b"", 404, "unknown_action"),
    ("daebus.drain", b"{}", 404, "not_exposed"),
    ("add", b'{"a": "x"}', 422, "bad_request"),
    ("echo", b'"' + b"x" * 1024 * 1024 + b'"', 413, "too_large"),
    ("endless?timeout=nan", b"", 400, "bad_request"),
    ("endless?timeout=-1", b"", 400, "bad_request"),
    ("limited", b"", 504, "handler_timeout"),
    ("fail", b"", 500, "handler_error"),
    ("refuse", b"", 500, "error"),
    ("%00", b"", 400, "bad_request"),
    ("x" * 300, b"", 400, "bad_request"),
    ("%ff", b"", 404, "unknown_action"),
]


@pytest.mark.parametrize(("action", "body", "status", "code"), ERRORS)
def test_an_error_has_a_status_and_a_body_that_says_it(
    gateway: Gateway, action: str, body: bytes, status: int, code: str
) -> None:
    answer = gateway.post(action, body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["title"]


def test_a_time_that_is_over_is_told(gateway: Gateway) -> None:
    answer = gateway.post("endless?timeout=0.2")

    assert answer.status_code == 504
    # The gateway's clock and the service's run out together; either may be the first to say so.
    assert answer.json()["code"] in {"timeout", "expired"}


def test_an_unknown_service_and_an_unexposed_one_are_not_found(gateway: Gateway) -> None:
    for name, code in (("nobody", "unknown_service"), ("another", "not_exposed")):
        answer = gateway.client.post(f"/services/{name}/actions/add", content="{}")

        assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_an_overloaded_service_is_told_with_a_time_to_come_again(small: Gateway) -> None:
    # The calls give up, their handler does not: some run or wait, and the next is refused.
    path = f"/services/{small.service}_narrow/actions/hold?timeout="
    answers = [small.client.post(path + seconds) for seconds in ["0.05"] * 5 + ["2"]]

    assert answers[0].status_code == 504
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (503, "overloaded")
    assert answers[-1].headers["retry-after"] == "1"


def test_what_a_handler_raised_stays_inside_unless_it_is_asked_for(
    gateway: Gateway, small: Gateway
) -> None:
    assert "secrets" not in gateway.post("fail").text
    assert "not enough money" in gateway.post("refuse").text
    assert "has:" not in gateway.post("nothing").text
    assert small.post("e_nothing").json()["detail"].startswith("there is no action 'e_nothing'")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_another_method_is_not_allowed(gateway: Gateway, method: str) -> None:
    answer = gateway.client.request(method, f"/services/{gateway.service}/actions/add")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_names_may_be_any_text(gateway: Gateway) -> None:
    assert gateway.post(quote("größe/π", safe="")).json() == "µ"


def test_a_key_makes_a_repeat_harmless(gateway: Gateway) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first, again = (gateway.post("once", headers=key).json() for _ in range(2))

    assert first == again
    assert gateway.post("echo", headers={"Idempotency-Key": "x" * 300}).status_code == 400


def test_only_the_headers_of_traces_are_passed_on(gateway: Gateway) -> None:
    trace = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "baggage": "user=1"}

    passed = gateway.post("headers", headers={**trace, "Cookie": "a=b", "X-Other": "1"}).json()

    assert passed == trace


def test_answers_leave_at_once(gateway: Gateway) -> None:
    answers = [gateway.post("add", '{"a": 1}') for _ in range(60)]

    # Head and body are sent one after the other, and must not wait for each other's receipt: that
    # takes 40 ms each time, once the connection is warm.
    assert min(each.elapsed.total_seconds() for each in answers[20:]) < 0.03


def test_who_wants_no_answer_does_not_wait(gateway: Gateway) -> None:
    mark = uuid.uuid4().hex
    answer = gateway.post("once", f'"{mark}"', headers={"Prefer": "respond-async"})

    assert (answer.status_code, answer.content) == (202, b"")
    assert mark in gateway.post("runs").json()
    nobody = gateway.client.post("/services/nobody/actions/x", headers={"Prefer": "respond-async"})
    assert nobody.status_code == 404


def test_it_lists_what_is_exposed_and_alive(gateway: Gateway, small: Gateway) -> None:
    (found,) = gateway.client.get("/services").json()["services"]
    assert (found["service"], found["replicas"]) == (gateway.service, 1)
    assert "add" in found["actions"]
    assert gateway.client.get("/services/nobody").status_code == 404

    one = small.client.get(f"/services/{small.service}").json()
    assert one["contract"]["schemas"] == {}  # What others take and give is not told either.
    assert one["actions"] == ["add", "echo", "endless", "limited", "steps"]
    assert sorted(each["name"] for each in one["contract"]["actions"]) == one["actions"]


def test_a_built_in_action_is_exposed_only_by_its_name(small: Gateway, gateway: Gateway) -> None:
    assert small.post("daebus.ping").json()["service"] == small.service
    assert small.post("daebus.info").json()["code"] == "not_exposed"
    assert gateway.post("daebus.ping").json()["code"] == "not_exposed"


@pytest.mark.parametrize("channel", ["caller_x", "daebus:{shop}:control", "caller_*"])
def test_what_services_and_callers_say_to_each_other_is_never_exposed(
    small: Gateway, channel: str
) -> None:
    answer = small.client.get(f"/channels/{channel}", headers=EVENTS)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_exposed")


def test_a_pattern_reaches_no_internal_channel(small: Gateway, broadcaster: Broadcast) -> None:
    with small.client.stream("GET", "/channels/*", headers=EVENTS) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": still there"
        for channel in ("caller_x", "daebus:{shop}:to:x", "last"):
            broadcaster.send(channel, 1)

        found = next(line for line in lines if "channel" in line)
    assert found == 'data: {"channel":"last","payload":1}'


def test_without_the_token_only_the_probes_answer(small: Gateway) -> None:
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        answer = httpx.get(f"{small.url}/services", headers=given)

        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert httpx.get(f"{small.url}/live").json() == {"is_live": True}
    assert httpx.get(f"{small.url}/ready").json() == {"is_ready": True}


def test_pages_of_other_sites_and_other_names_are_kept_out(gateway: Gateway) -> None:
    port = gateway.url.rpartition(":")[2]
    for headers, status in (
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": gateway.url}, 200),
        ({"Host": f"evil.example.com:{port}"}, 421),
        ({"Host": f"localhost:{port}"}, 200),
    ):
        assert gateway.post("add", '{"a": 1}', headers=headers).status_code == status, headers


def test_chosen_pages_and_names_are_let_in(small: Gateway) -> None:
    page = "https://app.example.com"
    asked = {"Origin": page, "Access-Control-Request-Method": "POST"}

    preflight = httpx.options(f"{small.url}/services/x/actions/y", headers=asked)
    answer = small.post("add", '{"a": 1}', headers={"Origin": page, "Host": "gateway.example.com"})

    assert preflight.headers["access-control-allow-origin"] == page
    assert (answer.text, answer.headers["access-control-allow-origin"]) == ("1", page)
    assert answer.headers["access-control-expose-headers"] == "Retry-After"


def test_a_large_body_is_refused_before_it_is_read(small: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", int(small.url.rpartition(":")[2]))) as raw:
        raw.sendall(
            f"POST /services/{small.service}/actions/add HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer s3cret\r\nContent-Length: 9999999\r\n\r\n".encode()
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
    assert small.post("add", iter([b"x" * 60, b"x" * 60])).status_code == 413


def test_a_compressed_body_is_refused_as_such(gateway: Gateway) -> None:
    body = gzip.compress(b'{"a": 1}')
    answer = gateway.post("add", body, headers={"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (415, "encoded_body")
    assert answer.headers["accept-encoding"] == "identity"


def test_openapi_describes_each_action(gateway: Gateway) -> None:
    document = gateway.client.get("/openapi.json").json()
    paths = {path.rpartition("/")[2]: each.get("post") for path, each in document["paths"].items()}

    assert document["openapi"] == "3.1.0"
    assert paths["add"]["summary"] == "Add two numbers."
    payload = paths["add"]["requestBody"]["content"]["application/json"]["schema"]
    assert payload["required"] == ["a"]
    assert payload["properties"] == {
        "a": {"type": "integer"},
        "b": {"type": "integer", "default": 0},
    }
    result = paths["buy"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert result["items"] == {"$ref": "#/components/schemas/Item"}
    assert document["components"]["schemas"]["Item"]["required"] == ["name"]
    assert "gr%C3%B6%C3%9Fe%2F%CF%80" in paths


def test_openapi_is_whole(gateway: Gateway, small: Gateway) -> None:
    for each in (gateway, small):
        document = each.client.get("/openapi.json").json()
        operations = [item for path in document["paths"].values() for item in path.values()]

        assert len({item["operationId"] for item in operations}) == len(operations) > 2
        assert references(document) <= {
            f"#/components/schemas/{name}" for name in document["components"]["schemas"]
        }
        assert all({"200", "404", "503"} <= item["responses"].keys() for item in operations)
    assert document["security"] == [{"token": []}]


def references(value: object) -> set[str]:
    if isinstance(value, list):
        return {found for each in value for found in references(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own | references(list(value.values()))


def test_a_request_too_many_is_refused(small: Gateway) -> None:
    path = f"/services/{small.service}/actions/steps"
    with small.client.stream("POST", path, headers=EVENTS) as held:
        lines = held.iter_lines()
        next(lines)
        refused = small.post("add", '{"a": 1}')

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["code"] == "gateway_full"
    eventually(lambda: small.post("add", '{"a": 1}').text == "1")


IMPOSSIBLE = [
    ([], 2, "nothing is exposed"),
    (["--expose", "."], 2, "names nothing that can be exposed"),
    (["--expose", "x.[^a]*"], 2, "cannot be exposed"),
    (["--expose", "x", "--token", ""], 2, "the token must be"),
    (["--expose", "x", "--cors", "https://a.example/"], 2, "is no origin"),
    (["--expose", "x", "--grace", "inf"], 2, "must be a number of seconds"),
    (["--expose", "x", "--host", "no.such.host.invalid"], 2, "cannot listen on"),
    (["--expose", "x", "--port", "0", "--url", "redis://127.0.0.1:1"], 3, "cannot use the server"),
]

#: Runs the command with each list of arguments, in one process: to start is what takes long.
EACH = """
import json, sys
from daebus.operate.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = ["gateway", *arguments]
    try:
        main()
    except SystemExit as end:
        print("ended with", end.code, "after", json.dumps(arguments), flush=True)
"""


def test_a_start_that_cannot_be_is_told(processes: Processes) -> None:
    done = processes.python(EACH, json.dumps([arguments for arguments, _, _ in IMPOSSIBLE]))
    assert done.wait() == 0, done.output

    rest = done.output
    for arguments, code, text in IMPOSSIBLE:
        told, found, rest = rest.partition(f"ended with {code} after {json.dumps(arguments)}\n")
        assert found, rest
        assert text in told
    assert "Traceback" not in done.output


def test_a_port_that_is_taken_is_told(gateway: Gateway, url: str) -> None:
    port = gateway.url.rpartition(":")[2]

    done = daebus("gateway", "--expose", "x", "--port", port)

    assert (done.code, done.out) == (2, "")
    assert f"port {port}: Address already in use" in done.err


def test_without_the_extra_it_says_what_to_install(processes: Processes) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None; from daebus.operate.cli import main; main()"
    )

    done = processes.run([sys.executable, "-c", program, "gateway", "--expose", "x"])

    assert done.wait() == 2
    assert "pip install 'daebus[web]'" in done.output


@pytest.fixture(scope="module")
def talkative(
    server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that logs all, is open to all, and finds another parser of HTTP installed."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "httptools.py").write_text("raise RuntimeError('it bounds no headers')")
    options = ["--expose", "x", "--host", "0.0.0.0", "--log-level", "debug"]
    with Processes() as processes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        with started_gateway(processes, "x", server.url, *options) as started:
            yield started


def test_requests_are_logged_only_where_that_is_asked_for(
    talkative: Gateway, gateway: Gateway
) -> None:
    talkative.client.get("/services?a=%0aforged")

    talkative.process.wait_for('"GET /services?a=%0aforged HTTP/1.1" 200')
    assert "/services" not in gateway.process.output


def test_an_open_door_is_warned_of(talkative: Gateway) -> None:
    assert "whoever can reach 0.0.0.0" in talkative.process.output


def test_headers_are_bounded_whatever_is_installed(talkative: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", int(talkative.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 65_536)

        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_new_version_of_a_service_is_described_anew(gateway: Gateway, url: str) -> None:
    service = f"{gateway.service}_new"

    def actions() -> list[str]:
        paths = gateway.client.get("/openapi.json").json()["paths"]
        return [path.rpartition("/")[2] for path in paths if f"/{service}/" in path]

    for name in ("first", "second"):
        app = Daebus("any")
        app.action(name)(lambda: None)
        app.start(service)
        try:
            eventually(lambda name=name: actions() == [name])
        finally:
            app.stop()
    eventually(lambda: actions() == [])
