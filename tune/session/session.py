"""One session of a study: a search or a confirmation from where the journal stands to its end, journalled as such."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from tune.errors import ClusterError, disk_full
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.search.scheduler import Rungs
from tune.search.trial_queue import ConfirmationQueue, TrialQueue
from tune.session.session_context import SessionContext
from tune.session.transfer import first_configurations
from tune.session.trial_events import shown_trials
from tune.session.trial_table import short_parameters
from tune.session.tuner import run_tuner
from tune.study.budget import BUDGETS, ended_words, exhausted_budget, result_meets_target
from tune.study.provenance import provenance
from tune.study.trial_record import ENDED


def search(session: SessionContext) -> str:
    """Runs the search from where the journal stands; unfinished trials go on from their latest checkpoints.

    Returns:
        What ended it: `finished`, `interrupted`, or the budget that is spent.

    Raises:
        DiskFull: no space is left for the study.
    """
    study, state, spec = session.study, session.journal.state, session.study.spec
    before_s, started = state.search_s, _open_session(session, "search")
    for request, values in first_configurations(spec, state):
        if request not in state.requests:
            session.journal.append("enqueued", values=values, request=request)
            session.live.line(f"enqueued, to be tried next: {short_parameters(values)}")  # nobody listens yet
    for trial in state.trials.values():
        if trial.state == "cut":  # by a budget that has been raised since
            session.journal.append("reopened", trial=trial.number)
    optuna_study = rebuild_optuna_study(study.optuna_file, spec, state.trials.values(), state.began)
    queue = OptunaSearcher(optuna_study, spec, session.journal)
    queue.take_requests()
    queue.end_settled_trials()
    past = [decision for trial in state.trials.values() for decision in trial.rungs]
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode, past)

    def spent() -> str:
        # However small the budget, a study ends with an export: one trial gets as far as its first score.
        if not any(trial.epochs or trial.state == "failed" for trial in state.trials.values()):
            return ""
        return exhausted_budget(spec, state, time.time(), before_s + time.monotonic() - started)

    def meets_target(number: int, result: Mapping[str, Any]) -> bool:
        return result_meets_target(spec, state.run(number), result)

    _work_through(session, queue, lambda: run_tuner(session, queue, rungs, spent, meets_target))
    if queue.stopping in BUDGETS:
        queue.end_unfinished_trials(f"the study ended: {BUDGETS[queue.stopping]}")
    return _close_session(session, started, queue.stopping or "finished")


def close_killed_search(session: SessionContext, ended_by: str) -> None:
    """Closes a search whose driver was killed when it had nothing more to begin.

    Trials that it left open are cut. That is a session of its own: the time since the driver's end is nobody's.

    Args:
        session: what the session works with.
        ended_by: what ended the search.
    """
    _open_session(session, "search")
    spec, journal = session.study.spec, session.journal
    for record in [trial for trial in journal.state.trials.values() if trial.state not in ENDED]:
        scored = record.best_value(spec.objective, spec.mode) is not None
        words = f"the study ended: {ended_words(ended_by)}" + ("" if scored else "; it has no score")
        journal.append("end", trial=record.number, state="cut", reason=words)
    journal.append("session_end", search_s=0.0, finished=True, ended_by=ended_by)


def confirm(session: SessionContext, numbers: Sequence[int], refit_epochs: int | None = None) -> str:
    """Trains configurations of the search again, each to its end.

    Args:
        session: what the session works with.
        numbers: of the confirmations, see `SEED_STRIDE`; those that have ended are left as they are.
        refit_epochs: train so many epochs, on all training images; None for trials like any other.

    Returns:
        `finished`, `interrupted` or `failures`.

    Raises:
        DiskFull: no space is left for the study.
    """
    started = _open_session(session, "confirm")
    queue = ConfirmationQueue(session.study.spec, session.journal, numbers, refit_epochs)
    queue.end_settled_trials()
    if session.study.spec.confirm.workers > 1:
        from tune.session.distributed import run_distributed

        _work_through(session, queue, lambda: run_distributed(session, queue))
    else:
        rungs = Rungs([], session.study.spec.asha.reduction_factor, session.study.spec.mode)
        _work_through(session, queue, lambda: run_tuner(session, queue, rungs, lambda: ""))
    if queue.stopping == "failures":  # nobody takes up what still trained
        known = session.journal.state.confirmations
        for run in [known[number] for number in numbers if number in known and known[number].state not in ENDED]:
            queue.end(run, "failed", ended_words("failures"))
    return _close_session(session, started, queue.stopping or "finished")


def _open_session(session: SessionContext, phase: str) -> float:
    spec, context = session.study.spec, session.trial_context
    workers = spec.confirm.workers if phase == "confirm" else 1
    session.journal.append(
        "session",
        number=session.journal.state.sessions + 1,
        phase=phase,
        pid=os.getpid(),
        at_once=session.at_once if workers == 1 else 1,
        fingerprint=session.dataset.info.fingerprint,
        nodes=sum(node["Alive"] for node in ray.nodes()),
        gpus_per_trial=workers * spec.resources.gpus_per_trial,
        workers=workers,
        node_hour_price=spec.budget.node_hour_price or 0.0,
        precision=context.precision,
        provenance=provenance(session.study.directory, ray.cluster_resources(), spec.code, onednn=context.onednn or ""),
    )
    return time.monotonic()


def _close_session(session: SessionContext, started: float, ended_by: str) -> str:
    finished = ended_by not in ("interrupted", "disk_full")
    search_s = round(time.monotonic() - started, 3)
    session.journal.append("session_end", search_s=search_s, finished=finished, ended_by=ended_by)
    if ended_by == "disk_full":
        raise disk_full(session.study.name)
    return ended_by


def _work_through(session: SessionContext, queue: TrialQueue, run: Callable[[], None]) -> None:
    """Lets Ray work through a queue and shows what happens.

    Raises:
        DiskFull: the driver itself can no longer write.
        ClusterError: no trial's process has started.
    """
    if queue.idle:
        return
    with shown_trials(session, queue):
        run()
    if queue.no_process:
        raise ClusterError(queue.no_process)
