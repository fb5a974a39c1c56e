"""One study killed again and again, at random moments, in its driver, its trials, or both: nothing is lost or repeated.

Real processes and real SIGKILLs. Each restart is a fresh `emotune run` with a Ray of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.test_interrupt import assert_whole, events, start
from tests.support.fixtures_study import optuna_study, write_study_file
from tune.search.optuna_study import rebuild_optuna_study
from tune.search.scheduler import Rungs
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles, load_study_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MAX_EPOCHS = 6


def study_file(folder: Path, faces: Path, trials: int) -> Path:
    asha = {"max_epochs": MAX_EPOCHS, "grace_epochs": 1, "reduction_factor": 2}
    faults = {"process_died": 1000}
    folds = {"max_images_per_fold": 64}
    return write_study_file(folder, faces, trials=trials, startup_trials=4, asha=asha, faults=faults, folds=folds)


def kill_driver(process: subprocess.Popen[str]) -> None:
    """Kills the driver and all of its Ray, as when the machine goes down."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with suppress(psutil.NoSuchProcess):  # Ray's processes end by themselves when their driver is gone
            child.kill()
    process.communicate(timeout=60)


def trial_processes(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith(("ray::Classifier", "ray::ResourceTrainable")):
                found.append(child)
        except psutil.Error:
            continue
    return found


def assert_nothing_was_lost_or_repeated(folder: Path) -> None:
    study: StudyFiles = load_study_folder(folder / "runs/tiny")
    found, state, spec = events(folder), study.state(), study.spec
    trials = spec.trials
    assert_whole(found, trials=trials, max_epochs=MAX_EPOCHS)

    numbers = [event["trial"] for event in found if event["event"] == "trial"]
    assert numbers == sorted(set(numbers)) == list(range(trials))  # no number twice
    ended: set[int] = set()
    for event in found:  # a trial that has ended is never taken up again
        assert event.get("trial") not in ended
        if event["event"] == "end":
            ended.add(event["trial"])

    assert rungs_again(found, spec) == [e for e in found if e["event"] == "rung"]

    told = rebuild_optuna_study(folder / "optuna-again.log", spec, state.trials.values()).get_trials()
    kept = optuna_study(study).get_trials()
    assert [t.state.name for t in kept] == [t.state.name for t in told]
    assert "RUNNING" not in {t.state.name for t in kept}
    for trial in kept:  # each epoch is told once, with the value that counts
        reported = state.trials[trial.number].epochs
        assert set(trial.intermediate_values) == set(reported)
    assert (study.export / "model.keras").exists()
    assert state.finished and state.export == "export"


def rungs_again(found: list[dict[str, Any]], spec: StudySpec) -> list[dict[str, Any]]:
    """Decides at every rung again, in the journal's order, from nothing but the values that were recorded."""
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode)
    decided = []
    for event in found:
        if event["event"] == "rung":
            decision = rungs.decide(event["trial"], event["epoch"], event["value"])
            assert decision is not None
            decided.append({**event, **vars(decision)})
    return decided


def run_with_kills(file: Path, rng: random.Random, *, driver_kills: int, trial_kills: int) -> tuple[int, int]:
    """Runs a study to its end and kills on the way; returns how many drivers and trials were really killed."""
    killed_drivers = killed_trials = 0
    while True:
        process = start(file)
        kill_at = time.monotonic() + rng.uniform(4, 12) if killed_drivers < driver_kills else None
        next_trial = time.monotonic() + rng.uniform(6, 12)
        while process.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            if kill_at is not None and now > kill_at:
                kill_driver(process)
                killed_drivers += 1
                break
            if killed_trials < trial_kills and now > next_trial:
                next_trial = now + rng.uniform(2, 6)
                for victim in rng.sample(alive := trial_processes(process), min(1, len(alive))):
                    victim.kill()
                    killed_trials += 1
        else:
            said = process.communicate(timeout=60)[0]
            assert process.returncode == 0, said
            return killed_drivers, killed_trials


def test_twenty_drivers_and_their_trials_killed_at_random_moments(faces: Path, tmp_path: Path) -> None:
    file = study_file(tmp_path, faces, trials=8)
    drivers, trials = run_with_kills(file, random.Random(1), driver_kills=20, trial_kills=10)
    record = load_study_folder(tmp_path / "runs/tiny").state()
    print(json.dumps({"drivers": drivers, "trials": trials, "sessions": record.sessions}))
    assert drivers == 20 and trials >= 4
    assert sum(t.restarts for t in record.trials.values()) >= 1  # in a session whose driver lived
    assert {f.kind for t in record.trials.values() for f in t.faults} == {"process_died"}
    assert_nothing_was_lost_or_repeated(tmp_path)
