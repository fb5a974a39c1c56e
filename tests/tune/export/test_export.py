"""Real checkpoints become exports that Keras, TensorFlow and Albumentations open without emotune."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.special import softmax

from tests.support.checkpoints import with_config, write_checkpoint
from tests.support.own_models import OWN_MODEL, own_parameters
from tests.support.own_pipelines import BESIDE
from trainables.config import TrialConfig, TrialContext
from trainables.dataset.folds import test_rows as rows_of_test
from trainables.dataset.folds import trial_rows
from trainables.dataset.reader import TEST, TRAIN, Dataset, open_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.models.weight_average import load_average
from trainables.training.metrics import evaluate, wilson_interval
from tune.errors import DatasetError, ExportError
from tune.export.checkpoints import load_checkpoints
from tune.export.checkpoints import logits_of as export_logits
from tune.export.destination import atomic_export
from tune.export.ensemble import judge_ensemble
from tune.export.export import ExportSummary, export_checkpoint
from tune.export.formats import DEFAULT_FORMATS
from tune.export.model_card import PLAIN_KERAS, _plain, card_page, model_card
from tune.export.parity import run_formats
from tune.export.predict import load_export
from tune.export.sealed_test import evaluate_sealed
from tune.export.written_models import fit_together

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

FILES = {
    "confusion_matrix.png",
    "labels.json",
    "manifest.json",
    "metrics.json",
    "model.keras",
    "model_card.html",
    "model_card.md",
    "preprocessing.json",
    "saved_model",
    "study.yaml",
}


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a trial whose weights were averaged, and whose predictions are the mean over image and mirror."""
    folder = tmp_path_factory.mktemp("trial") / "checkpoint"
    return write_checkpoint(folder, dataset, preprocessing="shifts", mirror=True, weight_average=0.9)


def export(checkpoint: Path, dataset: Dataset, destination: Path, **more: Any) -> ExportSummary:
    """Exports the Keras model alone, scored on the test split if there is one, unless `more` says otherwise."""
    if "sealed" not in more:
        more["sealed"] = sealed_test(checkpoint, dataset.directory) if len(rows_of_test(dataset)) else None
    more = {"study_yaml": "name: a\n", "selection": {"selection_accuracy": 0.5}, "formats": ["keras"], **more}
    return export_checkpoint(checkpoint, dataset, destination, **more)


@cache
def sealed_test(checkpoint: Path, data: Path) -> dict[str, Any]:
    return evaluate_sealed(checkpoint, open_dataset(data))


@pytest.fixture(scope="module")
def summary(checkpoint: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ExportSummary:
    return export(checkpoint, dataset, tmp_path_factory.mktemp("study") / "export", formats=DEFAULT_FORMATS)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def logits_of(checkpoint: Path, images: np.ndarray) -> np.ndarray:
    """Returns the logits of the last weights, or with an average of the weights those of its mean over the mirror."""
    import keras

    model = keras.saving.load_model(checkpoint / "model.keras", compile=False)
    last = np.asarray(model.predict_on_batch(images))
    if not (checkpoint / "average.npz").exists():
        return last
    load_average(model, checkpoint / "average.npz")
    straight = softmax(np.asarray(model.predict_on_batch(images)), axis=1)
    turned = softmax(np.asarray(model.predict_on_batch(images[:, :, ::-1])), axis=1)
    mean = (straight + turned) / 2
    assert abs(mean - straight).max() > 1e-4 < abs(mean - softmax(last, axis=1)).max()
    return np.log(mean)


def test_an_export_holds_its_parts_and_nothing_beside_it(summary: ExportSummary) -> None:
    assert {path.name for path in summary.directory.iterdir()} == FILES
    assert [path.name for path in summary.directory.parent.iterdir()] == ["export"]
    assert (summary.trial, summary.epoch) == (3, 5)
    assert (summary.directory / "study.yaml").read_text() == "name: a\n"
    assert summary.size_bytes == sum(p.stat().st_size for p in summary.directory.rglob("*") if p.is_file())
    matrix = cv2.imread(str(summary.directory / "confusion_matrix.png"))
    assert matrix is not None and min(matrix.shape[:2]) > 300


def test_the_surest_mistakes_on_the_sealed_test_are_named_by_row(checkpoint: Path, dataset: Dataset) -> None:
    rows = rows_of_test(dataset)
    shares = np.exp(logits_of(checkpoint, dataset.images(rows)))
    labels, predicted = dataset.labels[rows], shares.argmax(1)
    wrong = {int(rows[i]): shares[i].max() for i in np.flatnonzero(predicted != labels)}
    found = sealed_test(checkpoint, dataset.directory)["mistakes"]
    assert 0 < len(found) == min(24, len(wrong))
    assert [one["confidence"] for one in found] == pytest.approx(sorted(wrong.values(), reverse=True)[:24], abs=1e-3)
    for one in found:
        place = rows.tolist().index(one["row"])
        assert (one["label"], one["predicted"]) == (labels[place], predicted[place])


@pytest.mark.slow
def test_the_mean_of_several_checkpoints_is_the_same_for_keras_tensorflow_and_predict(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    settings = {"preprocessing": "shifts", "mirror": True, "weight_average": 0.9}
    other = write_checkpoint(tmp_path / "other", dataset, steps=20, **settings)
    both = [checkpoint, other]
    sealed = evaluate_sealed(both, dataset)
    summary = export(checkpoint, dataset, tmp_path / "export", sealed=sealed, formats=DEFAULT_FORMATS)
    single = summary.size_bytes
    # takes the place of a single model's
    summary = export_checkpoint(both, dataset, tmp_path / "export", study_yaml="", selection={}, sealed=sealed)
    assert summary.size_bytes > 1.6 * single
    assert [m["trial"] for m in read(summary.directory, "metrics.json")["ensemble"]["members"]] == [3, 3]

    rows = rows_of_test(dataset)
    images = dataset.images(rows)
    expected = (np.exp(logits_of(checkpoint, images)) + np.exp(logits_of(other, images))) / 2
    assert abs(expected - np.exp(logits_of(checkpoint, images))).max() > 1e-3
    assert sealed["accuracy"] == (expected.argmax(1) == dataset.labels[rows]).mean()
    found = run_formats(summary.directory, ["keras", "saved_model"], images)
    predicted = load_export(summary.directory).predict(list(images))
    by_predict = np.array([[p.probabilities[name] for name in dataset.info.classes] for p in predicted])
    for probabilities in (*found.values(), by_predict):
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.slow
def test_an_export_leaves_nothing_in_the_folder_for_temporary_files(
    checkpoint: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    export(checkpoint, dataset, tmp_path / "export", formats=DEFAULT_FORMATS)
    assert not list(folder.iterdir())  # TensorFlow's AutoGraph removes what it writes at exit, which a kill is not


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["selection_accuracy", "selection_loss"])
def test_an_ensemble_is_kept_if_the_selection_fold_says_that_it_gains(
    dataset: Dataset, tmp_path: Path, objective: str
) -> None:
    settings = {"preprocessing": "shifts", "mirror": True, "weight_average": 0.9}
    rows = trial_rows(dataset, 0.2, 0.8, 0).selection
    beginner = write_checkpoint(tmp_path / "beginner", dataset, steps=1, **settings)
    checkpoint = write_checkpoint(tmp_path / "trained on the fold itself", dataset, rows=rows, **settings)
    context = TrialContext(
        dataset=str(dataset.directory),
        seed=0,
        objective=objective,
        mode="min" if objective == "selection_loss" else "max",
        max_epochs=1,
        rungs=(),
        selection_share=0.2,
    )
    images, labels, metric = dataset.images(rows), dataset.labels[rows], objective.removeprefix("selection_")
    several = [softmax(logits_of(one, images), axis=1) for one in (beginner, checkpoint)]
    single, mean = (evaluate(np.log(p), labels, 7)[metric] for p in (several[0], np.mean(several, axis=0)))
    gains = mean < single if objective == "selection_loss" else mean > single
    (tmp_path / "damaged").mkdir()
    found = judge_ensemble([beginner, tmp_path / "damaged", checkpoint], dataset, context, most=2)
    assert found["members"] == [0, 2] and found["unread"] == [1]  # a beginner gains from what knows the answers
    assert found["kept"] is bool(gains)
    assert (found["single"], found["mean"]) == (pytest.approx(single, abs=1e-5), pytest.approx(mean, abs=1e-5))
    assert found["mean_ms"] > found["single_ms"] > 0
    if objective == "selection_accuracy":  # a model adds nothing to itself; its loss differs by rounding
        assert judge_ensemble([checkpoint, checkpoint], dataset, context, most=5)["kept"] is False
        assert judge_ensemble([beginner, checkpoint], dataset, context, most=1)["members"] == [0]
        beside = write_checkpoint(tmp_path / "beside", dataset, steps=20, **BESIDE)
        assert judge_ensemble([beginner, beside], dataset, context, most=2)["members"] == [0]
    with pytest.raises(ExportError, match=r"state\.json"):
        judge_ensemble([tmp_path / "damaged", checkpoint], dataset, context, most=2)


@pytest.mark.slow
def test_the_mean_of_trials_that_evaluate_in_different_ways_is_that_of_their_own_answers(
    dataset: Dataset, tmp_path: Path
) -> None:
    settings: list[dict[str, Any]] = [
        {"preprocessing": "crop", "crop_keep": 0.8, "mirror": True, "normalization": "per_image"},
        {"preprocessing": "crop", "crop_keep": 0.9, "mirror": False},
        {"preprocessing": "none", "width": 0.1, "batch_norm": True},
    ]
    folders = [
        write_checkpoint(tmp_path / f"checkpoint{n}", dataset, steps=10, **one) for n, one in enumerate(settings)
    ]
    rows = rows_of_test(dataset)[:16]
    alone = [softmax(export_logits([member], dataset, rows), axis=1) for member in load_checkpoints(folders, dataset)]
    expected = np.mean(alone, axis=0)
    assert min(abs(expected - one).max() for one in alone) > 1e-3
    summary = export_checkpoint(folders, dataset, tmp_path / "export", study_yaml="", selection={})
    assert read(summary.directory, "labels.json")["input"] == "images as they are"
    described = read(summary.directory, "metrics.json")["ensemble"]["members"]
    assert [member["config"]["preprocessing"] for member in described] == ["crop", "crop", "none"]
    card = (summary.directory / "model_card.md").read_text()
    assert "The mean of the probabilities of 3 models: trial 3, epoch" in card
    assert "| `preprocessing` | crop | crop | none |" in card
    predicted = load_export(summary.directory).predict(list(dataset.images(rows)))
    by_predict = np.array([[p.probabilities[name] for name in dataset.info.classes] for p in predicted])
    np.testing.assert_allclose(by_predict, expected, atol=1e-6)


def test_saved_model_stores_every_weight_once(summary: ExportSummary) -> None:
    variables = summary.directory / "saved_model" / "variables" / "variables.data-00000-of-00001"
    assert variables.stat().st_size < 4 * summary.parameters * 1.05


def test_metrics_are_those_of_the_test_split(summary: ExportSummary, checkpoint: Path, dataset: Dataset) -> None:
    rows = rows_of_test(dataset)
    expected = evaluate(logits_of(checkpoint, dataset.images(rows)), dataset.labels[rows], 7)
    metrics = read(summary.directory, "metrics.json")
    got = metrics["test"]
    assert got["images"] == len(rows) == 140
    for name in ("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1", "per_class_recall", "confusion"):
        assert got[name] == pytest.approx(expected[name], rel=1e-4) if name != "confusion" else expected[name]
    assert got["accuracy_interval"] == pytest.approx(wilson_interval(round(140 * got["accuracy"]), 140))
    assert metrics["selection"] == {"selection_accuracy": 0.5}
    assert metrics["config"]["width"] == 0.1
    assert metrics["parameters"] == summary.parameters
    assert metrics["dataset"] == {"name": "faces", "fingerprint": dataset.info.fingerprint}
    assert metrics["versions"].keys() >= {"emotune", "keras", "tensorflow", "python"}
    assert summary.sealed == got
    hits, low, high = got["confusion"][0][0], *wilson_interval(got["confusion"][0][0], 20)
    row = f"| {dataset.info.classes[0]} | 20 | {hits / 20:.4f} ({low:.4f} to {high:.4f}) |"
    card = (summary.directory / "model_card.md").read_text()
    assert row in card and PLAIN_KERAS in card and "FER-2013 on about 65 %" in card
    assert "FER" not in model_card(
        {**metrics, "dataset": {**metrics["dataset"], "name": "birds"}}, "abcdefg", (9, 9, 1)
    )


def test_labels_say_what_the_model_takes(summary: ExportSummary, dataset: Dataset) -> None:
    labels = read(summary.directory, "labels.json")
    assert labels["classes"] == list(dataset.info.classes)
    assert (labels["height_px"], labels["width_px"], labels["channels"]) == (48, 48, 1)
    assert labels["expects_preprocessed_images"] is False
    assert summary.note == ""


def test_recorded_test_results_are_used_and_the_split_stays_closed(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    recorded = {**evaluate_sealed(checkpoint, dataset), "accuracy": 0.123}
    summary = export(checkpoint, dataset, tmp_path / "export", sealed=recorded)
    assert read(tmp_path / "export", "metrics.json")["test"]["accuracy"] == 0.123
    assert summary.sealed == recorded


def tiny(folder: Path, *, test: bool = True, twins: int = 1, noise: int = 0) -> Dataset:
    rng = np.random.default_rng(noise)
    images = rng.integers(0, 256, (12, 48, 48, 1), dtype=np.uint8)
    with DatasetWriter(folder, [f"class{i}" for i in range(7)]) as writer:
        for i, image in enumerate(images):
            writer.append(image, i % 7, TRAIN, f"train/{i}.png")
        for i in range(4 if test else 0):
            image = images[i] if i < twins else rng.integers(0, 256, (48, 48, 1), dtype=np.uint8)
            writer.append(image, i, TEST, f"test/{i}.png")
        writer.finish(source="noise", source_fingerprint="noise")
    return open_dataset(folder)


def test_images_with_a_twin_in_train_are_left_out_of_the_second_score(checkpoint: Path, tmp_path: Path) -> None:
    sealed = evaluate_sealed(checkpoint, tiny(tmp_path / "data", twins=1))
    assert (sealed["images"], sealed["untwinned"]["images"]) == (4, 3)
    assert np.sum(sealed["untwinned"]["confusion"]) == 3
    assert evaluate_sealed(checkpoint, tiny(tmp_path / "all", twins=4))["untwinned"] is None


def test_without_a_test_split_the_export_says_so(checkpoint: Path, tmp_path: Path) -> None:
    data = tiny(tmp_path / "data", test=False)
    summary = export(checkpoint, data, tmp_path / "export")
    assert summary.sealed is None
    assert read(tmp_path / "export", "metrics.json")["test"] is None
    assert {path.name for path in summary.directory.iterdir()} == FILES - {"confusion_matrix.png", "saved_model"}
    with pytest.raises(ExportError, match=r"must have test images\. Received: none in "):
        evaluate_sealed(checkpoint, data)


def test_a_diverged_model_is_exported_with_json_that_any_reader_takes(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "checkpoint", dataset, steps=3, optimizer="sgd", learning_rate=10, momentum=0.99
    )
    export(folder, dataset, tmp_path / "export", selection={"loss": float("nan"), "confusion": np.eye(2)})
    text = (tmp_path / "export" / "metrics.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["selection"] == {"loss": None, "confusion": [[1, 0], [0, 1]]}


@pytest.mark.slow
def test_an_earlier_export_gives_way_only_to_a_whole_one(checkpoint: Path, dataset: Dataset, tmp_path: Path) -> None:
    destination = tmp_path / "export"
    export(checkpoint, dataset, destination)
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    (damaged / "model.keras").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"damaged/model\.keras must be a Keras model\."):
        export(damaged, dataset, destination)
    with pytest.raises(DatasetError, match="needs face boxes"):
        export(with_config(checkpoint, tmp_path / "face", preprocessing="face"), tiny(tmp_path / "data"), destination)
    assert {path.name for path in destination.iterdir()} == FILES - {"saved_model"}
    (tmp_path / ".export.exporting" / "saved_model").mkdir(parents=True)  # what a killed export leaves
    export(checkpoint, dataset, destination, study_yaml="name: b\n")
    assert (destination / "study.yaml").read_text() == "name: b\n"
    assert not list(tmp_path.glob(".export*"))


def test_a_second_export_to_the_same_place_is_turned_away(checkpoint: Path, dataset: Dataset, tmp_path: Path) -> None:
    with atomic_export(tmp_path / "export", needed_bytes=0):
        with pytest.raises(ExportError, match="export is being written by another process. Wait for it."):
            export(checkpoint, dataset, tmp_path / "export")
    assert list((tmp_path / "export").iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"needs 1,000,000,000,000 MB of free disk\. Received: .* MB\. Make room"):
        with atomic_export(tmp_path / "export", needed_bytes=10**18):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_overwritten(checkpoint: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ExportError, match="an earlier export. Received: .*thesis, a folder with chapter.tex; it stays"):
        export(checkpoint, dataset, tmp_path / "thesis")
    with pytest.raises(ExportError, match="Received: .*chapter.tex, a file"):
        export(checkpoint, dataset, tmp_path / "thesis" / "chapter.tex")
    export(checkpoint, dataset, tmp_path / "mine")
    (tmp_path / "mine/notes").mkdir()
    with pytest.raises(ExportError, match="Received: .*mine, a folder with notes; it stays"):
        export(checkpoint, dataset, tmp_path / "mine")
    with pytest.raises(ExportError, match="must be writable"):
        export(checkpoint, dataset, tmp_path / "thesis" / "chapter.tex" / "export")


def test_an_export_that_was_killed_while_old_and_new_changed_places_gives_way_to_the_next(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    export(checkpoint, dataset, tmp_path / "mine")
    hidden = tmp_path / "mine/.exporting"
    (hidden / "old").mkdir(parents=True)
    (tmp_path / "mine/labels.json").rename(hidden / "old/labels.json")
    export(checkpoint, dataset, tmp_path / "mine")
    assert (tmp_path / "mine/labels.json").exists() and not hidden.exists()


OWN_FUNCTIONS = """\
import keras
from keras import layers


@keras.saving.register_keras_serializable("my_models")
def act(x):
    return x * keras.ops.sigmoid(1.7 * x)


@keras.saving.register_keras_serializable("my_models")
class Small(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return 0.01 * keras.ops.ones(shape, dtype)


def build(image, classes, *, own: str = "activation"):
    x = image.input()
    y = layers.Conv2D(4, 3, activation=act if own == "activation" else "relu")(image.standardized(x))
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.Dense(classes, bias_initializer=Small() if own == "initializer" else "zeros")(y)
    return keras.Model(x, y)
"""
"""A model without layers of its own, whose file Keras cannot open without this one all the same."""


@pytest.mark.parametrize(
    ("own", "needed"), [("activation", "my_models.py:build"), ("initializer", "my_models.py:build"), ("nothing", None)]
)
def test_a_model_with_an_activation_or_an_initializer_of_ones_own_is_exported(
    own: str, needed: str | None, dataset: Dataset, tmp_path: Path
) -> None:
    made = write_checkpoint(tmp_path / "checkpoint", dataset, steps=1, **own_parameters(OWN_FUNCTIONS, own=own))
    export(made, dataset, tmp_path / "export", formats=["keras"])
    assert json.loads((tmp_path / "export/labels.json").read_text())["own_layers"] == needed
    assert load_export(tmp_path / "export").predict(dataset.image(0))


def test_trials_of_two_versions_of_a_file_are_no_parts_of_one_export() -> None:
    one, other = (TrialConfig.model_validate(own_parameters(OWN_MODEL + text)) for text in ("", "# changed"))
    assert fit_together(one, one, (48, 48, 1)) and not fit_together(one, other, (48, 48, 1))


def test_a_card_shows_names_as_they_are() -> None:
    row = f"| a | b |\n|---|---|\n| {_plain('cat|dog')} | {_plain('![x](https://host/p.png) <b>')} |\n"
    page = card_page(row)
    assert "<td>cat|dog</td>" in page and "<td>![x](https://host/p.png) &lt;b&gt;</td>" in page


def test_a_checkpoint_without_a_whole_state_is_named(checkpoint: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"A checkpoint must hold a whole state\.json\. Received: .*nowhere"):
        export(tmp_path / "nowhere", dataset, tmp_path / "export")
    folder = with_config(checkpoint, tmp_path / "checkpoint", dropout=7)
    with pytest.raises(ExportError, match=r"state\.json: 1 validation error.*dropout.*Export another checkpoint"):
        export(folder, dataset, tmp_path / "export")
    (folder / "state.json").write_text('{"trial": 1}')
    with pytest.raises(ExportError, match="no best, config, epoch"):
        export(folder, dataset, tmp_path / "export")


def test_a_checkpoint_of_another_data_set_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", ["cat", "dog"]) as writer:
        for label in (0, 1):
            writer.append(np.full((32, 32, 3), label, np.uint8), label, TRAIN, f"{label}.png")
        writer.finish(source="two", source_fingerprint="two")
    with pytest.raises(
        ExportError, match=r"must take \(32, 32, 3\) images of 2 classes.*Received: \(48, 48, 1\) and 7\. Name the data"
    ):
        export(checkpoint, open_dataset(tmp_path / "data"), tmp_path / "export")
