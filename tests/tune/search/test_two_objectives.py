"""A search with two objectives: what Optuna is told of each trial, before and after a restart, and what it proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.study.journal import Journal
from tune.study.spec import StudySpec
from tune.study.trade_off import pareto_front
from tune.study.trial_record import RungDecision

SPACE = {
    "width": {"type": "float", "low": 0.1, "high": 1.0, "default": 0.5},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.25},
}


def spec(**changes: Any) -> StudySpec:
    values = {
        "name": "a",
        "data": "d",
        "trials": 100,
        "space": SPACE,
        "objective": ["selection_accuracy", "parameters"],
    }
    return StudySpec.model_validate({**values, "asha": {"max_epochs": 2}, **changes})


class Search:
    """A searcher with its journal and Optuna's study."""

    def __init__(self, folder: Path, spec: StudySpec) -> None:
        self.journal, self.spec = Journal(folder / "journal.jsonl"), spec
        self.study = rebuild_optuna_study(folder / "optuna.log", spec, self.journal.state.trials.values())
        self.searcher = OptunaSearcher(self.study, spec, self.journal)

    def trial(self, *scores: tuple[float, int], stopped: bool = False) -> dict[str, Any]:
        """Asks for a trial and ends it with these pairs of accuracy and parameters by epoch."""
        name = f"t{len(self.journal.state.trials)}"
        config = self.searcher.suggest(name)
        number = config["trial"]
        self.journal.append("started", trial=number)
        for epoch, (accuracy, parameters) in enumerate(scores, 1):
            metrics = {"selection_accuracy": accuracy, "validation_accuracy": accuracy, "parameters": parameters}
            self.journal.append("epoch", trial=number, epoch=epoch, metrics=metrics)
            if epoch < len(scores):
                self.searcher.on_trial_result(name, {"epoch": epoch, **metrics})
        if stopped:
            self.journal.append(
                "rung", **vars(RungDecision(number, len(scores), scores[-1][0], 0.9, 2, 2, stopped=True))
            )
        self.searcher.on_trial_complete(name, result={"epoch": len(scores), **metrics})
        parameters_of: dict[str, Any] = config["parameters"]
        return parameters_of


def test_optuna_is_told_both_objectives_and_after_a_restart_the_same(tmp_path: Path) -> None:
    search = Search(tmp_path, spec())
    search.trial((0.3, 900), (0.5, 900))
    search.trial((0.4, 100), stopped=True)
    search.trial((0.45, 300), (0.4, 300))  # its best epoch counts
    search.trial((0.45, 400), (0.4, 400))  # not smaller, not better
    told = search.study.get_trials()
    assert [trial.state for trial in told] == [TrialState.COMPLETE, TrialState.PRUNED, *[TrialState.COMPLETE] * 2]
    assert [trial.values for trial in told] == [[0.5, 900], None, [0.45, 300], [0.45, 400]]
    assert {trial.number for trial in search.study.best_trials} == {0, 2}
    assert [one.trial for one in pareto_front(search.spec, search.journal.state)] == [0, 2, 1]  # the stopped one too
    search.journal.close()
    again = Search(tmp_path, spec())
    for one, other in zip(told, again.study.get_trials(), strict=True):
        assert (one.state, one.values, one.params) == (other.state, other.values, other.params)
    again.trial((0.2, 50), (0.3, 50))  # and it goes on
    assert again.study.get_trials()[4].values == [0.3, 50]
    again.journal.close()


def test_a_second_objective_that_is_no_number_is_told_as_stopped_and_the_search_goes_on(tmp_path: Path) -> None:
    search = Search(tmp_path, spec(objective=["selection_accuracy", "selection_loss"]))
    metrics = {"selection_accuracy": 0.5, "validation_accuracy": 0.5, "selection_loss": float("nan")}
    number = search.searcher.suggest("t0")["trial"]
    search.journal.append("started", trial=number)
    search.journal.append("epoch", trial=number, epoch=2, metrics=metrics)
    search.searcher.on_trial_complete("t0", result={"epoch": 2, **metrics})
    search.journal.close()
    again = Search(tmp_path, spec(objective=["selection_accuracy", "selection_loss"]))
    for study in (search.study, again.study):
        assert (study.trials[0].state, study.trials[0].values) == (TrialState.PRUNED, None)
    assert again.searcher.suggest("t1")["trial"] == 1
    again.journal.close()


def test_a_repeat_has_both_scores_and_constraints_hold(tmp_path: Path) -> None:
    search = Search(tmp_path, spec(constraints=["width + dropout <= 1"], startup_trials=0))
    search.trial((0.3, 900), (0.5, 900))
    search.journal.append("enqueued", values={"width": 0.5, "dropout": 0.25}, request="requests/1.json")
    drawn = [search.trial((0.4, 100), (0.4, 100)) for _ in range(5)]
    assert search.journal.state.trials[1].repeats == 0 and search.study.get_trials()[1].values == [0.5, 900]
    assert all(values["width"] + values["dropout"] <= 1 for values in drawn)
    search.journal.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_tpe_looks_for_small_models_too_and_beats_random_draws(seed: int, tmp_path: Path) -> None:
    """By the area that the front covers (Zitzler's hypervolume)."""
    area = {}
    for sampler in ("tpe", "random"):
        (tmp_path / sampler).mkdir()
        search = Search(tmp_path / sampler, spec(sampler=sampler, seed=seed, startup_trials=8))
        for _ in range(40):
            asked = search.searcher.suggest("x")
            number, values = asked["trial"], asked["parameters"]
            accuracy = (0.5 - abs(values["dropout"] - 0.4)) * (0.6 + 0.4 * values["width"])
            metrics = {"selection_accuracy": accuracy, "validation_accuracy": accuracy, "parameters": values["width"]}
            search.journal.append("started", trial=number)
            search.journal.append("epoch", trial=number, epoch=2, metrics=metrics)
            search.searcher.on_trial_complete("x", result={"epoch": 2, **metrics})
        front = sorted(pareto_front(search.spec, search.journal.state), key=lambda one: one.second)
        edges = [*(one.second for one in front[1:]), 1.0]
        area[sampler] = sum(one.first * (edge - one.second) for one, edge in zip(front, edges, strict=True))
        search.journal.close()
    assert area["tpe"] > area["random"], area
