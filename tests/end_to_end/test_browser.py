"""What a person sees: TensorBoard's HPARAMS tab in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from search_spaces import SearchSpace, builtin_spaces
from tests.support.hparams_page import Cell, assert_hparams_tab_lists
from tune.report.tensorboard import TrialLogs
from tune.study.studies import StudyFiles

SIX = ("learning_rate", "batch_size", "dropout", "split_ratio", "optimizer", "preprocessing")
TRIALS: list[tuple[Cell, ...]] = [
    (1e-3, 32, 0.5, 0.8, "adam", "none"),
    (2.5e-3, 64, 0.25, 0.9, "sgd", "shifts"),
    (5e-5, 16, 0.123456, 0.7, "adamw", "augment"),
]
ACCURACIES = [[0.31, 0.651, 0.6], [0.2, 0.4, 0.583], [0.21]]


@pytest.mark.browser
def test_hparams_tab_lists_every_trial_with_the_six_parameters_and_its_best_accuracy(
    tmp_path: Path, chromium: Path
) -> None:
    expected: dict[str, dict[str, Cell]] = {}
    with TrialLogs(tmp_path / "tensorboard") as logs:
        logs.experiment(SearchSpace.model_validate(yaml.safe_load(builtin_spaces()["alexnet"].read_text())))
        for trial, (values, accuracies) in enumerate(zip(TRIALS, ACCURACIES, strict=True)):
            parameters = dict(zip(SIX, values, strict=True))
            logs.start(trial, parameters)
            for epoch, accuracy in enumerate(accuracies, start=1):
                logs.epoch(trial, epoch, {"selection_accuracy": accuracy, "selection_macro_f1": accuracy / 2})
            expected[f"trial-{trial:04d}"] = {
                **parameters,
                "best_selection_accuracy": max(accuracies),
                "best_selection_macro_f1": max(accuracies) / 2,
                "best_epoch": accuracies.index(max(accuracies)) + 1,
            }
            if trial == 0:  # the others: still running, or killed
                logs.end(trial, "SUCCESS")

    assert_hparams_tab_lists(tmp_path / "tensorboard", chromium, expected, tmp_path / "hparams.png")


@pytest.mark.browser
@pytest.mark.slow
def test_hparams_tab_lists_every_trial_of_a_real_study_the_stopped_ones_too(
    finished_study: StudyFiles, tmp_path: Path, chromium: Path
) -> None:
    expected: dict[str, dict[str, Cell]] = {}
    for trial in finished_study.state().trials.values():
        best = trial.best_value("selection_accuracy", "max")
        assert best is not None
        row: dict[str, Cell] = {name: trial.values[name] for name in SIX}
        expected[f"trial-{trial.number:04d}"] = {**row, "best_selection_accuracy": best}
    assert "pruned" in {trial.state for trial in finished_study.state().trials.values()}
    assert_hparams_tab_lists(finished_study.tensorboard, chromium, expected, tmp_path / "study.png")
