"""The dashboard's page in a real browser, without a window."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from daebus import Daebus, DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import Replica, encode_replica
from daebus.channels import dead_key, inbox_key, presence_key
from daebus.service import heartbeat
from fixtures.dashboards import TOKEN, Dashboard, start_dashboard
from fixtures.processes import Processes
from turbo_queue import Queue

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"there is no browser {CHROMIUM}; install Debian's chromium"
)

#: What would run if it were taken for markup or code.
HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>\'"&lt;'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # The sandbox wants rights that a container has not, and root may not use it. Without a
        # GPU it would draw as if there were one, which takes longer.
        arguments = ["--no-sandbox", "--disable-gpu"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dashboard looks for queues."""
    return tmp_path_factory.mktemp("queues")


@pytest.fixture(scope="module")
def dashboard(server: EmbeddedServer, folder: Path) -> Iterator[Dashboard]:
    with Processes() as processes:
        yield start_dashboard(processes, server.url, "--folder", str(folder))


class Pages:
    """Opens pages, and keeps what went wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.errors: list[str] = []
        self.requested: list[str] = []

    def open(self, dashboard: Dashboard, view: str = "", *, width: int = 1280) -> Page:
        context = self._browser.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.on(
            "console",
            lambda told: (
                self.errors.append(told.text) if "Content Security Policy" in told.text else None
            ),
        )
        page.goto(dashboard.link)
        if view:
            page.goto(f"{dashboard.origin}/{view}")
        return page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    opened = Pages(browser)
    yield opened
    opened.close()
    assert opened.errors == []


@pytest.fixture
def app() -> Daebus:
    """A service whose actions show what the form can do."""
    made = Daebus("app")

    @made.action("add")
    def add(a: int, b: int = 0) -> int:
        """Add two numbers."""
        if b < 0:
            raise ValueError("b is below zero")
        return a + b

    @made.action("steps")
    async def steps(count: int) -> str:
        for step in range(count):
            made.response.send({"step": step}, final=False)
        await go_on.wait()
        return "the end"

    @made.action("go_on")
    async def let_go_on() -> None:
        go_on.set()

    go_on = asyncio.Event()
    return made


def test_services_show_live(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "REFRESH_S", 0.1)  # So the page need not wait for 2 s.
    page = pages.open(dashboard)
    caller = start(app)
    page.get_by_role("link", name=service_name).click()
    expect(page.get_by_role("img", name="Requests per second")).to_be_visible()
    for number in range(100):
        caller.call("add", {"a": number})

    handled = page.get_by_role("row").filter(has_text=str(os.getpid())).get_by_role("cell").nth(5)
    expect(handled).to_have_text(re.compile("10[01]"))  # The page asks what the actions take.


def test_an_action_is_called_by_its_form_and_streams(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
) -> None:
    caller = start(app)
    page = pages.open(dashboard, f"#/service/{service_name}")
    page.get_by_role("button", name="steps").click()

    page.get_by_label("count").fill("2")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.get_by_text("2 responses so far")).to_be_visible()
    expect(page.locator(".responses pre")).to_have_count(2)
    caller.call("go_on")

    expect(page.get_by_text("Done after")).to_contain_text("3 responses")
    expect(page.locator(".responses pre").last).to_have_text('"the end"')


def test_an_error_shows_with_its_code_and_a_wrong_field_is_not_sent(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
) -> None:
    start(app)
    page = pages.open(dashboard, f"#/service/{service_name}")
    page.get_by_role("button", name="add").click()
    call = page.get_by_role("button", name="Call", exact=True)
    expect(page.get_by_text("Add two numbers.")).to_be_visible()

    page.get_by_label("a integer").fill("one")
    call.click()
    expect(page.locator(".outcome")).to_be_empty()
    page.get_by_label("a integer").fill("1")
    call.click()
    expect(page.locator(".responses pre")).to_have_text("1")
    page.get_by_label("b integer").fill("-1")
    call.click()

    expect(page.locator(".outcome")).to_contain_text("handler_error")
    expect(page.locator(".outcome")).to_contain_text("b is below zero")


def test_a_payload_may_be_typed_as_json_and_a_call_cancelled(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
) -> None:
    start(app)
    page = pages.open(dashboard, f"#/service/{service_name}")
    page.get_by_role("button", name="steps").click()
    page.get_by_label("count").fill("1")

    page.get_by_role("button", name="JSON").click()
    payload = page.get_by_label("Payload as JSON")
    expect(payload).to_have_value('{\n  "count": 1\n}')
    payload.fill("{count: 1}")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="not valid JSON")).to_be_visible()
    payload.fill('{"count": 3}')
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.locator(".responses pre")).to_have_count(3)
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".outcome")).to_contain_text("Cancelled after")
    expect(page.get_by_role("button", name="Call", exact=True)).to_be_enabled()


@pytest.fixture
def stored(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


def bury(stored: redis.Redis, service: str, **fields: str) -> None:
    """Put a message among the dead of an inbox, as the service does."""
    stored.xgroup_create(inbox_key(service), service, mkstream=True)
    usual = {"data": '{"action": "bill", "payload": {"amount": 5}}', "id": "m1"}
    more = {"reason": "ValueError: no such luck", "deliveries": 5, "at": 1_795_247_780_123}
    stored.xadd(dead_key(service), {**usual, **more, **fields})


def test_a_dead_letter_is_read_and_given_back(
    pages: Pages, dashboard: Dashboard, stored: redis.Redis, service_name: str
) -> None:
    bury(stored, service_name)
    page = pages.open(dashboard)
    page.get_by_role("link", name=service_name).click()

    page.get_by_text("action bill").click()
    expect(page.locator(".letter pre")).to_contain_text('"amount": 5')
    page.get_by_role("button", name="Retry", exact=True).click()

    expect(page.get_by_text("1 dead letter given back.")).to_be_visible()
    expect(page.locator(".letter")).to_have_count(0)
    assert (stored.xlen(dead_key(service_name)), stored.xlen(inbox_key(service_name))) == (0, 1)


def test_a_dead_letter_is_dropped_when_that_is_confirmed(
    pages: Pages, dashboard: Dashboard, stored: redis.Redis, service_name: str
) -> None:
    bury(stored, service_name)
    page = pages.open(dashboard, f"#/service/{service_name}")
    page.get_by_text("action bill").click()
    drop = page.get_by_role("button", name="Drop …", exact=True)

    drop.click()
    page.keyboard.press("Enter")  # What has the focus is harmless.
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert stored.xlen(dead_key(service_name)) == 1
    drop.click()
    page.get_by_role("button", name="Remove").click()

    expect(page.get_by_text("1 dead letter removed.")).to_be_visible()
    assert (stored.xlen(dead_key(service_name)), stored.xlen(inbox_key(service_name))) == (0, 0)


def test_a_queue_shows_its_batches_by_state_and_its_dead_are_given_back(
    pages: Pages, dashboard: Dashboard, folder: Path
) -> None:
    queue = Queue(folder / "mails", max_events_per_file=2, max_failures=1)
    with queue.producer() as producer:
        producer.put_many({"to": "ada@example.org", "n": n} for n in range(6))
    with queue.consumer() as consumer:
        next(iter(consumer))
        consumer.give_back("no mail server")

    page = pages.open(dashboard, "#/queues")
    card = page.locator("section.card").filter(has_text="mails").first
    bar = card.get_by_role("img", name="Batches: 0 loading, 2 ready, 0 chosen, 1 dead")
    expect(bar).to_be_visible()
    card.get_by_text("no mail server").click()
    expect(card.locator(".letter pre").first).to_contain_text('"to": "ada@example.org"')
    card.get_by_role("button", name="Retry all").click()

    expect(card.get_by_role("img", name="3 ready, 0 chosen, 0 dead")).to_be_visible()
    assert queue.stats().dead.batches == 0


def test_who_has_no_token_is_asked_for_it(pages: Pages, dashboard: Dashboard) -> None:
    page = pages.open(dashboard)
    page.context.clear_cookies()

    page.goto(f"{dashboard.origin}/?token=wrong")
    expect(page.get_by_role("heading")).to_have_text("This token is not the right one")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()

    expect(page.get_by_role("navigation")).to_be_visible()
    assert page.url == f"{dashboard.origin}/"
    assert TOKEN not in page.evaluate("document.cookie")


@pytest.mark.parametrize("kind", ["link", "origin"])
def test_a_link_on_a_page_of_another_site_opens_it(
    pages: Pages, dashboard: Dashboard, kind: str
) -> None:
    page = pages.open(dashboard)  # So it has the token.
    text = f"<a href='{getattr(dashboard, kind)}'>look</a>"
    page.route("http://chat.example/", lambda route: route.fulfill(body=text))
    page.goto("http://chat.example/")
    page.get_by_text("look").click()

    expect(page.get_by_role("navigation")).to_be_visible()


def test_nothing_from_the_wire_runs_in_the_page(
    start: Callable[[Daebus], DaebusCaller],
    pages: Pages,
    dashboard: Dashboard,
    stored: redis.Redis,
    service_name: str,
) -> None:
    app = Daebus("app")

    @app.action(HOSTILE)
    def hostile(text: str = HOSTILE) -> str:
        app.response.send({HOSTILE: HOSTILE}, final=False)
        raise ValueError(HOSTILE)

    hostile.__doc__ = HOSTILE
    start(app)
    bury(stored, service_name, data=f'{{"action": "{HOSTILE[:20]}', reason=HOSTILE, id=HOSTILE)
    forged = Replica(
        service=HOSTILE, replica_id=HOSTILE, host=HOSTILE, pid=1, version=HOSTILE, started_at=0,
        is_ready=False, troubles=[HOSTILE], incidents={HOSTILE: 1}, delivery=HOSTILE,
    )  # fmt: skip
    key = presence_key(HOSTILE, "1")
    stored.set(key, encode_replica(forged), ex=60)

    page = pages.open(dashboard)
    page.get_by_role("link", name=HOSTILE, exact=True).click()
    expect(page.get_by_role("row").filter(has_text=f"{HOSTILE}: 1")).to_be_visible()
    page.goto(f"{dashboard.origin}/#/service/{service_name}")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.locator(".outcome")).to_contain_text(f"ValueError: {HOSTILE}")
    expect(page.locator(".responses pre")).to_contain_text("onerror")
    page.locator(".letter summary").click()
    expect(page.locator(".letter pre")).to_contain_text("<img src")
    expect(page.locator("main img")).to_have_count(0)
    stored.delete(key)

    assert page.evaluate("window.ran") is None
    assert {url.startswith(dashboard.origin) for url in pages.requested} == {True}


def test_who_sees_no_colours_reads_which_replica_is_not_ready(
    pages: Pages, dashboard: Dashboard, stored: redis.Redis, service_name: str
) -> None:
    for host, is_ready, troubles in (("a", True, []), ("b", False, []), ("c", False, ["deaf"])):
        replica = Replica(
            service=service_name, replica_id=host, host=host, pid=1, version="1", started_at=0,
            is_ready=is_ready, troubles=troubles, incidents={"bad_message": 1},
        )  # fmt: skip
        stored.set(presence_key(service_name, host), encode_replica(replica), ex=60)

    page = pages.open(dashboard, f"#/service/{service_name}")

    notes = page.locator("th[scope=row] small")
    expect(notes).to_have_text(
        [
            "bad message: 1",
            "not ready: no reason given; bad message: 1",
            "not ready: deaf; bad message: 1",
        ]
    )


def test_a_server_that_is_away_is_told_and_comes_back_by_itself(
    processes: Processes, pages: Pages, own_server: EmbeddedServer
) -> None:
    page = pages.open(start_dashboard(processes, own_server.url))
    expect(page.get_by_text("No service is alive")).to_be_visible()
    expect(page.get_by_text("daebus run service:app")).to_be_visible()

    own_server.stop()
    expect(page.get_by_role("alert")).to_contain_text("cannot use the server")
    expect(page.get_by_text("server away")).to_be_visible()
    own_server.start()

    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_page_finds_a_dashboard_that_was_started_again(
    processes: Processes, pages: Pages, url: str
) -> None:
    first = start_dashboard(processes, url)
    page = pages.open(first)
    expect(page.get_by_text("live", exact=True)).to_be_visible()

    first.process.kill()
    first.process.wait()
    expect(page.get_by_role("alert")).to_contain_text("No connection to the dashboard")
    second = start_dashboard(processes, url, port=first.port)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    second.process.kill()
    second.process.wait()
    start_dashboard(processes, url, port=first.port, token="another-token")

    expect(page.get_by_role("alert")).to_contain_text("wants its new token")


def test_a_phone_shows_every_view_without_scrolling_sideways(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    stored: redis.Redis,
    service_name: str,
) -> None:
    start(app)
    bury(stored, service_name, reason="x" * 300)
    page = pages.open(dashboard, width=390)

    for view, text in (
        ("#/", service_name), (f"#/service/{service_name}", "action bill"), ("#/queues", "Queues"),
    ):  # fmt: skip
        page.goto(f"{dashboard.origin}/{view}")
        expect(page.get_by_text(text).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_alone_is_enough(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
) -> None:
    start(app)
    page = pages.open(dashboard)
    page.get_by_role("link", name=service_name).focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="add").focus()
    page.keyboard.press("Enter")
    page.get_by_label("a integer").focus()
    page.keyboard.type("20")
    page.keyboard.press("Tab")
    page.keyboard.type("22")
    page.keyboard.press("Enter")

    expect(page.locator(".responses pre")).to_have_text("42")


def test_who_may_only_look_finds_no_buttons(
    processes: Processes, pages: Pages, url: str, stored: redis.Redis, service_name: str
) -> None:
    bury(stored, service_name)
    dashboard = start_dashboard(processes, url, "--read-only")

    page = pages.open(dashboard, f"#/service/{service_name}")

    page.get_by_text("action bill").click()
    expect(page.locator(".letter pre")).to_contain_text('"amount": 5')
    for name in ("Retry", "Drop"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_a_form_comes_when_it_is_known_what_the_action_takes(
    start: Callable[[Daebus], DaebusCaller],
    app: Daebus,
    pages: Pages,
    dashboard: Dashboard,
    service_name: str,
) -> None:
    start(app)
    held: list[Route] = []
    page = pages.open(dashboard)
    page.route("**/api/contract*", lambda route: held.append(route))
    page.goto(f"{dashboard.origin}/#/service/{service_name}")
    page.get_by_role("button", name="add").click(trial=True)
    expect(page.locator("form")).to_have_count(0)

    held[0].continue_()

    expect(page.get_by_label("a integer")).to_be_visible()


def test_charts_begin_anew_when_the_clock_was_set_back(pages: Pages, dashboard: Dashboard) -> None:
    page = pages.open(dashboard)

    drawn = page.evaluate("""async () => {
        const { History } = await import("/static/history.js");
        const history = new History();
        for (const at of [5000, 5001, 1400, 1401]) {
            history.add({ at, services: [["shop", at, 0, 1, 2]], queues: [] });
        }
        return history.ofService("shop", "requests");
    }""")

    assert drawn == [[1400, 1400], [1401, 1401]]
