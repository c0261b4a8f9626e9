"""The documentation builds as a site without a warning, and nothing in it comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import typer

import daebus
import turbo_queue
from daebus.operate.cli import cli as daebus_cli
from turbo_queue.operate.cli import cli as queue_cli

pytest.importorskip("mkdocs", reason="the site is built by mkdocs: pip install 'daebus[docs]'")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {str(page.relative_to(site)): page.read_text() for page in site.rglob("*.html")}


def test_every_page_is_built_and_has_its_place_in_the_navigation(pages: dict[str, str]) -> None:
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    named = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))

    assert written <= named
    assert {page.replace(".md", ".html") for page in named} <= set(pages)


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, str]) -> None:
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*\bhref="([^"]+)"', text)
        assert not [address for address in loaded if "//" in address], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_every_public_name_is_in_the_reference(pages: dict[str, str]) -> None:
    reference = "".join(text for name, text in pages.items() if "reference/python" in name)
    shown = {anchor.rpartition(".")[2] for anchor in re.findall(r'id="([\w.]+)"', reference)}
    names = {*daebus.__all__, *turbo_queue.__all__} - {"startup", "enqueue", "dequeue"}

    assert names - shown == set()


@pytest.mark.parametrize(
    ("page", "app"),
    [("command-daebus", daebus_cli), ("command-turbo-queue", queue_cli)],
)
def test_every_command_is_in_the_reference(pages: dict[str, str], page: str, app: object) -> None:
    text = unescape(re.sub("<[^>]+>", "", pages[f"reference/{page}.html"]))

    for command in _commands(typer.main.get_command(app)):
        assert command.help.splitlines()[0] in text
        for parameter in command.params:
            assert parameter.opts[0] in text or parameter.metavar in text
    assert "\\[" not in text
    assert "\\|" not in text


def test_what_a_help_shows_to_be_typed_keeps_its_lines(pages: dict[str, str]) -> None:
    shown = re.findall(r"<pre>(.*?)</pre>", pages["reference/command-turbo-queue.html"], re.DOTALL)
    texts = [unescape(re.sub("<[^>]+>", "", each)) for each in shown]

    assert any(text.startswith('[pipeline]\nwork = "work:clean"\n') for text in texts)
    assert "turbo-queue watch ./queue --count 2\n" in "".join(texts)


def test_examples_of_docstrings_are_shown_as_code(pages: dict[str, str]) -> None:
    caller = pages["reference/python/caller.html"]

    assert "&gt;&gt;&gt;" in caller
    assert not re.search(r"<(?:p|blockquote)>\s*&gt;&gt;", "".join(pages.values()))
    assert not re.search(r"<blockquote>\s*<blockquote>", "".join(pages.values()))


def test_a_link_to_a_file_of_the_repository_leads_to_a_page_of_it(pages: dict[str, str]) -> None:
    assert 'href="repository/CHANGELOG.html"' in pages["index.html"]
    for name in ("calculator.py", "pipeline.toml", "Containerfile", "daebus@.service"):
        assert f"{name}<" in pages["repository/examples.html"]
    assert "def open" in re.sub(
        "<[^>]+>", "", pages["repository/src/turbo_queue/connectors/interface.py.html"]
    )


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        if not child.hidden:
            yield from _commands(child)
