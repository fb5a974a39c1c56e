"""The live table of a study that runs in another process: takes its events, shows search and confirmation in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TextIO

from tune.search.confirmation import expected_runs
from tune.session.live_display import LiveStudy
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState


class StudyView:
    """`LiveStudy` over events that come from elsewhere.

    Attributes:
        live: the table, for lines above it; another one when the session's phase changes.
    """

    def __init__(self, terminal: TextIO, spec: StudySpec, state: StudyState) -> None:
        """Takes the output, the study, and the state that the events are added to before they are passed on."""
        self._terminal = terminal
        self._spec = spec
        self._state = state
        self.live = self._table()

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.__exit__(*error)

    def show(self, spec: StudySpec, state: StudyState) -> None:
        """Ends the table as it is and begins another, of this state."""
        self.live.__exit__()
        self._spec, self._state = spec, state
        self.live = self._table()
        self.live.__enter__()

    def note(self, event: Mapping[str, Any]) -> None:
        """Takes an event that is in the state: a session that trains the best again has a table of its own."""
        if event["event"] == "session" and self._confirming != self._shows_confirmations:
            self.show(self._spec, self._state)

    @property
    def _confirming(self) -> bool:
        return self._state.open_since is not None and not self._state.searching

    def _table(self) -> LiveStudy:
        spec, state = self._spec, self._state
        self._shows_confirmations = self._confirming
        return LiveStudy(self._terminal, spec, state, expected_runs(spec, state), confirming=self._shows_confirmations)
