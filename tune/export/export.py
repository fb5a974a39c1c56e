"""Turns the checkpoint of one trial into a folder that classifies images. Does not choose the trial.

EXPORT/model.keras            (batch, h, w, c), 0-255 or floats 0-1, to probabilities; opens in any Keras 3
EXPORT/saved_model/           the same for TensorFlow: `serving_default(image: uint8) -> probabilities`
EXPORT/tf_serving/1/          the same again, where TensorFlow Serving looks for it
EXPORT/model.onnx ...         further formats of `formats.py`, where they were asked for
EXPORT/preprocessing.json     the evaluation pipeline in Albumentations' own form; empty when images go in as they are
EXPORT/labels.json            class names in the order of the probabilities, and what the model takes
EXPORT/metrics.json           selection fold, sealed test split, configuration, versions
EXPORT/confusion_matrix.png   of the test split
EXPORT/study.yaml             the study that found it
EXPORT/code/                  the files of the user's own: what built the model, what augmented its images
EXPORT/model_card.md          all of that for a reader; the same as model_card.html
EXPORT/manifest.json          SHA-256 of each file, and where they are from
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import TrialConfig
from trainables.dataset.reader import Dataset
from trainables.places import Place
from tune.dataset.quality_report import find_duplicates
from tune.export.checkpoints import Member, load_checkpoints
from tune.export.code import CODE_FOLDER, write_code
from tune.export.destination import atomic_export, check_destination
from tune.export.formats import DEFAULT_FORMATS, FORMATS, check_formats
from tune.export.manifest import MANIFEST_FILE, write_manifest
from tune.export.model_card import CARD_FILE, CARD_PAGE_FILE, card_page, model_card
from tune.export.temperature import kept_temperature
from tune.export.written_models import takes_images_as_they_are, write_models

MODEL_FILE = FORMATS["keras"].file
PREPROCESSING_FILE, LABELS_FILE, METRICS_FILE = "preprocessing.json", "labels.json", "metrics.json"
EXPORT_FILES = (LABELS_FILE, MODEL_FILE)
"""By which an export is known."""
CONFUSION_FILE, STUDY_FILE = "confusion_matrix.png", "study.yaml"
EXPORT_PARTS = (
    *EXPORT_FILES,
    *(one.file for one in FORMATS.values() if one.file != MODEL_FILE),
    PREPROCESSING_FILE,
    METRICS_FILE,
    CONFUSION_FILE,
    STUDY_FILE,
    CODE_FOLDER,
    CARD_FILE,
    CARD_PAGE_FILE,
    MANIFEST_FILE,
)

_SPARE_BYTES = 16 * 2**20
_VERSIONS = ("emotune", "keras", "tensorflow", "albumentations", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class ExportSummary:
    """What an export holds.

    Attributes:
        directory: The folder.
        trial: Number of the trial.
        epoch: The checkpoint's epoch, from 1.
        parameters: The model's weights, counted.
        sealed: What `evaluate_sealed` returned; None for a data set without a test split.
        size_bytes: All files together.
        note: What whoever feeds the SavedModel has to do to an image first; empty when nothing.
    """

    directory: Path
    trial: int
    epoch: int
    parameters: int
    sealed: Mapping[str, Any] | None
    size_bytes: int
    note: str


def export_checkpoint(
    checkpoints: Path | Sequence[Path],
    dataset: Dataset,
    destination: Path,
    *,
    study_yaml: str,
    selection: Mapping[str, Any],
    sealed: Mapping[str, Any] | None = None,
    confirmation: Mapping[str, Any] | None = None,
    ensemble: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> ExportSummary:
    """Writes the export of a checkpoint, or of the mean of several; the folder is there whole or not at all, and an
    earlier export gives way last.

    Args:
        checkpoints: Folder with `model.keras` (uint8 in, logits out), `average.npz` if its weights were averaged,
            and `state.json` (trial, config, epoch, best).
        dataset: The data set the trial was trained on, with its face boxes if the method needs them.
        destination: Folder to create; may hold an earlier export.
        study_yaml: The resolved study file's text.
        selection: The trial's metrics on the selection fold at the checkpoint's epoch.
        sealed: What `evaluate_sealed` returned for this checkpoint; None leaves the test split sealed.
        ensemble: What the selection fold said of the mean of several checkpoints; `selection` is the first one's.
        confirmation: What repeated trainings showed of this configuration, None without any.
        calibration: What `judge_temperature` returned for these checkpoints; None leaves probabilities as trained.
        formats: Keys of `tune.export.formats.FORMATS`, `keras` among them. Each is run in a fresh process and compared.

    Raises:
        ExportError: The checkpoint is damaged or does not fit the data set, the destination is in the way or being
            written, the disk is too full, or a format's package is missing or its answers are others than in training.
        DatasetError: The method needs face boxes and there are none.
    """
    check_formats(formats)
    destination = Path(destination).resolve()
    check_destination(Place(str(destination)), EXPORT_FILES, EXPORT_PARTS)
    members = load_checkpoints(_as_list(checkpoints), dataset)
    state, config = members[0].state, members[0].config
    parameters = sum(int(member.model.count_params()) for member in members)
    needed_bytes = 4 * parameters * len(formats) + _SPARE_BYTES
    with atomic_export(destination, needed_bytes, known_by=LABELS_FILE, parts=EXPORT_PARTS) as folder:
        own = write_code(members, folder)
        note = _write_description(folder, dataset, config, own)
        written = write_models(
            members,
            dataset,
            folder,
            formats,
            on_test=sealed is not None,
            own_layers=own is not None,
            temperature=kept_temperature(calibration),
        )
        duplicates = find_duplicates(dataset.groups, dataset.labels, dataset.splits)
        versions = {"python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in _VERSIONS}
        metrics = _finite(
            {
                "trial": state["trial"],
                "epoch": state["epoch"],
                "best": state["best"],
                "ensemble": None if len(members) == 1 else {**(ensemble or {}), "members": _described(members)},
                "selection": dict(selection),
                "confirmation": confirmation,
                "calibration": calibration,
                "test": sealed,
                "config": config.model_dump(exclude={"code"}),
                "parameters": parameters,
                "input": note or "images as they are",
                "dataset": {"name": dataset.info.name, "fingerprint": dataset.info.fingerprint},
                "data": {"counts": dataset.info.counts, "duplicates": duplicates.model_dump()},
                "formats": written,
                "versions": versions,
            }
        )
        _write_json(folder / METRICS_FILE, metrics)
        if sealed is not None:
            from tune.report.figures import confusion_figure

            confusion_figure(sealed["confusion"], dataset.info.classes).savefig(folder / CONFUSION_FILE)
        (folder / STUDY_FILE).write_text(study_yaml, encoding="utf-8")
        card = model_card(metrics, dataset.info.classes, dataset.info.shape)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        (folder / CARD_PAGE_FILE).write_text(card_page(card), encoding="utf-8")
        write_manifest(folder, study_yaml, {name: metrics[name] for name in ("trial", "epoch", "dataset", "versions")})
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return ExportSummary(destination, state["trial"], state["epoch"], parameters, sealed, size_bytes, note)


def _described(members: Sequence[Member]) -> list[dict[str, Any]]:
    return [
        {
            "trial": member.state["trial"],
            "epoch": member.state["epoch"],
            "config": member.config.model_dump(exclude={"code"}),
        }
        for member in members
    ]


def _as_list(checkpoints: Path | Sequence[Path]) -> Sequence[Path]:
    return [checkpoints] if isinstance(checkpoints, Path) else checkpoints


def _write_description(folder: Path, dataset: Dataset, config: TrialConfig, own_layers: str | None) -> str:
    """Writes labels.json and preprocessing.json; returns what has to be done to an image before the model."""
    import albumentations as A

    from trainables.preprocessing.methods import evaluation_pipeline, needs_faces, strengths_of

    info = dataset.info
    pipeline = evaluation_pipeline(config.preprocessing, strengths_of(config), info.shape, config.code)
    if takes_images_as_they_are(config, info.shape):
        pipeline = None
    _write_json(folder / PREPROCESSING_FILE, A.to_dict(pipeline or A.Compose([])))
    note = ""
    if pipeline is not None:
        face = "the face box found and the image " if needs_faces(config.preprocessing) else ""
        note = (
            f"The models expect images that went through preprocessing.json first: {face}put through the method "
            f"{config.preprocessing!r} at {info.height_px} x {info.width_px} px. `emotune predict` does it."
        )
    labels = {
        "classes": list(info.classes),
        "height_px": info.height_px,
        "width_px": info.width_px,
        "channels": info.channels,
        "pixels": "uint8, 0-255, " + ("gray" if info.channels == 1 else "RGB"),
        "preprocessing": config.preprocessing,
        "needs_faces": needs_faces(config.preprocessing),
        "expects_preprocessed_images": pipeline is not None,
        "input": note or "images as they are",
        "own_layers": own_layers,
    }
    _write_json(folder / LABELS_FILE, labels)
    return note


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    """Returns the content with NaN and infinities as None: JSON knows neither."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, np.generic | np.ndarray):
        return _finite(content.tolist())
    return None if isinstance(content, float) and not math.isfinite(content) else content
