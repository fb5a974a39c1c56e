"""Serves the board, and what is asked for beside it, until the process is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from typing import Any

from aiohttp import web

from tune.board.application import build_application
from tune.board.beside import OptunaDashboard, TensorBoard
from tune.board.study_feed import StudyFeed
from tune.nodes.listening import bound_socket, url_of
from tune.study.studies import StudyFiles

_LAST_ANSWERS_S = 2.0
_POLL_S, _REFRESH_S = 0.2, 5.0
"""How often TensorBoard is asked for its address, and shown the runs that have begun since."""


def serve_board(
    studies: Sequence[StudyFiles],
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    tensorboard: bool = False,
    optuna: bool = False,
    beside: Callable[[str, str], None] = lambda name, url: None,
) -> None:
    """Shows studies on a web page until the process gets a signal.

    Args:
        studies: what is shown; nothing else can be asked for.
        host: address to listen at.
        port: free port of it, 0 for any.
        ready: called with the page's URL when it answers.
        tensorboard: start TensorBoard over the same studies, at a free port of loopback.
        optuna: start Optuna Dashboard likewise.
        beside: called with the name and the URL of each of these when it answers.

    Raises:
        ServeError: the address is taken, Optuna Dashboard is not installed, or TensorBoard does not start.
        StudyError: a study's journal is damaged.
        PlaceError: a study's bucket cannot be reached.
        KeyboardInterrupt: after a signal.
    """
    with bound_socket(host, port) as listening, ExitStack() as others:
        feeds = [StudyFeed(study) for study in studies]
        dashboard = others.enter_context(OptunaDashboard(studies)) if optuna else None
        curves = others.enter_context(TensorBoard(studies)) if tensorboard else None

        async def serve() -> None:
            runner = web.AppRunner(build_application(feeds, host), access_log=None, shutdown_timeout=_LAST_ANSWERS_S)
            await runner.setup()
            try:
                await web.SockSite(runner, listening).start()
                ready(url_of(host, listening.getsockname()[1]))
                if dashboard is not None:
                    beside("optuna", dashboard.address())
                if curves is None:
                    await asyncio.Event().wait()
                else:
                    await _tell_and_refresh(curves, beside)
            finally:
                await runner.cleanup()

        _run(serve())


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end; in a notebook, whose own event loop waits for the cell, in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(serving)
    loop = asyncio.new_event_loop()
    task = loop.create_task(serving)
    try:
        with ThreadPoolExecutor(1) as threads:
            ended = threads.submit(loop.run_until_complete, task)
            try:
                ended.result()
            except BaseException:  # an interrupt, in this thread
                loop.call_soon_threadsafe(task.cancel)
                wait([ended])
                raise
    finally:
        loop.close()


async def _tell_and_refresh(curves: TensorBoard, beside: Callable[[str, str], None]) -> None:
    while (url := curves.address()) is None:
        await asyncio.sleep(_POLL_S)
    beside("tensorboard", url)
    with suppress(OSError):  # what is beside the board does not end it
        await asyncio.to_thread(curves.draw_contact_sheets)
    while True:
        await asyncio.sleep(_REFRESH_S)
        with suppress(OSError):  # an event file that has just given way to the next, a file system that hiccups
            await asyncio.to_thread(curves.refresh)
