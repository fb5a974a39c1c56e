"""Studies with simulated curves, written through the project's own journal: large ones in seconds, untrained."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna

from tune.search.confirmation import judge
from tune.search.scheduler import Rungs
from tune.study.journal import Journal
from tune.study.spec import StudySpec, load_spec
from tune.study.studies import StudyFiles
from tune.study.yaml_source import write_yaml

EVIL = "<script>alert(1)</script>"
CLASSES = ["angry", "happy", EVIL]
SPACE = {
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"], "default": "adam"},
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True, "default": 1e-3},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "default": 0.9, "when": {"optimizer": "sgd"}},
    "dropout": {"type": "float", "low": 0.0, "high": 0.7, "step": 0.05, "default": 0.5},
    "batch_size": {"type": "categorical", "choices": [32, 64, 128], "default": 32},
    "preprocessing": {"type": "categorical", "choices": ["none", "crop", "augment"], "default": "none"},
}
_AT_ONCE, _EPOCH_S = 4, 20.0


def record_study(folder: Path, trials: int = 40, *, finished: bool = True, seed: int = 0, **changes: Any) -> StudyFiles:
    """Writes a study of so many trials into a folder, with rungs, stops, one fault, and confirmed where finished."""
    values = {
        "name": folder.name,
        "data": "no-data",
        "space": SPACE,
        "trials": max(trials, 1),
        "storage": str(folder.parent),
    }
    spec = load_spec({**values, "asha": {"max_epochs": 12, "grace_epochs": 1, "reduction_factor": 3}, **changes})
    folder.mkdir(parents=True)
    write_yaml(folder / "study.yaml", spec.model_dump(mode="json"))
    events = _Events(folder / "journal.jsonl", time.time() - 3600)
    events.say(
        "session",
        number=1,
        phase="search",
        pid=1,
        at_once=_AT_ONCE,
        fingerprint="f",
        nodes=1,
        node_hour_price=spec.budget.node_hour_price or 0.0,
    )
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode)
    random = np.random.default_rng(seed)
    free = [0.0] * _AT_ONCE
    for number in range(trials):
        lane = int(np.argmin(free))
        free[lane] = _record_trial(events, spec, rungs, random, number, free[lane] + 2)
    if finished:
        events.at(max(free))
        events.say("session_end", search_s=max(free), finished=True, ended_by="finished")
    return _write(StudyFiles(folder, spec), events, finished)


class _Events:
    """The journal's events, each at its own time; written in order of time at the end."""

    def __init__(self, path: Path, zero: float) -> None:
        self.path, self.zero, self.now = path, zero, 0.0
        self.said: list[tuple[float, str, dict[str, Any]]] = []

    def at(self, seconds: float) -> None:
        self.now = seconds

    def say(self, kind: str, /, **fields: Any) -> None:
        self.said.append((self.now, kind, fields))


def _record_trial(
    events: _Events, spec: StudySpec, rungs: Rungs, random: np.random.Generator, number: int, start: float
) -> float:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    values = spec.space.defaults() if number == 0 else spec.space.suggest(study.ask())
    quality = 0.62 - 0.06 * abs(np.log10(float(values["learning_rate"])) + 3)
    quality += 0.1 * (values["preprocessing"] == "crop")
    events.at(start)
    events.say("trial", trial=number, values=values)
    events.say("started", trial=number)
    now, state, reason = start + 3, "complete", "ran to its end"
    if number == 3:
        events.at(now)
        events.say("fault", trial=number, kind="exception", reason=f"ValueError: {EVIL}", retried=True)
        events.say("started", trial=number)
    for epoch in range(1, spec.asha.max_epochs + 1):
        now += _EPOCH_S
        score = float(quality * (1 - np.exp(-epoch / 3)) + random.normal(0, 0.01))
        events.at(now)
        events.say("epoch", trial=number, epoch=epoch, metrics=_metrics(score, random))
        decision = rungs.decide(number, epoch, score)
        if decision is not None:
            events.say("rung", **{**decision.__dict__})
            if decision.stopped:
                state, reason = "pruned", decision.reason
                break
    events.say("end", trial=number, state=state, reason=reason)
    return now


def _metrics(score: float, random: np.random.Generator) -> dict[str, Any]:
    counts = [[int(90 * score), 20, 10], [15, int(110 * score), 5], [30, 9, int(80 * score)]]
    loss = float(1.6 - 1.5 * score)
    return {
        "training_loss": loss,
        "training_accuracy": score + 0.05,
        "validation_accuracy": score + float(random.normal(0, 0.004)),
        "validation_loss": loss,
        "selection_accuracy": score,
        "selection_loss": loss,
        "selection_macro_f1": score - 0.02,
        "selection_confusion": counts,
        "epoch_s": _EPOCH_S,
        "wait_s": 2.5,
        "images_per_s": 900.0,
        "parameters": 100_000 * (1 + int(10 * score)),
    }


def _write(study: StudyFiles, events: _Events, finished: bool) -> StudyFiles:
    spec = study.spec
    with closing(Journal(study.journal)) as journal, patch("os.fsync"):
        for seconds, kind, fields in sorted(events.said, key=lambda event: event[0]):
            with patch("time.time", return_value=events.zero + seconds):
                journal.append(kind, **fields)
        if finished:
            best = study.ranked(journal.state)[0]
            value = best.best_value(spec.objective, spec.mode) or 0.0
            again = {n: [value - below - x for x in (0.0, 0.01, 0.004)] for n, below in ((best.number, 0.01), (0, 0.1))}
            findings = judge(again, (best.number, value), spec.mode)
            assert findings is not None
            journal.append("confirmed", findings=findings.as_dict())
    return study
