"""What a client is told whose request the end of the server cuts off."""

from __future__ import annotations

import asyncio

from daebus.operate.web.guard import refuse
from daebus.operate.web.http_errors import Problem
from daebus.operate.web.server import App, Message, Receive, Scope, Send


class CutOff:
    """Answers requests that are cancelled, which only the server's end does.

    Those that `Ending` knows end by themselves. Others may wait for a client, such as for the rest
    of its body; uvicorn would log a traceback for each, and tell the client of a fault.

    Args:
        app: whose requests they are.
        problem: the answer, if none was begun.
    """

    def __init__(self, app: App, problem: Problem) -> None:
        self._app = app
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer a request."""
        is_begun = False

        async def watched(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not is_begun:
                await refuse(scope, receive, send, self._problem)
