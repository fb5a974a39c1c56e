"""The running study: a live table on a terminal or in a notebook's cell, one line per event anywhere else."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tune.line_width import fitted_to
from tune.session.notebook_cell import NotebookCell
from tune.session.trial_table import trial_table
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.time_left import seconds_left
from tune.study.trial_record import ENDED, TrialRecord, is_final_fit, rank, run_label
from tune.study.wording import duration

_REFRESH_S = 0.5
_ROWS = 16
_NARROW_COLUMNS = 120
"""Below this the line under the table has a short bar, and the best score without its metric's name."""


class LiveStudy:
    """Shows a study's trials, or its confirmations, as they go on."""

    def __init__(
        self, terminal: TextIO, spec: StudySpec, state: StudyState, expected: int, *, confirming: bool = False
    ) -> None:
        """Takes the output, the study, the state that others add to, what to show of it, and how many there will be."""
        self._console = Console(file=terminal)
        self._spec = spec
        self._state = state
        self._trials = state.confirmations if confirming else state.trials
        self._expected = expected
        self._shown = 0.0
        self._narrow = self._console.width < _NARROW_COLUMNS
        self._progress = Progress(
            TextColumn("[bold]trials"),
            BarColumn(8 if self._narrow else 40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[clock]}"),
            TextColumn("{task.fields[best]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("trials", total=expected, clock="", best="")
        self._live: Live | NotebookCell | None = None
        self._order: list[int] = []
        self._risen: set[int] = set()

    def expect(self, trials: int) -> None:
        """Says how many trials there will be."""
        self._expected = trials
        self._progress.update(self._task, total=trials)

    def __enter__(self) -> LiveStudy:
        if self._console.is_jupyter:
            self._live = NotebookCell()
            self._live.update(self._render())
        elif self._console.is_interactive and self._console.file.isatty():  # colours may be wanted in a file, too
            self._live = Live(self._render(), console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        """Prints one line above the table, or the line itself when there is no table."""
        if self._console.is_jupyter:  # rich would make an output of its own of each line
            print(text, file=self._console.file, flush=True)
        else:
            text = fitted_to(self._console.file, text)
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def event(self, text: str) -> None:
        """Prints a line about one trial where the table does not show it: when the output is not a terminal."""
        if self._live is None:
            self.line(text)

    def refresh(self) -> None:
        """Draws the table again, a few times a second at most."""
        if self._live is not None and time.monotonic() - self._shown > _REFRESH_S:
            self._shown = time.monotonic()
            self._live.update(self._render(), refresh=True)

    def _render(self) -> Group:
        ended = sum(t.state in ENDED - {"repeat"} for t in self._trials.values())
        judged = [trial for trial in self._trials.values() if not is_final_fit(trial.number)]
        ranked = rank(judged, self._spec.objective, self._spec.mode)
        best = ""
        if ranked:
            value = ranked[0].best_value(self._spec.objective, self._spec.mode)
            metric = "" if self._narrow else f"{self._spec.objective} "
            best = f"best {metric}{value:.4f} ({run_label(ranked[0].number)})"
        self._progress.update(self._task, completed=ended, clock=self._clock(), best=best)
        return Group(self._table(), self._progress)

    def _clock(self) -> str:
        """Returns how long the session has gone on, and about how long its trials still take."""
        if self._state.open_since is None:
            return ""
        now = time.time()
        left = seconds_left(self._spec, self._state, self._expected, now)
        return duration(max(0.0, now - self._state.open_since)) + (f", about {duration(left)} left" if left else "")

    def _table(self) -> Table:
        """The running trials, and as many of the others as there is room for, the best of all first.

        A row may take several lines, and of what is higher than the terminal rich shows the upper part alone.
        """
        order = sorted(self._trials.values(), key=self._place_key)
        self._note_places([trial.number for trial in order])
        by_worth = sorted(order, key=lambda trial: trial.state != "running")
        running = sum(trial.state == "running" for trial in order)
        kept = max(running, min(len(order), _ROWS))
        lines = max(4, self._console.height - 4)
        while True:
            left_out = {trial.number for trial in by_worth[kept:]}
            shown = [trial for trial in order if trial.number not in left_out]
            table = trial_table(shown, self._spec, self._risen)
            if kept <= 1 or self._console.is_jupyter:
                return table
            height = len(self._console.render_lines(table, pad=False))
            if height <= lines:
                return table
            kept = max(1, min(kept - 1, kept * lines // height))

    def _place_key(self, trial: TrialRecord) -> tuple[bool, float, int]:
        value = trial.best_value(self._spec.objective, self._spec.mode)
        return value is None, 0.0 if value is None else -value if self._spec.mode == "max" else value, trial.number

    def _note_places(self, order: list[int]) -> None:
        """Notes which trials have overtaken others since the order last changed."""
        if order != self._order:
            earlier = {number: place for place, number in enumerate(self._order)}
            known = [number for number in order if number in earlier]
            self._risen = {number for place, number in enumerate(known) if place < earlier[number]}
            self._order = order
