"""The gateway's page in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from fixtures.gateway import Gateway, start_service, started_gateway
from fixtures.processes import Processes

CHROMIUM = shutil.which("chromium")
TOKEN = "s3cret"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture
def gateway(processes: Processes, url: str, service_name: str) -> Iterator[Gateway]:
    start_service(processes, service_name, url)
    options = ["--expose", service_name, "--channel", "events.*"]
    with started_gateway(processes, service_name, url, *options, token=TOKEN) as started:
        yield started


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def test_actions_can_be_read_and_tried(page: Page, gateway: Gateway) -> None:
    asked: list[str] = []
    troubles: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.goto(f"{gateway.url}/docs")
    expect(page.get_by_role("status")).to_have_text("Could not load: The right token is missing")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Load").click()

    add = page.locator("details", has_text="Add two numbers.").first
    add.locator("summary").click()
    expect(add).to_contain_text('"integer"')
    add.get_by_label("Payload").fill('{"a": 1, "b": 2}')
    add.get_by_role("button", name="Send").click()
    expect(add.locator(".status")).to_have_text(re.compile("^200 after"))
    expect(add.locator("pre").last).to_have_text("3")

    half = page.locator("details", has_text="/actions/half").first
    half.locator("summary").click()
    half.get_by_label("as a stream of events").check()
    half.get_by_role("button", name="Send").click()
    expect(half.locator("pre").last).to_contain_text("event: error")
    expect(half.locator(".text")).to_contain_text("<script>")

    assert all(each.startswith((gateway.url, "data:")) for each in asked)
    assert [each for each in troubles if "401" not in each] == []
    assert page.evaluate("window.ran") is None
