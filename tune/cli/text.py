"""Turns checks, replays and predictions into text for the terminal. Runs nothing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from search_spaces import Value
    from tune.api.studies import Study
    from tune.export.predict import Prediction, UnreadPicture
    from tune.session.replay import Replay
    from tune.study.spec import StudySpec


def checked_lines(study_file: Path, spec: StudySpec) -> str:
    """Returns that a study file is in order, and what it searches."""
    return f"{study_file} is in order: {spec.most_trials} trials, {len(spec.space.parameters)} parameters"


def hanging_lines(rows: Sequence[tuple[str, str]], width: int | None = None) -> str:
    """Returns words and what is said of them in two columns, wrapped at the terminal's width, or at COLUMNS; a pipe's
    lines stay whole.

    Args:
        rows: pairs of a word, "" where it is the one above, and a text.
        width: characters of a line.
    """
    from tune.line_width import fitted, line_width

    first = 2 + max(len(word) for word, _ in rows)
    return fitted("\n".join(f"{word:{first}}{text}".rstrip() for word, text in rows), width or line_width(sys.stdout))


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


def enqueued_line(study: Study, values: Mapping[str, Value]) -> str:
    """Returns when an enqueued configuration is tried, and what it is."""
    from tune.session.trial_table import short_parameters
    from tune.study.budget import BUDGETS, exhausted_budget

    name, state, trials = study.files.shell_name, study.state, study.spec.most_trials
    begun = state.tried
    if begun >= trials:
        when = f"when the study has more trials: emotune resume {name} --trials {begun + 1}"
    elif not study.running and (spent := exhausted_budget(study.spec, state, state.last_event, state.search_s)):
        when = f"first when the search goes on, but {BUDGETS[spent]}: emotune resume {name} with a higher limit"
    else:
        searching = study.running and state.searching and state.open_since is not None
        when = "next" if searching else f"first when the search goes on: emotune resume {name}"
    return f"enqueued in {study.name}, to be tried {when}\n  {short_parameters(values)}"


def dropped_line(study: Study, trial: int) -> str:
    """Returns when a dropped trial ends."""
    when = "at the end of its epoch" if study.running else "when the study goes on"
    return f"trial {trial} of {study.name} ends {when}; what it did so far is kept"


def evaluation_lines(scores: Mapping[str, Any]) -> str:
    """Returns the scores of an export on labelled images as a table."""
    low, high = scores["accuracy_interval"]
    lines = [
        f"images       {scores['images']}" + (f", {scores['unread']} more not read" if scores["unread"] else ""),
        f"accuracy     {scores['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})",
        f"macro        F1 {scores['macro_f1']:.4f}, precision {scores['macro_precision']:.4f}, "
        f"recall {scores['macro_recall']:.4f}",
        f"loss         {scores['loss']:.4f}",
        f"calibration  expected error {scores['expected_calibration_error']:.4f}",
    ]
    for name, recall, row in zip(scores["classes"], scores["per_class_recall"], scores["confusion"], strict=True):
        told = "no images" if recall is None else f"recall {recall:.4f} of {sum(row)}"
        lines.append(f"  {name:<12} {told}")
    for name, one in scores.get("formats", {}).items():
        low, high = one["interval"]
        lines.append(
            f"{name:<12} accuracy {one['accuracy']:.4f}, {one['accuracy_difference']:+.4f} beside the Keras model "
            f"(95 % interval {low:+.4f} to {high:+.4f}), probabilities within {one['max_difference']:.1e}"
        )
    if scores["looks_divided"]:
        lines.append(f"warning: {scores['looks_divided']} images have no pixel above 1 of 255, as if divided by 255")
    return "\n".join(lines)


def prediction_line(prediction: Prediction, *, as_json: bool, name: str = "") -> str:
    """Returns one prediction as text or as a JSON object; a name stands in for its path in the text."""
    if as_json:
        return json.dumps(
            {"path": str(prediction.path), "label": prediction.label, "probabilities": prediction.probabilities}
        )
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    return f"{name or prediction.path}  {prediction.label}  " + " ".join(f"{name} {p:.3f}" for name, p in ranked)


def tell_unread(unread: Sequence[UnreadPicture], of: int) -> int:
    """Names pictures that could not be read on standard error; returns the exit code: 0, 1, or 2 if none was read."""
    import typer

    for picture in unread:
        typer.echo(f"not read: {picture.name}: {picture.reason}", err=True)
    if unread:
        typer.echo(f"error: {len(unread)} of {of} images could not be read", err=True)
    return 0 if not unread else 2 if len(unread) == of else 1


def serving_lines(export: str, url: str) -> str:
    """Returns where a served export answers, and how to ask it."""
    return (
        f"{export} is served: {url}  (Ctrl-C ends it)\n"
        f"  ask it    curl --data-binary @face.png {url}/predict\n"
        f"  watch it  {url}/health, {url}/metrics, {url}/openapi.json"
    )
