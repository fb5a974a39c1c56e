"""TensorBoard and Optuna Dashboard beside the board, over the same studies: on loopback, ended with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tune.errors import EmotuneError, ServeError
from tune.nodes.listening import asks_this_machine, url_of
from tune.study.studies import StudyFiles
from tune.study.wording import unique_names

LOOPBACK = "127.0.0.1"
_START_LIMIT_S, _END_LIMIT_S = 180.0, 10.0
_SAID = re.compile(rf"http://{re.escape(LOOPBACK)}:\d+")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class TensorBoard:
    """TensorBoard as a process of its own; `with` starts it and ends it."""

    def __init__(self, studies: Sequence[StudyFiles]) -> None:
        """Takes the studies; of one in a bucket it shows what lies on this machine."""
        self._studies = studies

    def __enter__(self) -> Self:
        from tune.report.tensorboard_union import TensorBoardUnion

        self._folder = tempfile.TemporaryDirectory(prefix="emotune-board-")
        logs, self._log = Path(self._folder.name) / "logs", Path(self._folder.name) / "tensorboard.log"
        logs.mkdir()
        sources = [study.tensorboard for study in self._studies]
        self._union = TensorBoardUnion(
            logs, dict(zip(unique_names([study.spec.name for study in self._studies]), sources, strict=True))
        )
        self._union.refresh()
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", LOOPBACK, "--port", "0"]
        # It takes no GPU from the trials, and says nothing into the board's terminal.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._folder.cleanup()

    def _signal(self, number: int) -> None:
        """Signals it and the reader of logs that it starts."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def address(self) -> str | None:
        """Returns its URL, None while it is still starting.

        Raises:
            ServeError: it has ended, or has not answered in time.
        """
        said = self._log.read_text(errors="replace")
        if found := _SAID.search(said):
            return found[0]
        if self._process.poll() is None and time.monotonic() - self._began < _START_LIMIT_S:
            return None
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise ServeError(
            f"--tensorboard must start within {_START_LIMIT_S:.0f} s. Received: {last}. "
            "Try it alone: tensorboard --logdir STUDY/tensorboard"
        )

    def draw_contact_sheets(self) -> None:
        """Shows it what the studies' preprocessing methods feed the network, where their data sets are to be had."""
        from tune.session.contact_sheets import write_contact_sheets

        for study, folder in zip(self._studies, self._union.folders, strict=True):
            with suppress(EmotuneError):
                write_contact_sheets(study, folder)

    def refresh(self) -> None:
        """Shows it the runs and columns that have come since."""
        self._union.refresh()


class OptunaDashboard:
    """Optuna Dashboard in threads of this process; it can look only. `with` starts it and ends it."""

    def __init__(self, studies: Sequence[StudyFiles]) -> None:
        """Takes the studies.

        Raises:
            ServeError: Optuna Dashboard is not installed.
            StudyError: a journal is damaged.
            PlaceError: a bucket cannot be reached.
        """
        try:
            from optuna_dashboard import wsgi
        except ImportError:
            raise ServeError(
                "--optuna needs Optuna Dashboard. Received: Python without it. "
                "Install it with: make setup EXTRAS=optuna"
            ) from None
        from tune.board.optuna_view import JournalStorageView

        application = _looking_only(wsgi(JournalStorageView(studies)))
        self._server = make_server(LOOPBACK, 0, application, server_class=_Server, handler_class=_SilentHandler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def address(self) -> str:
        """Returns its URL."""
        return url_of(LOOPBACK, self._server.server_port)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that has left."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing into the board's terminal."""


def _looking_only(application: Application) -> Application:
    """Returns an application that is asked for pages only, by this machine's names only."""

    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not asks_this_machine(environment.get("HTTP_HOST", ""), LOOPBACK):
            status, text = "403 Forbidden", b"it answers by this machine's own names only"
        elif environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", b"these studies can be looked at only"
        else:
            return application(environment, start_response)
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]

    return answer
