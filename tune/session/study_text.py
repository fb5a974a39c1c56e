"""What a study, its plan and its results are in plain text: for the terminal, a cell, a report. Prints nothing."""

from __future__ import annotations

import json
import platform
import shlex
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from trainables.places import Place
from tune.session.trial_table import metric_text, short_parameters
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.budget import ended_words
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trade_off import pareto_front, size_front, sized_trials
from tune.study.trial_record import SEED_STRIDE, is_final_fit, run_label
from tune.study.wording import ONE_CLASS, duration, spent_text, trial_counts

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from trainables.training.calibration import Precision
    from tune.session.plan import Plan, Range


def plan_lines(study: StudyFiles, dataset: Dataset, plan: Plan) -> str:
    """Returns what a study will do: machine, GPUs or the warning that there is none, trials at once, time."""
    from tune.session.study_warnings import epoch_warnings, machine_warnings, study_warnings

    spec = study.spec
    lines = [
        f"study     {spec.name}: {plan.trials} trials of at most {spec.asha.max_epochs} epochs, "
        f"rungs after {', '.join(map(str, spec.asha.rungs)) or 'none'}; {spec.objective}, {spec.mode}imised",
        f"data      {data_text(dataset)}",
        f"machine   {nodes_text(plan)}",
    ]
    lines += [f"warning   {line}" for line in [*study_warnings(spec, dataset), *machine_warnings(spec, plan)]]
    lines.append(f"at once   {at_once_text(plan)}")
    expected = plan.forecast
    if plan.calibration is not None and expected.search_s is not None:
        speed = plan.calibration.default
        lines.append(
            f"speed     {speed.training_images_per_s:.0f} images/s, {duration(speed.epoch_s)} an epoch "
            f"(default configuration, one trial alone); about {expected.epochs.middle:.0f} epochs, "
            f"{range_text(expected.search_s)} of search" + (f", at most {duration(spec.time)}" if spec.time else "")
        )
        lines += [f"warning   {line}" for line in epoch_warnings(spec, speed.epoch_s, 0.0)]
    if spec.confirm.follows:
        lines.append(f"then      {_then_text(spec)}")
    lines.append(f"results   {study.name}; Ray's own words in {study.ray_log}")
    return "\n".join(lines)


def _then_text(spec: StudySpec) -> str:
    parts, fits = [], spec.confirm.refit
    if spec.confirm.top:
        parts.append(
            f"the best {spec.confirm.top} configurations and the default one, trained again with "
            f"{spec.confirm.seeds} fresh seeds each"
        )
    if fits:
        parts.append("the winner on all training images" + (f", {fits} seeds, whose mean is exported" * (fits > 1)))
    return "; ".join(parts)


def data_text(dataset: Dataset) -> str:
    """Returns where a data set lies, and how many images and classes it has."""
    train, test = (sum(dataset.info.counts[split].values()) for split in ("train", "test"))
    return f"{dataset.directory}: {train} train and {test} test images, {len(dataset.info.classes)} classes"


def nodes_text(plan: Plan) -> str:
    """Returns what Ray has joined, named after this machine: CPUs, GPUs, nodes, how many it may grow to."""
    grows = f", may grow to {plan.max_nodes}" if plan.max_nodes > plan.nodes else ""
    nodes = f"{plan.nodes} node{'s' * (plan.nodes != 1)}{grows}"
    return f"{platform.node()}: {plan.cpus:g} CPUs, {plan.gpus:g} GPUs, {nodes}"


def at_once_text(plan: Plan) -> str:
    """Returns how many trials run at the same time, and what each takes."""
    resources = plan.spec.resources
    words = [f"{resources.cpus_per_trial:g} CPU"]
    words += [f"{resources.gpus_per_trial:g} GPU"] if resources.gpus_per_trial else []
    words += [f"{resources.feed_workers} feed workers"] if resources.feed_workers else []
    return f"{plan.at_once} trials ({', '.join(words)} each)"


def range_text(seconds: Range) -> str:
    """Returns `12 min (10 to 15 min)`."""
    low, middle, high = (duration(value) for value in (seconds.low, seconds.middle, seconds.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def precision_line(found: Precision) -> str:
    """Returns what `precision: auto` stands for, and why."""
    return (
        f"precision: {found.chosen}; {found.float32_images_per_s:.0f} images/s with float32, "
        f"{found.bfloat16_images_per_s:.0f} with bfloat16"
    )


def outcome_lines(study: StudyFiles, ended_by: str) -> str:
    """Returns how a session that was not interrupted ended, and what to do next; it has left an export."""
    state = study.state()
    lines = [
        f"{ended_words(ended_by)}: {state.tried} trials ({trial_counts(state)}) in "
        f"{duration(state.search_s)}; {spent_text(study.spec, state)}",
        best_line(study, state),
        *confirmation_lines(study, state),
        export_lines(study.place.child(EXPORT_FOLDER)),
        f"results      {study.name if study.bucket else study.directory.resolve().as_uri()}",
        f"compare      tensorboard --logdir {shlex.quote(str(study.tensorboard))}",
        f"look         emotune show {study.shell_name}",
    ]
    return "\n".join(lines)


def confirmation_lines(study: StudyFiles, state: StudyState) -> list[str]:
    """Returns what training the best again has shown: mean, spread, interval, and how much was luck."""
    found, spec = state.confirmed, study.spec
    if found is None:
        return ensemble_lines(spec, state)
    if found["winner"] is None:
        return [f"confirmed    no: {found['skipped']}", *_final_fit_lines(study, state), *ensemble_lines(spec, state)]
    lines: list[str] = []
    for row in found["repeated"]:
        low, high = row["interval"]
        name = f"trial {row['trial']}" + (" (default)" if row["trial"] == 0 else "")
        lines.append(
            f"{'confirmed' if not lines else '':12} {name}: mean {row['mean']:.4f}, spread {row['spread']:.4f}, "
            f"95 % interval {low:.4f} to {high:.4f}, {len(row['scores'])} seeds"
        )
    trial, value = found["search_best"]
    best = f"luck         the search's best, trial {trial} with {value:.4f}, "
    if found["luck"] is None:
        lines.append(f"{best}could not be trained again twice: see its faults")
    else:
        low, high = found["luck_interval"]
        change = "worse" if found["luck"] >= 0 else "better"
        lines.append(f"{best}is {change} when trained again: {-found['luck']:+.4f} ({-high:+.4f} to {-low:+.4f})")
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
    return lines + _final_fit_lines(study, state) + ensemble_lines(spec, state)


def _final_fit_lines(study: StudyFiles, state: StudyState) -> list[str]:
    """Returns whether the winner was fitted on all training images, and by how many seeds."""
    numbers = state.final_fits()
    if not numbers and not study.spec.confirm.refit:
        return []
    fits = [run for run in study.ranking(state) if is_final_fit(run.number)]
    if not fits:
        other = "trial" if (state.confirmed or {}).get("winner") is None else "of the winner's repetitions"
        return [f"final fit    {'failed' if numbers else 'not made'}: the best {other} is exported"]
    failed = f"; {len(numbers) - len(fits)} of {len(numbers)} failed" if len(fits) < len(numbers) else ""
    which = "that model is exported" if len(fits) == 1 else f"{len(fits)} seeds, whose mean is exported"
    trial = fits[0].number % SEED_STRIDE
    return [f"final fit    trial {trial}, on all training images: {which}{failed}"]


def ensemble_lines(spec: StudySpec, state: StudyState) -> list[str]:
    """Returns whether the mean of several models is exported, which, and what the selection fold says of it."""
    found = state.ensemble
    if found is None:
        return []
    if "mean" not in found:  # of final fits: no fold is left to score it
        return []
    n = len(found["checkpoints"])
    # A journal of before means of several trials names none: they were seeds of one.
    which = ", ".join(map(run_label, found["runs"])) if "runs" in found else "the winner's seeds"
    scores = f"{spec.objective} {found['mean']:.4f} against {found['single']:.4f} of the single model"
    lines = [f"unread       {', '.join(map(run_label, found['unread']))}: damaged, left out of the mean"] * bool(
        found.get("unread")
    )
    if n == 1:
        return [
            *lines,
            "ensemble     no: no mean with another model is better than the single model, which is exported",
        ]
    if not found["kept"]:
        return [*lines, f"ensemble     no: the mean of {n} models has {scores}, which is exported"]
    times = f"{n} times its size, {found['mean_ms'] / found['single_ms']:.1f} times its time an image"
    return [*lines, f"ensemble     the mean of {n} models is exported ({which}): {scores}; {times}"]


def interrupted_line(study: StudyFiles) -> str:
    """Returns what to do after an interruption; one before the first session has left nothing."""
    if not study.journal.exists():
        return "interrupted before the study began. Start it again"
    return f"interrupted; everything is kept. Go on with: emotune resume {study.shell_name}"


def best_line(study: StudyFiles, state: StudyState) -> str:
    """Returns the best trial: number, score, epoch, parameters."""
    run, best, spec = study.best_run(state), study.best_trial(state), study.spec
    if best is None:
        return "best         none yet"
    told = f"; {ONE_CLASS}" if best.always_one_class(spec.objective, spec.mode) else ""
    if run and study.is_checkpoint_missing(run):
        told += f"; {'its' if run is best else run_label(run.number) + chr(39) + 's'} checkpoint is gone"
    return (
        f"best         trial {best.number}: {spec.objective} {best.best_value(spec.objective, spec.mode):.4f} "
        f"in epoch {best.best_epoch(spec.objective, spec.mode)}; {short_parameters(best.values)}{told}"
    )


def stopped_higher_line(study: StudyFiles, state: StudyState) -> str:
    """Returns why a trial with a better score is not the best one: a rung has stopped it; empty where none is."""
    objective, mode = study.spec.objective, study.spec.mode
    ranked, sign = study.ranked(state), 1 if mode == "max" else -1
    scores = {trial.number: sign * (trial.best_value(objective, mode) or 0.0) for trial in ranked}
    higher = [t for t in ranked[1:] if t.state == "pruned" and scores[t.number] > scores[ranked[0].number]]
    if not higher:
        return ""
    first = max(higher, key=lambda trial: scores[trial.number])
    more = f", and {len(higher) - 1} more likewise" if len(higher) > 1 else ""
    return (
        f"             trial {first.number} had {sign * scores[first.number]:.4f} and was stopped{more}: those that "
        "ran to their end come first"
    )


def front_line(study: StudyFiles, state: StudyState) -> str:
    """Returns the trials that none beats in both objectives, best first, and how one of them is exported.

    Without a second objective those of which no smaller model is as good; empty where all are of one size.
    """
    spec = study.spec
    if spec.second_objective:
        several = [
            f"trial {one.trial}: {one.first:.4f}, {metric_text(spec.second_objective, one.second)}"
            for one in pareto_front(spec, state)
        ]
        choose = f"\n             choose: emotune export {study.shell_name} --trial N --to FOLDER"
        return f"front        {'; '.join(several)}{choose if len(several) > 1 else ''}" if several else ""
    front = size_front(sized_trials(study.spec, state), study.spec.mode)
    told = [f"trial {one.trial}: {one.score:.4f} with {one.parameters:,} parameters" for one in reversed(front)]
    return f"by size      {'; '.join(told)}" if told else ""


def export_lines(export: Place) -> str:
    """Returns where an export lies and what the sealed test said of it."""
    try:
        metrics = json.loads(export.read("metrics.json") or b"")
    except ValueError:
        return f"export       {export.name} is damaged: no readable metrics.json. Write it again: emotune export STUDY"
    lines = [f"export       {export.name}  (emotune predict {shlex.quote(export.name)} IMAGE...)"]
    for name, written in metrics.get("formats", {}).items():  # exports of 0.1 had none
        if "accuracy_difference" in written:
            low, high = written["interval"]
            lines.append(
                f"{name:<12} accuracy {written['accuracy_difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}) "
                f"beside the float model, on {written['images']} {written['of']} images"
            )
    calibration = metrics.get("calibration")  # exports of 0.1 had none
    if calibration and calibration["kept"]:
        error = calibration["expected_calibration_error"]
        lines.append(
            f"calibration  temperature {calibration['temperature']:.3f}: expected error {error['before']:.4f} without, "
            f"{error['after']:.4f} with it, on {calibration['images']} images of the selection fold"
        )
    test: dict[str, Any] | None = metrics["test"]
    if test is None:
        lines.append("sealed test  not opened: the study has not ended, or its data set has no test split")
    else:
        lines.append(
            f"sealed test  accuracy {_with_interval(test)}, macro F1 {test['macro_f1']:.4f}, {test['images']} images"
        )
        if test.get("by_seed"):
            figures = [one["accuracy"] for one in test["by_seed"]]
            mean, spread = fmean(figures), stdev(figures)
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
