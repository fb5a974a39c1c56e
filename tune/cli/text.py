"""Prints studies, replays and predictions to the terminal. Runs nothing."""

from __future__ import annotations

import json
import math
import os
import shlex
from typing import TYPE_CHECKING

from rich.console import Console

import tune
from trainables.places import Place
from tune.errors import EmotuneError
from tune.session.live_display import trial_table
from tune.session.study_text import best_line, confirmation_lines, duration, export_lines, spent_words, states
from tune.study.best_run import gone_line
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.study_state import TrialRecord, run_words

if TYPE_CHECKING:
    from tune.export.predict import Prediction
    from tune.session.replay import Replay

_BARS = "▁▂▃▄▅▆▇█"


def replay_lines(replayed: Replay) -> str:
    """Returns whether a trial repeated to the last digit, and what is not as it was."""
    lines = [f"not as it was: {mismatch}" for mismatch in replayed.mismatches]
    if not replayed.different:
        lines.append(f"trial {replayed.trial}: all {replayed.epochs} epochs are identical to the last digit")
        return "\n".join([*lines, *([f"its checkpoint is back: {replayed.restored}"] if replayed.restored else [])])
    if replayed.restored is not None:
        lines.append("its checkpoint was not put back: it would not be the model that was scored")
    for epoch, metrics in replayed.different.items():
        scalars = [f"{name} {a!r} then, {b!r} now" for name, (a, b) in metrics.items() if not isinstance(a, list)]
        more = len(metrics) - len(scalars)
        lines.append(f"epoch {epoch}: {'; '.join(scalars)}" + (f"; {more} tables" if more else ""))
    lines.append(f"trial {replayed.trial}: {len(replayed.different)} of {replayed.epochs} epochs differ")
    if not replayed.mismatches:
        lines.append(
            "nothing known of code, versions and machine has changed: on a GPU, sums may differ in their order"
        )
    return "\n".join(lines)


def print_studies(storage: str) -> None:
    """Prints a line per study; one that is damaged is named, not hidden."""
    console = _console()
    names = tune.list_studies(storage)
    if not names:
        console.print(f"no studies in {storage}. Start one: emotune run studies/quickstart.yaml", markup=False)
    for name in names:
        last_part = Place(name).last_part
        try:
            study = tune.load_study(name)
            record = study.record
        except (EmotuneError, OSError) as error:
            console.print(f"{last_part}: {error}", markup=False, soft_wrap=True)
            continue
        state = "running" if study.running else "unfinished"
        if record.finished:
            state = record.ended_by or "finished"
        console.print(
            f"{last_part:24} {state:12} {states(record):36} {best_line(study.files, record)}",
            markup=False,
            soft_wrap=True,
        )


def print_study(shown: tune.Study) -> None:
    """Prints a study: its trials, how each ended, the best, its curves, its export."""
    console, study, record, spec = _console(), shown.files, shown.record, shown.spec
    console.print(
        f"{spec.name}: {states(record)}, {duration(record.search_s)} of search, {spent_words(spec, record)}",
        markup=False,
    )
    console.print(trial_table(list(record.trials.values()), spec))
    console.print()
    console.print("how each trial ended", style="bold")
    for trial in record.trials.values():
        console.print(f"{trial.number:5}  {trial.state:9} {trial.reason}", markup=False, soft_wrap=True)
    faulted = [t for t in [*record.trials.values(), *record.confirmations.values()] if t.faults]
    if faulted:
        console.print()
        console.print("what held trials up", style="bold")
    for trial in faulted:
        for fault in trial.faults:
            again = "went on" if fault.retried else "not tried again"
            console.print(
                f"{run_words(trial.number).removeprefix('trial '):>5}  {fault.kind.replace('_', ' ')} after epoch "
                f"{fault.epoch}: {fault.reason}; {again}",
                markup=False,
                soft_wrap=True,
            )
    console.print()
    console.print(f"{spec.objective} by epoch", style="bold")
    for trial in study.ranked(record):
        console.print(f"{trial.number:5}  {curve(trial, spec.objective)}", markup=False, soft_wrap=True)
    console.print()
    console.print(best_line(study, record), markup=False, soft_wrap=True)
    for line in [*confirmation_lines(study, record), gone_line(study, record)]:
        if line:
            console.print(line, markup=False, soft_wrap=True)
    if study.export.exists():
        console.print(export_lines(study.place.child(EXPORT_FOLDER)), markup=False, soft_wrap=True)
    console.print(
        f"compare      tensorboard --logdir {shlex.quote(str(study.tensorboard))}", markup=False, soft_wrap=True
    )
    if study.running:
        console.print(f"running in process {record.pid}", markup=False)
    elif not record.finished:
        console.print(f"unfinished; go on with: emotune resume {study.shell_name}", markup=False, soft_wrap=True)


def curve(trial: TrialRecord, objective: str) -> str:
    """Returns a metric over the epochs as a line of bars between its own lowest and highest finite values."""
    values = [trial.epochs[epoch][objective] for epoch in sorted(trial.epochs)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else "?" for value in values)
    return f"{bars}  {low:.4f} to {high:.4f} in {len(values)} epochs, {values[-1]:.4f} in the last"


def prediction_line(prediction: Prediction, *, as_json: bool) -> str:
    """Returns one prediction as text or as a JSON object."""
    if as_json:
        return json.dumps(
            {"path": str(prediction.path), "label": prediction.label, "probabilities": prediction.probabilities}
        )
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    return f"{prediction.path}  {prediction.label}  " + " ".join(f"{name} {p:.3f}" for name, p in ranked)


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 160)
