"""`daebus dashboard` over HTTP: who gets in, what may be done, and how it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from daebus import Daebus, DaebusCaller, SettingsError
from daebus.bus.embedded import EmbeddedServer
from daebus.channels import dead_key, inbox_key
from daebus.operate.dashboard import feed as feed_module
from daebus.operate.dashboard.command import dashboard as command
from daebus.operate.dashboard.dead_letters import summaries
from daebus.operate.dashboard.failed_events import FailedEvents
from daebus.operate.dashboard.queue_letters import QueueLetters
from daebus.operate.dashboard.texts import readable
from daebus.operate.fleet.views import Fleet
from daebus.operate.fleet.watch import FleetWatch
from fixtures.commands import daebus_each
from fixtures.dashboards import TOKEN, Dashboard, start_dashboard
from fixtures.processes import Processes
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, QueueSink, Record
from turbo_queue.pipeline import Pipeline

PATHS = ["/", "/static/main.js", "/api/events", "/api/contract?service=x", "/api/letters?service=x"]
CHANGES = ["/api/call?service=x&action=y&timeout_s=1", "/api/letters/retry", "/api/letters/drop"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dashboard looks for queues."""
    return tmp_path_factory.mktemp("queues")


@pytest.fixture(scope="module")
def dashboard(server: EmbeddedServer, folder: Path) -> Iterator[Dashboard]:
    with Processes() as processes:
        yield start_dashboard(processes, server.url, "--folder", str(folder))


@pytest.fixture
def web(dashboard: Dashboard) -> Iterator[httpx.Client]:
    with dashboard.client() as client:
        yield client


@pytest.fixture
def browser(dashboard: Dashboard) -> Iterator[httpx.Client]:
    """Like a browser that has opened the address, and shows the dashboard's page."""
    own = {"origin": dashboard.origin, "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=dashboard.origin, headers=own) as client:
        client.get("/", params={"token": TOKEN})
        yield client


def call(client: httpx.Client, service: str, action: str, payload: str = "{}") -> httpx.Response:
    query = {"service": service, "action": action, "timeout_s": "5"}
    json_headers = {"content-type": "application/json"}
    return client.post("/api/call", params=query, content=payload, headers=json_headers)


def lines_of(response: httpx.Response) -> list[dict[str, object]]:
    return [json.loads(line) for line in response.text.splitlines()]


def bury(url: str, service: str, data: bytes = b'{"action": "bill"}') -> str:
    with redis.Redis.from_url(url) as client:
        fields = {"data": data, "id": "m1", "reason": "ValueError: no", "deliveries": 5, "at": 1}
        return str(client.xadd(dead_key(service), fields).decode())


# --- who gets in ---


@pytest.mark.parametrize("known", [{}, {"authorization": "Bearer wrong"}, {"cookie": "a=b"}])
def test_without_the_token_nobody_gets_anything(
    dashboard: Dashboard, known: dict[str, str]
) -> None:
    own = {"sec-fetch-site": "same-origin", **known}
    with httpx.Client(base_url=dashboard.origin, headers=own) as stranger:
        answers = [stranger.get(path) for path in PATHS]
        answers += [stranger.post(path, json={"service": "x"}) for path in CHANGES]

    assert [answer.status_code for answer in answers] == [401] * len(PATHS + CHANGES)
    assert not any(TOKEN in answer.text for answer in answers)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN.upper(), "\udcff é"])
def test_a_wrong_token_opens_nothing(dashboard: Dashboard, token: str) -> None:
    query = {"token": token.encode(errors="surrogateescape")}
    answer = httpx.get(dashboard.origin, params=query)

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_token_goes_from_the_address_bar_to_a_cookie(dashboard: Dashboard) -> None:
    with httpx.Client(base_url=dashboard.origin) as client:
        opened = client.get(dashboard.link)
        page = client.get("/")

    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert page.status_code == 200
    assert "<title>daebus</title>" in page.text


@pytest.mark.parametrize("foreign", ['prefs={"a": 1, "b": [2]}', "a b=3", "none", 'q="; ='])
def test_cookies_of_other_programs_of_this_machine_lock_nobody_out(
    dashboard: Dashboard, foreign: str
) -> None:
    own = httpx.get(dashboard.link).headers["set-cookie"].partition(";")[0]

    for cookies in (f"{foreign}; {own}", f"{own}; {foreign}"):
        assert httpx.get(dashboard.origin, headers={"cookie": cookies}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil:80"])
def test_a_name_that_others_point_here_is_refused(browser: httpx.Client, host: str) -> None:
    answers = [browser.get(path, headers={"host": host}) for path in PATHS]

    assert {answer.status_code for answer in answers} == {421}


def test_other_names_of_this_machine_are_known(dashboard: Dashboard, web: httpx.Client) -> None:
    for name in ("localhost", "LOCALHOST", "[::1]"):
        assert web.get("/", headers={"host": f"{name}:{dashboard.port}"}).status_code == 200


@pytest.mark.parametrize(
    "forged",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
def test_what_another_page_sends_changes_nothing(
    browser: httpx.Client, url: str, service_name: str, forged: dict[str, str]
) -> None:
    entry = bury(url, service_name)
    wish = {"service": service_name, "id": entry}

    answers = [browser.post(path, json=wish, headers=forged) for path in CHANGES]

    assert {answer.status_code for answer in answers} == {403}
    with redis.Redis.from_url(url) as client:
        assert client.xlen(dead_key(service_name)) == 1


def test_what_a_form_can_send_changes_nothing(browser: httpx.Client) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""):
        for path in CHANGES:
            answer = browser.post(path, content=b"{}", headers={"content-type": kind})
            assert answer.status_code == 415


def test_a_cookie_alone_is_not_enough_to_change_something(browser: httpx.Client) -> None:
    del browser.headers["origin"]
    del browser.headers["sec-fetch-site"]

    assert {browser.post(path, json={}).status_code for path in CHANGES} == {403}


def test_other_methods_do_nothing(web: httpx.Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/", "/api/call", "/api/letters"):
            refused = web.request(method, path, headers={"content-type": "application/json"})
            assert refused.status_code == 405
    assert [web.get(path).status_code for path in CHANGES] == [405] * 3


def test_a_page_loads_its_own_files_and_nothing_else(
    dashboard: Dashboard, web: httpx.Client
) -> None:
    stranger = httpx.get(dashboard.origin)
    answers = [web.get("/"), web.get("/static/main.js"), web.get("/api/letters?service=x")]

    for answer in [*answers, web.get("/nonsense"), stranger]:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    for answer in answers:
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text


def test_no_file_but_those_of_the_page_is_served(web: httpx.Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/"):
        assert web.get(path).status_code == 404


# --- what may be done ---


def test_responses_come_line_by_line_and_keep_every_digit(
    start: Callable[[Daebus], DaebusCaller], web: httpx.Client, service_name: str
) -> None:
    app = Daebus("app")

    @app.action("steps")
    def steps(number: int) -> int:
        app.response.send({"step": 1}, final=False)
        return number

    start(app)
    first, last = lines_of(call(web, service_name, "steps", '{"number": 12345678901234567890}'))

    assert (first["number"], first["is_final"]) == (1, False)
    assert json.loads(str(first["text"])) == {"step": 1}
    assert (last["text"], last["is_final"]) == ("12345678901234567890", True)


def test_errors_have_their_code(
    start: Callable[[Daebus], DaebusCaller], web: httpx.Client, service_name: str
) -> None:
    app = Daebus("app")

    @app.action("fail")
    def fail() -> None:
        raise ValueError("no such luck")

    start(app)
    answers = [
        call(web, service_name, "fail"),
        call(web, service_name, "nonsense"),
        call(web, "nobody", "fail"),
    ]

    codes = [lines_of(answer)[-1]["code"] for answer in answers]
    assert codes == ["handler_error", "unknown_action", "unknown_service"]
    assert "no such luck" in answers[0].text


def test_a_browser_that_goes_cancels_its_call(
    start: Callable[[Daebus], DaebusCaller], dashboard: Dashboard, service_name: str
) -> None:
    app = Daebus("app")
    ends: list[str] = []

    @app.action("wait")
    async def wait() -> None:
        app.response.send("begun", final=False)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    start(app)
    query = {"service": service_name, "action": "wait", "timeout_s": "30"}
    with (
        dashboard.client() as client,
        client.stream("POST", "/api/call", params=query, json={}) as response,
    ):
        assert "begun" in next(response.iter_lines())

    eventually(lambda: ends == ["cancelled"])


def test_requests_that_make_no_sense_are_told_so(web: httpx.Client) -> None:
    kind = {"content-type": "application/json"}
    query = {"service": "x", "action": "y", "timeout_s": "1"}
    answers = {
        "not JSON": call(web, "x", "y", "{"),
        "too large": call(web, "x", "y", '"' + "x" * 2_000_000 + '"'),
        "no service": web.post("/api/call", content=b"{}", headers=kind),
        "no number": web.post("/api/call", params={**query, "timeout_s": "x"}, json={}),
        "for ever": web.post("/api/call", params={**query, "timeout_s": "1e9"}, json={}),
        "caller": web.get("/api/contract", params={"service": "caller_1"}),
        "no owner": web.get("/api/letters"),
        "a strange owner": web.get("/api/letters", params={"self": "x"}),
        "a wish": web.post("/api/letters/drop", content=b'{"services": 1}', headers=kind),
    }

    statuses = {what: answer.status_code for what, answer in answers.items()}
    assert statuses == {what: 413 if what == "too large" else 400 for what in answers}
    assert all(answer.json()["detail"] for answer in answers.values())


def test_a_letter_is_listed_shown_and_given_back(
    web: httpx.Client, url: str, service_name: str
) -> None:
    entry = bury(url, service_name, b'{"action": "bill", "payload": 12345678901234567890}')
    own = {"service": service_name}

    (listed,) = web.get("/api/letters", params=own).json()["letters"]
    shown = web.get("/api/letters/one", params={**own, "id": entry}).json()
    retried = web.post("/api/letters/retry", json={**own, "id": entry}).json()
    again = web.post("/api/letters/retry", json={**own, "id": entry})

    assert (listed["id"], listed["action"], listed["deliveries"]) == (entry, "bill", 5)
    assert "12345678901234567890" in shown["contents"][0]["text"]
    assert retried == {"done": 1}
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    with redis.Redis.from_url(url) as client:
        assert (client.xlen(dead_key(service_name)), client.xlen(inbox_key(service_name))) == (0, 1)


@pytest.mark.parametrize("letter_id", [f"{2**64}-1", f"1-{2**64}", "0/../1", "\0", "é" * 3000])
def test_an_id_that_none_can_have_is_not_there(
    web: httpx.Client, service_name: str, letter_id: str
) -> None:
    own = {"service": service_name, "id": letter_id}

    answers = [web.post(f"/api/letters/{what}", json=own) for what in ("retry", "drop")]
    answers.append(web.get("/api/letters/one", params=own))

    assert [answer.json()["code"] for answer in answers] == ["not_found"] * 3


def test_many_letters_are_listed_in_part_and_dropped_at_once(
    web: httpx.Client, url: str, service_name: str
) -> None:
    for _ in range(105):
        bury(url, service_name)
    own = {"service": service_name}

    listed = web.get("/api/letters", params=own).json()
    dropped = web.post("/api/letters/drop", json=own).json()

    assert (len(listed["letters"]), listed["has_more"]) == (100, True)
    assert dropped == {"done": 105}


def test_a_list_holds_one_letter_in_memory_at_a_time(tmp_path: Path) -> None:
    queue = Queue(tmp_path, max_events_per_file=1, max_failures=1)
    with queue.producer() as producer:
        producer.put_many("x" * 200_000 for _ in range(20))
    for _ in range(20):
        with queue.consumer() as consumer:
            next(iter(consumer))
            consumer.give_back("no")

    def peak_bytes(most: int) -> int:
        tracemalloc.start()
        assert len(summaries(QueueLetters(tmp_path), most)["letters"]) == most
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak_bytes(20) < 1.5 * peak_bytes(1)


def test_a_payload_that_would_swell_is_shown_as_it_stands() -> None:
    nested = b"[" * 900 + b"1," * 200_000 + b"1" + b"]" * 900

    tracemalloc.start()
    text = readable(nested)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert text.startswith("[[[")
    assert text.endswith("… (401,801 bytes)")
    assert peak_bytes < 5 * len(nested)


def test_only_queues_that_are_watched_are_touched(
    dashboard: Dashboard, web: httpx.Client, folder: Path, tmp_path: Path
) -> None:
    for queue in (Queue(folder / "mine", max_failures=1), Queue(tmp_path / "other")):
        with queue.producer() as producer:
            producer.put({"id": 1})
    with Queue(folder / "mine", max_failures=1).consumer() as consumer:
        next(iter(consumer))
        consumer.give_back("no mail server")
    with dashboard.client() as page, page.stream("GET", "/api/events") as events:
        assert any('"mine"' in line for line in events.iter_lines())

    mine = web.get("/api/letters", params={"queue": str(folder / "mine")}).json()["letters"]
    refused = [
        web.get("/api/letters", params={"queue": path})
        for path in (str(tmp_path / "other"), "/etc", f"{folder}/mine/../mine", "")
    ]

    assert [letter["reason"] for letter in mine] == ["no mail server"]
    assert all("no queue" in answer.json()["detail"] for answer in refused)


def test_what_failed_in_a_pipeline_is_read(
    dashboard: Dashboard, web: httpx.Client, folder: Path
) -> None:
    source, sink = IterableSource([b"1", b"<none>"]), QueueSink(folder / "results")
    Pipeline(source, "json:loads", sink, folder=folder / "numbers", processes=1, attempts=1).run()
    with dashboard.client() as page, page.stream("GET", "/api/events") as events:
        assert any('"numbers"' in line for line in events.iter_lines())
    own = {"pipeline": str(folder / "numbers")}

    (listed,) = web.get("/api/letters", params=own).json()["letters"]
    shown = web.get("/api/letters/one", params={**own, "id": listed["id"]}).json()
    refused = web.post("/api/letters/drop", json=own)

    assert "JSONDecodeError" in listed["reason"]
    assert (listed["deliveries"], shown["contents"][0]["text"]) == (1, "<none>")
    assert refused.status_code == 400


def test_the_id_of_what_failed_in_a_pipeline_is_that_of_no_other(tmp_path: Path) -> None:
    letters = FailedEvents(tmp_path)
    ids = []
    for value in (b"one", b"two"):
        shutil.rmtree(tmp_path)
        with Queue(tmp_path / "dead", codec="record").producer() as producer:
            producer.put(Record(value))
        ids += [letter.letter_id for letter in letters]

    assert letters.find(ids[0]) is None  # A page may still show it.
    assert letters.find(ids[1]) is not None


def test_read_only_shows_and_changes_nothing(
    processes: Processes, url: str, service_name: str
) -> None:
    bury(url, service_name)
    dashboard = start_dashboard(processes, url, "--read-only")

    with dashboard.client() as web:
        listed = web.get("/api/letters", params={"service": service_name}).json()["letters"]
        refused = [web.post(path, json={"service": service_name}) for path in CHANGES]

    assert len(listed) == 1
    assert {answer.json()["code"] for answer in refused} == {"read_only"}


# --- what is told ---


def first_events(dashboard: Dashboard) -> list[dict[str, Any]]:
    """The data of the first two events that a page gets: `hello` and `fleet`."""
    with dashboard.client() as page, page.stream("GET", "/api/events") as events:
        data = (line for line in events.iter_lines() if line.startswith("data: "))
        return [json.loads(next(data).removeprefix("data: ")) for _ in range(2)]


def test_a_page_that_is_opened_again_gets_what_was_before(dashboard: Dashboard) -> None:
    _, told = first_events(dashboard)
    hello, _ = first_events(dashboard)

    assert told["point"] in hello["points"]


def test_nobody_looks_while_no_page_is_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "EVERY_S", 0.01)
    looks = []

    class Watch(FleetWatch):
        def look(self) -> Fleet:
            looks.append(1)
            return super().look()

    async def watch() -> tuple[int, int]:
        feed = feed_module.Feed(Watch(url, []), {})
        feed.start()
        events = feed.events()
        seen = [await anext(events) for _ in range(3)]
        await events.aclose()
        await asyncio.sleep(0.05)  # One may be under way.
        before = len(looks)
        await asyncio.sleep(0.2)  # That nothing happens takes time to see.
        await feed.stop()
        return len(seen), len(looks) - before

    assert asyncio.run(watch()) == (3, 0)


# --- the command ---


def test_a_signal_ends_it_while_pages_are_open_and_calls_under_way(
    processes: Processes, start: Callable[[Daebus], DaebusCaller], url: str, service_name: str
) -> None:
    app = Daebus("app")

    @app.action("wait")
    async def wait() -> None:
        app.response.send("begun", final=False)
        await asyncio.Event().wait()

    start(app)
    dashboard = start_dashboard(processes, url)
    query = {"service": service_name, "action": "wait", "timeout_s": "30"}
    with (
        dashboard.client() as page,
        page.stream("GET", "/api/events") as events,
        page.stream("POST", "/api/call", params=query, json={}) as response,
    ):
        assert any(line.startswith("event: fleet") for line in events.iter_lines())
        lines = response.iter_lines()
        assert "begun" in next(lines)

        dashboard.process.signal(signal.SIGTERM)
        assert list(lines) == []
        assert dashboard.process.wait() == 0

    assert "Traceback" not in dashboard.process.output
    assert "ERROR" not in dashboard.process.output


def test_each_start_has_a_token_of_its_own(processes: Processes, url: str) -> None:
    links = {start_dashboard(processes, url, token=None).link for _ in range(2)}

    tokens = {link.partition("?token=")[2] for link in links}
    assert len(tokens) == 2
    assert min(len(token) for token in tokens) >= 40


def test_without_a_token_whoever_is_here_gets_in_but_no_other_page(
    processes: Processes, url: str
) -> None:
    dashboard = start_dashboard(processes, url, "--no-token", token=None)

    with httpx.Client(base_url=dashboard.origin) as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        assert client.post("/api/letters/drop", json={}).status_code == 403


def test_who_lets_others_in_is_warned(processes: Processes, url: str) -> None:
    dashboard = start_dashboard(processes, url, "--host", "0.0.0.0")

    assert "there is no TLS" in dashboard.process.output
    assert dashboard.link.startswith("http://127.0.0.1:")
    with dashboard.client(host="a-name-in-the-network") as client:
        assert client.get("/").status_code == 200


def test_a_server_that_is_away_is_waited_for(processes: Processes, own_server: object) -> None:
    assert isinstance(own_server, EmbeddedServer)
    own_server.stop()
    dashboard = start_dashboard(processes, own_server.url)
    own_server.start()

    with dashboard.client() as web:
        eventually(lambda: call(web, "x", "y").json().get("code") == "unknown_service")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "short"}, "8 characters or more"),
        ({"token": "with a space"}, "without spaces"),
        ({"token": TOKEN, "no_token": True}, "contradict"),
        ({"no_token": True, "host": "0.0.0.0"}, "loopback only"),
        ({"url": "nonsense"}, "no server address"),
        ({"host": "no.such.host.example"}, "cannot listen"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("own_logging")
def test_options_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        command(**options)


def test_help_teaches_and_a_port_that_is_taken_is_told(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        shown, refused = daebus_each([["dashboard", "--help"], ["dashboard", "--port", port]])

    assert "Examples:" in shown.out
    assert refused.code == 2
    assert "already in use" in refused.err
    assert "Traceback" not in refused.err


def test_half_a_request_is_told_of_the_stop(url: str, processes: Processes) -> None:
    dashboard = start_dashboard(processes, url)
    with socket.create_connection(("127.0.0.1", dashboard.port)) as half:
        half.sendall(
            b"POST /api/letters/drop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n"
            b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n\r\n{" % TOKEN.encode()
        )
        # The server has read the first request when it answers a later one.
        with dashboard.client() as client:
            assert client.get("/").status_code == 200
        dashboard.process.signal(signal.SIGTERM)

        assert half.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert dashboard.process.wait() == 0
    assert "Traceback" not in dashboard.process.output
