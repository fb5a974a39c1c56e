"""Checkpoints as models that predict: read, checked against the data set, and asked for logits. Writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.checkpoint_files import AVERAGE_FILE, MODEL_FILE, STATE_FILE
from trainables.config import TrialConfig, TrialContext
from trainables.dataset.folds import trial_rows
from trainables.dataset.reader import Dataset, Rows
from trainables.errors import first_line, one_line
from trainables.models.blocks import refuse_xla_where_missing
from trainables.models.compiled import Floats, mean_logits, mirrored, release
from trainables.models.own_model import with_bare_tensors
from trainables.models.precision import in_float32
from trainables.models.weight_average import load_average
from trainables.own_code import find_reference, load_function
from trainables.preprocessing.methods import averages_mirror, strengths_of
from tune.errors import ExportError
from tune.export.import_tensorflow import import_tensorflow

if TYPE_CHECKING:
    import keras

_BATCH = 128


@dataclass(frozen=True)
class Member:
    """One checkpoint.

    Attributes:
        state: What `state.json` holds: trial, epoch, best, ...
        config: The trial's configuration.
        model: uint8 (n, height, width, channels) to logits, float32, with the average of the weights if there is one.
        mirror: Whether it answers with the mean over image and mirror image.
    """

    state: dict[str, Any]
    config: TrialConfig
    model: keras.Model
    mirror: bool


def load_checkpoints(checkpoints: Sequence[Path], dataset: Dataset) -> list[Member]:
    """Reads checkpoints.

    Raises:
        ExportError: One is damaged or does not fit the data set.
    """
    return [_load(Path(checkpoint), dataset) for checkpoint in checkpoints]


def release_members(members: Sequence[Member]) -> None:
    """Gives back the memory of members that are not used any more; a trial's share of a GPU may hold few."""
    for member in members:
        release(member.model)


def selection_fold(config: TrialConfig, dataset: Dataset, context: TrialContext) -> Rows:
    """Returns the rows that scored a configuration's trials."""
    limit = context.max_images_per_fold
    return trial_rows(dataset, context.selection_share, config.split_ratio, context.seed, limit).selection


def logits_of(members: Sequence[Member], dataset: Dataset, rows: Rows) -> Floats:
    """Returns the logits of the mean of the members' probabilities, float32, (n, classes); of one, its own."""
    return mean_logits([_logits_of_member(member, dataset, rows) for member in members])


def _logits_of_member(member: Member, dataset: Dataset, rows: Rows) -> Floats:
    from trainables.preprocessing.feed import Feed

    predict = mirrored(member.model.predict_on_batch) if member.mirror else member.model.predict_on_batch
    config = member.config
    feed = Feed(dataset, config.preprocessing, strengths_of(config), config.code)
    return np.concatenate([np.asarray(predict(images)) for images, _ in feed.evaluation_batches(rows, _BATCH)])


def _load(checkpoint: Path, dataset: Dataset) -> Member:
    state, config = _read_state(checkpoint)
    return Member(state, config, _load_model(checkpoint, dataset, config), averages_mirror(config, dataset.info.shape))


def _read_state(checkpoint: Path) -> tuple[dict[str, Any], TrialConfig]:
    path = checkpoint / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        missing = {"trial", "config", "epoch", "best"} - set(state)
        if missing:
            raise KeyError(f"no {', '.join(sorted(missing))}")
        return state, TrialConfig.model_validate(state["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = one_line(error)
        raise ExportError(
            f"A checkpoint must hold a whole state.json. Received: {path}: {reason}. Export another checkpoint."
        ) from error


def _load_model(checkpoint: Path, dataset: Dataset, config: TrialConfig) -> keras.Model:
    import_tensorflow()
    import keras

    if keras.config.backend() != "tensorflow":
        raise ExportError(
            f"An export is written with TensorFlow. Received: Keras, imported before with the backend "
            f"{keras.config.backend()}. Export in a process of its own: emotune export."
        )
    path = checkpoint / MODEL_FILE
    if find_reference(config.model):
        load_function(config.model, config.code)  # makes its layers known to Keras
    try:
        model = keras.saving.load_model(path, compile=False)
        refuse_xla_where_missing(model)
        if config.weight_average:
            load_average(model, checkpoint / AVERAGE_FILE)
        if config.precision == "bfloat16":
            trained, model = model, in_float32(model)
            release(trained)
        model = with_bare_tensors(model)
    except Exception as error:  # Keras raises whatever its zip, HDF5 and layer readers raise
        raise ExportError(
            f"{path} must be a Keras model. Received: {first_line(error)}. Export another checkpoint."
        ) from error
    expected = (dataset.info.shape, (len(dataset.info.classes),))
    found = (model.input_shape[1:], model.output_shape[1:])
    if found != expected:
        raise ExportError(
            f"The model in {path} must take {expected[0]} images of {expected[1][0]} classes, as {dataset.directory} "
            f"holds. Received: {found[0]} and {found[1][0]}. Name the data set that the study was run on."
        )
    return model
