"""One session of a study's search: assembles the Ray Tuner and runs it to its end or to an interruption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import (
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    Stopper,
    TuneConfig,
    Tuner,
    with_resources,
)

from trainables.classifier import Classifier
from trainables.config import TrialContext, chooser_of
from trainables.records import Dataset
from tune.ledger import Ledger, StudyRecord
from tune.live import LiveStudy
from tune.recorder import Recorder
from tune.scheduler import Asha, Rungs
from tune.search import OptunaSearcher, rebuild_optuna_study
from tune.spec import Resources
from tune.studies import Study
from tune.tensorboard import TrialLogs
from tune.unsaved import Unsaved


def search(
    study: Study,
    dataset: Dataset,
    ledger: Ledger,
    live: LiveStudy,
    context: TrialContext,
    *,
    at_once: int,
    time_left_s: float | None,
) -> str:
    """Runs the search from where the journal stands.

    Args:
        study: the study.
        dataset: its data set.
        ledger: its journal; unfinished trials in it go on from their latest checkpoints.
        live: shows what happens.
        context: what every trial is told.
        at_once: trials that run at the same time.
        time_left_s: wall time after which running trials finish their epoch and the search ends, None for no limit.

    Returns:
        What ended it: `finished`, `time` or `interrupted`.
    """
    spec, record, wanted = study.spec, ledger.record, study.spec.resources
    session, started = record.sessions + 1, time.monotonic()
    ledger.append("session", number=session, pid=os.getpid(), at_once=at_once, fingerprint=dataset.info.fingerprint)
    optuna_study = rebuild_optuna_study(study.optuna_file, spec, record.trials.values())
    searcher = OptunaSearcher(optuna_study, spec.space, spec, ledger, spec.trials)
    past = [decision for trial in record.trials.values() for decision in trial.rungs]
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode, past)
    with TrialLogs(study.tensorboard, spec.objective, spec.mode, chooser_of(spec.objective)) as logs, live:
        logs.experiment(spec.space, spec.fixed)
        recorder = Recorder(study.directory, spec, dataset.info.classes, ledger, searcher, logs, live)
        tuner = Tuner(
            with_resources(Classifier, _placement(wanted)),
            param_space={"study": context.model_dump()},
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=Asha(rungs, spec.objective, recorder.on_rung, lambda: searcher.stopping),
                metric=spec.objective,
                mode=spec.mode,
                num_samples=spec.trials + len(record.trials),
                max_concurrent_trials=at_once,
                reuse_actors=wanted.reuse_processes,
                trial_dirname_creator=trial_name,
                trial_name_creator=trial_name,
            ),
            run_config=RunConfig(
                name=f"session-{session:03d}",
                storage_path=str((study.directory / "trials").resolve()),
                stop=_EndOfSession(searcher, record, None if time_left_s is None else started + time_left_s),
                callbacks=[recorder],
                failure_config=FailureConfig(max_failures=wanted.retries),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1,  # and the latest: Ray counts that one apart
                    checkpoint_score_attribute="checkpoint_score",
                    checkpoint_score_order="max",
                    checkpoint_at_end=False,
                ),
                verbose=0,
            ),
        )
        with _interruptible(searcher):
            tuner.fit()
        if searcher.stopping == "time":
            searcher.end_unfinished()
    ended_by = searcher.stopping or "finished"
    ledger.append(
        "session_end",
        search_s=round(time.monotonic() - started, 3),
        finished=ended_by != "interrupted",
        ended_by=ended_by,
    )
    return ended_by


def trial_name(trial: Any) -> str:
    """Names a Ray trial and its folder after our number."""
    return f"trial-{trial.config['trial']:04d}"


def _placement(wanted: Resources) -> PlacementGroupFactory:
    trial = {"CPU": float(wanted.cpus_per_trial)}
    if wanted.gpus_per_trial:
        trial["GPU"] = float(wanted.gpus_per_trial)
    return PlacementGroupFactory([trial, *[{"CPU": 1.0}] * wanted.feed_workers])


class _EndOfSession(Unsaved, Stopper):
    """Notices that the time is over, and ends the session when no trial is running any more.

    Running trials are stopped by the scheduler at the end of their epoch, so that what they did is saved.
    """

    def __init__(self, searcher: OptunaSearcher, record: StudyRecord, deadline: float | None) -> None:
        self._searcher = searcher
        self._record = record
        self._deadline = deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._searcher.stopping and self._deadline is not None and time.monotonic() > self._deadline:
            # However short the time, a study ends with an export: one trial gets as far as its first score.
            if any(trial.epochs or trial.state == "failed" for trial in self._record.trials.values()):
                self._searcher.stopping = "time"
        return bool(self._searcher.stopping) and not self._searcher.running


@contextmanager
def _interruptible(searcher: OptunaSearcher) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into a graceful stop; a second one ends at once."""

    def on_signal(number: int, frame: Any) -> None:
        if searcher.stopping == "interrupted":
            raise KeyboardInterrupt
        searcher.stopping = "interrupted"  # no printing here: the main thread may be in the middle of it

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
