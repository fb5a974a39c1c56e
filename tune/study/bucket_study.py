"""Keeps a study that lives in a bucket in step with its working folder on this machine; one driver at a time.

Ray writes the trials' checkpoints into the bucket itself, and the process that exports writes the export. Everything
else (journal, Optuna's file, TensorBoard) is written in the working folder, CACHE/studies/<hash>/<name>, and copied up
within seconds, the journal last.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.local_copies import cache_folder, local_folder
from trainables.places import Place, StoredFile, single_process_lock
from tune.study.journal import JOURNAL_FILE, is_locked, kept_from_drivers

STUDY_FILE, CHECKPOINTS_FOLDER, EXPORT_FOLDER = "study.yaml", "trials", "export"
_METRICS_FILE = "metrics.json"
"""Of an export, what tells it from others: it has the numbers of its models and their scores."""
LEASE_FILE, LEASE_EXPIRES_S = ".lease.json", 60.0
"""What a driver signs again and again while it has a study, and after how long without that it counts as gone."""

UPLOADED_FILE = ".uploaded"
"""What a working folder holds once the bucket has had the study's journal: a bucket without one has lost it."""


def working_folder(place: Place) -> Path:
    """Returns this machine's working folder of a study in a bucket."""
    digest = hashlib.blake2b(place.name.encode(), digest_size=6).hexdigest()
    return cache_folder() / "studies" / digest / place.last_part


def is_being_created(place: Place) -> bool:
    """Says whether a driver has taken a place in a bucket, whose study file is not there yet."""
    return place.exists(LEASE_FILE)


def is_signed(place: Place) -> bool:
    """Says whether a driver has signed a place in a bucket within its time, if this machine's clock is the bucket's."""
    signed = place.modified_at(LEASE_FILE)
    return signed is not None and time.time() - signed < LEASE_EXPIRES_S


def download_study(place: Place, folder: Path) -> None:
    """Brings the working folder up to what the bucket has; leaves it alone while a driver of this machine has it.

    The longer of two journals is kept when one begins with the other. When another machine has gone on from an earlier
    line, the bucket's is the one that counts, and this machine's is kept beside it.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    journal = folder / JOURNAL_FILE
    with _one_reader(folder):
        if journal.exists() and is_locked(journal):
            return
        theirs, ours = _both_journals(place, journal)
        stored = {file.path: file for file in _files(place)}
        if (folder / UPLOADED_FILE).exists() and not theirs and STUDY_FILE not in stored:
            folder.rename(folder.with_name(f".{folder.name}.removed-{time.time_ns()}"))  # somebody has removed it there
            ours = b""
        behind, ahead = not ours.startswith(theirs), ours != theirs and ours.startswith(theirs)
        for path, file in stored.items():
            local = folder / path
            if path == JOURNAL_FILE or (ahead and path == STUDY_FILE and local.exists()):
                continue
            grown = ahead and path.startswith("tensorboard/") and local.exists()
            if grown and local.stat().st_size > file.size_bytes:  # while the bucket could not be reached
                continue
            # Event files only grow; a study file or an export of the same size may be another.
            rewritten = behind and not path.startswith("tensorboard/")
            if rewritten or not local.exists() or local.stat().st_size != file.size_bytes:
                local.with_name(f".{local.name}.part").unlink(missing_ok=True)
                place.download(path, local)
        if b'"event":"export"' not in theirs + ours:  # its driver died while it was being copied up
            for path in stored:
                if path.startswith(f"{EXPORT_FOLDER}/"):
                    (folder / path).unlink()
        _keep_the_longer(journal, theirs, ours)
        _note_seen(folder, theirs)


def download_journal(place: Place, folder: Path) -> None:
    """Brings the working folder's journal and study file alone up to what the bucket has, as `download_study` does.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    journal = folder / JOURNAL_FILE
    with _one_reader(folder):
        if journal.exists() and is_locked(journal):
            return
        theirs, ours = _both_journals(place, journal)
        if theirs and not ours.startswith(theirs):
            # The study file after the journal, which goes up after it: a session may have extended the study.
            _keep_the_longer(journal, theirs, ours, place.read(STUDY_FILE))
        _note_seen(folder, theirs)


@contextmanager
def _one_reader(folder: Path) -> Iterator[None]:
    """Lets one process of this machine after the other fill a working folder: two would write into one file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with single_process_lock(folder.with_name(f".{folder.name}.lock")):
        yield


def _both_journals(place: Place, journal: Path) -> tuple[bytes, bytes]:
    return place.read(JOURNAL_FILE) or b"", journal.read_bytes() if journal.exists() else b""


def _keep_the_longer(journal: Path, theirs: bytes, ours: bytes, study_file: bytes | None = None) -> None:
    """Puts the bucket's journal in place, and its study file if that is given, unless ours is the longer."""
    if not theirs or ours.startswith(theirs):
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with kept_from_drivers(journal) as free:
        ours = journal.read_bytes()
        if not free or ours.startswith(theirs):  # a driver has begun since, perhaps ended too
            return
        if not theirs.startswith(ours):
            journal.with_name(f"journal-{time.time_ns()}.jsonl").write_bytes(ours)
        working = Place(str(journal.parent))
        if study_file is not None:
            working.write(STUDY_FILE, study_file)
        working.write(JOURNAL_FILE, theirs)


def _note_seen(folder: Path, theirs: bytes) -> None:
    if theirs and folder.exists():
        (folder / UPLOADED_FILE).touch()


def update_export(place: Place, folder: Path) -> None:
    """Copies a study's export from the bucket where the working folder has none, or an earlier one.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    theirs, ours = place.read(f"{EXPORT_FOLDER}/{_METRICS_FILE}"), folder / EXPORT_FOLDER / _METRICS_FILE
    if theirs is not None and (not ours.exists() or ours.read_bytes() != theirs):
        with _one_reader(folder):
            download_export(place, folder)


def download_export(place: Place, folder: Path) -> None:
    """Copies a study's export from the bucket into its working folder, in place of an earlier one."""
    with local_folder(place.at(EXPORT_FOLDER)) as export:
        target = folder / EXPORT_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(export, target)


def _files(place: Place) -> list[StoredFile]:
    """Returns the files of a study that have copies here: all but the trials' and the lease."""
    own = [file for file in place.files(recursive=False) if not file.path.startswith(".")]
    return [*own, *place.files("tensorboard"), *place.files(EXPORT_FOLDER)]
