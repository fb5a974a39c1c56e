"""What `emotune list` and `emotune show` print: a line per study, and a study's trials, curves and export."""

from __future__ import annotations

import math
import shlex
import sys

from rich.console import Console

import tune
from trainables.places import Place
from tune.errors import EmotuneError
from tune.line_width import fitted_to, line_width
from tune.session.study_text import best_line, confirmation_lines, export_lines, front_line, stopped_higher_line
from tune.session.trial_table import trial_table
from tune.study.best_run import missing_checkpoint_line
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.trial_record import TrialRecord, run_label
from tune.study.wording import standing_line, trial_counts

_BARS = "▁▂▃▄▅▆▇█"
_TABLE_WIDTH = 160


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
            state = study.state
        except (EmotuneError, OSError) as error:
            console.print(fitted_to(sys.stdout, f"{last_part}: {error}"), markup=False, soft_wrap=True)
            continue
        console.print(
            f"{last_part:24} {study.files.status(state):12} {trial_counts(state):36} {best_line(study.files, state)}",
            markup=False,
            soft_wrap=True,
        )


def print_study(shown: tune.Study) -> None:
    """Prints a study: its trials, how each ended, the best, its curves, its export."""
    console, study, state, spec = _console(), shown.files, shown.state, shown.spec

    def tell(line: str) -> None:
        console.print(fitted_to(sys.stdout, line), markup=False, soft_wrap=True)

    tell(standing_line(spec, state))
    console.print(trial_table(list(state.trials.values()), spec))
    console.print()
    console.print("how each trial ended", style="bold")
    for trial in state.trials.values():
        tell(f"{trial.number:5}  {trial.state:9} {trial.reason}")
    faulted = [t for t in [*state.trials.values(), *state.confirmations.values()] if t.faults]
    if faulted:
        console.print()
        console.print("what held trials up", style="bold")
    for trial in faulted:
        for fault in trial.faults:
            again = "went on" if fault.retried else "not tried again"
            tell(
                f"{run_label(trial.number).removeprefix('trial '):>5}  {fault.kind.replace('_', ' ')} after epoch "
                f"{fault.epoch}: {fault.reason}; {again}"
            )
    console.print()
    console.print(f"{spec.objective} by epoch", style="bold")
    for trial in study.ranked(state):
        tell(f"{trial.number:5}  {curve(trial, spec.objective)}")
    console.print()
    tell(best_line(study, state))
    more = [
        stopped_higher_line(study, state),
        front_line(study, state),
        *confirmation_lines(study, state),
        missing_checkpoint_line(study, state),
    ]
    for line in more:
        if line:
            tell(line)
    if study.export.exists():
        tell(export_lines(study.place.child(EXPORT_FOLDER)))
    tell(f"compare      tensorboard --logdir {shlex.quote(str(study.tensorboard))}")
    if study.running:
        tell(f"running in process {state.pid}{'' if study.running_here else ' of another machine'}")
    elif not state.finished:
        tell(f"unfinished; go on with: emotune resume {study.shell_name}")


def curve(trial: TrialRecord, objective: str) -> str:
    """Returns a metric over the epochs as a line of bars between its own lowest and highest finite values."""
    values = [trial.epochs[epoch][objective] for epoch in sorted(trial.epochs)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else "?" for value in values)
    return f"{bars}  {low:.4f} to {high:.4f} in {len(values)} epochs, {values[-1]:.4f} in the last"


def _console() -> Console:
    """A table in a pipe is as wide as COLUMNS says, or else as wide as it reads well."""
    return Console(width=line_width(sys.stdout) or _TABLE_WIDTH)
