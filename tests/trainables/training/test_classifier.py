"""One trial in this process, without Ray's cluster: what it reports, saves and takes up again."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from trainables.config import TrialConfig, TrialContext, validation_metric_of
from trainables.dataset.reader import open_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.errors import PlaceError
from trainables.models.compiled import micro_batches_of
from trainables.models.optimizers import learning_rate_at
from trainables.models.weight_average import load_average
from trainables.training.best_epoch import BestEpoch
from trainables.training.calibration import Precision, choose_precision, try_speed
from trainables.training.classifier import Classifier
from trainables.training.fault_kinds import TrialFault, classify_unreadable
from tune.export.checkpoints import load_checkpoints, logits_of
from tune.study.objectives import WEIGHTED, Objective

pytestmark = pytest.mark.slow

SAME = (
    "training_loss",
    "training_accuracy",
    "validation_loss",
    "selection_loss",
    "selection_accuracy",
    "learning_rate",
)


def config(faces: Path, trial: int = 0, *, context: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    study = TrialContext(
        dataset=str(faces),
        seed=3,
        objective="selection_accuracy",
        mode="max",
        max_epochs=4,
        rungs=(2,),
        selection_share=0.15,
        **(context or {}),
    )
    small = {"image_size_px": 48, "width": 0.0625, "batch_norm": True, "batch_size": 32, "preprocessing": "augment"}
    values = TrialConfig.model_validate({**small, **parameters})
    return {"trial": trial, "parameters": values.model_dump(), "study": study.model_dump(), "resume_from": []}


@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": "adam", "schedule": "cosine"},
        {
            "optimizer": "adamw",
            "schedule": "plateau",
            "plateau_patience": 1,
            "weight_average": 0.98,
            "mirror": True,
            "mixup": 0.3,
            "class_weights": "sqrt",
            "warmup_epochs": 2.5,
        },
        {
            "optimizer": "sgd",
            "nesterov": True,
            "learning_rate": 0.01,
            "label_smoothing": 0.1,
            "batch_norm": False,
            "sampling": "balanced",
        },
    ],
    ids=lambda p: str(p["optimizer"]),
)
def test_a_trial_taken_up_from_its_checkpoint_goes_on_as_if_nothing_had_happened(
    faces: Path, tmp_path: Path, parameters: dict[str, Any]
) -> None:
    straight = Classifier(config(faces, **parameters))
    results = [straight.train() for _ in range(2)]
    straight.save_checkpoint(str(tmp_path))
    expected = [straight.train() for _ in range(2)]

    resumed = Classifier({**config(faces, **parameters), "resume_from": [str(tmp_path)]})
    found = [resumed.train() for _ in range(2)]
    assert [r["epoch"] for r in results + found] == [1, 2, 3, 4]
    for one, other in zip(expected, found, strict=True):
        assert {name: one[name] for name in SAME} == {name: other[name] for name in SAME}
    assert found[-1]["done"]


def test_the_average_of_the_weights_is_scored_saved_and_no_part_of_the_training(faces: Path, tmp_path: Path) -> None:
    import keras

    plain, averaged = Classifier(config(faces)), Classifier(config(faces, weight_average=0.9))
    for _ in range(2):
        one, other = plain.train(), averaged.train()
    assert other["training_loss"] == one["training_loss"]
    assert other["selection_loss"] != one["selection_loss"]

    averaged.save_checkpoint(str(tmp_path))
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    load_average(model, tmp_path / "average.npz")
    images = averaged._dataset.images(averaged._selection)
    hits = np.asarray(model.predict_on_batch(images)).argmax(1) == averaged._dataset.labels[averaged._selection]
    assert hits.mean() == pytest.approx(other["selection_accuracy"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EIO, "Input/output error"), "storage"),
        (OSError(errno.ESTALE, "Stale file handle"), "storage"),
        (PlaceError("s3://b does not answer"), "storage"),
        (MemoryError("no room"), "model_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError("Unable to open file (truncated file)"), "checkpoint"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "checkpoint"),
        (ValueError("not a zip"), "checkpoint"),
    ],
)
def test_what_may_pass_keeps_a_trial_from_beginning_again(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    assert classify_unreadable(error).kind == kind

    def fail(training: object, folder: str) -> None:
        raise error

    monkeypatch.setattr("trainables.training.epochs.TrialTraining.load_checkpoint", fail)
    tmp_path.joinpath("state.json").write_text("{}")
    trial = Classifier({**config(faces), "resume_from": [str(tmp_path)]})
    if kind == "checkpoint":
        assert len(trial.train()["unreadable"]) == 1
        return
    with pytest.raises(TrialFault) as fault:
        trial.train()
    assert fault.value.kind == kind


def test_a_trial_in_bfloat16_keeps_float32_weights_and_its_checkpoint_is_scored_in_float32(
    faces: Path, tmp_path: Path
) -> None:
    import keras

    changes: dict[str, Any] = {"weight_average": 0.9, "mirror": False}
    trial = Classifier(config(faces, precision="auto", **changes, context={"precision": "bfloat16"}))
    trial.train()
    trial.save_checkpoint(str(tmp_path))
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert {str(layer.compute_dtype) for layer in model.layers if layer.name.startswith(("conv", "dense"))} == {
        "bfloat16"
    }
    assert {str(v.dtype) for v in model.trainable_variables} == {"float32"}
    assert trial._average is not None
    with trial._average.in_place():
        scored = trial._predict(trial._dataset.images(trial._selection))
    resumed = Classifier({**config(faces, precision="bfloat16", **changes), "resume_from": [str(tmp_path)]})
    assert resumed.train()["training_loss"] == trial.train()["training_loss"]

    dataset = trial._dataset
    member = load_checkpoints([tmp_path], dataset)[0]
    assert {str(layer.compute_dtype) for layer in member.model.layers} == {"float32"}
    logits = logits_of([member], dataset, trial._selection)
    assert 0 < abs(scored - logits).max() < 0.1 * abs(logits).max()


def test_auto_is_float32_where_nothing_is_built_for_bfloat16_and_else_what_is_faster(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.models import precision

    monkeypatch.setattr(precision, "has_bfloat16", lambda gpus: False)
    assert choose_precision(config(faces)) == Precision("float32")
    monkeypatch.setattr(precision, "has_bfloat16", lambda gpus: True)
    found = choose_precision(config(faces), measure_s=0.5)
    assert found.float32_images_per_s and found.bfloat16_images_per_s
    faster = found.bfloat16_images_per_s > 1.1 * found.float32_images_per_s
    assert found.chosen == ("bfloat16" if faster else "float32")


def test_a_configuration_that_runs_out_of_memory_leaves_none_of_it_to_the_next_that_is_measured(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.models import compiled

    release, released = compiled.release, []

    def noted(model: Any) -> None:
        released.append(model.name)
        release(model)

    def out_of_memory(model: Any) -> float:
        raise MemoryError("no room for a checkpoint")

    monkeypatch.setattr(compiled, "release", noted)
    monkeypatch.setattr("trainables.training.calibration._save_s", out_of_memory)
    assert try_speed(config(faces), 0.1, save=True) == "MemoryError: no room for a checkpoint"
    assert released == ["alexnet"]


def test_mirrored_images_are_averaged_only_where_training_mirrors_them(faces: Path) -> None:
    def scores(**parameters: Any) -> tuple[float, float]:
        result = Classifier(config(faces, **parameters)).train()
        return result["training_loss"], result["selection_loss"]

    one, both = scores(preprocessing="shifts"), scores(preprocessing="shifts", mirror=True)
    assert one[0] == both[0] and one[1] != both[1]
    assert scores(preprocessing="none") == scores(preprocessing="none", mirror=True)


@pytest.mark.parametrize(("sampling", "even"), [("natural", False), ("balanced", True)])
def test_a_trial_draws_its_classes_as_its_sampling_says_in_micro_batches_too(
    faces: Path, sampling: str, even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(faces, sampling=sampling, preprocessing="none", context={"max_images_per_fold": 64})
    trial = Classifier({**given, "micro_batches": 2})
    batches: list[Any] = []

    def keep(pixels: Any, labels: Any, weights: Any) -> tuple[float, float]:
        batches.append(labels)
        return 1.0, 1.0

    monkeypatch.setattr(trial, "_train_batch", keep)
    trial.train()
    assert [len(labels) for labels in batches] == [32, 32]
    counts = np.concatenate(batches).sum(axis=0)
    assert (sorted(counts) == [9, 9, 9, 9, 9, 9, 10]) is even


def test_the_rate_rises_step_by_step_and_epochs_end_at_the_schedules_own(faces: Path) -> None:
    trial = Classifier(config(faces, warmup_epochs=1.0, preprocessing="none"))
    rates = []
    train_batch = trial._train_batch
    trial._train_batch = lambda *batch: (  # type: ignore[method-assign]
        rates.append(float(trial._model.optimizer.learning_rate)) or train_batch(*batch)
    )
    for _ in range(2):
        trial.train()
    half = len(rates) // 2
    assert rates[:half] == sorted(set(rates[:half])) and 0 < rates[0] < 1e-4 < rates[half - 1] < 1e-3
    assert rates[half:] == pytest.approx([1e-3] * half)


def test_a_warm_process_trains_the_next_trial_as_a_fresh_one_would(faces: Path) -> None:
    following = config(faces, 1, preprocessing="shifts", dropout=0.2, weight_average=0.9)
    warm = Classifier(config(faces, 0, weight_average=0.99))
    warm.train()
    assert warm.reset_config(following)
    fresh = Classifier(following)
    one, other = warm.step(), fresh.step()
    assert {name: one[name] for name in SAME} == {name: other[name] for name in SAME}


def test_two_trials_of_one_configuration_draw_different_numbers(faces: Path) -> None:
    weighed = config(faces, 0)
    weights = {"selection_accuracy": 0.75, "selection_macro_f1": 0.25}
    weighed["study"] |= {"objective": WEIGHTED, "objective_weights": weights}
    one, other = Classifier(weighed).step(), Classifier(config(faces, 1)).step()
    assert all({name, validation_metric_of(name)} <= one.keys() for name in get_args(Objective))  # any may score it
    assert one[WEIGHTED] == pytest.approx(sum(share * one[name] for name, share in weights.items()))
    assert one["should_checkpoint"] and "validation_score" in one and WEIGHTED not in other
    assert one["training_loss"] != other["training_loss"]


def test_soft_labels_that_are_certain_train_as_labels_do_and_others_do_not(faces: Path, tmp_path: Path) -> None:
    dataset = open_dataset(faces)
    certain = np.eye(len(dataset.info.classes), dtype=np.float32)
    losses = []
    for name, shares in (("certain", certain), ("soft", 0.3 * certain.mean(axis=0) + 0.7 * certain)):
        with DatasetWriter(tmp_path / name, dataset.info.classes, soft_labels=True) as writer:
            for row, (label, split) in enumerate(zip(dataset.labels.tolist(), dataset.splits.tolist(), strict=True)):
                writer.append(dataset.image(row), label, split, dataset.paths[row], shares[label].astype(np.float32))
            writer.finish("drawn", name)
        losses.append(Classifier(config(tmp_path / name, preprocessing="none")).step()["training_loss"])
    hard = Classifier(config(faces, preprocessing="none")).step()["training_loss"]
    assert losses[0] == hard != losses[1]


def test_checkpoints_are_asked_for_at_a_best_epoch_and_at_rungs_only(faces: Path) -> None:
    trial = Classifier(config(faces, 0, learning_rate=1e-5))
    trial._evaluate = lambda rows, mirror=False: {**scores, "images": 1000}  # type: ignore[method-assign, assignment]
    found = []
    for accuracy in (0.5, 0.4, 0.499, 0.3):  # the third is as good as the first
        scores = dict.fromkeys(("loss", "accuracy", "macro_f1", "macro_recall", "macro_precision"), accuracy)
        result = trial.train()
        found.append((result["should_checkpoint"], result["checkpoint_score"]))
    assert found == [(True, 1.0), (True, -math.inf), (True, 3.0), (False, -math.inf)]  # the second is a rung


def test_a_fold_can_be_limited_and_stays_the_same(faces: Path) -> None:
    one = Classifier(config(faces, 0, context={"max_images_per_fold": 40}))
    other = Classifier(config(faces, 1, context={"max_images_per_fold": 40}))
    result, _ = one.step(), other.step()
    assert sum(map(sum, result["selection_confusion"])) == 40
    assert (one._selection == other._selection).all()


def test_a_model_with_more_parameters_than_allowed_is_not_trained(faces: Path) -> None:
    reported = Classifier(config(faces)).step()["parameters"]
    allowed = Classifier(config(faces, context={"max_parameters": reported}))
    assert allowed.step()["parameters"] == reported
    with pytest.raises(TrialFault, match=rf"its model has {reported:,} parameters, max_parameters is {reported - 1:,}"):
        Classifier(config(faces, context={"max_parameters": reported - 1})).step()


def test_the_loss_becoming_infinite_ends_the_trial_without_a_checkpoint(faces: Path) -> None:
    steep = config(faces, 0, optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_norm=False)
    result = Classifier(steep).train()
    assert (result["diverged"], result["done"], result["should_checkpoint"]) == (True, True, False)


def test_a_trial_stops_by_itself_when_its_inner_validation_stalls(faces: Path) -> None:
    trial = Classifier(config(faces, 0, learning_rate=1e-9, dropout=0.0, early_stop_patience=1, batch_norm=False))
    results = [trial.train()]
    while not results[-1]["done"]:
        results.append(trial.train())
    assert results[-1]["stalled"] and len(results) < 4


@pytest.mark.parametrize("torn", ["model.keras", "average.npz"])
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(faces: Path, tmp_path: Path, torn: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    averaged = config(faces, weight_average=0.9)
    trial = Classifier(averaged)
    trial.train()
    trial.save_checkpoint(str(tmp_path / "one"))
    expected = trial.train()
    trial.save_checkpoint(str(tmp_path / "two"))
    (tmp_path / "two" / torn).write_bytes(b"torn")
    again = Classifier({**averaged, "resume_from": [str(tmp_path / "two"), str(tmp_path / "one")]}).train()
    assert {name: again[name] for name in SAME} == {name: expected[name] for name in SAME}
    assert len(again["unreadable"]) == 1 and "two cannot be read" in again["unreadable"][0]


def test_without_a_readable_checkpoint_a_trial_begins_anew(faces: Path, tmp_path: Path) -> None:
    result = Classifier({**config(faces), "resume_from": [str(tmp_path / "gone")]}).train()
    assert (result["epoch"], len(result["unreadable"])) == (1, 1)


def test_micro_batches_make_the_same_steps(faces: Path, tmp_path: Path) -> None:
    plain = config(faces, 0, batch_norm=False, dropout=0.0, preprocessing="none", weight_average=0.9, mixup=0.2)
    whole, micro = Classifier(plain), Classifier({**plain, "micro_batches": 4})
    for _ in range(2):
        one, other = whole.train(), micro.train()
        for name in ("training_loss", "validation_loss", "selection_loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-4)
    assert int(whole._model.optimizer.iterations) == int(micro._model.optimizer.iterations)


def test_a_batch_is_cut_into_as_many_parts_as_its_images_allow() -> None:
    config = TrialConfig(batch_size=256)
    assert [micro_batches_of(config, images, 4) for images in (1000, 256, 250, 249, 251)] == [4, 4, 2, 3, 1]


def test_a_trial_goes_on_in_micro_batches_from_a_checkpoint_of_whole_ones(faces: Path, tmp_path: Path) -> None:
    plain = config(faces, 0, batch_norm=False, dropout=0.0, preprocessing="none", weight_average=0.9, mixup=0.2)
    whole = Classifier(plain)
    whole.train()
    whole.save_checkpoint(str(tmp_path))
    micro = Classifier({**plain, "micro_batches": 2, "resume_from": [str(tmp_path)]})
    one, other = whole.train(), micro.train()
    assert other["training_loss"] == pytest.approx(one["training_loss"], rel=1e-4)
    assert other["epoch"] == 2


def test_the_final_fit_trains_on_every_image_and_keeps_its_last_epoch(faces: Path) -> None:
    trial = Classifier({**config(faces), "refit_epochs": 2})
    first, last = trial.train(), trial.train()
    assert len(trial._fit) == len({*trial._fit.tolist()})
    assert {*trial._validation.tolist(), *trial._selection.tolist()} <= {*trial._fit.tolist()}
    assert (first["should_checkpoint"], last["should_checkpoint"], last["done"]) == (False, True, True)
    assert first["checkpoint_score"] == -math.inf < last["checkpoint_score"]


def test_a_final_fit_may_be_longer_than_the_studys_trials_and_its_rate_falls_over_all_of_it(
    faces: Path, tmp_path: Path
) -> None:
    stretched = {**config(faces, schedule="cosine"), "refit_epochs": 3, "schedule_epochs": 3}
    trial = Classifier(stretched)
    rates = [trial.train()["learning_rate"] for _ in range(3)]  # of a study whose trials have 4
    assert rates == [learning_rate_at(trial._config, epoch, 3) for epoch in range(3)]
    trial.save_checkpoint(str(tmp_path))
    again = Classifier({**stretched, "refit_epochs": 4, "schedule_epochs": 4, "resume_from": [str(tmp_path)]})
    assert again.train()["learning_rate"] == learning_rate_at(trial._config, 3, 4)


def test_what_goes_wrong_is_named_in_words_that_need_no_tensorflow(faces: Path) -> None:
    import pickle

    import tensorflow as tf

    trial = Classifier(config(faces))
    trial._train = lambda rows, rate: tf.zeros([2**50])  # type: ignore[method-assign, assignment]
    with pytest.raises(TrialFault) as caught:
        trial.train()
    assert caught.value.kind == "model_memory"
    assert caught.value.__cause__ is None
    assert pickle.loads(pickle.dumps(caught.value)).kind == "model_memory"


@pytest.mark.parametrize("context", [{"save_every_epoch": True}, {"checkpoint_every_s": 1e-6}])
def test_where_much_may_be_lost_every_epoch_is_saved_and_the_best_is_still_the_best(
    faces: Path, context: dict[str, Any]
) -> None:
    trial = Classifier(config(faces, context=context))
    first = trial.train()
    trial._best = BestEpoch(1, 2.0, 1)  # no epoch can be better from here on
    second = trial.train()
    assert (first["should_checkpoint"], second["should_checkpoint"]) == (True, True)
    assert first["checkpoint_score"] > second["checkpoint_score"] == -math.inf
