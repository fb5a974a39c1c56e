"""Exports: opened, and used on images, from Python and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.home_folder import expand_home

if TYPE_CHECKING:
    from tune.export.predict import Prediction, Predictor


def load_export(export: str | PathLike[str]) -> Predictor:
    """Loads an export; its `predict` takes image files and arrays.

    Args:
        export: a folder, or a bucket's address; a study's stands for its export.

    Raises:
        ExportError: it is missing, is no export, or is damaged.
        PlaceError: the bucket cannot be reached.
    """
    from tune.export.predict import load_export as load_folder

    with _opened(export) as folder:
        return load_folder(folder)


def verify_export(export: str | PathLike[str]) -> dict[str, str]:
    """Compares every file of an export with its manifest, without loading the model.

    Args:
        export: a folder, or a bucket's address; a study's stands for its export.

    Returns:
        SHA-256 by file; empty for an export of 0.1, which has no manifest.

    Raises:
        ExportError: a file is missing or another one, or a newer emotune wrote the export.
        PlaceError: the bucket cannot be reached.
    """
    from tune.export.predict import check_export

    with _opened(export) as folder:
        manifest = check_export(folder)
        return manifest.files if manifest else {}


def evaluate_export(
    export: str | PathLike[str], data: str | PathLike[str], *, every_format: bool = False
) -> dict[str, Any]:
    """Scores an export on labelled images.

    Args:
        export: a folder, or a bucket's address; a study's stands for its export.
        data: a data set's folder or address, whose test split is scored; or a folder or zip of class folders, or a CSV
            like `fer2013.csv`, all of whose images are.
        every_format: the other formats of the export are scored beside `model.keras`, in a process without emotune.

    Returns:
        What `trainables.training.metrics.evaluate` returns, `accuracy_interval` (95 %, Wilson), `classes`,
        `expected_calibration_error`, `unread` (images that could not be decoded), `unread_images` (why, by name) and
        `looks_divided` (images without a pixel above 1 of 255). With `every_format`, `formats` has by name `accuracy`,
        `max_difference` (of a probability) and `accuracy_difference` with its 95 % `interval`, for paired answers.

    Raises:
        ExportError: the export is missing, is none, or is damaged; a format's package is not installed.
        DatasetError: the data cannot be read, has no images to score, or has a class that the export does not know.
        PlaceError: the bucket cannot be reached.
    """
    from tune.export.evaluation import evaluate_on
    from tune.export.predict import load_export as load_folder

    with _opened(export) as folder:
        return evaluate_on(load_folder(folder), expand_home(data), folder if every_format else None)


def serve_export(
    export: str | PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    upload_timeout_s: float = 30.0,
    ready: Callable[[str], None] = print,
) -> None:
    """Serves an export over HTTP until the process gets Ctrl-C or SIGTERM; what has been taken by then is answered.

    Args:
        export: a folder, or a bucket's address; a study's stands for its export.
        host: address to listen at; whoever reaches it may ask.
        port: a free port of it.
        upload_timeout_s: in which an image must have arrived, 1 to 3600; a slower client is told 408.
        ready: called with the server's URL when it answers.

    Raises:
        ExportError: the export is missing, is none, or is damaged.
        ServeError: the address is taken, a package is missing, or the timeout is out of range.
        PlaceError: the bucket cannot be reached.
        KeyboardInterrupt: after a signal, when the last answer is out.
    """
    from tune.serve.server import check_address, check_upload_timeout, serve_folder

    check_upload_timeout(upload_timeout_s)
    check_address(host, port)
    verify_export(export)
    with _opened(export) as folder:
        serve_folder(folder, host, port, upload_timeout_s, ready)


def push_export(export: str | PathLike[str], to: str, *, public: bool = False) -> str:
    """Sends an export to where models are shared; its files are compared with its manifest first.

    Args:
        export: a folder, or a bucket's address; a study's stands for its export.
        to: `hf://owner/name`, `s3://bucket/prefix`, `gs://bucket/prefix`, `mlflow:http://host:5000`, or `mlflow:` for
            the server of MLFLOW_TRACKING_URI.
        public: a repository that is made on the Hugging Face Hub may be read by everybody.

    Returns:
        Where it is, as a person would open it.

    Raises:
        ExportError: the export is missing or damaged, the address is none of these, a package is missing, or the
            service says no.
        PlaceError: a bucket cannot be reached.
    """
    from tune.publish.push import check_address, push_folder

    check_address(to)
    with _opened(export) as folder:
        return push_folder(folder, to, public=public)


@contextmanager
def _opened(name: str | PathLike[str]) -> Iterator[Path]:
    """Yields an export's folder, on this machine; a study's stands for its export."""
    from trainables.local_copies import local_folder
    from trainables.places import Place
    from tune.export.export import LABELS_FILE
    from tune.study.bucket_study import EXPORT_FOLDER

    place = Place(expand_home(name))
    inside = place.child(EXPORT_FOLDER)
    is_study = not place.exists(LABELS_FILE) and inside.exists(LABELS_FILE)
    with local_folder(inside.name if is_study else place.name) as folder:
        yield folder


def predict(
    export: str | PathLike[str], images: Sequence[str | PathLike[str]] | str | PathLike[str]
) -> list[Prediction]:
    """Classifies image files; says what is wrong with their names before it loads the model.

    Args:
        export: a folder, or a bucket's address.
        images: files, or one: gray, colour or 16 bits, of any size.

    Raises:
        ImageError: one is missing, a folder, empty, too large or not an image.
        ExportError: the export is missing, is none, or is damaged.
    """
    from pathlib import Path

    from tune.export.pictures import check_images

    several = [images] if isinstance(images, str | PathLike) else images
    paths = [Path(expand_home(image)) for image in several]
    check_images(paths)
    return load_export(export).predict(paths)
