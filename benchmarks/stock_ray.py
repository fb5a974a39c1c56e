"""Stock Ray Tune on emotune's trial, as its documentation shows it: what our studies are compared with live.

A function trainable (a fresh process for each trial), OptunaSearch, ASHAScheduler with its defaults, a checkpoint every
epoch; space, model, feed and folds are ours. Runs in a process of its own:

    python -m benchmarks.stock_ray SETTINGS.json     # prints `Found` as JSON in its last line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from benchmarks.trial_training import open_training
from search_spaces import SearchSpace


class Settings(BaseModel, frozen=True, extra="forbid"):
    """What stock Ray Tune is to search.

    Attributes:
        data: the data set's folder.
        folder: for Ray's results.
        space: the search space's YAML file.
        fixed: trial parameters that do not vary.
        trials: at most so many.
        max_epochs: of a trial that nobody stops.
        context: of the trials (`TrialContext`): folds and seed.
        time_s: wall time of the search, None for as long as it takes.
        at_once: trials at the same time, a processor core each.
        from_default: whether its first trial is the space's default, as ours is.
        sealed: whether the best checkpoint is scored on the test split at the end.
    """

    data: str
    folder: str
    space: str
    fixed: dict[str, Any]
    trials: int
    max_epochs: int
    context: dict[str, Any]
    time_s: float | None = None
    at_once: int = 2
    from_default: bool = False
    sealed: bool = False


class Found(BaseModel, frozen=True):
    """What it found: wall time, seconds that trials trained and evaluated, the best trial and what it scores."""

    wall_s: float
    trained_s: float
    trials: int
    epochs: int
    values: dict[str, Any]
    selection: float
    sealed: float | None


def search(settings: Settings, environment: Mapping[str, str] = MappingProxyType({})) -> Found:
    """Searches in a process of its own, with these variables beside those of this process.

    Raises:
        subprocess.CalledProcessError: it ended with an error.
    """
    file = Path(settings.folder) / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "benchmarks.stock_ray", str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    return Found.model_validate_json(done.stdout.splitlines()[-1])


def search_here(settings: Settings) -> Found:
    """Searches in this process."""
    import ray
    import yaml
    from ray.tune import Checkpoint, RunConfig, TuneConfig, Tuner
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space = SearchSpace.model_validate(yaml.safe_load(Path(settings.space).read_text()))

    def trainable(values: dict[str, Any]) -> None:
        import tempfile

        import ray.tune

        training = open_trial(settings, space.suggest(_Given(values)))
        for _ in range(settings.max_epochs):
            result = training._train_epoch()
            figures = {name: result[name] for name in ("selection_accuracy", "epoch_s")}
            with tempfile.TemporaryDirectory() as checkpoint:
                training.save_checkpoint(checkpoint)
                ray.tune.report(figures, checkpoint=Checkpoint.from_directory(checkpoint))

    ray.init(num_cpus=settings.at_once, include_dashboard=False, log_to_driver=False)
    started = time.monotonic()
    tuner = Tuner(
        trainable,
        tune_config=TuneConfig(
            metric="selection_accuracy",
            mode="max",
            search_alg=OptunaSearch(
                space=_Suggests(space),
                metric="selection_accuracy",
                mode="max",
                points_to_evaluate=[space.optuna_params(space.defaults())] if settings.from_default else None,
                seed=settings.context.get("seed", 0),
            ),
            scheduler=ASHAScheduler(max_t=settings.max_epochs),
            num_samples=settings.trials,
            max_concurrent_trials=settings.at_once,
            time_budget_s=settings.time_s,
        ),
        run_config=RunConfig(storage_path=settings.folder, verbose=0),
    )
    results = [result for result in tuner.fit() if result.metrics_dataframe is not None]
    wall_s = time.monotonic() - started
    ray.shutdown()
    best, row = max(
        ((result, row) for result in results for row in result.metrics_dataframe.to_dict("records")),
        key=lambda pair: pair[1]["selection_accuracy"],
    )
    values = space.suggest(_Given(best.config or {}))
    return Found(
        wall_s=wall_s,
        trained_s=sum(float(result.metrics_dataframe["epoch_s"].sum()) for result in results),
        trials=len(results),
        epochs=sum(len(result.metrics_dataframe) for result in results),
        values=values,
        selection=row["selection_accuracy"],
        sealed=sealed_accuracy(settings, values, best, row["training_iteration"]) if settings.sealed else None,
    )


class _Suggests:
    """The space as OptunaSearch takes conditional ones, a function of a trial; one that Ray can pickle."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def __call__(self, trial: Any) -> None:
        self._space.suggest(trial)


class _Given:
    """Proposes what a trial had (`search_spaces.Suggester`)."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def suggest_float(self, name: str, *args: Any, **kwargs: Any) -> float:
        return float(self._params[name])

    def suggest_int(self, name: str, *args: Any, **kwargs: Any) -> int:
        return int(self._params[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._params[name]


def open_trial(settings: Settings, values: dict[str, Any]) -> Any:
    """Returns a fresh training of a configuration."""
    from trainables.training.epochs import TrialTraining

    return open_training(
        TrialTraining(),
        settings.data,
        {**settings.fixed, **values},
        max_epochs=settings.max_epochs,
        **settings.context,
    )


def sealed_accuracy(settings: Settings, values: dict[str, Any], best: Any, epoch: int) -> float:
    """Returns what the checkpoint of an epoch scores on the test split."""
    from trainables.dataset.folds import test_rows

    path = next(kept for kept, metrics in best.best_checkpoints if metrics["training_iteration"] == epoch).path
    training = open_trial(settings, values)
    training.load_checkpoint(path)
    with training._average.in_place() if training._average else nullcontext():
        return float(training._evaluate(test_rows(training._dataset), mirror=training._mirror)["accuracy"])


if __name__ == "__main__":
    print(search_here(Settings.model_validate(json.loads(Path(sys.argv[1]).read_text()))).model_dump_json())
