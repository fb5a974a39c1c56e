"""What follows on a search: its best trained again with fresh seeds, the winner fitted on all training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune.search.confirmation import (
    confirmation_candidates,
    confirmation_numbers,
    confirmation_scores,
    final_fit_numbers,
    judge,
)
from tune.session.plan import spent_budget
from tune.study.budget import BUDGETS, CONSUMED
from tune.study.trial_record import ENDED

if TYPE_CHECKING:
    from tune.session.session_context import SessionContext

_NOT_WANTED = "confirm.top is 0"


def confirm_best(session: SessionContext) -> bool:
    """Trains the search's best again, journals what that showed, and fits the winner; False when interrupted."""
    spec, state = session.study.spec, session.journal.state
    spent = spent_budget(session.study, state)
    if spent in CONSUMED:
        words = f"the best trials were not trained again: {BUDGETS[spent]}"
        session.live.line(words)
        _journal(session, _skipped(words))
        return True
    if not spec.confirm.top:
        session.live.expect(spec.confirm.refit)
        winner: int | None = session.study.ranked(state)[0].number
        findings = _skipped(_NOT_WANTED)
    else:
        trials = confirmation_candidates(spec, state)
        runs = confirmation_numbers(spec, trials)
        session.live.expect(len(runs) + spec.confirm.refit)
        session.live.line(
            f"confirming: {len(trials)} configurations (trials {', '.join(map(str, trials))}) with "
            f"{spec.confirm.seeds} fresh seeds each"
        )
        if not _train(session, runs):
            return False
        findings = _judged(session, trials)
        winner = findings["winner"]
    if spec.confirm.refit and winner is not None:
        epochs = final_fit_epochs(session, winner)
        seeds = f", with {spec.confirm.refit} seeds" if spec.confirm.refit > 1 else ""
        session.live.line(f"fitting trial {winner} on all training images for {epochs} epochs{seeds}")
        if not _train(session, final_fit_numbers(spec, winner), epochs):
            return False
    _journal(session, findings)
    return True


def final_fit_epochs(session: SessionContext, winner: int) -> int:
    """Returns the mean of the best epochs of the winner's repetitions; its own trial's where nothing was repeated."""
    spec, state = session.study.spec, session.journal.state
    known = (state.confirmations.get(number) for number in confirmation_numbers(spec, [winner]))
    runs = [run for run in known if run is not None] if spec.confirm.top else [state.trials[winner]]
    epochs = [epoch for run in runs if (epoch := run.best_epoch(spec.objective, spec.mode)) is not None]
    return max(1, round(sum(epochs) / len(epochs)))


def _train(session: SessionContext, numbers: Sequence[int], refit_epochs: int | None = None) -> bool:
    from tune.session.session import confirm

    known = session.journal.state.confirmations
    if all(number in known and known[number].state in ENDED for number in numbers):
        return True
    return confirm(session, numbers, refit_epochs) != "interrupted"


def _judged(session: SessionContext, trials: Sequence[int]) -> dict[str, Any]:
    spec, state = session.study.spec, session.journal.state
    best = session.study.ranked(state)[0]
    value = best.best_value(spec.objective, spec.mode) or 0.0
    findings = judge(confirmation_scores(spec, state, trials), (best.number, value), spec.mode)
    if findings is None:
        return _skipped("no configuration could be trained again twice: see their faults")
    return findings.as_dict()


def _skipped(words: str) -> dict[str, Any]:
    return {"winner": None, "skipped": words}


def _journal(session: SessionContext, findings: dict[str, Any]) -> None:
    session.journal.append("confirmed", findings=findings)
