"""Tells in plain words why a trial ended where it did, and whether the rungs judged well. Pure: state in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import RungDecision, is_final_fit, run_label
from tune.study.wording import ONE_CLASS

MIN_PAIRS = 4
"""Trials that must have passed a rung and reached the end before a rank correlation says anything."""
SHORT_GRACE = 0.3
"""A first rung whose ranks agree with the final ones less than this stops trials too early."""


@dataclass(frozen=True)
class RungReport:
    """How well a rung foretold the final score.

    Attributes:
        epoch: the rung.
        reached: trials that reached it.
        stopped: trials that it stopped.
        pairs: trials that reached it and ran to their end.
        correlation: Spearman's rank correlation of the value at the rung with the final score, None below MIN_PAIRS.
    """

    epoch: int
    reached: int
    stopped: int
    pairs: int
    correlation: float | None


def rung_reports(spec: StudySpec, state: StudyState) -> list[RungReport]:
    """Returns a report for each rung.

    The trials that a rung stopped have no final score, so the correlation is over those that it let pass: it is
    weaker than over all of them.
    """
    reports = []
    for epoch in spec.asha.rungs:
        decisions = [d for trial in state.trials.values() for d in trial.rungs if d.epoch == epoch]
        pairs = [
            (decision.value, final)
            for decision in decisions
            if (trial := state.trials[decision.trial]).state == "complete"
            and (final := trial.best_value(spec.objective, spec.mode)) is not None
        ]
        correlation = None
        if len(pairs) >= MIN_PAIRS and len({a for a, _ in pairs}) > 1 and len({b for _, b in pairs}) > 1:
            correlation = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
        stopped = sum(d.stopped for d in decisions)
        reports.append(RungReport(epoch, len(decisions), stopped, len(pairs), correlation))
    return reports


def why_trial(spec: StudySpec, state: StudyState, number: int) -> list[str]:
    """Returns the story of one trial, a line for each thing that decided over it.

    Raises:
        StudyError: there is no such trial.
    """
    trial = state.find_run(number)
    lines = [f"{run_label(number)} is {trial.state} after {_epochs_text(max(trial.epochs, default=0))}"]
    lines += [f"held up after {_epochs_text(f.epoch)} ({f.kind.replace('_', ' ')}): {f.reason}" for f in trial.faults]
    lines += [rung_line(decision, spec.mode) for decision in trial.rungs]
    if trial.state not in ("running", "waiting"):
        lines.append(f"ended: {trial.reason}")
    if is_final_fit(number):
        return [*lines, "it was trained on all training images: no fold is left to score it"]
    best = trial.best_epoch(spec.objective, spec.mode)
    if best is not None:
        value = trial.epochs[best][spec.objective]
        lines.append(f"its score is {spec.objective} {value:.4f}, of epoch {best}, which its inner validation chose")
        if trial.always_one_class(spec.objective, spec.mode):
            lines.append(ONE_CLASS)
    place = [t.number for t in state.ranked(spec.objective, spec.mode)]
    if number in place:
        lines.append(
            f"that is place {place.index(number) + 1} of {len(place)}; trials that ran to their end come first"
        )
    return lines


def why_study(spec: StudySpec, state: StudyState) -> list[str]:
    """Returns how well each rung foretold the final scores, and whether the grace period was too short."""
    reports = rung_reports(spec, state)
    if not reports:
        where = (
            f"asha.grace_epochs={spec.asha.grace_epochs} is where a trial ends" if spec.asha.stop else "asha.stop=false"
        )
        return [f"no rungs: {where}"]
    lines = []
    for report in reports:
        judged = (
            f"rank correlation with the final score {report.correlation:+.2f} over {report.pairs} that ran to the end"
            if report.correlation is not None
            else f"{report.pairs} ran to the end, {MIN_PAIRS} are needed to say how well it foretold the final score"
        )
        lines.append(f"rung {report.epoch}: {report.reached} reached it, {report.stopped} were stopped; {judged}")
    return [*lines, grace_verdict(spec, reports)]


def grace_verdict(spec: StudySpec, reports: Sequence[RungReport]) -> str:
    """Returns whether the first rung came too early."""
    first, grace = reports[0], spec.asha.grace_epochs
    if first.correlation is None:
        return "whether the grace period was long enough cannot be said yet"
    if first.correlation < SHORT_GRACE:
        return (
            f"the grace period of {grace} epochs was too short: ranks at the first rung say little about the last. "
            f"Raise asha.grace_epochs to {reports[1].epoch if len(reports) > 1 else 2 * grace} in the next study"
        )
    return f"the grace period of {grace} epochs was long enough: ranks at the first rung agree with the final ones"


def rung_line(decision: RungDecision, mode: str) -> str:
    """Returns what a rung decided of a trial, and on what ground."""
    if decision.cutoff is None:
        there = f"rung {decision.epoch}: {decision.value:.4f}"
        if decision.among == 1:
            return f"{there}, the first to reach it, with nobody to compare; went on"
        return (
            f"{there}, rank {decision.rank} of the {decision.among} that had reached it, too few to stop one; went on"
        )
    side = "above" if (decision.value > decision.cutoff) else "below" if decision.value < decision.cutoff else "at"
    return (
        f"rung {decision.epoch}: {decision.value:.4f}, {side} the cutoff {decision.cutoff:.4f} "
        f"({'at least' if mode == 'max' else 'at most'} that was needed), rank {decision.rank} of the {decision.among} "
        f"that had reached it by then; {'stopped' if decision.stopped else 'went on'}"
    )


def _epochs_text(n: int) -> str:
    return f"{n} epoch{'' if n == 1 else 's'}"
