"""The pages: the one that everything happens in, and the one that asks for a token."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

#: What the browser gets as it is.
STATIC = Path(__file__).parent / "static"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 0 1rem }
h1 { font-size: 1.25rem }
input, button { font: inherit; padding: .4rem .6rem; box-sizing: border-box }
input { width: 100%; margin: .25rem 0 .75rem }
code { font-size: .9em }
"""

_TOKEN_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>TITLE · daebus</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>TITLE</h1>
<p><code>daebus dashboard</code> printed an address with a token when it was started.
Open that address, or give the token here.</p>
<form method="get" action="/">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Open</button>
</form>
</body>
</html>
"""

#: This page has its style inside, because no other file is given to who has no token.
_TOKEN_PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    f"; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def dashboard_page(_request: Request) -> Response:
    """The page that everything happens in."""
    return FileResponse(STATIC / "index.html")


def token_page(*, is_wrong: bool) -> Response:
    """What is shown to who knows no token, or a wrong one."""
    title = "This token is not the right one" if is_wrong else "A token is needed"
    return HTMLResponse(
        _TOKEN_PAGE.replace("TITLE", title),
        401,
        headers={"Content-Security-Policy": _TOKEN_PAGE_POLICY},
    )
