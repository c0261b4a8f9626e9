"""Let pages of the site link to files of the repository: each such file becomes a page itself.

A link such as `../CHANGELOG.md` leads out of `docs/`. It works where the Markdown is read in the
repository; here the site gets a page of that file, below `repository/`, and the link leads there.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

#: Where the pages of files that are not in `docs/` are in the site.
FOLDER = "repository"

#: What the navigation names without any page linking to it.
ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "examples")

#: How the text of a file is coloured, by the end of its name.
LANGUAGES = {
    ".env": "bash",
    ".json": "json",
    ".py": "python",
    ".service": "ini",
    ".sh": "bash",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    "Containerfile": "docker",
}

#: `](target#anchor)`, but no address and no anchor of the page itself.
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file that is linked to, and for those that these link to."""
    waiting = set(ALWAYS)
    for file in files.documentation_pages():
        waiting |= _outside(f"docs/{file.src_uri}", file.content_string)
    done: set[str] = set()
    while waiting:
        done.add(path := waiting.pop())
        content = _page_of(path)
        page = File.generated(
            config, page_uri(path), content=content, inclusion=InclusionLevel.NOT_IN_NAV
        )
        files.append(page)
        waiting |= _outside(path, content) - done
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead the links that leave `docs/` to the pages of these files."""
    origin = _origin(page.file.src_uri)

    def site_link(match: re.Match[str]) -> str:
        path = _in_repository(origin, match[1])
        uri = path.removeprefix("docs/") if path.startswith("docs/") else page_uri(path)
        return relpath(uri, dirname(page.file.src_uri) or ".") + (match[2] or "")

    return _LINK.sub(site_link, markdown) if _is_written_here(page.file) else markdown


def page_uri(path: str) -> str:
    """Where the page of a file of the repository is in the site."""
    return f"{FOLDER}/{path.removesuffix('.md')}.md"


def _is_written_here(file: File) -> bool:
    return not file.generated_by or file.src_uri.startswith(f"{FOLDER}/")


def _origin(src_uri: str) -> str:
    """The file of the repository that a page was made of; all that matters is its folder."""
    inner = src_uri.removeprefix(f"{FOLDER}/")
    return inner if inner != src_uri else f"docs/{src_uri}"


def _outside(origin: str, markdown: str) -> set[str]:
    paths = {_in_repository(origin, match[1]) for match in _LINK.finditer(markdown)}
    return {path for path in paths if not path.startswith("docs/")}


def _in_repository(origin: str, link: str) -> str:
    return normpath(f"{dirname(origin)}/{link}").lstrip("/")


def _page_of(path: str) -> str:
    place = ROOT / path
    if place.is_dir():
        return f"# {path}\n\n" + "\n".join(_listing(file, path) for file in _files_of(place))
    if not place.is_file() or path.startswith(".."):
        raise PluginError(f"a page links to {path}, which is no file of the repository")
    text = place.read_text()
    return text if path.endswith(".md") else f"# {path}\n\n{_as_code(place, text)}"


def _files_of(folder: Path) -> list[Path]:
    """Its texts; what running them has left there is none."""
    return [file for file in sorted(folder.rglob("*")) if _kind_of(file) in LANGUAGES]


def _kind_of(file: Path) -> str:
    return file.suffix or file.name


def _listing(file: Path, folder: str) -> str:
    return f"## {file.relative_to(ROOT / folder)}\n\n{_as_code(file, file.read_text())}"


def _as_code(file: Path, text: str) -> str:
    return f"````{LANGUAGES.get(_kind_of(file), 'text')}\n{text.rstrip()}\n````\n"
