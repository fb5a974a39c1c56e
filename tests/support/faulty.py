"""A trial that really breaks off: killed, stopped, out of memory, with NaN weights, as the data's `fault.json` says.

`python -m tests.support.faulty run STUDY.yaml` is the command line with such trials.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from trainables.training import data_parallel
from trainables.training.classifier import Classifier
from trainables.training.data_parallel import Replica
from trainables.training.epochs import TrialTraining


class Faulty(TrialTraining):
    """Does what `fault.json` in the data set's folder says: `{trial: {"kind", "epoch", "times"}}`."""

    def _train_epoch(self) -> dict[str, Any]:
        path = self._dataset.directory / "fault.json"
        plan = json.loads(path.read_text()).get(str(self._trial), {"epoch": 0})
        done = path.with_name(f"fault-{self._trial}")
        if (
            self._epoch + 1 == plan["epoch"]
            and (before := len(done.read_text()) if done.exists() else 0) < plan["times"]
        ):
            done.write_text("x" * (before + 1))
            getattr(self, f"_{plan['kind']}")()
        return super()._train_epoch()

    def _killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _stopped(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _sleeping(self) -> None:
        time.sleep(3600)

    def _bug(self) -> None:
        raise ValueError("a bug in the model")

    def _nan(self) -> None:
        for variable in self._model.trainable_variables:
            variable.assign(variable * float("nan"))

    def _too_large(self) -> None:
        import tensorflow as tf

        tf.zeros([2**50])

    def _greedy(self) -> None:
        hoard = []
        while True:  # until Ray's memory monitor ends this process
            hoard.append(b"x" * (64 * 2**20))
            time.sleep(0.02)

    def _torn_checkpoint(self) -> None:
        folder = self._dataset.directory.parent / "runs"
        newest = max(folder.rglob(f"trial-{self._trial:04d}*/*/model.keras"), key=lambda file: file.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)


class FaultyClassifier(Faulty, Classifier):
    """A trial in one process."""


class FaultyReplica(Faulty, Replica):
    """One of several workers on a model; the last of them does what `fault.json` says. Each leaves what it weighs."""

    def _train_epoch(self) -> dict[str, Any]:
        gate = self._dataset.directory / f"gate-{self._trial}"
        while self._epoch == 1 and gate.exists():  # the second epoch waits for whoever left it there
            time.sleep(0.05)
        last = self._rank == self._workers - 1
        result = super()._train_epoch() if last else Replica._train_epoch(self)
        weights = [float(weight.sum()) for weight in self._model.get_weights()]
        name = f"weights-{self._trial}-{self._epoch}-{self._rank}.json"
        (self._dataset.directory / name).write_text(json.dumps(weights))
        return result


def train_faulty_replica(config: dict[str, Any]) -> None:
    """What a worker runs in place of `train_replica`."""
    data_parallel.Replica = FaultyReplica  # type: ignore[misc]
    data_parallel.train_replica(config)


if __name__ == "__main__":
    import tune.session.tuner
    from tests.support.faulty import FaultyClassifier as Faulty
    from tune.cli.main import main

    tune.session.tuner.Classifier = Faulty  # type: ignore[misc]
    main()
