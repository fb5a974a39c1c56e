"""A trial that really breaks off: killed, stopped, out of memory, with NaN weights, as the data's `fault.json` says.

`python -m tests.faulty run STUDY.yaml` is the command line with such trials.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from trainables.classifier import Classifier


class FaultyClassifier(Classifier):
    """Does what `fault.json` in the data set's folder says: `{trial: {"kind", "epoch", "times"}}`."""

    def _epoch_of_trial(self) -> dict[str, Any]:
        path = self._dataset.directory / "fault.json"
        plan = json.loads(path.read_text()).get(str(self._trial), {"epoch": 0})
        done = path.with_name(f"fault-{self._trial}")
        if (
            self._epoch + 1 == plan["epoch"]
            and (before := len(done.read_text()) if done.exists() else 0) < plan["times"]
        ):
            done.write_text("x" * (before + 1))
            getattr(self, f"_{plan['kind']}")()
        return super()._epoch_of_trial()

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


if __name__ == "__main__":
    import tune.session
    from tests.faulty import FaultyClassifier as Faulty
    from tune.cli import main

    tune.session.Classifier = Faulty  # type: ignore[misc]
    main()
