"""What a page may ask about dead letters: to list them, to read, retry and drop them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daebus.channels import check_service_name
from daebus.errors import BadMessage
from daebus.operate.dashboard.failed_events import FailedEvents
from daebus.operate.dashboard.feed import Feed
from daebus.operate.dashboard.parameters import parameter, small_body
from daebus.operate.dashboard.queue_letters import QueueLetters
from daebus.operate.dashboard.texts import readable
from daebus.operate.letters import DeadLetters, Letter

AnyLetters = DeadLetters | QueueLetters | FailedEvents

#: How many are listed, and how many messages of one are shown.
MOST_LETTERS = 100
MOST_MESSAGES = 20

#: The longest body of a request about dead letters, in bytes.
MOST_BYTES = 10_000


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be done with a dead letter.

    Args:
        service: whose it is; or else
        queue: in which it is.
        id: its own; None: all of them.
    """

    service: str | None = None
    queue: str | None = None
    id: str | None = None


class DeadLetterDesk:
    """Answers requests about dead letters. The server and the disk are asked in threads.

    Args:
        url: the server's address.
        place: where services of this machine keep files; None for the user's own place.
        feed: knows which queues and pipelines are watched; no other folder is touched.
    """

    def __init__(self, url: str, place: Path | None, feed: Feed) -> None:
        self._url = url
        self._place = place
        self._feed = feed

    async def list(self, request: Request) -> Response:
        """The oldest ones of `service`, `queue` or `pipeline`."""
        letters = self._readable(request)
        return _json(await asyncio.to_thread(summaries, letters))

    async def one(self, request: Request) -> Response:
        """The one with the id `id`, with its messages."""
        letters = self._readable(request)
        whole = await asyncio.to_thread(_whole, letters, parameter(request, "id"))
        if whole is None:
            raise _gone()
        return _json(whole)

    async def retry(self, request: Request) -> Response:
        """Give one back, or all."""
        letters, wish = await self._wish(request)
        return await _done(wish, letters.retry, letters.retry_all)

    async def drop(self, request: Request) -> Response:
        """Remove one for good, or all."""
        letters, wish = await self._wish(request)
        return await _done(wish, letters.drop, letters.drop_all)

    async def _wish(self, request: Request) -> tuple[DeadLetters | QueueLetters, Wish]:
        try:
            wish = msgspec.json.decode(await small_body(request, MOST_BYTES), type=Wish)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadMessage(f"the body makes no sense: {error}") from None
        return self._letters(wish.service, wish.queue), wish

    def _readable(self, request: Request) -> AnyLetters:
        asked = request.query_params
        pipeline = asked.get("pipeline")
        if pipeline is None:
            return self._letters(asked.get("service"), asked.get("queue"))
        if not self._feed.has_pipeline(pipeline):
            raise _not_watched("pipeline", pipeline)
        return FailedEvents(Path(pipeline))

    def _letters(self, service: str | None, queue: str | None) -> DeadLetters | QueueLetters:
        if queue is None:
            return DeadLetters(check_service_name(service or ""), self._url, self._place)
        if not self._feed.has_queue(queue):
            raise _not_watched("queue", queue)
        return QueueLetters(Path(queue))


def summaries(letters: Iterable[Letter], most: int = MOST_LETTERS) -> dict[str, Any]:
    """The first ones in short; one at a time is in memory, as each may have many messages."""
    found = [_summary(letter) for letter in islice(letters, most + 1)]
    return {"letters": found[:most], "has_more": len(found) > most}


async def _done(wish: Wish, one: Callable[[str], bool], every: Callable[[], int]) -> Response:
    if wish.id is None:
        return _json({"done": await asyncio.to_thread(every)})
    if not await asyncio.to_thread(one, wish.id):
        raise _gone()
    return _json({"done": 1})


def _not_watched(kind: str, path: str) -> HTTPException:
    return HTTPException(404, f"there is no {kind} {path[:200]!r} in the folders that are watched")


def _gone() -> HTTPException:
    return HTTPException(404, "it is not there any more: somebody retried or dropped it")


def _whole(letters: AnyLetters, letter_id: str) -> dict[str, Any] | None:
    """A letter with its messages; None if there is none with this id."""
    letter = letters.find(letter_id)
    if letter is None:
        return None
    shown = letter.messages[:MOST_MESSAGES]
    contents = [{"message_id": one.message_id, "text": readable(one.data)} for one in shown]
    return {**_summary(letter), "contents": contents}


def _summary(letter: Letter) -> dict[str, Any]:
    first = letter.messages[0] if letter.messages else None
    return {**letter.summary(), "message_id": first.message_id if first else None}


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
