"""About how long a running search, or the trainings after it, still take: from the epochs trained so far. Pure."""

from __future__ import annotations

from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import ENDED, TrialRecord, is_final_fit


def seconds_left(spec: StudySpec, state: StudyState, expected: int, now: float) -> float | None:
    """Returns about how long the open session's trials still take; None where nobody can say yet.

    The trials to come are taken to train as many epochs as those so far did on average, at the pace so far; a budget of
    time or epochs may end the search before.

    Args:
        spec: the study.
        state: what has happened.
        expected: how many trials there will be, or confirmations in a session that makes them.
        now: seconds since 1970.
    """
    if state.open_since is None:
        return None
    if not state.searching:
        return _confirmations_left(spec, state, expected, now)
    trained = [trial for trial in state.trials.values() if trial.state != "repeat"]
    searched_s, searched = state.closed_s + max(0.0, now - state.open_since), sum(map(_epochs, trained))
    if not any(trial.state in ENDED for trial in trained) or not searched:
        return None
    mean_epochs = searched / len(trained)
    to_begin = max(0, expected - len(trained))
    epochs = to_begin * mean_epochs + sum(_epochs_left(trial, mean_epochs) for trial in state.trials.values())
    epoch_s = searched_s / searched
    budget = spec.budget.epochs
    if budget is not None:
        epochs = min(epochs, max(0, budget - state.epochs_trained))
    left = epochs * epoch_s
    return left if spec.time is None else min(left, max(0.0, spec.time - searched_s))


def _confirmations_left(spec: StudySpec, state: StudyState, expected: int, now: float) -> float | None:
    """Confirmations are stopped by no rung."""
    done = state.epochs_trained - state.epochs_before_session
    if not done or state.open_since is None:
        return None
    known, most = state.confirmations, spec.asha.max_epochs
    waiting = max(0, expected - len(known))
    fits = min(waiting, max(0, spec.confirm.refit - sum(map(is_final_fit, known))))
    epochs: float = (waiting - fits) * most + fits * (spec.confirm.refit_epochs or most)
    epochs += sum(_epochs_left(run, run.schedule_epochs or most) for run in known.values())
    return epochs * max(0.0, now - state.open_since) / done


def _epochs_left(run: TrialRecord, expected: float) -> float:
    """Returns the epochs that a run which has begun is still to train; one beyond what was expected trains one more."""
    return 0.0 if run.state in ENDED else max(1.0, expected - _epochs(run))


def _epochs(run: TrialRecord) -> int:
    return max(run.epochs, default=0)
