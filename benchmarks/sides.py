"""Searches that are compared on curves: who proposes, who stops. Everything that decides is the real object.

`benchmarks/simulation.py` gives them workers and wall time.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.simulation import Begun
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.search.scheduler import AshaScheduler, Rungs
from tune.study.feasible import RandomSuggester
from tune.study.journal import Journal
from tune.study.spec import StudySpec


class Emotune:
    """Our searcher and rungs, with a real journal.

    Args:
        seed: Of the study.
        folder: For its files.
        spec: The study.
        rungs: In place of the product's own.
        sampler: In place of the product's own, made from the seed.
        searcher: In place of the product's own.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        spec: StudySpec,
        rungs: type[Rungs] = Rungs,
        sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None,
        searcher: type[OptunaSearcher] = OptunaSearcher,
    ) -> None:
        spec = self._spec = spec.model_copy(update={"seed": seed})
        self._journal = Journal(folder / "journal.jsonl")
        study = rebuild_optuna_study(folder / "optuna.log", spec, [])
        if sampler:
            study.sampler = sampler(seed)
        self._queue = searcher(study, spec, self._journal)
        decide = rungs(spec.asha.rungs, spec.asha.reduction_factor, "max")
        self._asha = AshaScheduler(
            decide, spec.objective, lambda d: self._journal.append("rung", **vars(d)), lambda: ""
        )
        self._trials: dict[str, int] = {}

    def begin(self, name: str) -> Begun | None:
        """Asks the searcher."""
        suggested = self._queue.suggest(name)
        if not isinstance(suggested, dict):
            return None
        self._trials[name] = suggested["trial"]
        self._journal.append("started", trial=self._trials[name])
        return Begun(dict(self._journal.state.trials[self._trials[name]].values))

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Tells scheduler and searcher in Ray's order."""
        number, last = self._trials[name], epoch >= self._spec.asha.max_epochs
        metrics = {"selection_accuracy": value, "validation_accuracy": value}
        result = {"epoch": epoch, "trial": number, **metrics}
        self._journal.append("epoch", trial=number, epoch=epoch, metrics=metrics)
        trial: Any = SimpleNamespace(config={"trial": number})
        controller: Any = None
        stop = last or self._asha.on_trial_result(controller, trial, result) == TrialScheduler.STOP
        if stop:
            self._queue.on_trial_complete(name, result=result)
        else:
            self._queue.on_trial_result(name, result)
        return stop

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()


class RayTune:
    """Ray's own searcher and scheduler, as its documentation shows them.

    Args:
        seed: Of the sampler.
        spec: The study whose space and longest training it gets.
        sampler: In place of OptunaSearch's own, made from a seed.
        scheduler: What ASHAScheduler is given in place of its defaults.
        from_default: Whether its first trial is the space's default, as ours is.
    """

    def __init__(
        self,
        seed: int,
        spec: StudySpec,
        sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None,
        scheduler: Mapping[str, Any] = {},  # noqa: B006
        from_default: bool = True,
    ) -> None:
        self._search = OptunaSearch(
            space=lambda trial: spec.space.suggest(trial) and None,
            metric="value",
            mode="max",
            points_to_evaluate=[spec.space.defaults()] if from_default else None,
            **({"sampler": sampler(seed)} if sampler else {"seed": seed}),
        )
        self._asha = ASHAScheduler(metric="value", mode="max", max_t=spec.asha.max_epochs, **scheduler)
        self._stubs: dict[str, Any] = {}

    def begin(self, name: str) -> Begun | None:
        """Asks the searcher and adds the trial to the scheduler."""
        values = dict(self._search.suggest(name) or {})
        controller: Any = None
        self._stubs[name] = SimpleNamespace(trial_id=name)
        self._asha.on_trial_add(controller, self._stubs[name])
        return Begun(values)

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Tells scheduler and searcher in Ray's order."""
        result = {"training_iteration": epoch, "value": value}
        controller: Any = None
        if self._asha.on_trial_result(controller, self._stubs[name], result) == TrialScheduler.CONTINUE:
            self._search.on_trial_result(name, result)
            return False
        self._asha.on_trial_complete(controller, self._stubs[name], result)
        self._search.on_trial_complete(name, result=result)
        return True

    def close(self) -> None:
        """Does nothing: Ray's searcher holds no file."""


class OptunaAlone:
    """Optuna's TPE and its HyperbandPruner."""

    def __init__(self, seed: int, spec: StudySpec) -> None:
        self._spec = spec
        longest = spec.asha.max_epochs
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=longest, reduction_factor=3)
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner
        )
        self._trials: dict[str, optuna.Trial] = {}

    def begin(self, name: str) -> Begun | None:
        """Asks the study."""
        self._trials[name] = self._study.ask()
        return Begun(self._spec.space.suggest(self._trials[name]))

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Reports, and asks the pruner."""
        trial = self._trials[name]
        trial.report(value, epoch)
        if epoch >= self._spec.asha.max_epochs:
            self._study.tell(trial, value)
        elif trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            return False
        return True

    def close(self) -> None:
        """Does nothing: the study is in memory."""


class RandomSearch:
    """Random configurations, each trained to its end; or one epoch each, and then the best `top` of them to the end.

    The latter is Egele, Guyon, Balaprakash: Is one epoch all you need? (2023, arXiv 2307.15422).
    """

    def __init__(self, seed: int, spec: StudySpec, first_round: int = 0, top: int = 3) -> None:
        self._spec, self._first_round, self._top = spec, first_round, top
        self._draws = RandomSuggester(seed)
        self._scores: dict[str, tuple[float, dict[str, Any]]] = {}
        self._trained: dict[str, dict[str, Any]] = {}
        self._second: list[dict[str, Any]] | None = None

    def begin(self, name: str) -> Begun | None:
        """Draws one, or takes the next of the best."""
        if not self._first_round or len(self._trained) < self._first_round:
            self._trained[name] = self._spec.space.suggest(self._draws)
            return Begun(self._trained[name])
        if self._second is None:
            if len(self._scores) < self._first_round:
                return None
            best = sorted(self._scores.values(), key=lambda pair: -pair[0])[: self._top]
            self._second = [values for _, values in best]
        if not self._second:
            return None
        return Begun(self._second.pop(0), epoch=1)

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Ends a trial after one epoch in the first round."""
        if self._first_round and name in self._trained:
            self._scores[name] = value, self._trained[name]
            return True
        return epoch >= self._spec.asha.max_epochs

    def close(self) -> None:
        """Does nothing."""


def be_quiet() -> None:
    """Keeps Optuna and Ray from telling of every trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
