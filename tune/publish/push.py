"""Where an export may be sent, by its address; and the bucket, which needs no service. Compares the files first."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from trainables.local_copies import written_folder
from trainables.places import SCHEMES, Place, is_bucket
from tune.errors import ExportError
from tune.export.destination import check_destination
from tune.export.export import EXPORT_FILES, EXPORT_PARTS
from tune.export.manifest import MANIFEST_FILE
from tune.export.predict import check_export

HUB, MLFLOW = "hf://", "mlflow:"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push_folder(folder: Path, to: str, *, public: bool = False) -> str:
    """Sends an export's folder.

    Args:
        folder: the export.
        to: one of the addresses that `check_address` lets through.
        public: a repository that is made on the Hugging Face Hub may be read by everybody.

    Returns:
        Where it is, as a person would open it.

    Raises:
        ExportError: the export is damaged, a package is missing, or the service says no.
        PlaceError: the bucket cannot be reached.
    """
    manifest = check_export(folder)
    if manifest is None:
        raise ExportError(
            f"an export must have a manifest to be sent. Received: {folder}, of emotune 0.1. Write it again with this "
            "version: emotune export STUDY --to FOLDER"
        )
    with _alone(folder, [*manifest.files, MANIFEST_FILE]) as export:
        if to.startswith(HUB):
            from tune.publish.hub import push_to_hub

            return push_to_hub(export, to.removeprefix(HUB), public=public)
        if to.startswith(MLFLOW):
            from tune.publish.mlflow_run import push_to_mlflow

            return push_to_mlflow(export, to.removeprefix(MLFLOW))
        check_destination(Place(to), EXPORT_FILES, EXPORT_PARTS)
        with written_folder(to) as target:
            shutil.copytree(export, target, dirs_exist_ok=True)
        return to


@contextmanager
def _alone(folder: Path, files: Sequence[str]) -> Iterator[Path]:
    """Gives a folder with these files of another: what else lies beside an export's (notes, `.git`) stays here."""
    with TemporaryDirectory(prefix="emotune-push-") as alone:
        for file in files:
            target = Path(alone, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, target)
        yield Path(alone)


def check_address(to: str) -> None:
    """Refuses an address that names none of the places.

    Raises:
        ExportError: it does.
    """
    repository = to.removeprefix(HUB)
    if to.startswith(HUB) and not _REPOSITORY.fullmatch(repository):
        raise ExportError(f"a repository of the Hub is hf://OWNER/NAME. Received: {to}. Correct it")
    if to.startswith(MLFLOW):
        server = to.removeprefix(MLFLOW)
        if server and not re.match(r"https?://[^/]", server):
            raise ExportError(f"a server of MLflow is mlflow:http://HOST:PORT. Received: {to}. Correct it")
    elif not to.startswith(HUB) and (not is_bucket(to) or to.partition("://")[0] not in SCHEMES):
        raise ExportError(
            "an export is sent to hf://OWNER/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or mlflow:http://HOST:PORT. "
            f"Received: {to}. A folder is what emotune export --to writes"
        )
