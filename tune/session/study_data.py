"""A study's data set: opened, drawn or completed, and checked against the study before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainables.config import TrialContext
from trainables.dataset.node_cache import open_data, store_faces
from trainables.dataset.reader import Dataset
from trainables.errors import DatasetError
from trainables.keras_setup import ONEDNN, onednn_setting
from trainables.places import is_bucket
from tune.errors import StudyError
from tune.study.objectives import shares
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState

SYNTHETIC = Path("data/synthetic")
"""Where the drawn faces of `data: synthetic` lie."""


def open_study_data(spec: StudySpec, say: Callable[[str], None] = lambda line: None) -> Dataset:
    """Opens the study's data set; draws the synthetic faces when they are asked for and not there.

    Args:
        spec: the study.
        say: called with a line about anything that takes time.

    Raises:
        DatasetError: there is no data set.
    """
    if spec.data != "synthetic":
        try:
            return open_data(spec.data, say=say)
        except DatasetError as error:
            if is_bucket(spec.data) or Path(spec.data).exists():
                raise
            raise DatasetError(f"{error} If it was moved, say where it lies now: --data FOLDER") from None
    from tune.dataset.synth import write_faces

    if not SYNTHETIC.exists():
        say(f"drawing synthetic faces into {SYNTHETIC}")
    return write_faces(SYNTHETIC)


def prepare_data(spec: StudySpec, say: Callable[[str], None], *, only_check: bool = False) -> Dataset:
    """Opens the study's data set, tries every fold the space can ask for, and finds face boxes where it needs them.

    Args:
        spec: the study.
        say: called with a line about anything that takes time.
        only_check: leave out the face boxes.

    Raises:
        DatasetError: there is no data set, or it cannot be divided into folds.
        StudyError: a batch is larger than the images that train.
    """
    from trainables.dataset.face_boxes import expected_s, find_faces, hit_rate_by_class, load_faces
    from trainables.dataset.folds import trial_rows

    dataset = open_study_data(spec, say)
    methods, ratios = spec.possible_values("preprocessing"), spec.possible_values("split_ratio")
    smallest_batch = min(spec.possible_values("batch_size"))
    for ratio in ratios:
        rows = trial_rows(dataset, spec.folds.selection_share, ratio, spec.seed)
        if len(rows.fit) < smallest_batch:
            raise StudyError(
                f"batch_size must be at most the images that train. Received: {smallest_batch}, "
                f"with {len(rows.fit)} images at split_ratio={ratio:g}. Lower it, or import more images"
            )
    if "face" in methods and not only_check and load_faces(dataset) is None:
        say(f"finding faces for preprocessing=face, once, about {expected_s(dataset):.0f} s")
        rates = hit_rate_by_class(dataset, find_faces(dataset))
        if is_bucket(spec.data):
            store_faces(dataset, spec.data)
        say("faces found: " + ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in rates.items()))
    return dataset


def trial_context(spec: StudySpec, dataset: Dataset, state: StudyState, *, session: int | None = None) -> TrialContext:
    """Returns what every trial of the study is told; with a session's number, what those of that session were."""
    return TrialContext(
        dataset=spec.data if is_bucket(spec.data) else os.path.abspath(dataset.directory),
        fingerprint=dataset.info.fingerprint,
        seed=spec.seed,
        objective=spec.objective,
        objective_weights=shares(spec.objective_weights),
        mode=spec.mode,
        max_epochs=spec.asha.max_epochs,
        rungs=tuple(spec.asha.rungs),
        selection_share=spec.folds.selection_share,
        max_images_per_fold=spec.folds.max_images_per_fold,
        feed_workers=spec.resources.feed_workers,
        cpus=spec.resources.cpus_per_trial,
        gpus=spec.resources.gpus_per_trial,
        process_memory_mib=spec.resources.process_memory_mib,
        save_every_epoch=spec.preemption == "spot",
        precision=state.precision,
        checkpoint_every_s=spec.checkpoint_every,
        max_parameters=spec.max_parameters if session is None else None,  # it was trained already
        onednn=os.environ.get(ONEDNN, state.onednn(session)) if state.provenance else onednn_setting(),
    )
