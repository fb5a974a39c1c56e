"""Writes the models of an export in the formats asked for, and measures each against training. Writes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.config import TrialConfig
from trainables.dataset.folds import test_rows
from trainables.dataset.reader import TRAIN, Dataset, Pixels, Rows
from trainables.models.compiled import Floats
from trainables.own_code import find_reference
from tune.export.checkpoints import Member, logits_of
from tune.export.evaluation_graph import evaluation_graph
from tune.export.formats import FORMATS
from tune.export.graph import Part, pixel_classifier
from tune.export.parity import accuracy_difference, check_parity, run_formats

if TYPE_CHECKING:
    import albumentations as A

_COMPARED, _CALIBRATED, _WITHOUT_TEST = 32, 256, 1000


def takes_images_as_they_are(config: TrialConfig, shape: tuple[int, int, int]) -> bool:
    """Says whether an export's models do all that a trial's evaluation does to an image."""
    pipeline = _evaluation(config, shape)
    return pipeline is None or evaluation_graph(pipeline, shape) is not None


def fit_together(one: TrialConfig, other: TrialConfig, shape: tuple[int, int, int]) -> bool:
    """Says whether trials of two configurations can be parts of one export.

    Each must get the images that it needs, and the file of one function at most be needed to open the Keras model: as
    it was for all of them.
    """
    if any(one.code[file].digest != other.code[file].digest for file in one.code.keys() & other.code.keys()):
        return False
    if one.model != other.model and (find_reference(one.model) or find_reference(other.model)):
        return False
    if all(takes_images_as_they_are(config, shape) for config in (one, other)):
        return True
    steps = [pipeline and pipeline.to_dict() for pipeline in (_evaluation(config, shape) for config in (one, other))]
    return bool(steps[0] == steps[1])


def write_models(
    members: Sequence[Member],
    dataset: Dataset,
    folder: Path,
    formats: Sequence[str],
    *,
    on_test: bool,
    own_layers: bool = False,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Writes the mean of the members in every format.

    Args:
        members: Checkpoints that `fit_together`.
        dataset: Their data set.
        folder: The export.
        formats: Keys of `FORMATS`.
        on_test: Whether the test split is open; without it an inexact format is scored on training images.
        own_layers: The Keras file needs the user's own code, so that it is run here, where that is known.
        temperature: What logits are divided by.

    Returns:
        By format: `file`, `max_difference` of a probability on some training images, and for an inexact one what
        `accuracy_difference` returns, and `of`.

    Raises:
        ExportError: A format does not run, or a float format gives other probabilities than training.
    """

    shape = dataset.info.shape
    in_graph = takes_images_as_they_are(members[0].config, shape)

    def entries(rows: Rows) -> Pixels:
        return dataset.images(rows) if in_graph else _evaluated(members[0].config, dataset, rows)

    train = np.flatnonzero(dataset.splits == TRAIN)
    some, calibration = _spread(train, _COMPARED), _spread(train, _CALIBRATED)
    expected = _probabilities(members, dataset, some, temperature)
    inexact = [name for name in formats if not FORMATS[name].exact]
    scored = test_rows(dataset) if on_test else _spread(train, _WITHOUT_TEST)
    scored_expected = _probabilities(members, dataset, scored, temperature) if inexact else expected

    pixels = pixel_classifier([_part(member, shape) for member in members], temperature=temperature)
    for name in formats:
        FORMATS[name].write(
            pixels, folder / FORMATS[name].file, entries(calibration) if name in inexact else entries(some)
        )
    outside = [name for name in formats if name != "keras" or not own_layers]
    found = run_formats(folder, outside, entries(some)) if outside else {}
    if own_layers and "keras" in formats:
        found["keras"] = _run_keras(folder / FORMATS["keras"].file, entries(some))
    differences = check_parity(found, expected)
    written: dict[str, Any] = {
        name: {"file": FORMATS[name].file, "max_difference": difference} for name, difference in differences.items()
    }
    if inexact:
        for name, probabilities in run_formats(folder, inexact, entries(scored)).items():
            labels = np.asarray(dataset.labels[scored])
            change = accuracy_difference(probabilities, scored_expected, labels)
            written[name] |= {**change, "of": "test" if on_test else "train"}
    return written


def _evaluation(config: TrialConfig, shape: tuple[int, int, int]) -> A.Compose | None:
    from trainables.preprocessing.methods import evaluation_pipeline, strengths_of

    return evaluation_pipeline(config.preprocessing, strengths_of(config), shape, config.code)


def _part(member: Member, shape: tuple[int, int, int]) -> Part:
    return Part(member.model, member.mirror, evaluation_graph(_evaluation(member.config, shape), shape))


def _run_keras(file: Path, images: Pixels) -> Floats:
    import keras

    return np.asarray(keras.saving.load_model(file, compile=False).predict_on_batch(images))


def _spread(rows: Rows, n: int) -> Rows:
    chosen: Rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))]
    return chosen


def _evaluated(config: TrialConfig, dataset: Dataset, rows: Rows) -> Pixels:
    """Returns images as evaluation feeds them to a model."""
    from trainables.preprocessing.feed import Feed
    from trainables.preprocessing.methods import strengths_of

    feed = Feed(dataset, config.preprocessing, strengths_of(config), config.code)
    return np.concatenate([images for images, _ in feed.evaluation_batches(rows, 128)])


def _probabilities(members: Sequence[Member], dataset: Dataset, rows: Rows, temperature: float) -> Floats:
    """Returns training's own probabilities; without TensorFloat-32, in which a GPU would round to 10 bits."""
    import tensorflow as tf
    from scipy.special import softmax

    rounded = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        with np.errstate(over="ignore"):  # of a trial that diverged
            return np.asarray(softmax(logits_of(members, dataset, rows) / temperature, axis=1), np.float32)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(rounded)
