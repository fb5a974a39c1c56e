"""A study's trials and curves as tables of pandas, and its summary as rich draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from tune.errors import StudyError, nearest
from tune.study.spec import StudySpec
from tune.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tune.api.studies import Study


def trials_dataframe(spec: StudySpec, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Returns a row per trial; see `Study.trials_dataframe`."""
    rows = []
    for trial in trials:
        best = trial.best_epoch(spec.objective, spec.mode)
        metrics = {} if best is None else trial.epochs[best]
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "score": trial.best_value(spec.objective, spec.mode),
                "best_epoch": best,
                "epochs": max(trial.epochs, default=0),
                "restarts": trial.restarts,
                **trial.values,
                **{n: value for n, value in metrics.items() if _is_figure(n, value) and n not in trial.values},
                "reason": trial.reason,
            }
        )
    columns = ["trial", "state", "score", "best_epoch", "epochs", "restarts", "reason"]
    frame = pd.DataFrame(rows, columns=None if rows else columns)
    return frame.astype({"score": "float64", "best_epoch": "Int64"}).set_index("trial")


def _is_figure(name: str, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and name not in ("epoch", "process")


def curves_dataframe(trials: Sequence[TrialRecord], name: str) -> pd.DataFrame:
    """Returns a metric over the epochs, a column per trial; see `Study.curves`.

    Raises:
        StudyError: no epoch has a number of that name.
    """
    known = {
        metric
        for trial in trials
        for metrics in trial.epochs.values()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    }
    if known and name not in known:
        raise StudyError(f"a metric must be one that an epoch reports. Received: {name}.{nearest(name, known)}")
    columns = {
        trial.number: pd.Series({epoch: metrics[name] for epoch, metrics in trial.epochs.items()}, dtype="float64")
        for trial in trials
    }
    frame = pd.DataFrame(columns).sort_index()
    return frame.rename_axis(index="epoch", columns="trial")


def rich_summary(study: Study) -> RenderableType:
    """Returns a study's trials, its best, what confirmation found, its export, for a terminal or a cell."""
    from rich.console import Group
    from rich.text import Text

    from tune.session.study_text import best_line, confirmation_lines
    from tune.session.trial_table import trial_table
    from tune.study.wording import duration, spent_text

    state, spec = study.state, study.spec
    head = f"{study.name}: {study._status()}; {duration(state.search_s)} of search, {spent_text(spec, state)}"
    lines = [best_line(study.files, state), *confirmation_lines(study.files, state)]
    test = study.sealed_test
    if test is not None:
        lines.append(f"sealed test  accuracy {test['accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}")
    lines.append(f"results      {study.location}")
    table = trial_table(study.trials, spec)
    return Group(Text(head), table, *(Text(line) for line in lines))
