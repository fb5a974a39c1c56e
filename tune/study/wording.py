"""Counts and times of a study in words, wherever they are shown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tune.study.spec import StudySpec
from tune.study.study_state import StudyState

ONE_CLASS = "it says the same class of every image: no better than always saying that one"
"""Of a trial's best epoch."""


def duration(seconds: float) -> str:
    """Returns `45 s`, `3 min`, `1 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def unique_names(names: Sequence[str]) -> list[str]:
    """Returns the names; where several are alike, `name (1)`, `name (2)`."""
    return [
        f"{name} ({names[:place].count(name) + 1})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def spent_text(spec: StudySpec, state: StudyState) -> str:
    """Returns `98 epochs (3 of them again), 1.2 GPU hours, cost 3.40`, as far as they are counted."""
    spent = state.spent(state.last_event)
    repeated = f" ({state.epochs_repeated} of them again)" if state.epochs_repeated else ""
    words = [f"{spent.epochs} epochs{repeated}"]
    if spent.gpu_hours:
        words.append(f"{spent.gpu_hours:.2f} GPU hours")
    if spec.budget.node_hour_price is not None:
        words.append(f"cost {spent.cost:.2f}")
    return ", ".join(words)


def trial_counts(state: StudyState) -> str:
    """Returns `7 complete, 12 pruned, 1 failed`."""
    order = ("complete", "cut", "pruned", "failed", "repeat", "running", "waiting")
    counts = {name: sum(t.state == name for t in state.trials.values()) for name in order}
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "none"


def standing_line(spec: StudySpec, state: StudyState) -> str:
    """Returns how far a study is, in a line: its trials by how they ended, and what they took."""
    return f"{spec.name}: {trial_counts(state)}, {duration(state.search_s)} of search, {spent_text(spec, state)}"
