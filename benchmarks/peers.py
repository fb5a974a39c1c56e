"""Searches of other packages as sides of `benchmarks.search`: KerasTuner's Hyperband, Syne Tune's ASHA with CQR.

    uv sync --group bench

Both are the real objects, set up as their documentation shows them, with the space of the study.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks.simulation import Begun
from search_spaces import CategoricalParameter, FloatParameter
from tune.study.spec import StudySpec


class Chosen:
    """Proposes what another package chose (`search_spaces.Suggester`)."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Returns the chosen float."""
        return min(max(float(self._values[name]), low), high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Returns the chosen integer."""
        return int(self._values[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Returns the chosen choice."""
        return next(choice for choice in choices if choice == self._values[name])


class KerasTunerHyperband:
    """KerasTuner's Hyperband: brackets of random draws, the best of a round go on from their checkpoint.

    Li et al., Hyperband, JMLR 2018. Conditional parameters are KerasTuner's own conditional scopes.
    """

    def __init__(self, seed: int, folder: Path, spec: StudySpec) -> None:
        import keras_tuner

        self._spec = spec
        self._oracle = keras_tuner.oracles.HyperbandOracle(
            objective=keras_tuner.Objective("value", "max"),
            max_epochs=spec.asha.max_epochs,
            hyperband_iterations=0,  # without end
            seed=seed + 1,  # 0 would be drawn
            hyperparameters=_hyperparameters(spec),
        )
        self._oracle.verbose = 0
        self._oracle._set_project_dir(str(folder), "bench")
        self._trials: dict[str, Any] = {}

    def begin(self, name: str) -> Begun | None:
        """Asks the oracle."""
        with redirect_stdout(StringIO()):
            trial = self._oracle.create_trial(name)
        if trial.status != "RUNNING":
            return None
        self._trials[name] = trial
        values = trial.hyperparameters.values
        return Begun(self._spec.space.suggest(Chosen(values)), values["tuner/initial_epoch"])

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Tells the oracle an epoch, and the end of the trial's round."""
        trial = self._trials[name]
        with redirect_stdout(StringIO()):
            self._oracle.update_trial(trial.trial_id, {"value": value}, step=epoch)
            if epoch < trial.hyperparameters.values["tuner/epochs"]:
                return False
            trial = self._oracle.get_trial(trial.trial_id)
            trial.status = "COMPLETED"
            self._oracle.end_trial(trial)
        return True

    def close(self) -> None:
        """Does nothing."""


def _hyperparameters(spec: StudySpec) -> Any:
    import keras_tuner

    found = keras_tuner.HyperParameters()
    for name, parameter in spec.space.parameters.items():
        with ExitStack() as scopes:
            for other, wanted in parameter.conditions().items():
                scopes.enter_context(found.conditional_scope(other, wanted))
            if isinstance(parameter, CategoricalParameter):
                if all(isinstance(choice, bool) for choice in parameter.choices):
                    found.Boolean(name, default=parameter.default)
                else:
                    found.Choice(name, parameter.choices, default=parameter.default)
            elif isinstance(parameter, FloatParameter):
                found.Float(
                    name,
                    parameter.low,
                    parameter.high,
                    step=parameter.step,
                    sampling="log" if parameter.log else "linear",
                    default=parameter.default,
                )
            else:
                found.Int(name, parameter.low, parameter.high, step=parameter.step, default=parameter.default)
    return found


class SyneTuneCQR:
    """Syne Tune's ASHA with conformalised quantile regression (Salinas et al., ICML 2023), begun with the default.

    Its spaces have no conditions: every parameter is drawn, and those that do not count are passed over.
    """

    def __init__(self, seed: int, spec: StudySpec) -> None:
        from syne_tune.optimizer.baselines import ASHACQR

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        self._spec = spec
        defaults = {name: parameter.default for name, parameter in spec.space.parameters.items()}
        self._scheduler = ASHACQR(
            _config_space(spec),
            metric="value",
            time_attr="epoch",
            max_t=spec.asha.max_epochs,
            do_minimize=False,
            random_seed=seed,
            points_to_evaluate=[defaults],
        )
        self._trials: dict[str, Any] = {}

    def begin(self, name: str) -> Begun | None:
        """Asks the scheduler."""
        import datetime as dt

        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        trial = Trial(len(self._trials), suggestion.config, dt.datetime.fromtimestamp(time.time()))
        self._trials[name] = trial
        self._scheduler.on_trial_add(trial)
        return Begun(self._spec.space.suggest(Chosen(suggestion.config)))

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Tells the scheduler an epoch."""
        trial, result = self._trials[name], {"value": value, "epoch": epoch}
        stop = str(self._scheduler.on_trial_result(trial, result)) == "STOP"
        if stop:
            self._scheduler.on_trial_remove(trial)
        return stop

    def close(self) -> None:
        """Does nothing."""


def _config_space(spec: StudySpec) -> dict[str, Any]:
    from syne_tune.config_space import choice, finrange, loguniform, randint, uniform

    found: dict[str, Any] = {}
    for name, parameter in spec.space.parameters.items():
        if isinstance(parameter, CategoricalParameter):
            found[name] = choice(list(parameter.choices))
        elif isinstance(parameter, FloatParameter) and parameter.step is not None:
            size = round((parameter.high - parameter.low) / parameter.step) + 1
            found[name] = finrange(parameter.low, parameter.high, size)
        elif isinstance(parameter, FloatParameter):
            found[name] = (loguniform if parameter.log else uniform)(parameter.low, parameter.high)
        else:
            found[name] = randint(parameter.low, parameter.high)
    return found
