"""What a study will take: trials at once, epochs, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_study import record_study
from tune.errors import ClusterError, StudyError
from tune.nodes.autoscaler import node_types
from tune.nodes.capacity import AutoscaledNodeType, ClusterCapacity, NodeCapacity
from tune.search.confirmation import confirmation_candidates, confirmation_numbers
from tune.search.simulated_search import Beginning, Costs, TrialCost
from tune.session.plan import Range, forecast, make_plan, trainings_left
from tune.study.spec import StudySpec

SPACE = {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0.1}}


def spec(**values: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "a", "data": "d", "space": SPACE, **values})


def capacity(*nodes: dict[str, float]) -> ClusterCapacity:
    return ClusterCapacity(tuple(map(NodeCapacity.of, nodes)))


@pytest.mark.parametrize(
    ("resources", "cluster", "expected"),
    [
        ({}, {"CPU": 8}, 8),
        ({"cpus_per_trial": 2}, {"CPU": 7}, 3),
        ({"feed_workers": 3}, {"CPU": 8}, 2),
        ({"gpus_per_trial": 0.25}, {"CPU": 16, "GPU": 1}, 4),
        ({"gpus_per_trial": 0.1}, {"CPU": 64, "GPU": 1}, 10),
        ({"gpus_per_trial": 0.25}, {"CPU": 2, "GPU": 1}, 2),
        ({"max_concurrent": 3}, {"CPU": 8}, 3),
    ],
)
def test_trials_at_once_follow_from_the_cluster(
    resources: dict[str, Any], cluster: dict[str, float], expected: int
) -> None:
    assert make_plan(spec(resources=resources), capacity(cluster), 100, None).at_once == expected


def test_no_more_trials_at_once_than_there_are_trials() -> None:
    assert make_plan(spec(), capacity({"CPU": 8}), 2, None).at_once == 2


@pytest.mark.parametrize(
    ("resources", "cluster", "message"),
    [
        ({"cpus_per_trial": 4}, {"CPU": 2}, "a trial takes 4 CPUs of one node and Ray has 2"),
        ({"gpus_per_trial": 0.5}, {"CPU": 2}, r"gpus_per_trial=0.5 and Ray found 0 GPUs.*--set"),
        ({"gpus_per_trial": 2}, {"CPU": 8, "GPU": 1}, "gpus_per_trial=2 and Ray found 1 GPUs"),
    ],
)
def test_a_trial_that_can_never_be_placed_is_refused(
    resources: dict[str, Any], cluster: dict[str, float], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        make_plan(spec(resources=resources), capacity(cluster), 10, None)


def expected_epochs(study: StudySpec, trials: int) -> Range:
    return forecast(study, Beginning(trials), 1, None).epochs


def test_the_expected_epochs_lie_between_all_stopped_at_once_and_none_stopped() -> None:
    assert expected_epochs(spec(asha={"max_epochs": 7, "grace_epochs": 7}), 5) == Range(35, 35, 35)
    study = spec(asha={"max_epochs": 9, "grace_epochs": 1, "reduction_factor": 3})
    assert 9 + 29 < expected_epochs(study, 30).middle < 0.6 * 9 * 30
    assert expected_epochs(study, 800).middle == pytest.approx(10 * expected_epochs(study, 80).middle)
    assert expected_epochs(study, 0) == Range(0, 0, 0)


def test_the_expected_time_is_epochs_times_epoch_time_over_trials_at_once() -> None:
    study = spec(asha={"max_epochs": 2, "grace_epochs": 2}, confirm={"top": 0}, budget={"node_hour_price": 3})
    costs = Costs(TrialCost(5, 10, 20), lambda rng: TrialCost(5, 10, 20), process_start_s=20)
    found = forecast(study, Beginning(10, node_price=6), 2, costs)
    assert found.search_s is not None and found.both_s is not None and found.cost is not None
    assert found.search_s.middle == pytest.approx(20 + 5 * (5 + 2 * 10), rel=0.1)
    assert found.search_s.low < found.search_s.middle < found.search_s.high
    assert found.cost.middle == pytest.approx(6 * found.both_s.middle / 3600)
    assert found.gpu_hours is None


def test_gpu_hours_are_what_trials_and_confirmations_hold() -> None:
    study = spec(asha={"max_epochs": 2, "grace_epochs": 2}, resources={"gpus_per_trial": 0.5})
    costs = Costs(TrialCost(0, 360, 360), lambda rng: TrialCost(0, 360, 360))
    found = forecast(study, Beginning(10), 4, costs)
    assert found.gpu_hours is not None
    # Ten trials of two epochs; the best three and the default, or three, three times more.
    assert found.gpu_hours.low > 0.5 * 0.1 * (20 + 18) * 0.8
    assert found.gpu_hours.high < 0.5 * 0.1 * (20 + 24) * 1.25


def test_a_cluster_that_grows_is_asked_for_all_its_nodes_at_once() -> None:
    head = NodeCapacity(cpus=0)
    kinds = (
        AutoscaledNodeType("spot", NodeCapacity(8, 4), 3),
        AutoscaledNodeType("on-demand", NodeCapacity(8, 4), 3),
        AutoscaledNodeType("small", NodeCapacity(2), 9),
    )
    growing = ClusterCapacity((head,), (head,), kinds, max_workers=4)
    plan = make_plan(spec(resources={"gpus_per_trial": 1}), growing, 100, None)
    assert (plan.at_once, plan.nodes, plan.max_nodes) == (16, 1, 5)
    assert make_plan(spec(resources={"gpus_per_trial": 1}), growing, 7, None).at_once == 7
    grown = ClusterCapacity((head, *[NodeCapacity(8, 4)] * 6), (head,), kinds, max_workers=4)  # two have joined by hand
    assert make_plan(spec(resources={"gpus_per_trial": 1}), grown, 100, None).at_once == 24
    with pytest.raises(
        ClusterError, match="takes 9 CPUs .* Ray has 8, on the largest node or kind of node that may be"
    ):
        make_plan(spec(resources={"cpus_per_trial": 9}), growing, 100, None)


def test_a_clusters_sum_is_not_what_one_node_has() -> None:
    two = NodeCapacity(cpus=6, gpus=2)
    wanted = {"cpus_per_trial": 4, "gpus_per_trial": 0.6}
    assert (
        make_plan(spec(resources=wanted), ClusterCapacity((two, two)), 100, None).at_once == 2
    )  # 12 CPUs would hold three
    shares = {"cpus_per_trial": 0.1, "gpus_per_trial": 0.6}
    assert (
        make_plan(spec(resources=shares), ClusterCapacity((two, two)), 100, None).at_once == 4
    )  # no trial on two GPUs' rests
    feeds = {"cpus_per_trial": 2, "feed_workers": 4}
    assert (
        make_plan(spec(resources=feeds), ClusterCapacity((NodeCapacity(4), NodeCapacity(2))), 100, None).at_once == 1
    )  # they may be apart
    with pytest.raises(ClusterError, match="takes 8 CPUs of one node and Ray has 6"):
        make_plan(spec(resources={"cpus_per_trial": 8}), ClusterCapacity((two, two)), 100, None)


def test_what_an_autoscaler_may_start_is_read_from_its_own_file() -> None:
    config = {
        "max_workers": 5,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 8}},
            "worker": {"resources": {"CPU": 4, "GPU": 1}},
            "spare": {"resources": {"CPU": 2}, "max_workers": 2},
            "none": {"resources": {"CPU": 64}, "max_workers": 0},
        },
    }
    kinds, most = node_types(config)
    assert most == 5
    assert kinds == (
        AutoscaledNodeType("worker", NodeCapacity(4, 1), 5),
        AutoscaledNodeType("spare", NodeCapacity(2), 2),
    )


def test_a_final_fit_trains_on_all_folds_and_trainings_have_a_room_of_their_own() -> None:
    study = spec(asha={"max_epochs": 2}, confirm={"top": 0, "refit": 2, "refit_epochs": 10})
    costs = Costs(TrialCost(0, 100, 150), lambda rng: TrialCost(0, 100, 150))
    one, both = (forecast(study, Beginning(1, trainings_at_once=at_once), 1, costs) for at_once in (1, 2))
    assert one.confirm_s is not None and both.confirm_s is not None
    assert one.confirm_s.middle == pytest.approx(2 * 10 * 150, rel=0.1)
    assert one.confirm_s.middle == pytest.approx(2 * both.confirm_s.middle)
    plan = make_plan(spec(confirm={"top": 3, "seeds": 3}), capacity({"CPU": 8}), 2, None)
    assert (plan.at_once, plan.beginning.trainings_at_once) == (2, 8)


def test_of_a_study_that_was_searched_only_the_trainings_that_are_missing_count(tmp_path: Path) -> None:
    study = record_study(tmp_path / "done", 12)
    fits = study.spec.confirm.model_copy(update={"refit": 2, "refit_epochs": 30})
    plan = make_plan(study.spec.model_copy(update={"confirm": fits}), capacity({"CPU": 2}), 0, None, study.state())
    assert trainings_left(plan.spec, plan.beginning) == 2 and plan.forecast.confirm_epochs.middle == 60
    state = study.state()
    state.confirmed = None
    wanted = confirmation_numbers(study.spec, confirmation_candidates(study.spec, state))
    for number in wanted[:3]:
        state.confirmations[number] = replace(state.trials[0], number=number, state="complete")
    begun = make_plan(study.spec, capacity({"CPU": 2}), 0, None, state).beginning
    assert trainings_left(study.spec, begun) == len(wanted) - 3
