"""Tells a URL what becomes of a study: its end, a budget that is spent, faults. Never holds the study up."""

from __future__ import annotations

import html
import http.client
import json
import os
import queue
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal, Self

from tune.errors import StudyError
from tune.session.event_text import event_text
from tune.session.trial_table import short_parameters
from tune.study.budget import BUDGETS, ended_words
from tune.study.journal import Journal
from tune.study.spec_sections import Notify, is_http_address
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState

_TIMEOUT_S = 5.0
"""For one message, and at the study's end for all that are still to be sent."""


class Notifier:
    """Posts messages from a thread of its own; how many did not arrive is printed at the end."""

    def __init__(self, study: StudyFiles) -> None:
        """Takes the study; without a URL in its file nothing is ever told.

        Raises:
            StudyError: `notify.url` names an environment variable that is not set.
        """
        self._study = study
        self._format = study.spec.notify.format
        self._url = url_of(study.spec.notify)
        self._journal: Journal | None = None
        self._faults: set[str] = set()
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._messages, self._arrived, self._reason = 0, 0, ""

    def follow(self, journal: Journal) -> None:
        """Listens to what is journalled from now on."""
        if self._url:
            journal.listeners.append(lambda event: self._on_event(journal, event))

    def tell_exit(self, event: Mapping[str, Any]) -> None:
        """Tells how the study ended (docs/events.md, `exit`); where nothing happened since it was opened, nothing."""
        if self._journal is None:
            return
        how = ended_words(event["ended_by"])
        self._tell("end", f"ended ({how}): {event.get('error') or self._best(self._journal.state)}", event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread is None:
            return
        self._waiting.put(None)
        self._thread.join(_TIMEOUT_S)
        lost = self._messages - self._arrived
        if lost:
            why = self._reason or f"no answer in {_TIMEOUT_S:.0f} s"
            print(f"notify       {lost} of {self._messages} messages did not arrive: {why}", flush=True)

    def _on_event(self, journal: Journal, event: Mapping[str, Any]) -> None:
        self._journal = journal
        if event["event"] == "fault" and event["kind"] not in self._faults:  # one of a kind: a bad node makes hundreds
            self._faults.add(event["kind"])
            self._tell("fault", event_text(self._study.spec, journal.state, event), event)
        elif event["event"] == "session_end" and event["ended_by"] in BUDGETS:
            self._tell("budget", event_text(self._study.spec, journal.state, event), event)

    def _best(self, state: StudyState) -> str:
        """Returns the best trial in words, from the state alone: asking the study's bucket could hold its end up."""
        spec, best = self._study.spec, self._study.best_trial(state)
        value = None if best is None else best.best_value(spec.objective, spec.mode)
        if best is None or value is None:
            return "no trial has a score"
        return f"trial {best.number} is the best, {spec.objective} {value:.4f}; {short_parameters(best.values)}"

    def _tell(self, kind: Literal["end", "fault", "budget"], text: str, event: Mapping[str, Any]) -> None:
        name = self._study.spec.name
        content: dict[str, Any] = {"study": name, "kind": kind, "text": text, "event": event}
        if self._format == "slack":  # whose text has marks of its own
            content = {"text": f"*{name}*: {html.escape(text, quote=False)}"}
        self._messages += 1
        self._waiting.put(json.dumps(content).encode())
        if self._thread is None:
            self._thread = threading.Thread(target=self._post_all, name="notify", daemon=True)
            self._thread.start()

    def _post_all(self) -> None:
        while (message := self._waiting.get()) is not None:
            headers = {"Content-Type": "application/json", "User-Agent": "emotune"}
            try:
                request = urllib.request.Request(self._url, message, headers)
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                    self._arrived += 1
            except (OSError, ValueError, http.client.HTTPException) as error:
                self._reason = str(getattr(error, "reason", "") or error)


def url_of(settings: Notify) -> str:
    """Returns where messages go, "" for nowhere.

    Raises:
        StudyError: it is in an environment variable that is not set, or holds no address.
    """
    url = settings.url or ""
    if not url.startswith("$"):
        return url
    found = os.environ.get(url[1:], "")
    if not is_http_address(found):  # which is not shown: it may be a secret all the same
        raise StudyError(
            "notify.url names an environment variable that must hold the address, http://... or https://.... Received: "
            f"{url}, which {'holds something else' if found else 'is not set'}. Set it, or leave it out: "
            "--set notify.url=null"
        )
    return found
