"""Watches a study that another process runs: the live table of `run`, or a line per event. Leaves the study alone."""

from __future__ import annotations

import time
from typing import TextIO

from trainables.errors import PlaceError
from tune.line_width import fitted_to
from tune.session.event_text import event_text, shown_by_table
from tune.session.study_text import best_line, confirmation_lines, outcome_lines
from tune.session.study_view import StudyView
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.budget import ended_words
from tune.study.studies import StudyFiles
from tune.study.study_follower import StudyFollower
from tune.study.wording import standing_line

_LOOK_EVERY_S, _LOOK_INTO_BUCKET_EVERY_S = 1.0, 3.0
_TICK_S = 0.5
"""How often the table's clock is drawn between looks."""

_UNREACHABLE_S = 60.0
"""How long a bucket may stay away before that is an error."""


def watch_study(study: StudyFiles, terminal: TextIO) -> None:
    """Shows a study until no driver has it any more; of one that nobody runs, how it stands.

    Args:
        study: the study.
        terminal: gets the table, or the lines where it is no terminal.

    Raises:
        StudyError: its journal is damaged or gone.
        PlaceError: its bucket cannot be reached.
    """
    follower = StudyFollower(study)
    for _ in follower.read():  # what was before is in the table
        pass
    with StudyView(terminal, follower.study.spec, follower.state) as view:
        view.live.event(standing_line(follower.study.spec, follower.state))
        running, reached = True, time.monotonic()
        while running:
            running = follower.is_running()  # asked first: what was written before its end is read after it
            try:
                _show_new(follower, view)
                reached = time.monotonic()
            except PlaceError:
                if time.monotonic() - reached > _UNREACHABLE_S:
                    raise
                running = True
            view.live.refresh()
            if running:
                _wait(view, _LOOK_EVERY_S if study.bucket is None else _LOOK_INTO_BUCKET_EVERY_S)
    print(fitted_to(terminal, _ending_lines(follower)), file=terminal, flush=True)


def _show_new(follower: StudyFollower, view: StudyView) -> None:
    shown = follower.state
    for event in follower.read():
        if follower.state is not shown:  # another journal lies there now
            shown = follower.state
            view.show(follower.study.spec, shown)
        view.note(event)
        text = event_text(follower.study.spec, follower.state, event)
        if text:
            (view.live.event if shown_by_table(event) else view.live.line)(text)


def _wait(view: StudyView, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _TICK_S))
        view.live.refresh()


def _ending_lines(follower: StudyFollower) -> str:
    study, state = follower.study, follower.state
    if study.settled(state) and study.place.exists(f"{EXPORT_FOLDER}/metrics.json"):
        return outcome_lines(study, state.ended_by)
    if state.open_since is not None:
        why = "its driver has gone"
    elif state.finished:
        why = "the search is over, its best model is not exported yet"
    else:
        why = ended_words(state.ended_by) or "not begun"
    return "\n".join(
        [
            best_line(study, state),
            *confirmation_lines(study, state),
            f"unfinished   {why}. Go on with: emotune resume {study.shell_name}",
        ]
    )
