"""Follows a study that runs elsewhere: its job's lines become the live table, its end this command's exit code."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from search_spaces import WRITTEN
from tune.errors import JobError
from tune.jobs.job import Job
from tune.jobs.server import JobsServer
from tune.session.event_text import line_shown_by_table
from tune.session.study_view import StudyView
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState

_RESUBMISSIONS = 5


def follow_study(server: JobsServer, job: Job, spec: StudySpec, terminal: TextIO) -> int:
    """Shows a job until it ends; submits the study again if the job's supervisor, or its head node, dies.

    Args:
        server: where the job is.
        job: the study's.
        spec: the study.
        terminal: gets the table, or the lines where it is no terminal.

    Returns:
        The driver's exit code; 130 for a job that was stopped.

    Raises:
        JobError: the server has gone, the job could not start, or it dies again and again.
    """
    with Watcher(spec, terminal) as watcher:
        for attempt in range(_RESUBMISSIONS + 1):
            if attempt:
                watcher.show_line("the job's supervisor died; submitting the study again, which goes on where it was")
                job = server.running(spec.name) or server.submit(spec)
            for line in server.follow(job.id):
                watcher.show_line(line)
            ended = server.find(job.id)
            if ended is None or ended.died:
                continue
            if ended.state == "stopped":
                return 130
            if ended.exit_code is None:
                raise JobError(f"job {job.id} could not run: {' '.join(ended.message.split())[:500]}")
            return ended.exit_code
    raise JobError(
        f"the supervisor of study {spec.name!r} died {attempt + 1} times. See the head node's memory and logs"
    )


def watch_job(server: JobsServer, job: Job, terminal: TextIO) -> None:
    """Shows a job until it ends, and leaves it alone whatever happens to it.

    Args:
        server: where the job is.
        job: the study's latest.
        terminal: gets the table, or the lines where it is no terminal.

    Raises:
        JobError: another version of emotune has submitted it, or the server has gone.
    """
    ours = importlib.metadata.version("emotune")
    if job.version != ours:
        raise JobError(
            f"job {job.id} was submitted by emotune {job.version}, this is {ours}. Watch it with that version, or read "
            f"its lines: emotune logs {job.study} -f --address {server.address}"
        )
    with Watcher(StudySpec.model_validate_json(job.spec, context=WRITTEN), terminal) as watcher:
        for line in server.follow(job.id):
            watcher.show_line(line)


class Watcher:
    """Turns a job's lines into the live table of `emotune run`."""

    def __init__(self, spec: StudySpec, terminal: TextIO) -> None:
        """Takes the study and the output."""
        self._spec = spec
        self._past = 0
        self.state = StudyState()
        self._view = StudyView(terminal, spec, self.state)

    def __enter__(self) -> Watcher:
        self._view.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._view.__exit__(*error)

    def show_line(self, line: str | None) -> None:
        """Takes one line, or the news that there is none."""
        event = None if line is None else parse_event(line)
        if event is not None:
            self._apply(event)
        elif line and line_shown_by_table(line):
            self._view.live.event(line)
        elif line:
            self._view.live.line(line)
        self._view.live.refresh()

    def _apply(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "history":
            self._past = event["events"]
            self.state = StudyState()
            self._view.show(self._spec, self.state)
            return
        self.state.apply(event)
        self._past -= 1
        if self._past < 0:
            self._view.note(event)


def parse_event(line: str) -> dict[str, Any] | None:
    """Returns the event that a line tells, None if it is one for people; what JSON cannot say is NaN again."""
    if not line.startswith('{"event":'):
        return None
    try:
        event = json.loads(line)
    except ValueError:  # cut short by a kill
        return None
    if not isinstance(event, dict) or "time" not in event:
        return None
    if "metrics" in event:
        event["metrics"] = {k: float("nan") if v is None else v for k, v in event["metrics"].items()}
    return event


def state_from_lines(lines: Iterable[str]) -> StudyState:
    """Returns the state that a job's lines add up to."""
    state = StudyState()
    for line in lines:
        event = parse_event(line)
        if event is not None:
            state = StudyState() if event["event"] == "history" else state
            state.apply(event)
    return state
