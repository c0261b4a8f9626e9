"""The page at `/docs`: one file, which loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

#: What of the page may run or be shown, by its hash; nothing that came with a service's texts may.
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'"
)


@dataclass(frozen=True)
class Page:
    """The page, and the headers that it is served with."""

    body: str
    headers: dict[str, str]


@cache
def page() -> Page:
    """Read the page."""
    text = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
    policy = _POLICY.format(script=_hash(text, "script"), style=_hash(text, "style"))
    headers = {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return Page(text, headers)


def _hash(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None  # noqa: S101 - a part of this package
    return base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
