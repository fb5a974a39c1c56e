"""The table of trials that `run` draws live and `show` prints: its columns and their colours. Asks nothing."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from search_spaces import Value
from tune.study.spec import StudySpec
from tune.study.trial_record import TrialRecord, is_final_fit, run_label

_COLOURS = {
    "complete": "green",
    "cut": "green",
    "pruned": "yellow",
    "failed": "red",
    "running": "cyan",
    "waiting": "dim",
    "repeat": "dim",
}


def trial_table(trials: list[TrialRecord], spec: StudySpec, risen: Container[int] = ()) -> Table:
    """Returns a table of trials: number, parameters, epoch, rung, score, second objective if there is one, state.

    Parameters that all of them have alike are told once, below.

    Args:
        trials: a row each.
        spec: the study.
        risen: numbers of those that have an arrow, because they are better placed than before.
    """
    alike = _alike([trial.values for trial in trials])
    below = f"the same in all: {escape(short_parameters(alike))}" if alike else None
    table = Table(box=None, pad_edge=False, header_style="bold", caption=below, caption_justify="left")
    second = [spec.second_objective] if spec.second_objective else []
    heads = ["model size" if name == "parameters" else name for name in second]
    for name in ("trial", "parameters", "epoch", "rung", "score", *heads, "state"):
        table.add_column(name, justify="left" if name in ("parameters", "state") else "right", overflow="fold")
    for trial in trials:
        value, best = trial.best_value(spec.objective, spec.mode), trial.best_epoch(spec.objective, spec.mode)
        if is_final_fit(trial.number):  # scored on what it was trained on
            value = None
        table.add_row(
            run_label(trial.number).removeprefix("trial "),
            escape(short_parameters({name: value for name, value in trial.values.items() if name not in alike})),
            f"{max(trial.epochs, default=0)}/{trial.schedule_epochs or spec.asha.max_epochs}",
            str(trial.rungs[-1].epoch) if trial.rungs else "-",
            "-" if value is None else f"{'↑ ' * (trial.number in risen)}{value:.4f}",
            *("-" if best is None else metric_text(name, trial.epochs[best][name], alone=True) for name in second),
            f"[{_COLOURS[trial.state]}]{trial.state}[/]" + (f" ({trial.restarts} restarts)" if trial.restarts else ""),
        )
    return table


def _alike(configurations: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Returns the parameters that all configurations have with one value; none where there is one configuration."""
    if len(configurations) < 2:
        return {}
    first, *others = configurations
    return {n: value for n, value in first.items() if all(n in other and other[n] == value for other in others)}


def metric_text(metric: str, value: float, *, alone: bool = False) -> str:
    """Returns a second objective's value: with its name behind a count or a rate, before a share, or alone."""
    counted = metric in ("parameters", "images_per_s")
    text = f"{value:,.0f}" if counted else f"{value:.4f}"
    if alone:
        return text
    return f"{text} {metric.replace('images_per_s', 'images/s')}" if counted else f"{metric} {text}"


def short_parameters(values: Mapping[str, Value]) -> str:
    """Returns `learning_rate 0.00052 batch_size 32 ...`, floats with three digits."""
    return " ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
