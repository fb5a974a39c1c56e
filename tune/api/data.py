"""Data sets from Python: imported, drawn, fetched, opened, described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.home_folder import expand_home

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from tune.dataset.ingest import Imported
    from tune.dataset.quality_report import DatasetReport
    from tune.dataset.source_plan import SourcePlan
    from tune.dataset.verify import Verification

Progress = Callable[[int, int], None]
"""Called with (images so far, images expected)."""


def import_data(
    source: str | PathLike[str],
    to: str | PathLike[str],
    *,
    store_size: int | None = None,
    channels: int | None = None,
    test_share: float = 0.1,
    max_bad: float = 0.01,
    split: Mapping[str, str] | Sequence[str] = (),
    validation: str | None = None,
    test: Sequence[str] = (),
    classes: Mapping[str, str] | Sequence[str] = (),
    labels: str | PathLike[str] | None = None,
    soft_labels: bool = False,
    replace: bool = False,
    on_image: Progress | None = None,
) -> Imported:
    """Imports image files, a table of pixels or parquet files; from an archive too. A second import of it is free.

    Args:
        source: what to import.
        to: folder to create, or a bucket's address.
        store_size: squeeze every image to this side in pixels; None for their own, if all are equal.
        channels: store 1 (gray) or 3 (RGB); None for what the first image has.
        test_share: share that becomes the test split where the source has none.
        max_bad: share of unreadable images that is borne.
        split: what a folder is, where its name does not say it: `{"holdout": "test"}`, or `["holdout=test"]`.
        validation: validation images become `train`, `test` or `leave-out`; None for test if there is no other.
        test: folders that are the test split; others with the same classes are then the train split.
        classes: names for the source's labels: `{"3": "happy"}`, or `["happy=3"]`; `leave-out` leaves images out.
        labels: a CSV of the images' labels (or of FER+'s votes), or `none` for the folders, whatever lists there are.
        soft_labels: keep each class's share of FER+'s votes, which trials then train towards.
        replace: let another data set at the target give way.
        on_image: called with (images so far, images expected).

    Returns:
        `dataset`, and `unchanged`: whether it was there already.

    Raises:
        SourceError: the source cannot be read or trusted, or is no classification data set.
        DatasetError: the target is in the way or cannot be written.
    """
    from trainables.dataset.node_cache import import_folder
    from tune.dataset.import_options import ImportOptions
    from tune.dataset.ingest import import_dataset

    options = ImportOptions(
        store_size_px=store_size,
        channels=channels,
        test_share=test_share,
        max_bad=max_bad,
        **_decisions(split, validation, test, classes, labels),
        soft_labels=soft_labels,
    )
    here = _on_this_machine(source)
    with import_folder(expand_home(to), replace=replace) as folder:
        return import_dataset(here, folder, options, replace=replace, on_image=on_image)


def inspect_source(
    source: str | PathLike[str],
    *,
    split: Mapping[str, str] | Sequence[str] = (),
    validation: str | None = None,
    test: Sequence[str] = (),
    classes: Mapping[str, str] | Sequence[str] = (),
    labels: str | PathLike[str] | None = None,
) -> SourcePlan:
    """Says how a source would be read: classes, splits, counts, what is left out and why. Decodes nothing.

    Args:
        source: see `import_data`, as the other arguments.
        split: see there.
        validation: see there.
        test: see there.
        classes: see there.
        labels: see there.

    Raises:
        SourceError: the source cannot be read or trusted, or is no classification data set.
    """
    from tune.dataset.import_options import ImportOptions
    from tune.dataset.source_plan import plan_import

    options = ImportOptions(**_decisions(split, validation, test, classes, labels))
    return plan_import(_on_this_machine(source), options)


def verify_data(data: str | PathLike[str] | Dataset) -> Verification:
    """Works out from the pixels whether a data set is as it was written: its images, labels, splits and classes.

    Raises:
        DatasetError: there is none, or its file cannot be opened.
    """
    from tune.dataset.verify import verify_dataset

    return verify_dataset(_opened(data))


def draw_faces(
    to: str | PathLike[str],
    *,
    images: int = 3500,
    seed: int = 0,
    replace: bool = False,
    on_image: Progress | None = None,
) -> Dataset:
    """Draws cartoon faces with seven expressions, 48 x 48 px gray: a data set that needs no download.

    Args:
        to: folder to create, or a bucket's address.
        images: images in all; a fifth of them is the test split.
        seed: other seeds give other faces.
        replace: let another data set at the target give way.
        on_image: called with (images so far, images in all).

    Raises:
        SourceError: too few images for one of each class and split, or a negative seed.
        DatasetError: the target is in the way or cannot be written.
    """
    from trainables.dataset.node_cache import import_folder
    from tune.dataset.synth import write_faces

    test_images = images // 5
    with import_folder(expand_home(to), replace=replace) as folder:
        return write_faces(
            folder,
            train_images=images - test_images,
            test_images=test_images,
            seed=seed,
            replace=replace,
            on_image=on_image,
        )


def fetch_data(address: str) -> Path:
    """Downloads a public data set, for `import_data`; a second call finds it on this machine.

    Args:
        address: `kaggle:OWNER/NAME`, such as `kaggle:ananthu017/emotion-detection-fer`, or Hugging Face's
            `hf://OWNER/NAME`, with `@REVISION` for another branch, tag or commit than `main`.

    Raises:
        SourceError: the address has another form, the site's library is not installed, or the download failed.
    """
    from tune.dataset.fetch import fetch

    return fetch(address)


def load_data(directory: str | PathLike[str]) -> Dataset:
    """Opens a data set: `len()`, `.info`, `.labels`, `.image(row)`, `.images(rows)` as uint8.

    Args:
        directory: its folder, or its address in a bucket.

    Raises:
        DatasetError: there is none, or it is damaged.
        PlaceError: the bucket cannot be reached.
    """
    from trainables.dataset.node_cache import open_data

    return open_data(expand_home(directory))


def describe_data(data: str | PathLike[str] | Dataset) -> DatasetReport:
    """Returns a data set's counts by class, duplicates, conflicting labels, statistics.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    from tune.dataset.quality_report import describe_dataset

    return describe_dataset(_opened(data))


def contact_sheet(data: str | PathLike[str] | Dataset, to: str | PathLike[str] | None = None) -> Path:
    """Writes a picture of some images of each class, into the data set's folder unless another file is named.

    Raises:
        DatasetError: there is no data set, or the file cannot be written.
    """
    from trainables.dataset.reader import CONTACT_SHEET_FILE
    from tune.dataset.quality_report import write_contact_sheet

    dataset = _opened(data)
    return write_contact_sheet(dataset, dataset.directory / CONTACT_SHEET_FILE if to is None else Path(expand_home(to)))


def preview(
    directory: str | PathLike[str],
    method: str,
    *,
    strengths: Mapping[str, float] | Sequence[str] = (),
    to: str | PathLike[str] | None = None,
    seed: int = 0,
) -> Path:
    """Writes a picture of what a preprocessing method makes of the images: as they are, as evaluated, variants.

    Args:
        directory: a data set's folder.
        method: a preprocessing method, such as `augment`, or a pipeline of your own: `mine.yaml`, `my_aug.py:training`;
            a path before it says where the file lies.
        strengths: `{"augment_strength": 0.8}`, or `["augment_strength=0.8"]`.
        to: PNG to write; None for `preview-METHOD.png` in the folder.
        seed: other seeds show other images and variants.

    Raises:
        DatasetError: there is no data set, or the file cannot be written.
        PreprocessingError: unknown method or strength, or one out of range.
        OwnCodeError: a pipeline of your own breaks its contract.
    """
    from trainables.dataset.reader import PREVIEW_FILE, open_dataset
    from tune.dataset.preview import parse_strengths
    from tune.dataset.preview import preview as write_preview
    from tune.study.own_files import pipeline_source

    dataset = open_dataset(Path(expand_home(directory)))
    settings = [f"{name}={value}" for name, value in strengths.items()] if isinstance(strengths, Mapping) else strengths
    name, code = pipeline_source(expand_home(method))
    file = PREVIEW_FILE.format(method=name.replace(":", "-"))
    output = Path(expand_home(directory)) / file if to is None else Path(expand_home(to))
    return write_preview(dataset, name, parse_strengths(name, settings, code), output, seed=seed, code=code)


def _decisions(
    split: Mapping[str, str] | Sequence[str],
    validation: str | None,
    test: Sequence[str],
    classes: Mapping[str, str] | Sequence[str],
    labels: str | PathLike[str] | None,
) -> dict[str, Any]:
    """What the user decided about a source, as fields of `ImportOptions`."""
    splits = [f"{folder}={what}" for folder, what in split.items()] if isinstance(split, Mapping) else split
    names = [f"{name}={label}" for label, name in classes.items()] if isinstance(classes, Mapping) else classes
    return {
        "splits": tuple(splits),
        "validation": validation,
        "test": tuple(test),
        "classes": tuple(names),
        "labels": None if labels is None else str(expand_home(labels)),
    }


def _on_this_machine(source: str | PathLike[str]) -> Path:
    from tune.errors import SourceError

    name = expand_home(source)
    if "://" in name:
        raise SourceError(
            f"A source must be a file or folder of this machine. Received: {name}, an address. Download it first "
            "(curl -LO, aws s3 cp, gcloud storage cp); emotune data fetch does so for kaggle:OWNER/NAME and hf://OWNER/NAME."
        )
    return Path(name)


def _opened(data: str | PathLike[str] | Dataset) -> Dataset:
    return load_data(data) if isinstance(data, str | PathLike) else data


def data_place(data: str | PathLike[str] | Dataset) -> str:
    """Returns where a data set lies: a folder or a bucket's address."""
    return expand_home(data) if isinstance(data, str | PathLike) else str(data.directory)
