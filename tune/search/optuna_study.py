"""Optuna's study, in a file or in a PostgreSQL database: made from the journal at the start of each session."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState as OptunaState
from sqlalchemy.pool import NullPool

from trainables.errors import first_line
from tune.errors import StudyError
from tune.search.seeds import trial_seed
from tune.study.objectives import mode_of
from tune.study.spec import SamplerName, StudySpec
from tune.study.trial_record import TrialRecord, TrialState

_BEGAN = "emotune_began"
_CONNECT_S = 10

_STATES = {
    "complete": OptunaState.COMPLETE,
    "cut": OptunaState.COMPLETE,
    "pruned": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}


def make_sampler(spec: StudySpec, past: int) -> optuna.samplers.BaseSampler:
    """Returns the study's sampler; a resumed search draws on from a fresh stream.

    Args:
        spec: the study.
        past: trials so far.
    """
    seed = trial_seed(spec, past)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[spec.sampler](seed, spec.startup_trials)


def _tpe(seed: int, startup_trials: int) -> optuna.samplers.BaseSampler:
    """Multivariate TPE over groups of conditional parameters."""
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True, constant_liar=True
    )


SAMPLERS: Mapping[SamplerName, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed, startup_trials: optuna.samplers.RandomSampler(seed=seed),
}
"""What proposes configurations, made from a seed and the number of random trials before a model is used."""


def rebuild_optuna_study(
    path: Path, spec: StudySpec, trials: Iterable[TrialRecord], began: float = 0.0
) -> optuna.Study:
    """Writes Optuna's study anew from the journal's trials, so that each is told once and in the right state.

    Args:
        path: the journal-storage file; replaced only when the new one is complete. Not used with `optuna_storage`.
        spec: the study.
        trials: every trial so far; numbers are kept.
        began: when the study was begun (seconds since 1970), by which it knows its own study in a database.

    Raises:
        StudyError: the database cannot be reached, or holds another's study of that name.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    told = told_trials(trials, spec)
    sampler = make_sampler(spec, len(told))
    if spec.optuna_storage:
        storage = _emptied_storage(spec, began)
        study = optuna.create_study(storage=storage, study_name=study_name(spec), directions=directions(spec))
        study.set_user_attr(_BEGAN, began)
        for trial in told:
            study.add_trial(trial)
        return optuna.load_study(storage=storage, study_name=study_name(spec), sampler=sampler)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    study = optuna.create_study(storage=_file_storage(fresh), study_name=study_name(spec), directions=directions(spec))
    for trial in told:
        study.add_trial(trial)
    fresh.replace(path)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # a killed session of an earlier version's
    return optuna.load_study(study_name=study_name(spec), storage=_file_storage(path), sampler=sampler)


def told_trials(trials: Iterable[TrialRecord], spec: StudySpec) -> list[optuna.trial.FrozenTrial]:
    """Returns all trials as Optuna is told of them, in the order of their numbers.

    Raises:
        StudyError: Optuna does not take the values of one.
    """
    records = sorted(trials, key=lambda trial: trial.number)
    return [
        frozen_trial(record if record.repeats is None else records[record.repeats], spec, record.repeats is not None)
        for record in records
    ]


class _NoLock(JournalFileOpenLock):
    """No lock of Optuna's own: one driver writes the file, which the study's journal sees to.

    Optuna 5.0's stays behind when its holder is killed, and the next waits for it, with a relative path for ever.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _file_storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path), _NoLock(str(path))))


def study_name(spec: StudySpec) -> str:
    """Returns the name of Optuna's study: ours, and its space's hash."""
    return f"{spec.name}-{spec.space.digest()}"


def check_storage(spec: StudySpec, began: float) -> None:
    """Tries the database, without changing anything in it.

    Raises:
        StudyError: as in `rebuild_optuna_study`.
    """
    if spec.optuna_storage:
        _holds_this_study(connect_storage(spec.optuna_storage), spec, began)


def directions(spec: StudySpec) -> list[Literal["maximize", "minimize"]]:
    """Returns what Optuna is to do with each objective."""
    return ["maximize" if mode_of(metric) == "max" else "minimize" for metric in spec.objectives]


def objective_values(record: TrialRecord, spec: StudySpec) -> list[float] | None:
    """Returns what Optuna is told of a trial: the values of all objectives in its best epoch, None without a score."""
    best = record.best_epoch(spec.objective, spec.mode)
    return None if best is None else [float(record.epochs[best][metric]) for metric in spec.objectives]


def connect_storage(url: str) -> RDBStorage:
    """Opens a PostgreSQL database for Optuna; its tables are made where there are none.

    Raises:
        StudyError: the client is not installed, or the database does not answer.
    """
    parts = urlsplit(url)
    where = f"{parts.hostname or 'localhost'}{parts.path}"
    try:
        # A connection for each call: hours may lie between two, and none is left open at the end.
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": _CONNECT_S}}
        return RDBStorage(parts._replace(scheme="postgresql+psycopg").geturl(), engine_kwargs=options)
    except ImportError:
        raise StudyError(
            f"optuna_storage needs PostgreSQL's client. Received: {where} without it. "
            "Install it with: make setup EXTRAS=postgresql"
        ) from None
    except Exception as error:  # SQLAlchemy's, psycopg's and Optuna's own
        raise StudyError(
            f"optuna_storage must be a database that answers. Received: {where}: {first_line(error)}. "
            "Check address, user and PGPASSWORD or ~/.pgpass"
        ) from None


def _holds_this_study(storage: RDBStorage, spec: StudySpec, began: float) -> bool:
    """Says whether the database has this study; refuses another's of that name."""
    name = study_name(spec)
    if name not in optuna.get_all_study_names(storage):
        return False
    if optuna.load_study(storage=storage, study_name=name).user_attrs.get(_BEGAN) != began:
        raise StudyError(
            f"optuna_storage holds a study {name!r} that is not this one. Choose another name (--set name=...), or "
            "remove that one with Optuna's command line: optuna delete-study"
        )
    return True


def _emptied_storage(spec: StudySpec, began: float) -> RDBStorage:
    storage = connect_storage(spec.optuna_storage or "")
    if _holds_this_study(storage, spec, began):
        optuna.delete_study(storage=storage, study_name=study_name(spec))
    return storage


def frozen_trial(record: TrialRecord, spec: StudySpec, repeat: bool = False) -> optuna.trial.FrozenTrial:
    """Returns a trial as Optuna is told of it; a repeat of one that has not ended teaches it nothing.

    With two objectives a stopped trial has no value: Optuna knows none before the end then, and ranks it below others.

    Raises:
        StudyError: Optuna does not take its values.
    """
    values = {
        epoch: float(metrics[spec.objective])
        for epoch, metrics in sorted(record.epochs.items())
        if len(spec.objectives) == 1 and math.isfinite(metrics[spec.objective])
    }
    state, told = optuna_ending(record, spec, record.state)
    if repeat and not state.is_finished():
        state = OptunaState.FAIL
    if state == OptunaState.PRUNED and values:
        told = [values[max(values)]]
    chosen = spec.coerce_values(record.values)
    try:
        return optuna.trial.create_trial(
            state=state,
            values=told,
            params=spec.space.optuna_params(chosen),
            distributions=spec.space.distributions(chosen),
            intermediate_values=values,
            user_attrs={"reason": record.reason} if record.reason else {},
        )
    except ValueError as error:  # a space of an earlier version, which took steps that Optuna rounds
        raise StudyError(
            f"the search cannot go on: Optuna does not take back trial {record.number}: {error}. The study can be "
            "shown and exported; search on under another name: --set name=..."
        ) from None


def optuna_ending(
    record: TrialRecord, spec: StudySpec, state: TrialState
) -> tuple[OptunaState, Sequence[float] | None]:
    """Returns a trial's end and its values as Optuna is told of them.

    Optuna (5.0) takes no NaN, which the second of two objectives may be: such a trial is PRUNED without a value.
    """
    end = _optuna_state(record, state)
    if state == "cut" and record.best_value(spec.objective, spec.mode) is None:
        return OptunaState.FAIL, None  # a budget ended it before its first epoch
    values = objective_values(record, spec) if end == OptunaState.COMPLETE else None
    if values is not None and not all(map(math.isfinite, values)):
        return OptunaState.PRUNED, None
    return end, values


def _optuna_state(record: TrialRecord, state: TrialState) -> OptunaState:
    """Returns what Optuna is to know of a trial's state.

    A trial that did not fit in memory, or whose parameters give no model, is PRUNED without a value: TPE ranks it below
    every other, and keeps away from its like. FAIL would teach it nothing.
    """
    if state == "failed" and record.faults and record.faults[-1].kind in ("model_memory", "infeasible"):
        return OptunaState.PRUNED
    return _STATES.get(state, OptunaState.RUNNING)
