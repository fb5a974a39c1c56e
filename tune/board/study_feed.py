"""A study as the board's page takes it: figures and rows as plain data, and what of them has changed. Knows no HTTP."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from tune.errors import EmotuneError
from tune.report.timeline import TimelineReader, stretch_text
from tune.search.confirmation import expected_runs
from tune.search.why import why_trial
from tune.session.event_text import event_text
from tune.study.budget import ended_words
from tune.study.studies import StudyFiles
from tune.study.study_follower import StudyFollower
from tune.study.time_left import seconds_left
from tune.study.trial_record import ENDED, TrialRecord, is_final_fit, run_label
from tune.study.wording import duration, spent_text, trial_counts

_LOOK_EVERY_S, _LOOK_INTO_BUCKET_EVERY_S = 0.5, 3.0
_DIGITS = 5
_NOT_LOGGED = frozenset({"epoch", "started"})
"""What the table and the timeline show; the log is of decisions."""


class StudyFeed:
    """One study's journal, followed while somebody asks, from any thread.

    Every event has a number, and whatever is shown has the number of the last event that changed it.
    """

    def __init__(self, study: StudyFiles) -> None:
        """Takes a study and reads its journal.

        Raises:
            StudyError: the journal is damaged.
            PlaceError: its bucket cannot be reached.
        """
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._follower = StudyFollower(study)
        self._looked = 0.0
        self._problem = ""
        self._begin_anew()
        self._follower.fetch()
        self._take_events()

    def refresh(self) -> None:
        """Reads what the journal has got since, not more often than is worth while; a problem becomes part of it.

        One thread at a time does; the others are not kept, however long a bucket takes to answer.
        """
        pause_s = _LOOK_EVERY_S if self._follower.study.bucket is None else _LOOK_INTO_BUCKET_EVERY_S
        if time.monotonic() - self._looked < pause_s or not self._looking.acquire(blocking=False):
            return
        try:
            self._follower.fetch()
            with self._lock:
                self._take_events()
            self._problem = ""
        except (EmotuneError, OSError) as error:
            self._problem = str(error)
        finally:
            self._looked = time.monotonic()
            self._looking.release()

    def summary(self) -> dict[str, Any]:
        """Returns how the study stands: what the page says of it at the top, and where it can be chosen."""
        with self._lock:
            return self._summary()

    def changes(self, since: str) -> dict[str, Any]:
        """Returns what has changed since an earlier answer, everything for a `since` that is none of this journal's.

        Args:
            since: the `version` of that answer, "" before the first.
        """
        with self._lock:
            began, _, number = since.partition(".")
            full = began != self._journal_id or not number.isdigit() or int(number) > self._events
            after = -1 if full else int(number)
            spec, state = self._follower.study.spec, self._follower.state
            return {
                "version": f"{self._journal_id}.{self._events}",
                "full": full,
                "objective": spec.objective,
                "mode": spec.mode,
                "epochs": spec.asha.max_epochs,
                "rungs": spec.asha.rungs,
                "parameters": list(spec.space.parameters),
                "trials": [self._row(state.run(n)) for n, changed in self._changed.items() if changed > after],
                "log": [line for changed, line in self._log if changed > after],
                "timeline": self._timeline_since(after),
            }

    def trial(self, number: int) -> list[str] | None:
        """Returns the story of a trial or a confirmation in words, None where there is none of that number."""
        with self._lock:
            state = self._follower.state
            if number not in state.trials and number not in state.confirmations:
                return None
            return why_trial(self._follower.study.spec, state, number)

    def _begin_anew(self) -> None:
        self._journal_id = f"{time.time_ns():x}"
        self._events = 0
        self._changed: dict[int, int] = {}
        self._log: list[tuple[int, list[Any]]] = []
        self._reader = TimelineReader()
        self._bars: list[list[Any]] = []
        self._bars_changed: list[int] = []
        self._most_trials = self._expected = self._follower.study.spec.most_trials
        self._summed_up: tuple[int, dict[str, Any]] | None = None
        self._restarts = self._follower.restarts

    def _take_events(self) -> None:
        for event in self._follower.read(fetch=False):
            self._notice_restart()
            self._events += 1
            self._reader.add(event)
            self._note(event)
        self._notice_restart()  # a new journal may have no event yet
        self._draw_bars()

    def _notice_restart(self) -> None:
        if self._follower.restarts != self._restarts:
            self._begin_anew()

    def _note(self, event: Mapping[str, Any]) -> None:
        state, spec = self._follower.state, self._follower.study.spec
        number = event.get("trial")
        if number in state.trials or number in state.confirmations:
            self._changed[number] = self._events
        if event["event"] == "session":
            self._most_trials, self._expected = spec.most_trials, expected_runs(spec, state)
        if event["event"] not in _NOT_LOGGED and (text := event_text(spec, state, event)):
            self._log.append((self._events, [event["time"], event["event"], number, text]))

    def _draw_bars(self) -> None:
        """Notes which stretches of the timeline are not as they were."""
        for i, stretch in enumerate(self._reader.timeline().stretches):
            until = None if self._reader.is_going_on(stretch) else stretch.until
            bar = [i, stretch.number, stretch.began, until, stretch.lane, stretch.state, stretch_text(stretch)]
            if i == len(self._bars):
                self._bars.append(bar)
                self._bars_changed.append(self._events)
            elif self._bars[i] != bar:
                self._bars[i], self._bars_changed[i] = bar, self._events

    def _timeline_since(self, after: int) -> list[list[Any]]:
        return [bar for bar, changed in zip(self._bars, self._bars_changed, strict=True) if changed > after]

    def _row(self, run: TrialRecord) -> dict[str, Any]:
        spec = self._follower.study.spec
        reasons = [f"{fault.kind.replace('_', ' ')}: {fault.reason}" for fault in run.faults]
        stops = [[decision.epoch, _finite(decision.value)] for decision in run.rungs if decision.stopped]
        judged = not is_final_fit(run.number)  # that one is trained on the images that would score it
        return {
            "number": run.number,
            "label": run_label(run.number),
            "state": run.state,
            "score": _finite(run.best_value(spec.objective, spec.mode)) if judged else None,
            "epochs": max(run.epochs, default=0),
            "rung": run.rungs[-1].epoch if run.rungs else None,
            "values": run.values,
            "why": "; ".join([run.reason, *reasons] if run.reason else reasons),
            "curve": [[e, _finite(run.epochs[e].get(spec.objective))] for e in sorted(run.epochs) if judged],
            "stop": stops[-1] if stops else None,
        }

    def _summary(self) -> dict[str, Any]:
        study, state = self._follower.study, self._follower.state
        running = self._follower.is_running()
        if self._summed_up is None or self._summed_up[0] != self._events:
            self._summed_up = (self._events, self._sum_up())
        ended = ended_words(state.ended_by) or "finished" if state.finished else "unfinished"
        expected = max(self._most_trials, state.tried) if state.searching else self._expected
        begun = state.open_since if running and self._follower.in_session() else None
        left = None if begun is None else seconds_left(study.spec, state, expected, time.time())
        return {
            **self._summed_up[1],
            "name": study.spec.name,
            "location": study.name,
            "status": "running" if running else ended,
            "problem": self._problem,
            "time": duration(state.search_s if begun is None else max(0.0, time.time() - begun)),
            "left": "" if left is None else f"about {duration(left)}",
            "now": time.time() if running else state.last_event,
        }

    def _sum_up(self) -> dict[str, Any]:
        study, state = self._follower.study, self._follower.state
        best, confirmed = study.best_trial(state), state.confirmed
        score = None if best is None else best.best_value(study.spec.objective, study.spec.mode)
        repeated = (confirmed or {}).get("repeated", ())
        winner = next((row for row in repeated if best is not None and row["trial"] == best.number), None)
        if confirmed is not None and winner is not None and confirmed["winner"] == winner["trial"]:
            score, seeds = winner["mean"], len(winner["scores"])  # the search's was the largest of many noisy ones
        else:
            seeds = 0
        return {
            "ended": sum(t.state in ENDED - {"repeat"} for t in state.trials.values()),
            "expected": max(self._most_trials, state.tried),
            "counts": trial_counts(state),
            "spent": spent_text(study.spec, state),
            "best": None if best is None else best.number,
            "score": _finite(score),
            "seeds": seeds,
        }


def _finite(value: Any) -> float | None:
    """Returns a figure that JSON has, with as many digits as a chart shows."""
    return round(float(value), _DIGITS) if value is not None and math.isfinite(value) else None
