"""Turns studies, plans and predictions into text for the terminal. Runs nothing."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
from typing import TYPE_CHECKING, Any

from rich.console import Console

from trainables.places import Place
from tune.errors import EmotuneError
from tune.search.why import why_study, why_trial
from tune.session.live_display import short_parameters, trial_table
from tune.session.plan import Plan
from tune.study.best_run import gone_line
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.budget import BUDGETS
from tune.study.spec import StudySpec
from tune.study.studies import Study, list_studies, load_study
from tune.study.study_state import REFIT_SEED, SEED_STRIDE, StudyRecord, TrialRecord, run_words

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from tune.export.predict import Prediction
    from tune.session.replay import Replay
    from tune.session.runner import Outcome

_BARS = "▁▂▃▄▅▆▇█"


def duration(seconds: float) -> str:
    """Returns `45 s`, `3 min`, `1 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plan_lines(study: Study, dataset: Dataset, plan: Plan) -> str:
    """Returns what a study will do: machine, GPUs or the warning that there is none, trials at once, time."""
    spec, wanted = study.spec, study.spec.resources
    counts = dataset.info.counts
    lines = [
        f"study     {spec.name}: {plan.trials} trials of at most {spec.asha.max_epochs} epochs, "
        f"rungs after {', '.join(map(str, spec.asha.rungs)) or 'none'}; {spec.objective}, {spec.mode}imised",
        f"data      {dataset.directory}: {sum(counts['train'].values())} train and "
        f"{sum(counts['test'].values())} test images, {len(dataset.info.classes)} classes",
        f"machine   {platform.node()}: {plan.cpus:g} CPUs, {plan.gpus:g} GPUs, "
        f"{plan.nodes} node{'s' * (plan.nodes > 1)}"
        + (f", may grow to {plan.may_grow_to}" if plan.may_grow_to > plan.nodes else ""),
    ]
    if not plan.gpus and not wanted.gpus_per_trial:
        lines.append("warning   no GPU was found: trials train on the processor, which takes much longer")
    elif plan.gpus and not wanted.gpus_per_trial:
        lines.append(
            f"warning   {plan.gpus:g} GPUs are there and the study uses none: --set resources.gpus_per_trial=0.25"
        )
    per_trial = f"{wanted.cpus_per_trial:g} CPU" + (f", {wanted.gpus_per_trial:g} GPU" if wanted.gpus_per_trial else "")
    if wanted.feed_workers:
        per_trial += f", {wanted.feed_workers} feed workers"
    lines.append(f"at once   {plan.at_once} trials ({per_trial} each)")
    if plan.speed is not None and plan.expected_s is not None:
        lines.append(
            f"speed     {plan.speed.training_images_per_s:.0f} images/s, {duration(plan.speed.epoch_s)} an epoch "
            f"(default configuration, one trial alone); about {plan.expected_epochs:.0f} epochs, "
            f"{duration(plan.expected_s)} in all" + (f", at most {duration(spec.time)}" if spec.time else "")
        )
    if spec.confirm.top:
        lines.append(
            f"then      the best {spec.confirm.top} configurations and the default one, trained again with "
            f"{spec.confirm.seeds} fresh seeds each"
        )
    lines.append(f"results   {study.name}; Ray's own words in {study.ray_log}")
    return "\n".join(lines)


def outcome_lines(study: Study, outcome: Outcome) -> str:
    """Returns how a session that was not interrupted ended, and what to do next."""
    record = study.record()
    lines = [
        f"{BUDGETS.get(outcome.ended_by, 'finished')}: {len(record.trials)} trials ({states(record)}) in "
        f"{duration(record.search_s)}; {spent_words(study.spec, record)}",
        best_line(study, record),
        *confirmation_lines(study, record),
    ]
    if outcome.export is not None:
        lines += [
            export_lines(study.place.child(EXPORT_FOLDER)),
            f"results      {study.name if study.bucket else study.directory.resolve().as_uri()}",
            f"compare      tensorboard --logdir {shlex.quote(str(study.tensorboard))}",
            f"look         emotune show {study.shell_name}",
        ]
    return "\n".join(lines)


def spent_words(spec: StudySpec, record: StudyRecord) -> str:
    """Returns `98 epochs, 1.2 GPU hours, cost 3.40`, as far as they are counted."""
    spent = record.spent(record.last_event)
    words = [f"{spent.epochs} epochs"]
    if spent.gpu_hours:
        words.append(f"{spent.gpu_hours:.2f} GPU hours")
    if spec.budget.node_hour_price is not None:
        words.append(f"cost {spent.cost:.2f}")
    return ", ".join(words)


def confirmation_lines(study: Study, record: StudyRecord) -> list[str]:
    """Returns what training the best again has shown: mean, spread, interval, and how much was luck."""
    found, spec = record.confirmed, study.spec
    if found is None:
        return []
    if found["winner"] is None:
        return [f"confirmed    no: {found['skipped']}"]
    lines: list[str] = []
    for row in found["repeated"]:
        low, high = row["interval"]
        name = f"trial {row['trial']}" + (" (default)" if row["trial"] == 0 else "")
        lines.append(
            f"{'confirmed' if not lines else '':12} {name}: mean {row['mean']:.4f}, spread {row['spread']:.4f}, "
            f"95 % interval {low:.4f} to {high:.4f}, {len(row['scores'])} seeds"
        )
    trial, value = found["search_best"]
    low, high = found["luck_interval"]
    change = "worse" if found["luck"] >= 0 else "better"
    lines.append(
        f"luck         the search's best, trial {trial} with {value:.4f}, is {change} "
        f"when trained again: {-found['luck']:+.4f} ({-high:+.4f} to {-low:+.4f})"
    )
    gain = (
        "" if found["gain"] is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(found["gain"], *found["gain_interval"])
    )
    lines.append(
        {
            "better": f"tuning       gained {gain} over the default configuration: more than chance",
            "luck": f"tuning       {gain} over the default configuration: no more than luck",
            "default": "tuning       found nothing better than the default configuration",
            "unknown": "tuning       its gain is unknown: the default configuration could not be trained again",
        }[found["verdict"]]
    )
    if spec.confirm.refit:
        fit = record.confirmations.get(found["winner"] + REFIT_SEED * SEED_STRIDE)
        lines.append(
            "final fit    the winner, on all training images; that model is exported"
            if fit is not None and fit.state == "complete"
            else "final fit    not made: the best of the winner's repetitions is exported"
        )
    return lines


def why_lines(study: Study, trial: int | None) -> str:
    """Returns why a trial ended, or how well the study's rungs judged."""
    record = study.record()
    return "\n".join(why_study(study.spec, record) if trial is None else why_trial(study.spec, record, trial))


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


def interrupted_line(study: Study) -> str:
    """Returns what to do after an interruption; one before the first session has left nothing."""
    if not study.journal.exists():
        return "interrupted before the study began. Start it again"
    return f"interrupted; everything is kept. Go on with: emotune resume {study.shell_name}"


def states(record: StudyRecord) -> str:
    """Returns `7 complete, 12 pruned, 1 failed`."""
    order = ("complete", "cut", "pruned", "failed", "running", "waiting")
    counts = {state: sum(t.state == state for t in record.trials.values()) for state in order}
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none"


def best_line(study: Study, record: StudyRecord) -> str:
    """Returns the best trial: number, score, epoch, parameters."""
    run, ranked, spec = study.best_run(record), study.ranked(record), study.spec
    if not ranked:
        return "best         none yet"
    best = record.trials[run.number % SEED_STRIDE] if run else ranked[0]
    gone = ""
    if run and study.is_gone(run):
        gone = f"; {'its' if run is best else run_words(run.number) + chr(39) + 's'} checkpoint is gone"
    return (
        f"best         trial {best.number}: {spec.objective} {best.best_value(spec.objective, spec.mode):.4f} "
        f"in epoch {best.best_epoch(spec.objective, spec.mode)}; {short_parameters(best.values)}{gone}"
    )


def export_lines(export: Place) -> str:
    """Returns where an export lies and what the sealed test said of it."""
    metrics = json.loads(export.read("metrics.json") or b"")
    lines = [f"export       {export.name}  (emotune predict {shlex.quote(export.name)} IMAGE...)"]
    test: dict[str, Any] | None = metrics["test"]
    if test is None:
        lines.append("sealed test  not opened: the study has not ended, or its data set has no test split")
    else:
        lines.append(
            f"sealed test  accuracy {_with_interval(test)}, macro F1 {test['macro_f1']:.4f}, {test['images']} images"
        )
        if test.get("by_seed"):
            figures = [one["accuracy"] for one in test["by_seed"]]
            mean = sum(figures) / len(figures)
            spread = math.sqrt(sum((f - mean) ** 2 for f in figures) / (len(figures) - 1))
            lines.append(f"             mean {mean:.4f}, spread {spread:.4f} over its {len(figures)} seeds")
        if test.get("untwinned"):
            alone = test["untwinned"]
            lines.append(
                f"             accuracy {_with_interval(alone)} on the {alone['images']} without a twin in training"
            )
    return "\n".join(lines)


def _with_interval(scores: dict[str, Any]) -> str:
    low, high = scores["accuracy_interval"]
    return f"{scores['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})"


def print_studies(storage: str) -> None:
    """Prints a line per study; one that is damaged is named, not hidden."""
    console = _console()
    places = list_studies(storage)
    if not places:
        console.print(f"no studies in {storage}. Start one: emotune run studies/quickstart.yaml", markup=False)
    for place in places:
        try:
            study = load_study(place)
            record = study.record()
        except (EmotuneError, OSError) as error:
            console.print(f"{place.last_part}: {error}", markup=False, soft_wrap=True)
            continue
        state = "running" if study.running else "unfinished"
        if record.finished:
            state = record.ended_by or "finished"
        console.print(
            f"{place.last_part:24} {state:12} {states(record):36} {best_line(study, record)}",
            markup=False,
            soft_wrap=True,
        )


def print_study(study: Study) -> None:
    """Prints a study: its trials, how each ended, the best, its curves, its export."""
    console, record, spec = _console(), study.record(), study.spec
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
