"""Serves the board until the process is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from tune.board.application import build_application
from tune.board.study_feed import StudyFeed
from tune.nodes.listening import bound_socket, url_of
from tune.study.studies import StudyFiles

_LAST_ANSWERS_S = 2.0


def serve_board(studies: Sequence[StudyFiles], host: str, port: int, ready: Callable[[str], None]) -> None:
    """Shows studies on a web page until the process gets a signal.

    Args:
        studies: what is shown; nothing else can be asked for.
        host: address to listen at.
        port: free port of it, 0 for any.
        ready: called with the page's URL when it answers.

    Raises:
        ServeError: the address is taken.
        StudyError: a study's journal is damaged.
        PlaceError: a study's bucket cannot be reached.
        KeyboardInterrupt: after a signal.
    """
    with bound_socket(host, port) as listening:
        feeds = [StudyFeed(study) for study in studies]
        asyncio.run(_serve(feeds, listening, host, ready))


async def _serve(feeds: Sequence[StudyFeed], listening: socket.socket, host: str, ready: Callable[[str], None]) -> None:
    runner = web.AppRunner(build_application(feeds, host), access_log=None, shutdown_timeout=_LAST_ANSWERS_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        ready(url_of(host, listening.getsockname()[1]))
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
