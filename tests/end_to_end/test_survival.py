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
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.test_interrupt import assert_whole, events, start
from tests.support.fixtures_study import goes_on, optuna_study, write_study_file
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


def random_moment(rng: random.Random, journal: Path, *, starting: bool) -> Callable[[], bool]:
    """Returns what says whether a moment has come: some seconds from now, or some events of the journal."""
    if starting:
        due = time.monotonic() + rng.uniform(4, 12)
        return lambda: time.monotonic() > due
    events_due = written(journal) + rng.randint(3, 14)  # in its first epoch, or up to two trials later
    return lambda: written(journal) >= events_due


def written(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def run_with_kills(file: Path, rng: random.Random, *, driver_kills: int, trial_kills: int) -> tuple[int, int]:
    """Runs a study to its end and kills on the way, in turns what is still starting and what trains; the trials after
    the drivers. Returns how many drivers and trials were really killed."""
    killed_drivers = killed_trials = 0
    journal = file.parent / "runs/tiny/journal.jsonl"
    while True:
        process = start(file)
        due = random_moment(rng, journal, starting=killed_drivers % 2 == 0)
        while goes_on(process, 0.1):
            if not due():
                continue
            if killed_drivers < driver_kills:
                kill_driver(process)
                killed_drivers += 1
                break
            if killed_trials < trial_kills and (alive := trial_processes(process)):
                rng.choice(alive).kill()
                killed_trials += 1
                due = random_moment(rng, journal, starting=killed_trials % 2 == 0)
        else:
            said = process.communicate(timeout=60)[0]
            assert process.returncode == 0, said
            return killed_drivers, killed_trials


def sessions_that_trained(found: list[dict[str, Any]]) -> int:
    begun = list(accumulate(event["event"] == "session" for event in found))
    return len({session for session, event in zip(begun, found, strict=True) if event["event"] == "epoch"})


def test_four_drivers_and_four_trials_killed_at_random_moments(faces: Path, tmp_path: Path) -> None:
    file = study_file(tmp_path, faces, trials=8)
    drivers, trials = run_with_kills(file, random.Random(1), driver_kills=4, trial_kills=4)
    record = load_study_folder(tmp_path / "runs/tiny").state()
    print(json.dumps({"drivers": drivers, "trials": trials, "sessions": record.sessions}))
    assert drivers == 4 and trials == 4
    assert sessions_that_trained(events(tmp_path)) >= 3  # two of them were killed
    assert sum(t.restarts for t in record.trials.values()) >= 1  # in a session whose driver lived
    assert {f.kind for t in record.trials.values() for f in t.faults} == {"process_died"}
    assert_nothing_was_lost_or_repeated(tmp_path)
