"""The driver alone: a study of many one-second trials on 16 slots, with everything real but the training.

    python -m benchmarks.scale [--trials 1000] [--slots 16] [--output FILE]

Ray, Ray Tune, the queue, the rungs, Optuna's sampler and file, the journal, TensorBoard's logs and checkpoints are the
product's own; a trial sleeps for a second and writes a checkpoint of a few bytes. Prints the wall time over the ideal
(trials x seconds / slots), the driver's memory for each trial, how long a suggestion takes early and late, and how long
the same study takes from its folder to its first new trial when it is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results_file import machine_line, tell

SECONDS = 1.0
STUDY: dict[str, Any] = {
    "name": "scale",
    "space": "alexnet",
    "asha": {"max_epochs": 1},
    "confirm": {"top": 0},
    "fixed": {"image_size_px": 48, "width": 0.0625},
}


def sleeping_trial() -> type:
    """Returns a trainable that reports what a trial reports, after a second of sleep."""
    from ray.tune import Trainable

    class SleepingTrial(Trainable):  # type: ignore[misc]
        """A trial without a model."""

        def setup(self, config: dict[str, Any]) -> None:
            self._config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._config = new_config
            return True

        def step(self) -> dict[str, Any]:
            import random

            time.sleep(SECONDS)
            score = random.Random(json.dumps(self._config["parameters"], sort_keys=True)).random()
            metrics = {
                "training_loss": 1.0,
                "training_accuracy": score,
                "images_per_s": 1000.0,
                "wait_s": 0.0,
                **{f"validation_{name}": score for name in ("loss", "accuracy", "macro_f1")},
                **{f"selection_{name}": score for name in ("loss", "accuracy", "macro_f1", "macro_precision")},
                "selection_macro_recall": score,
                "selection_per_class_recall": [score] * 7,
                "selection_confusion": [[1] * 7] * 7,
                "learning_rate": 1e-3,
                "epoch_s": SECONDS,
                "process_memory_mib": 100.0,
                "process": os.getpid(),
            }
            verdict = {"should_checkpoint": True, "checkpoint_score": score, "diverged": False, "stalled": False}
            return {"epoch": 1, "unreadable": [], **metrics, "metrics": list(metrics), **verdict, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            for name in ("model.keras", "state.json"):
                (Path(checkpoint_dir) / name).write_text("{}")

        def load_checkpoint(self, checkpoint: str) -> None:
            pass

    return SleepingTrial


def main() -> None:
    """Runs the study, resumes it, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        text = measure(Path(folder), given.trials, given.slots)
    tell(text, given.output)


def measure(folder: Path, trials: int, slots: int) -> str:
    """Returns the figures of a study of so many trials, as Markdown."""
    import ray

    import tune.session.tuner as tuner
    from tune.dataset.synth import write_faces
    from tune.nodes.ray_options import set_environment, starting_options
    from tune.search.optuna_searcher import OptunaSearcher
    from tune.session.create_or_resume import open_or_create, reopen
    from tune.session.live_display import LiveStudy
    from tune.session.session import search
    from tune.session.session_context import SessionContext
    from tune.session.study_data import trial_context
    from tune.study.spec import load_spec
    from tune.study.studies import StudyFiles, opened_journal

    tuner.Classifier = sleeping_trial()  # type: ignore[misc]
    suggestions: list[tuple[float, float]] = []
    ask = OptunaSearcher.new_trial

    def timed(searcher: OptunaSearcher) -> Any:
        started = time.perf_counter()
        found = ask(searcher)
        suggestions.append((time.monotonic(), time.perf_counter() - started))
        return found

    OptunaSearcher.new_trial = timed  # type: ignore[method-assign]
    dataset = write_faces(folder / "faces", train_images=140, test_images=70)
    spec = load_spec({**STUDY, "data": str(folder / "faces"), "storage": str(folder / "runs"), "trials": trials})
    set_environment()
    ray.init(**{**starting_options(), "num_cpus": slots})

    def session(study: StudyFiles) -> float:
        with opened_journal(study) as journal, open(os.devnull, "w") as nowhere:
            live = LiveStudy(nowhere, study.spec, journal.state, trials)
            context = trial_context(study.spec, dataset, journal.state)
            started = time.monotonic()
            search(SessionContext(study, dataset, journal, live, context, slots))
            return time.monotonic() - started

    study = open_or_create(spec, dataset.info.fingerprint)
    memory = psutil.Process().memory_info().rss
    wall_s = session(study)
    grown_kib = (psutil.Process().memory_info().rss - memory) / 1024 / trials
    early, late = suggestions[: trials // 10], suggestions[-trials // 10 :]

    before = len(suggestions)
    started = time.monotonic()
    session(reopen(study, dataset.info.fingerprint, trials=trials + 1, time=None))
    resume_s = suggestions[before][0] - started
    ray.shutdown()

    ideal_s = trials * SECONDS / slots
    return "\n".join(
        [
            machine_line("ray", "optuna"),
            "",
            "| trials | slots | wall s | of ideal | driver KiB a trial | suggestion ms, early, late | resume s |",
            "|---|---|---|---|---|---|---|",
            f"| {trials} | {slots} | {wall_s:.0f} | {wall_s / ideal_s:.3f} | {grown_kib:.0f} | {_mean_ms(early):.0f}, "
            f"{_mean_ms(late):.0f} | {resume_s:.1f} |",
        ]
    )


def _mean_ms(suggestions: list[tuple[float, float]]) -> float:
    return 1000 * sum(seconds for _, seconds in suggestions) / max(1, len(suggestions))


if __name__ == "__main__":
    main()
