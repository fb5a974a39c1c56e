"""The HTTP side of the board: the page, and as JSON what has changed in the studies. Reads only; writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from tune.board.study_feed import StudyFeed
from tune.nodes.listening import asks_this_machine
from tune.report.page import PAGE_STYLE, TIP_SCRIPT
from tune.study.trial_record import run_label

_PAGE = Path(__file__).parent / "page"
_LOOK_S = 2.0
_FILES = {
    "/": (_PAGE / "board.html", "text/html"),
    "/board.css": (_PAGE / "board.css", "text/css"),
    "/board.js": (_PAGE / "board.js", "text/javascript"),
    "/charts.js": (_PAGE / "charts.js", "text/javascript"),
    "/drawings.js": (_PAGE / "drawings.js", "text/javascript"),
    "/page.css": (PAGE_STYLE, "text/css"),
    "/tip.js": (TIP_SCRIPT, "text/javascript"),
}
"""All files that are served, whatever is asked for."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_application(feeds: Sequence[StudyFeed], host: str) -> web.Application:
    """Returns the board over some studies.

    Args:
        feeds: the studies, in the order in which they can be chosen.
        host: what the server listens at, as the user named it.
    """
    looking = ThreadPoolExecutor(max(1, len(feeds)), "look")
    looks: dict[int, asyncio.Future[None]] = {}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not asks_this_machine(request.headers.get("Host", ""), host):
            raise web.HTTPForbidden(text="the board answers by this machine's own names only", headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    async def studies(request: web.Request) -> web.Response:
        chosen = _feed(feeds, request.query.get("chosen", "0"))
        for place, feed in enumerate(feeds):  # a bucket that does not answer keeps nobody from the others
            if place not in looks or looks[place].done():
                looks[place] = asyncio.get_running_loop().run_in_executor(looking, feed.refresh)
        await asyncio.wait(looks.values(), timeout=_LOOK_S)
        changes = await asyncio.to_thread(chosen.changes, request.query.get("since", ""))
        summaries = await asyncio.to_thread(lambda: [feed.summary() for feed in feeds])
        return _json({"studies": summaries, "changes": changes})

    async def story(request: web.Request) -> web.Response:
        feed, number = _feed(feeds, request.match_info["study"]), int(request.match_info["trial"])
        lines = await asyncio.to_thread(feed.trial, number)
        if lines is None:
            raise web.HTTPNotFound
        return _json({"label": run_label(number), "lines": lines})

    application = web.Application(middlewares=[guard])
    for path, (file, content_type) in _FILES.items():
        application.router.add_get(path, _sender(file.read_text(encoding="utf-8"), content_type))
    application.router.add_get("/studies", studies)
    application.router.add_get(r"/studies/{study:\d{1,4}}/trials/{trial:\d{1,9}}", story)
    return application


def _feed(feeds: Sequence[StudyFeed], place: str) -> StudyFeed:
    if not place.isascii() or not place.isdigit() or len(place) > 4 or int(place) >= len(feeds):
        raise web.HTTPNotFound(text="the board has no such study")
    return feeds[int(place)]


def _sender(text: str, content_type: str) -> Handler:
    async def send(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return send


def _json(content: dict[str, Any]) -> web.Response:
    response = web.json_response(content)
    response.enable_compression()
    return response
