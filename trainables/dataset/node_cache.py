"""Opens a data set wherever it lies. One in a bucket is fetched once per machine, checked, and mapped from there.

CACHE/datasets/<fingerprint>/   a whole copy; every trial of the machine shares its pages
CACHE/datasets/.<fingerprint>/  one that is being fetched, or was when its process was killed: the next one goes on
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.dataset.face_boxes import FACES_FILE, load_faces
from trainables.dataset.info import DatasetInfo
from trainables.dataset.reader import (
    IMAGES_FILE,
    INFO_FILE,
    Dataset,
    content_fingerprint,
    open_dataset,
)
from trainables.errors import DatasetError
from trainables.local_copies import cache_folder
from trainables.places import Place, is_bucket, single_process_lock

_TRIES = 2


def open_data(name: str, *, fingerprint: str = "", say: Callable[[str], None] = lambda line: None) -> Dataset:
    """Opens a data set folder, or a bucket's data set through this machine's copy of it.

    Args:
        name: a folder, or the address of a bucket's prefix.
        fingerprint: the data set that it must be; empty for whichever is there.
        say: called with a line before a download.

    Raises:
        DatasetError: there is no data set, it is damaged, or it is another.
        PlaceError: the bucket cannot be reached.
    """
    dataset = open_dataset(_fetched_folder(Place(name), say) if is_bucket(name) else Path(name))
    if fingerprint and dataset.info.fingerprint != fingerprint:
        raise DatasetError(
            f"{name} must be the data set with fingerprint {fingerprint}. Received: {dataset.info.fingerprint}. "
            "Put the first one back on every machine"
        )
    return dataset


@contextmanager
def import_folder(name: str, *, replace: bool = False) -> Iterator[Path]:
    """Gives the folder to import into; for a bucket, one of the cache, which is copied there when the block ends well.

    `dataset.json`, by which a data set is known, goes first and comes last, so that half of one is none. What is in the
    bucket already is not copied again.

    Args:
        name: a folder, or the address of a bucket's prefix.
        replace: whether another data set in the bucket may give way.

    Raises:
        DatasetError: the name is empty, or the bucket has another data set there.
        PlaceError: the bucket cannot be reached or written.
    """
    if not name.strip():
        raise DatasetError(f"--to must name a folder or a bucket's address. Received: {name!r}; for the current one: .")
    if not is_bucket(name):
        yield Path(name)
        return
    place = Place(name)
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    folder = cache_folder() / "imports" / digest / place.last_part
    folder.parent.mkdir(parents=True, exist_ok=True)
    yield folder
    there, new = place.read(INFO_FILE), (folder / INFO_FILE).read_bytes()
    if there == new:
        return
    if there is not None and not replace and _source_of(there) != _source_of(new):
        raise DatasetError(f"The target must be new or empty. Received: {name}, another data set; pass --replace.")
    for file in (INFO_FILE, FACES_FILE):  # an earlier data set's
        place.delete(file)
    for file in (IMAGES_FILE, INFO_FILE):
        place.upload(folder / file, file)


def _source_of(info: bytes) -> str:
    try:
        return DatasetInfo.model_validate_json(info).source_fingerprint
    except ValueError:
        return "damaged"


def store_faces(dataset: Dataset, name: str) -> None:
    """Puts the face boxes that were found on this machine beside a bucket's data set, for all others.

    They take the place of those that an earlier version's detector found.
    """
    Place(name).upload(dataset.directory / FACES_FILE, FACES_FILE)


def info_in(place: Place) -> DatasetInfo:
    """Returns what a bucket's data set says of itself.

    Raises:
        DatasetError: there is none, or it is damaged.
        PlaceError: the bucket cannot be reached.
    """
    said = place.read(INFO_FILE)
    if said is None:
        raise DatasetError(
            f"A data set must hold {INFO_FILE}. Received: {place.name} without it. Put one there with: "
            f"emotune data import SOURCE --to {shlex.quote(place.name)}"
        )
    try:
        return DatasetInfo.model_validate_json(said)
    except ValueError:
        raise DatasetError(f"{place.at(INFO_FILE)} is damaged. Import the data again.") from None


def _fetched_folder(place: Place, say: Callable[[str], None]) -> Path:
    """Returns this machine's copy of a bucket's data set; one process fetches it, the others wait for it."""
    info = info_in(place)
    folder = cache_folder() / "datasets" / info.fingerprint
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with single_process_lock(folder.with_name(f".{info.fingerprint}.lock")):
            if folder.exists() and not _opens(folder):  # a purge of old files, or a power cut, has left half of it
                shutil.rmtree(folder)
            for attempt in range(_TRIES):
                if not folder.exists():
                    say(f"fetching {place.name} into {folder}")
                    _fetch(place, info, folder, last=attempt == _TRIES - 1)
            if load_faces(open_dataset(folder)) is None and place.exists(FACES_FILE):
                (folder / f".{FACES_FILE}.part").unlink(missing_ok=True)  # of another version's
                place.download(FACES_FILE, folder / FACES_FILE)
    except OSError as error:
        raise DatasetError(
            f"{folder} must be writable, with room for {place.name}. Received: {error.strerror or error}. "
            "Make room, or name another cache in $EMOTUNE_CACHE"
        ) from error
    return folder


def _opens(folder: Path) -> bool:
    try:
        open_dataset(folder)
    except DatasetError:
        return False
    return True


def _fetch(place: Place, info: DatasetInfo, folder: Path, *, last: bool) -> None:
    unfinished = folder.with_name(f".{info.fingerprint}")
    place.download(IMAGES_FILE, unfinished / IMAGES_FILE)
    (unfinished / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    try:
        found = content_fingerprint(open_dataset(unfinished))
    except DatasetError:
        found = "a damaged file"
    if found == info.fingerprint:
        unfinished.rename(folder)
        return
    shutil.rmtree(unfinished)
    if last:
        raise DatasetError(
            f"{place.at(IMAGES_FILE)} must hold the images that {INFO_FILE} names, fingerprint {info.fingerprint}. "
            f"Received: {found}. Import the data again."
        )
