"""TensorBoard's folder: tags, HParams of the best epoch, and going on after a stop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.plugins.hparams import api_pb2, metadata

from search_spaces import SearchSpace
from tune.report.event_files import read_events
from tune.report.tensorboard import TrialLogs, tag_of

CLASSES = ("angry", "happy", "sad")
CONFUSION = np.array([[5, 1, 0], [0, 8, 2], [0, 0, 0]])
PARAMETERS = {"learning_rate": 1e-4, "batch_size": 32, "optimizer": "adam", "nesterov": False}


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[TrialLogs]:
    with TrialLogs(tmp_path) as logs:
        yield logs


def scores(accuracy: float, **more: float) -> dict[str, float]:
    return {"selection_accuracy": accuracy, "selection_macro_f1": accuracy - 0.1, **more}


def values(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [
        (e.step, pytest.approx(v.simple_value)) for e in read_events(folder) for v in e.summary.value if v.tag == tag
    ]


def plugin_data(folder: Path, tag: str) -> list[bytes]:
    found = [v for e in read_events(folder) for v in e.summary.value if v.tag == tag]
    return [v.metadata.plugin_data.content for v in found]


def seen_by_tensorboard(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


@pytest.mark.parametrize(
    ("metric", "tag"),
    [
        ("selection_accuracy", "selection/accuracy"),
        ("selection_macro_f1", "selection/macro_f1"),
        ("validation_loss", "validation/loss"),
        ("training_loss", "training/loss"),
        ("learning_rate", "training/learning_rate"),
        ("images_per_s", "throughput/images_per_s"),
        ("memory_mib", "trial/memory_mib"),
        ("selection", "trial/selection"),
    ],
)
def test_tags_are_grouped_and_carry_no_prefix(metric: str, tag: str) -> None:
    assert tag_of(metric) == tag


def test_epoch_writes_metrics_recalls_and_the_matrix_of_a_best_epoch(logs: TrialLogs, tmp_path: Path) -> None:
    logs.start(7, PARAMETERS)
    logs.epoch(7, 1, scores(0.5, training_loss=1.25, epoch=1), CONFUSION, CLASSES)
    logs.epoch(7, 2, scores(0.4), CONFUSION, CLASSES)

    folder = tmp_path / "trial-0007"
    assert values(folder, "selection/accuracy") == [(1, 0.5), (2, 0.4)]
    assert values(folder, "training/loss") == [(1, 1.25)]
    assert values(folder, "selection_recall/happy") == [(1, 0.8), (2, 0.8)]
    assert values(folder, "selection_recall/sad") == [], "a class without images has no recall"
    images = [(e.step, v.image) for e in read_events(folder) for v in e.summary.value if v.tag == "selection/confusion"]
    assert [step for step, _ in images] == [1], "only a new best epoch is drawn"
    drawn = cv2.imdecode(np.frombuffer(images[0][1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None and drawn.shape[:2] == (images[0][1].height, images[0][1].width)


def test_the_epoch_that_counts_is_the_studys_choice(logs: TrialLogs, tmp_path: Path) -> None:
    logs.start(0, PARAMETERS)
    for epoch, (accuracy, counts) in enumerate([(0.5, True), (0.499, True), (0.6, False)], start=1):
        logs.epoch(0, epoch, scores(accuracy), counts=counts)
    folder = tmp_path / "trial-0000"
    assert values(folder, "best/epoch") == [(1, 1), (2, 2), (3, 2)]
    assert values(folder, "best/selection_accuracy")[-1] == (3, 0.499)


def test_a_trial_that_never_ended_shows_its_best_epoch(logs: TrialLogs, tmp_path: Path) -> None:
    logs.start(0, PARAMETERS)
    for epoch, accuracy in enumerate([0.3, 0.6, 0.5], start=1):
        logs.epoch(0, epoch, scores(accuracy))

    folder = tmp_path / "trial-0000"
    assert values(folder, "best/selection_accuracy")[-1] == (3, 0.6)
    assert values(folder, "best/selection_macro_f1")[-1] == (3, 0.5)
    assert values(folder, "best/epoch")[-1] == (3, 2)


def test_best_epoch_follows_a_loss_that_is_to_be_small(tmp_path: Path) -> None:
    with TrialLogs(tmp_path, "selection_loss", "min") as logs:
        logs.start(0, PARAMETERS)
        for epoch, loss in enumerate([1.0, float("nan"), 0.8, 0.9], start=1):
            logs.epoch(0, epoch, scores(0.5, selection_loss=loss))

    assert values(tmp_path / "trial-0000", "best/epoch")[-1] == (4, 3)
    assert values(tmp_path / "trial-0000", "best/selection_loss")[-1] == (4, 0.8)


def test_session_holds_the_parameters_and_ends_with_its_status(logs: TrialLogs, tmp_path: Path) -> None:
    for trial, status in enumerate(("SUCCESS", "FAILURE")):
        logs.start(trial, PARAMETERS)
        logs.end(trial, status)

    [content] = plugin_data(tmp_path / "trial-0000", metadata.SESSION_START_INFO_TAG)
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.group_name == "", "TensorBoard would put trials of that name of several studies into one row"
    assert start.hparams["learning_rate"].number_value == 1e-4
    assert start.hparams["optimizer"].string_value == "adam"
    assert start.hparams["nesterov"].bool_value is False
    ends = [plugin_data(tmp_path / f"trial-000{n}", metadata.SESSION_END_INFO_TAG)[0] for n in (0, 1)]
    statuses = [metadata.parse_session_end_info_plugin_data(end).status for end in ends]
    assert statuses == [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]


def test_experiment_declares_each_parameter_once_with_its_domain(tmp_path: Path) -> None:
    space = SearchSpace.model_validate(
        {
            "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "default": 1e-3, "log": True},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam"], "default": "adam"},
        }
    )
    for _ in range(2):
        TrialLogs(tmp_path).experiment(space, {"nesterov": True})

    [content] = plugin_data(tmp_path, metadata.EXPERIMENT_TAG)
    experiment = metadata.parse_experiment_plugin_data(content)
    assert [info.name for info in experiment.hparam_infos] == ["learning_rate", "optimizer", "nesterov"]
    assert experiment.hparam_infos[0].domain_interval.max_value == 1e-1
    assert list(experiment.hparam_infos[1].domain_discrete) == ["sgd", "adam"]
    assert [info.name.tag for info in experiment.metric_infos] == [
        "best/selection_accuracy",
        "best/selection_macro_f1",
        "best/epoch",
    ]


def test_a_widened_space_renews_the_columns_and_keeps_the_trials(logs: TrialLogs, tmp_path: Path) -> None:
    space: dict[str, Any] = {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0.5}}
    logs.experiment(SearchSpace.model_validate(space))
    logs.start(0, {"dropout": 0.1})
    space["dropout"]["high"] = 0.75
    space["optimizer"] = {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"}
    with TrialLogs(tmp_path) as later:
        later.experiment(SearchSpace.model_validate(space))

    [content] = plugin_data(tmp_path, metadata.EXPERIMENT_TAG)  # TensorBoard would show the first of two
    dropout, optimizer = metadata.parse_experiment_plugin_data(content).hparam_infos
    assert dropout.domain_interval.max_value == 0.75
    assert list(optimizer.domain_discrete) == ["adam", "sgd"]
    assert plugin_data(tmp_path / "trial-0000", metadata.SESSION_START_INFO_TAG)


def test_what_is_fixed_is_shown_with_every_trial(logs: TrialLogs, tmp_path: Path) -> None:
    space = {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0.5}}
    logs.experiment(SearchSpace.model_validate(space), {"width": 0.25})
    logs.start(0, {"dropout": 0.1})

    [content] = plugin_data(tmp_path / "trial-0000", metadata.SESSION_START_INFO_TAG)
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: value.number_value for name, value in hparams.items()} == {"width": 0.25, "dropout": 0.1}


def test_resumed_trial_keeps_one_session_and_replaces_the_epochs_it_repeats(tmp_path: Path) -> None:
    before = TrialLogs(tmp_path)
    before.start(3, PARAMETERS)
    for epoch, accuracy in enumerate([0.6, 0.5, 0.9], start=1):
        before.epoch(3, epoch, scores(accuracy))
    before.close()

    after = TrialLogs(tmp_path)
    after.start(3, PARAMETERS)
    after.epoch(3, 3, scores(0.55))  # from the checkpoint of epoch 2
    after.end(3, "SUCCESS")

    folder = tmp_path / "trial-0003"
    assert len(plugin_data(folder, metadata.SESSION_START_INFO_TAG)) == 1
    seen = seen_by_tensorboard(folder)
    assert [(e.step, e.value) for e in seen.Scalars("selection/accuracy")] == [
        (1, pytest.approx(0.6)),
        (2, pytest.approx(0.5)),
        (3, pytest.approx(0.55)),
    ]
    assert [e.value for e in seen.Scalars("best/epoch")] == [1, 1, 1]


def test_trial_restored_within_one_run_forgets_the_best_it_lost(logs: TrialLogs, tmp_path: Path) -> None:
    logs.start(0, PARAMETERS)
    for epoch, accuracy in [(1, 0.4), (2, 0.9), (2, 0.5)]:
        logs.epoch(0, epoch, scores(accuracy))

    assert [e.value for e in seen_by_tensorboard(tmp_path / "trial-0000").Scalars("best/selection_accuracy")] == [
        pytest.approx(0.4),
        pytest.approx(0.5),
    ]


def test_record_cut_short_by_a_kill_is_passed_over(logs: TrialLogs, tmp_path: Path) -> None:
    logs.start(0, PARAMETERS)
    logs.epoch(0, 1, scores(0.7))
    logs.close()
    [path] = (tmp_path / "trial-0000").iterdir()
    path.write_bytes(path.read_bytes() + b"\x40\0\0\0\0\0\0\0half a record")

    logs.start(0, PARAMETERS)
    logs.epoch(0, 2, scores(0.1))

    assert values(tmp_path / "trial-0000", "best/selection_accuracy") == [(1, 0.7), (2, 0.7)]


def test_importing_it_loads_no_tensorflow() -> None:
    code = "import sys, tune.report.tensorboard; print({'tensorflow', 'keras', 'ray', 'matplotlib'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
