"""The searcher: what Optuna is asked and told, with its real file and without any training."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from search_spaces import WRITTEN
from trainables.places import Place
from trainables.training.fault_kinds import FaultKind, TrialFault
from tune.errors import StudyError
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import SAMPLERS, rebuild_optuna_study
from tune.search.scheduler import AshaScheduler, Rungs
from tune.study.journal import Journal
from tune.study.requests import leave_request, waiting_requests
from tune.study.spec import StudySpec
from tune.study.spec_sections import AshaSettings
from tune.study.trial_record import RungDecision, TrialRecord

SPEC = StudySpec.model_validate(
    {
        "name": "a",
        "data": "d",
        "trials": 4,
        "asha": {"max_epochs": 3},
        "space": {
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"},
            "momentum": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.7, "when": {"optimizer": "sgd"}},
            "dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.25},
        },
    }
)


class Driver:
    """A searcher with its journal and its study, as a session has them."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.study = rebuild_optuna_study(folder / "optuna.log", SPEC, self.journal.state.trials.values())
        self.searcher = OptunaSearcher(self.study, SPEC, self.journal)

    def begin(self, ray_id: str) -> dict[str, Any]:
        config = self.searcher.suggest(ray_id)
        assert isinstance(config, dict)
        self.journal.append("started", trial=config["trial"])
        return config

    def report(self, ray_id: str, number: int, epoch: int, value: float, *, last: bool = False) -> None:
        """One epoch in Ray's order: the stopping report reaches the searcher only with the end."""
        metrics = {"selection_accuracy": value, "validation_accuracy": value}
        result = {"epoch": epoch, **metrics, "diverged": not math.isfinite(value)}
        if not last:
            self.searcher.on_trial_result(ray_id, result)
        self.journal.append("epoch", trial=number, epoch=epoch, metrics=metrics)
        if last:
            self.searcher.on_trial_complete(ray_id, result=result)

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.get_trials()]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    driver.journal.close()


def test_trial_0_is_the_default_and_the_configuration_is_complete(driver: Driver) -> None:
    config = driver.begin("x")
    assert driver.journal.state.trials[0].values == {"optimizer": "adam", "dropout": 0.25}
    assert (config["trial"], config["resume_from"]) == (0, [])
    assert config["parameters"]["batch_size"] == 32


def test_a_trial_stopped_at_a_rung_is_told_pruned_with_the_stopping_value_too(driver: Driver) -> None:
    driver.begin("x")
    driver.report("x", 0, 1, 0.3)
    driver.journal.append("rung", **vars(RungDecision(0, 2, 0.2, 0.4, 3, 3, stopped=True)))
    driver.report("x", 0, 2, 0.2, last=True)
    told = driver.study.get_trials()[0]
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 0.3, 2: 0.2})
    assert driver.journal.state.trials[0].reason == "stopped at rung 2: 0.2000 misses the cutoff 0.4000, rank 3 of 3"


def test_a_complete_trial_counts_by_its_best_epoch_not_its_last(driver: Driver) -> None:
    driver.begin("x")
    for epoch, value in enumerate([0.3, 0.6, 0.5], 1):
        driver.report("x", 0, epoch, value, last=epoch == 3)
    assert (driver.study.best_value, driver.states()) == (0.6, [TrialState.COMPLETE])


def test_a_trial_whose_loss_is_not_finite_is_told_fail(driver: Driver) -> None:
    driver.begin("x")
    driver.report("x", 0, 1, math.nan, last=True)
    assert driver.states() == [TrialState.FAIL]
    assert driver.journal.state.trials[0].reason == "the loss was not finite in epoch 1"


def test_a_multiplied_value_is_journalled_as_the_trial_has_it_and_goes_back_to_optuna_as_it_was(tmp_path: Path) -> None:
    rate = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "default": 1e-3}
    optimizer = {"type": "categorical", "choices": ["sgd", "adam"], "default": "sgd"}
    space = {"optimizer": optimizer, "learning_rate": {**rate, "scale_by": {"optimizer": {"sgd": "3e1"}}}}
    spec = StudySpec.model_validate({"name": "a", "data": "d", "trials": 12, "space": space})
    journal = Journal(tmp_path / "journal.jsonl")
    study = rebuild_optuna_study(tmp_path / "optuna.log", spec, [])
    searcher = OptunaSearcher(study, spec, journal)
    rates = [searcher.suggest(f"t{number}")["parameters"]["learning_rate"] for number in range(12)]
    records = list(journal.state.trials.values())
    assert rates == [record.values["learning_rate"] for record in records] and rates[0] == 0.03
    assert {record.values["optimizer"] for record in records} == {"sgd", "adam"}
    again = rebuild_optuna_study(tmp_path / "again.log", spec, records)
    for one, other in zip(study.get_trials(), again.get_trials(), strict=True):
        assert other.distributions == one.distributions and other.params["optimizer"] == one.params["optimizer"]
        assert other.params["learning_rate_base"] == pytest.approx(one.params["learning_rate_base"], rel=1e-12)
    journal.close()


def test_what_the_constraints_exclude_is_never_a_trial(tmp_path: Path) -> None:
    size = {"type": "int", "low": 8, "high": 64, "default": 8}
    spec = StudySpec.model_validate(
        {
            "name": "a",
            "data": "d",
            "trials": 10,
            "startup_trials": 4,
            "asha": {"max_epochs": 1},
            "space": {"batch_size": size, "image_size_px": {**size, "low": 32, "high": 96, "default": 32}},
            "constraints": ["batch_size * image_size_px <= 1024"],  # a tenth of the space
        }
    )
    journal = Journal(tmp_path / "journal.jsonl")
    study = rebuild_optuna_study(tmp_path / "optuna.log", spec, [])
    searcher = OptunaSearcher(study, spec, journal)
    for number in range(10):
        assert searcher.suggest(f"t{number}")["trial"] == number
        values = journal.state.trials[number].values
        metrics = {"selection_accuracy": values["batch_size"] * values["image_size_px"] / 1e5, "validation_accuracy": 0}
        result = {"epoch": 1, **metrics}
        journal.append("epoch", trial=number, epoch=1, metrics=metrics)
        searcher.on_trial_complete(f"t{number}", result)
    records = journal.state.trials.values()
    products = [record.values["batch_size"] * record.values["image_size_px"] for record in records]
    assert max(products) <= 1024 and len(set(products)) > 5
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 10
    assert [trial.params for trial in study.get_trials()] == [record.values for record in records]
    journal.close()


def test_a_trial_that_gives_no_model_is_not_tried_again_and_told_pruned(driver: Driver) -> None:
    driver.begin("x")
    driver.searcher.note_fault(0, TrialFault("infeasible", "no model can be built: shape=(None, 1, 1, 8)"))
    driver.searcher.on_trial_complete("x", error=True)
    assert driver.states() == [TrialState.PRUNED]
    record = driver.journal.state.trials[0]
    assert (record.state, record.reason) == ("failed", "no model can be built: shape=(None, 1, 1, 8)")


def old_spec(**space: Any) -> StudySpec:
    """A study that an earlier version took."""
    return StudySpec.model_validate({"name": "a", "data": "d", "trials": 4, "space": space}, context=WRITTEN)


def test_what_no_trial_takes_is_never_journalled(tmp_path: Path) -> None:
    spec = old_spec(batch_size={"type": "float", "low": 16, "high": 17, "default": 16.5})
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", spec, []), spec, journal)
    with pytest.raises(
        StudyError, match="no trial takes batch_size=16.5: .*valid integer.* Change it in the study's space"
    ):
        searcher.suggest("x")
    journal.close()
    assert (tmp_path / "journal.jsonl").read_text() == ""


def test_a_trial_that_an_earlier_version_journalled_and_none_takes_has_failed(tmp_path: Path) -> None:
    spec = old_spec(batch_size={"type": "float", "low": 16, "high": 17, "default": 16})
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", trial=0, values={"batch_size": 16.0})
    journal.append("trial", trial=1, values={"batch_size": 16.5})
    study = rebuild_optuna_study(tmp_path / "optuna.log", spec, journal.state.trials.values())
    assert OptunaSearcher(study, spec, journal).suggest("x")["trial"] == 0
    assert (journal.state.trials[1].state, journal.state.trials[0].state) == ("failed", "waiting")
    assert journal.state.trials[1].reason.startswith("no trial takes batch_size=16.5")
    journal.close()


def test_text_that_an_earlier_version_journalled_is_told_to_optuna_as_the_number_it_is(tmp_path: Path) -> None:
    spec = old_spec(dropout={"type": "categorical", "choices": ["8e-1", 0.5], "default": "8e-1"})
    trials = [TrialRecord(0, {"dropout": "8e-1"}), TrialRecord(1, {"dropout": 0.5})]
    study = rebuild_optuna_study(tmp_path / "optuna.log", spec, trials)
    assert [trial.params for trial in study.get_trials()] == [{"dropout": 0.8}, {"dropout": 0.5}]


@pytest.mark.filterwarnings("ignore:The distribution is specified by")
def test_a_study_whose_steps_optuna_rounds_says_so_when_it_is_to_go_on(tmp_path: Path) -> None:
    spec = old_spec(dropout={"type": "float", "low": 0, "high": 0.33333334, "step": 0.11111111, "default": 0.33333334})
    with pytest.raises(StudyError, match="Optuna does not take back trial 0: .*search on under another name"):
        rebuild_optuna_study(tmp_path / "optuna.log", spec, [TrialRecord(0, {"dropout": 0.33333334})])


def break_off(driver: Driver, ray_id: str, number: int, kind: FaultKind) -> None:
    """One attempt that ends with a fault, in Ray's order."""
    driver.begin(ray_id)
    driver.searcher.note_fault(number, TrialFault(kind, "why"))
    driver.searcher.on_trial_complete(ray_id, error=True)


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [("process_died", 4), ("host_memory", 3), ("model_memory", 2), ("exception", 2), ("hung", 2), ("storage", 4)],
)
def test_every_kind_of_fault_has_retries_of_its_own_and_then_the_trial_fails(
    driver: Driver, kind: FaultKind, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.search.trial_queue.RETRY_PAUSES_S", {})
    for attempt in range(attempts):
        assert driver.journal.state.trials.get(0) is None or driver.journal.state.trials[0].state == "waiting"
        break_off(driver, f"x{attempt}", 0, kind)
    trial = driver.journal.state.trials[0]
    assert (trial.state, trial.restarts, len(trial.faults)) == ("failed", attempts - 1, attempts)
    assert trial.reason == f"why ({attempts} times)"
    # What did not fit in memory teaches the sampler something; a process that died does not.
    assert driver.states() == [TrialState.PRUNED if kind == "model_memory" else TrialState.FAIL]


@pytest.mark.parametrize("kind", ["preempted", "replaced"])
def test_what_is_not_the_trials_doing_never_counts(driver: Driver, kind: FaultKind) -> None:
    for attempt in range(20):
        break_off(driver, f"x{attempt}", 0, kind)
    assert driver.journal.state.trials[0].state == "waiting"
    assert driver.states() == [TrialState.RUNNING]


def test_a_trial_that_did_not_fit_in_memory_starts_again_in_micro_batches(driver: Driver) -> None:
    break_off(driver, "x", 0, "model_memory")
    assert driver.begin("y")["micro_batches"] == 4


def test_the_study_ends_itself_after_too_many_failures_in_a_row(driver: Driver) -> None:
    for number in range(2):
        driver.begin(str(number))
        driver.report(str(number), number, 1, math.nan, last=True)
        assert not driver.searcher.stopping
    driver.begin("good")
    driver.report("good", 2, 3, 0.5, last=True)  # one that does not fail begins the count anew
    assert driver.searcher._failures_in_a_row == 0
    driver.searcher._failures_in_a_row = SPEC.faults.in_a_row - 1
    driver.begin("bad")
    driver.report("bad", 3, 1, math.nan, last=True)
    assert driver.searcher.stopping == "failures"


def test_configurations_that_give_no_model_end_the_study_only_where_none_does(driver: Driver) -> None:
    break_off(driver, "first", 0, "infeasible")
    assert driver.searcher._failures_in_a_row == 1
    driver.begin("good")
    driver.report("good", 1, 3, 0.5, last=True)
    break_off(driver, "second", 2, "infeasible")
    assert driver.searcher._failures_in_a_row == 0


@pytest.mark.parametrize("stopping", ["interrupted", "disk_full"])
def test_a_trial_that_breaks_off_while_the_session_is_being_stopped_has_not_failed(
    driver: Driver, stopping: str
) -> None:
    driver.begin("x")
    driver.searcher.stopping = stopping
    driver.searcher.on_trial_complete("x", error=True)
    assert driver.states() == [TrialState.RUNNING]
    assert not driver.journal.state.trials[0].faults


def test_the_search_ends_after_the_studys_trials(driver: Driver) -> None:
    for number in range(4):
        assert driver.begin(str(number))["trial"] == number
    assert driver.searcher.suggest("more") is None  # one that is running may have to start again
    for number in range(4):
        driver.report(str(number), number, 3, 0.5, last=True)
    assert driver.searcher.suggest("more") == "FINISHED"


def test_an_interrupted_trial_is_told_nothing_and_comes_first_the_next_time(driver: Driver, tmp_path: Path) -> None:
    driver.begin("x")
    driver.begin("y")
    driver.report("y", 1, 1, 0.5)
    driver.searcher.stopping = "interrupted"
    assert driver.searcher.suggest("z") == "FINISHED"
    driver.report("x", 0, 1, 0.4, last=True)
    assert driver.states() == [TrialState.RUNNING, TrialState.RUNNING]
    (tmp_path / "trials/c").mkdir(parents=True)
    (tmp_path / "trials/c/state.json").write_text("{}")
    driver.journal.append("checkpoint", trial=0, epoch=1, path="trials/c")
    driver.journal.close()

    again = Driver(tmp_path)
    first, second, third = (again.begin(name) for name in "xyz")
    assert [c["trial"] for c in (first, second, third)] == [0, 1, 2]
    assert [c["resume_from"] for c in (first, second)] == [[str(tmp_path / "trials/c")], []]
    again.report("x", 0, 1, 0.9)  # reported before: Optuna keeps the first value and does not warn
    again.report("x", 0, 2, 0.6)
    assert again.study.get_trials()[0].intermediate_values == {1: 0.4, 2: 0.6}
    again.journal.close()


def test_when_the_time_is_over_every_open_trial_is_ended_by_its_score(driver: Driver) -> None:
    for name in "xy":
        driver.begin(name)
    driver.report("x", 0, 1, 0.4)
    driver.searcher.stopping = "time"
    driver.searcher.end_unfinished_trials("the study ended: its time was over")
    assert driver.states() == [TrialState.COMPLETE, TrialState.FAIL]
    assert driver.study.best_value == 0.4
    assert driver.journal.state.trials[1].reason == "the study ended: its time was over; it has no score"
    assert [trial.state for trial in driver.journal.state.trials.values()] == ["cut", "cut"]  # both may go on


def test_optunas_file_made_again_from_the_journal_says_the_same(driver: Driver, tmp_path: Path) -> None:
    driver.begin("x")
    for epoch, value in enumerate([0.3, 0.6, 0.5], 1):
        driver.report("x", 0, epoch, value, last=epoch == 3)
    driver.begin("y")
    driver.journal.append("rung", **vars(RungDecision(1, 1, 0.2, 0.3, 2, 2, stopped=True)))
    driver.report("y", 1, 1, 0.2, last=True)
    driver.begin("z")
    driver.report("z", 2, 1, math.nan, last=True)
    before = driver.study.get_trials()

    rebuilt = rebuild_optuna_study(tmp_path / "again.log", SPEC, driver.journal.state.trials.values())
    for one, other in zip(before, rebuilt.get_trials(), strict=True):
        assert (one.number, one.state, one.params, one.distributions, one.intermediate_values) == (
            other.number,
            other.state,
            other.params,
            other.distributions,
            other.intermediate_values,
        )
        assert one.values == other.values


def test_a_resumed_search_proposes_on_instead_of_over_again(tmp_path: Path) -> None:
    first = Driver(tmp_path)
    values = []
    for name in "xy":
        number = first.begin(name)["trial"]
        values.append(first.journal.state.trials[number].values)
        first.report(name, number, 1, math.nan, last=True)
    first.journal.close()
    again = Driver(tmp_path)
    for name in "zw":
        number = again.begin(name)["trial"]
        values.append(again.journal.state.trials[number].values)
    again.journal.close()
    assert len({repr(v) for v in values}) == 4


def test_optuna_says_nothing_on_its_own(driver: Driver) -> None:
    assert optuna.logging.get_verbosity() >= optuna.logging.WARNING


def test_every_kind_of_fault_says_how_often_it_is_tried_again() -> None:
    from typing import get_args

    from trainables.training.fault_kinds import FaultKind
    from tune.search.trial_queue import ALWAYS_RETRIED, NEVER_RETRIED
    from tune.study.spec_sections import Faults

    said = [*ALWAYS_RETRIED, *NEVER_RETRIED, *(name for name in Faults.model_fields if name in get_args(FaultKind))]
    assert sorted(said) == sorted(get_args(FaultKind))


ONE_EPOCH = AshaSettings(max_epochs=1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_what_the_space_has_repeats_from_its_seed_and_goes_on_from_a_fresh_stream(
    sampler: str, tmp_path: Path
) -> None:
    def proposed(folder: str, seed: int, past: int = 0) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir(exist_ok=True)
        spec = SPEC.model_copy(update={"sampler": sampler, "seed": seed, "trials": 20, "asha": ONE_EPOCH})
        journal = Journal(tmp_path / folder / "journal.jsonl")
        assert len(journal.state.trials) == past
        study = rebuild_optuna_study(tmp_path / folder / "optuna.log", spec, journal.state.trials.values())
        searcher = OptunaSearcher(study, spec, journal)
        found = []
        for number in range(past, past + 10):
            config = searcher.suggest(f"t{number}")
            values = dict(journal.state.trials[number].values)
            assert spec.space.complete(values) == values and config["trial"] == number
            end_trial(searcher, journal, f"t{number}", number, values["dropout"])
            found.append(values)
        journal.close()
        return found

    first = proposed("a", 1)
    assert proposed("b", 1) == first != proposed("c", 2)
    assert not [values for values in proposed("a", 1, past=10) if values in first]


def test_tpe_learns_and_random_does_not(tmp_path: Path) -> None:
    means = {}
    for sampler in SAMPLERS:
        spec = SPEC.model_copy(update={"sampler": sampler, "trials": 40, "asha": ONE_EPOCH})
        journal = Journal(tmp_path / f"{sampler}.jsonl")
        searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / f"{sampler}.log", spec, []), spec, journal)
        for number in range(40):
            searcher.suggest(f"t{number}")
            end_trial(searcher, journal, f"t{number}", number, journal.state.trials[number].values["dropout"])
        means[sampler] = statistics.mean(journal.state.trials[n].values["dropout"] for n in range(20, 40))
        journal.close()
    assert means["tpe"] > 0.36 > 0.32 > means["random"]


SMALL = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"},
    "batch_size": {"type": "categorical", "choices": [16, 32], "default": 32},
}


def end_trial(searcher: OptunaSearcher, journal: Journal, ray_id: str, number: int, value: float) -> None:
    metrics = {"selection_accuracy": value, "validation_accuracy": value}
    journal.append("epoch", trial=number, epoch=1, metrics=metrics)
    searcher.on_trial_complete(ray_id, result={"epoch": 1, **metrics})


def test_a_small_space_is_tried_once_and_then_the_search_ends(tmp_path: Path) -> None:
    spec = StudySpec.model_validate(
        {"name": "a", "data": "d", "trials": 14, "space": SMALL, "asha": {"max_epochs": 1}, "startup_trials": 0}
    )
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", spec, []), spec, journal)
    trained = []
    while (config := searcher.suggest(f"t{len(trained)}")) != "FINISHED":
        trained.append(config["parameters"]["optimizer"] + str(config["parameters"]["batch_size"]))
        end_trial(searcher, journal, f"t{len(trained) - 1}", config["trial"], len(trained) / 10)
    assert len(trained) == spec.most_trials == 4 and len(set(trained)) == 4
    assert journal.state.tried == 4
    journal.close()


def test_after_a_repeat_the_sampler_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizers = ["adam", "sgd", "lion", "nadam", "adamw", "rmsprop"]
    space = {
        "batch_size": {"type": "categorical", "choices": [16, 32, 64, 128, 256, 512], "default": 32},
        "optimizer": {"type": "categorical", "choices": optimizers, "default": "adam"},
    }
    spec = StudySpec.model_validate(
        {"name": "a", "data": "d", "trials": 20, "space": space, "asha": {"max_epochs": 1}, "sampler": "random"}
    )
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", spec, []), spec, journal)
    drawn = list[int]()
    monkeypatch.setattr(searcher, "_untried", lambda number: drawn.append(number))
    trained = set()
    while (config := searcher.suggest(f"t{len(trained)}")) != "FINISHED":
        trained.add((config["parameters"]["optimizer"], config["parameters"]["batch_size"]))
        end_trial(searcher, journal, f"t{len(trained) - 1}", config["trial"], len(trained) / 100)
    repeats = [trial for trial in journal.state.trials.values() if trial.state == "repeat"]
    assert len(trained) == 20 and repeats and not drawn
    journal.close()


def test_a_configuration_that_was_tried_is_given_its_known_score_in_place_of_a_process(tmp_path: Path) -> None:
    spec = StudySpec.model_validate(
        {"name": "a", "data": "d", "trials": 3, "space": SMALL, "asha": {"max_epochs": 1}, "startup_trials": 0}
    )
    journal = Journal(tmp_path / "journal.jsonl")
    study = rebuild_optuna_study(tmp_path / "optuna.log", spec, [])
    searcher = OptunaSearcher(study, spec, journal)
    assert searcher.suggest("a")["trial"] == 0
    end_trial(searcher, journal, "a", 0, 0.4)
    default = {"optimizer": "adam", "batch_size": 32}
    journal.append("enqueued", values=default, request="requests/1.json")
    journal.append("enqueued", values={"optimizer": "sgd", "batch_size": 16}, request="requests/2.json")
    found = searcher.suggest("b")
    repeat = journal.state.trials[1]
    assert (repeat.state, repeat.repeats, repeat.values, repeat.epochs) == ("repeat", 0, default, {})
    assert study.trials[1].value == 0.4 and study.trials[1].state == TrialState.COMPLETE
    assert found["trial"] == 2 and not journal.state.enqueued
    assert (found["parameters"]["optimizer"], found["parameters"]["batch_size"]) == ("sgd", 16)
    end_trial(searcher, journal, "b", 2, 0.5)
    assert [trial.number for trial in journal.state.ranked("selection_accuracy", "max")] == [2, 0]
    again = rebuild_optuna_study(tmp_path / "again.log", spec, journal.state.trials.values())
    assert [(t.state, t.value, t.params) for t in again.trials] == [(t.state, t.value, t.params) for t in study.trials]
    journal.close()


def test_a_trial_waits_for_a_bucket_that_does_not_answer_and_goes_on_from_its_checkpoint(driver: Driver) -> None:
    driver.begin("x")
    driver.report("x", 0, 1, 0.3)
    driver.journal.append("checkpoint", trial=0, epoch=1, path="trials/session-001/trial-0000/checkpoint_000000")
    driver.searcher.note_fault(0, TrialFault("process_died", "killed"))
    driver.searcher.on_trial_complete("x", error=True)
    here = driver.journal.place
    driver.journal.place = Place("s3://bucket/runs?endpoint_override=http://127.0.0.1:9&scheme=http")
    assert driver.searcher.suggest("y") is None and not driver.searcher.idle
    driver.journal.place = here
    (checkpoint := Path(here.at("trials/session-001/trial-0000/checkpoint_000000"))).mkdir(parents=True)
    (checkpoint / "state.json").touch()
    driver.searcher._waiting = [(0.0, number) for _, number in driver.searcher._waiting]  # as if the pause were over
    assert driver.begin("y")["resume_from"] == [str(checkpoint)]


def test_what_failed_is_tried_again_when_somebody_asks_for_it(tmp_path: Path) -> None:
    spec = StudySpec.model_validate({"name": "a", "data": "d", "trials": 3, "space": SMALL})
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", spec, []), spec, journal)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result={"epoch": 1, "diverged": True, "selection_accuracy": math.nan})
    journal.append("enqueued", values={"optimizer": "adam", "batch_size": 32}, request="requests/1.json")
    assert searcher.suggest("b")["trial"] == 1 and journal.state.trials[1].repeats is None
    journal.close()


# What people ask of a running study


def test_an_enqueued_configuration_is_the_next_new_trial_once_even_if_the_driver_dies(tmp_path: Path) -> None:
    driver, place = Driver(tmp_path), Place(str(tmp_path))
    driver.begin("a")
    leave_request(place, "enqueue", values={"optimizer": "sgd", "momentum": 0.6, "dropout": 0.1})
    leave_request(place, "enqueue", values={"optimizer": "adam", "dropout": 0.2})
    before = waiting_requests(place)
    driver.searcher.take_requests()
    assert not waiting_requests(place) and len(driver.journal.state.enqueued) == 2
    driver.journal.close()
    (tmp_path / before[0].path).write_text(json.dumps({"kind": "enqueue", "values": before[0].fields["values"]}))

    again = Driver(tmp_path)
    again.searcher.take_requests()  # it had journalled that one, and died before the file was gone
    assert [again.begin(name)["trial"] for name in "bcd"] == [0, 1, 2]
    trials = again.journal.state.trials
    assert trials[1].values == {"optimizer": "sgd", "momentum": 0.6, "dropout": 0.1}
    assert trials[2].values == {"optimizer": "adam", "dropout": 0.2}
    assert not again.journal.state.enqueued
    again.begin("e")
    assert trials[3].values not in (trials[1].values, trials[2].values)
    again.journal.close()


def test_a_value_that_only_its_last_digit_keeps_out_of_the_space_is_the_spaces_own(tmp_path: Path) -> None:
    space = {
        "dropout": {"type": "categorical", "choices": [0.1, 0.3, 0.5], "default": 0.5},
        "split_ratio": {"type": "float", "low": 0.8, "high": 0.9, "default": 0.9},
    }
    spec = StudySpec.model_validate({"name": "a", "data": "d", "trials": 4, "space": space})
    completed = spec.complete({"dropout": 0.30000000000000004, "split_ratio": 0.7999999999999999})
    assert completed == {"dropout": 0.3, "split_ratio": 0.8}
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", spec, []), spec, journal)
    searcher.suggest("a")  # as an earlier version journalled it
    values = {"dropout": 0.30000000000000004, "split_ratio": 0.7999999999999999}
    journal.append("enqueued", values=values, request="transfer_from 1")
    assert searcher.suggest("b")["parameters"]["dropout"] == 0.3
    assert journal.state.trials[1].values == {"dropout": 0.3, "split_ratio": 0.8}
    journal.close()


def test_a_dropped_trial_ends_whether_it_runs_waits_or_breaks_off(driver: Driver, tmp_path: Path) -> None:
    place, state = Place(str(tmp_path)), driver.journal.state
    for ray_id in "abc":
        driver.begin(ray_id)
    driver.report("a", 0, 1, 0.3)
    driver.searcher.note_fault(1, TrialFault("process_died", "why"))
    driver.searcher.on_trial_complete("b", error=True)
    assert state.trials[1].state == "waiting"
    for trial in (0, 1, 2, 7):  # there is no trial 7
        leave_request(place, "drop", trial=trial)
    driver.searcher.take_requests()
    assert not waiting_requests(place) and [state.trials[n].dropped for n in range(3)] == [True] * 3
    assert (state.trials[1].state, state.trials[1].reason) == ("pruned", "dropped by emotune drop")

    ends = lambda number, result: state.run(number).dropped  # noqa: E731
    asha = AshaScheduler(Rungs([], 3, "max"), "selection_accuracy", print, str, ends=ends)
    controller: Any = None
    trial: Any = SimpleNamespace(config={"trial": 0})
    assert asha.on_trial_result(controller, trial, {"epoch": 2, "selection_accuracy": 0.4}) == TrialScheduler.STOP
    driver.report("a", 0, 2, 0.4, last=True)
    driver.searcher.note_fault(2, TrialFault("process_died", "why"))
    driver.searcher.on_trial_complete("c", error=True)
    assert [state.trials[n].state for n in range(3)] == ["pruned"] * 3
    assert driver.states()[:3] == [TrialState.PRUNED] * 3 and driver.study.get_trials()[0].value == 0.4


def test_a_request_that_the_space_does_not_have_is_dropped_and_never_journalled(driver: Driver, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    driver.begin("a")
    before = driver.journal.path.read_text()
    for values in ({"depth": 3}, {"dropout": 7}, {"momentum": 0.6}, [1], None):
        leave_request(place, "enqueue", values=values)
    leave_request(place, "enqueue")
    leave_request(place, "drop", trial="first")
    driver.searcher.take_requests()
    assert not waiting_requests(place) and driver.journal.path.read_text() == before
    driver.begin("b")


def test_a_request_that_cannot_be_deleted_keeps_no_other_from_being_taken_up(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path))
    for dropout in (0.1, 0.2):
        leave_request(place, "enqueue", values={"optimizer": "adam", "dropout": dropout})

    def refuse(place: Place, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Place, "delete", refuse)
    driver.searcher.take_requests()
    driver.searcher._looked = -math.inf
    driver.searcher.take_requests()
    assert [values["dropout"] for values in driver.journal.state.enqueued.values()] == [0.1, 0.2]


def test_what_is_no_request_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    contents = {"1.json": "{", "2.json": "[]", "3.json": json.dumps({"kind": "delete"}), ".4.json": "{}", "5.txt": "x"}
    for name, text in contents.items():
        (tmp_path / "requests" / name).write_text(text)
    assert waiting_requests(Place(str(tmp_path))) == []
