"""What follows on a search: its best trained again with fresh seeds, the winner fitted on all training images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tune.search.confirmation import (
    confirmation_candidates,
    confirmation_numbers,
    confirmation_scores,
    final_fit_numbers,
    judge,
)
from tune.study.budget import BUDGETS, NOT_REPEATED, forbids_confirmation, repetitions_are_owed
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import ENDED

if TYPE_CHECKING:
    from tune.session.session_context import SessionContext


def confirm_best(session: SessionContext) -> bool:
    """Trains the search's best again, journals what that showed, and fits the winner; False when interrupted."""
    study, spec, state = session.study, session.study.spec, session.journal.state
    findings = None if repetitions_are_owed(spec, state) else state.judged
    spent = forbids_confirmation(spec, state) if findings is None else ""
    if spent:
        words = f"the best trials were not trained again: {BUDGETS[spent]}"
        session.live.line(words)
        session.journal.append("confirmed", findings={"winner": None, "skipped": words, "budget": spent})
        return True
    if findings is None:  # else final fits alone are left: more of them are wanted than before
        findings = _repeated(session) if spec.confirm.top else {"winner": None, "skipped": NOT_REPEATED}
        if findings is None:
            return False
    skipped = findings.get("skipped", NOT_REPEATED) != NOT_REPEATED
    numbers: list[int] = []
    if spec.confirm.refit and not skipped:
        best = study.ranked(state)[0].number
        winner = best if findings["winner"] is None else findings["winner"]
        epochs = final_fit_epochs(spec, state, winner, repeated=findings["winner"] is not None)
        numbers = final_fit_numbers(spec, state, winner, epochs)
        seeds = f", with {len(numbers)} seeds" if len(numbers) > 1 else ""
        session.live.line(f"fitting trial {winner} on all training images for {epochs} epochs{seeds}")
        session.live.expect(len({*state.confirmations, *numbers}))
        if not _train(session, numbers, epochs):
            return False
    numbers = state.final_fits() if skipped else numbers  # earlier ones stay what they are
    fits = {} if skipped and not numbers else {"final_fits": numbers}
    session.journal.append("confirmed", findings={**findings, **fits})
    return True


def final_fit_epochs(spec: StudySpec, state: StudyState, winner: int, *, repeated: bool) -> int:
    """Returns `confirm.refit_epochs`, or the mean of the best epochs of the winner's repetitions, its own trial's where
    nothing was repeated."""
    if spec.confirm.refit_epochs:
        return spec.confirm.refit_epochs
    known = [state.confirmations.get(number) for number in confirmation_numbers(spec, [winner])] if repeated else []
    runs = [run for run in known if run is not None and run.state == "complete"] or [state.trials[winner]]
    return max(1, round(fmean(run.best_epoch(spec.objective, spec.mode) or 1 for run in runs)))


def _repeated(session: SessionContext) -> dict[str, Any] | None:
    """Trains the best again, and returns what that showed, None when interrupted."""
    spec, state = session.study.spec, session.journal.state
    trials = confirmation_candidates(spec, state)
    runs = confirmation_numbers(spec, trials)
    session.live.expect(len({*state.confirmations, *runs}) + spec.confirm.refit)
    session.live.line(
        f"confirming: {len(trials)} configurations (trials {', '.join(map(str, trials))}) with {spec.confirm.seeds} "
        "fresh seeds each"
    )
    if not _train(session, runs):
        return None
    best = session.study.ranked(state)[0]
    value = best.best_value(spec.objective, spec.mode) or 0.0
    findings = judge(confirmation_scores(spec, state, trials), (best.number, value), spec.mode)
    if findings is None:
        return {"winner": None, "skipped": "no configuration could be trained again twice: see their faults"}
    return findings.as_dict()


def _train(session: SessionContext, numbers: Sequence[int], refit_epochs: int | None = None) -> bool:
    from tune.session.session import confirm

    known = session.journal.state.confirmations
    if all(number in known and known[number].state in ENDED for number in numbers):
        return True
    return confirm(session, numbers, refit_epochs) != "interrupted"
