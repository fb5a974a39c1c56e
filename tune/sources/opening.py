"""Opens what is to be imported and chooses its reader: image files, tables of pixels, parquet files or TFRecords.

Writes nothing.

`nested.py` opens archives and folders; `listed_images.py`, `csv_source.py`, `parquet_source.py` and
`tfrecord_source.py` read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tune.errors import SourceError
from tune.sources.csv_source import CsvSource, PixelTable, is_pixel_table
from tune.sources.csv_table import TABLE_SUFFIXES, USAGE_COLUMNS, CsvTable, open_table, row_source, split_by_path
from tune.sources.decoding import UnreadableImage
from tune.sources.ferplus import Vote, holds_votes, read_votes
from tune.sources.file_kinds import RECORD_SUFFIXES
from tune.sources.file_store import FileStore
from tune.sources.folder_layout import no_images
from tune.sources.folder_source import list_folder
from tune.sources.label_lists import image_paths, is_label_file
from tune.sources.listed_images import NO_LABELS, open_images, path_tables
from tune.sources.named_classes import ClassNames, NamedClasses
from tune.sources.nested import ARCHIVE_SUFFIXES, open_store
from tune.sources.source import Source
from tune.sources.split_names import SplitDecisions

_ZIP_DIRECTORY_BYTES: Final = 64 << 20


def open_source(
    path: Path,
    decisions: SplitDecisions | None = None,
    *,
    classes: ClassNames | None = None,
    labels: str | None = None,
) -> Source:
    """Looks at a source and checks all that can be checked without decoding.

    Args:
        path: a folder, a zip or a tar with images, CSVs, parquet files, TFRecords or further archives, or one of these.
        decisions: what the user decided about its splits.
        classes: what the user calls its labels.
        labels: a list of labels of its images (a file, or a path in the source); `none` for the folders' names.

    Raises:
        SourceError: the source is missing, unreadable, hostile, or holds no usable images.
    """
    path, decisions, classes = Path(path), decisions or SplitDecisions(), classes or ClassNames()
    with _readable(path):
        store = open_store(path)
        folders = labels is not None and labels.lower() == NO_LABELS
        table = _label_table(store, labels) if labels is not None and not folders else None
        source = _open(store, decisions, classes.labels, table, folders)
        return NamedClasses(source, classes) if classes.labels else source


def fingerprint_source(path: Path) -> str:
    """32 hexadecimal digits that change when a source does; next to nothing is decompressed.

    A folder counts with the names, sizes and dates of its images, tables and labels (and archives, without class
    folders), a zip with its size and its last 64 MiB, where its directory holds the checksum of every entry, another
    file with its size and date.

    Raises:
        SourceError: the source is missing or unreadable.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    with _readable(path):
        if path.is_dir():
            listing = list_folder(path)
            archives = () if listing.has_class_folders else ARCHIVE_SUFFIXES
            tables = (*TABLE_SUFFIXES, *RECORD_SUFFIXES, ".parquet", *archives)
            others = [file for file in listing.others.values() if file.kind in tables or is_label_file(file.path)]
            for found in sorted([*listing.images.values(), *others], key=lambda found: found.path):
                digest.update(f"{found.path}\n{found.stamp}\n".encode("utf-8", "surrogateescape"))
        elif _is_zip(path):
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _ZIP_DIRECTORY_BYTES))
                while block := file.read(1 << 20):
                    digest.update(block)
            digest.update(str(size).encode())
        else:
            digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def fingerprint_labels(source: Path, labels: str | None) -> str:
    """What a list of labels adds to a source's fingerprint; empty if the source counts it already, or there is none."""
    if labels is None:
        return ""
    inside = source / labels
    path = inside if source.is_dir() and inside.is_file() else Path(labels)
    if not path.is_file() or (path.is_relative_to(source) and path.suffix.lower() in TABLE_SUFFIXES):
        return ""
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.exists():
        raise SourceError(f"A source must exist. Received: {path}; check the path.")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SourceError(f"A source must be a regular file or a folder. Received: {path}; name one of these.")
    try:
        yield
    except UnreadableImage as error:  # of a list that had to be read before any image
        raise SourceError(f"A source's lists of labels must be readable. Received: {path}: {error}.") from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
        raise SourceError(f"A source must be readable. Received: {path}: {error.strerror or error}{where}.") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _open(
    store: FileStore, decisions: SplitDecisions, given: frozenset[str], labels: CsvTable | None, folders: bool
) -> Source:
    listing = store.listing
    parquet = [path for path, file in listing.others.items() if file.kind == ".parquet"]
    tables = sorted(path for path, file in listing.others.items() if file.kind in TABLE_SUFFIXES)
    records = [path for path, file in listing.others.items() if file.kind in RECORD_SUFFIXES]
    if not listing.images and not (parquet or tables or records):
        raise no_images(store.where, listing.not_read(()))
    pixels = _holds_pixels(store, tables)
    tabular = bool(parquet or records or pixels)
    # Pictures beside the data, such as a figure, are no class folders, and no list names them.
    listed = labels is not None and not (pixels and _are_votes_on_rows(store, labels))
    beside = tabular and not (folders or listed or listing.has_class_folders or path_tables(store))
    if (listing.sure_images and not beside) or not (parquet or tables or records):
        return open_images(store, decisions, given, labels, folders)
    if (parquet or records) and not pixels:
        if labels is not None:
            raise SourceError(
                f"--labels must go with image files or FER-2013's table. Received: {labels.name} for {store.where}, "
                "whose files hold their labels; leave it out."
            )
        if parquet:
            from tune.sources.parquet_source import open_parquet  # pyarrow.parquet takes a third of a second to load

            return open_parquet(store, parquet, decisions, given)
        from tune.sources.tfrecord_source import open_tfrecords  # as TensorBoard's reader does

        return open_tfrecords(store, records, decisions, given)
    return _open_tables(store, tables, decisions, given, labels)


def _open_tables(
    store: FileStore, paths: Sequence[str], decisions: SplitDecisions, given: frozenset[str], labels: CsvTable | None
) -> CsvSource:
    """Takes the one CSV that has emotion, pixels and Usage; else those that are called like splits, or the only one."""
    tables = _tables(store, paths)
    usable = [(path, table) for path, table in tables if is_pixel_table(table) or (labels and table.pixel_columns())]
    with_usage = [(path, table) for path, table in usable if table.column(USAGE_COLUMNS) is not None]
    taken = with_usage or usable
    splits = {path: split_by_path(path) for path, _ in taken}
    if len(taken) > 1 and (with_usage or None in splits.values() or len(set(splits.values())) < len(taken)):
        names = ", ".join(row_source(store, path) for path, _ in taken)
        raise SourceError(
            f"A source must hold one table of pixels. Received: {store.where} with {names}; import one of them."
        )
    if not taken:
        if len(tables) != 1:
            found = "; ".join(f"{path} ({table.columns_text()})" for path, table in tables)
            raise SourceError(
                "One CSV of a source must have the columns emotion and pixels (and Usage, if it has splits). "
                f"Received: {store.where} with {found or 'tables that cannot be read'}."
            )
        taken = tables  # its error says what it lacks
    read = [path for path, _ in taken]
    notes = []
    if beside := [path for path in paths if path not in read]:
        names = " and ".join(row_source(store, path) for path in read)
        notes.append(f"read from {names}, with its {taken[0][1].columns_text()}; not {', '.join(beside)}")
    several = len(taken) > 1
    return CsvSource(
        [PixelTable(table, splits.get(path) if several else None) for path, table in taken],
        row_source(store, read[0]) if not several else store.name,
        decisions,
        passed_over=store.listing.besides(read),
        given=given,
        votes=_votes(labels),
        left_out=store.listing.left_out,
        notes=notes,
    )


def _votes(labels: CsvTable | None) -> list[Vote] | None:
    if labels is not None and not holds_votes(labels):
        raise SourceError(
            "Labels of a table of pixels must be FER+'s votes, with a column for each emotion. Received: "
            f"{labels.name} with {labels.columns_text()}."
        )
    return None if labels is None else read_votes(labels)


def _are_votes_on_rows(store: FileStore, labels: CsvTable) -> bool:
    """Whether a list is of FER+'s votes, and they name no image of the store."""
    if not holds_votes(labels):
        return False
    find = image_paths(store)
    return not any(vote.image and find(vote.image, None, None)[0] for vote in read_votes(labels))


def _holds_pixels(store: FileStore, paths: Sequence[str]) -> bool:
    with suppress(SourceError):  # what is wrong with the only table is said by its reader
        return any(is_pixel_table(table) for _, table in _tables(store, paths))
    return False


def _tables(store: FileStore, paths: Sequence[str]) -> list[tuple[str, CsvTable]]:
    """The tables that can be read; if there is only one, its error is raised."""
    found = []
    for path in paths:
        try:
            found.append((path, open_table(store, path)))
        except SourceError:
            if len(paths) == 1:
                raise
    return found


def _label_table(store: FileStore, labels: str) -> CsvTable:
    """The list of labels that the user names: a file of this machine, or one of the source's."""
    if labels in store.listing.others:
        return open_table(store, labels)
    path = Path(labels)
    if not path.is_file():
        raise SourceError(f"--labels must name a CSV, here or in the source, or be {NO_LABELS}. Received: {labels!r}.")
    return CsvTable(path.name, lambda: path.open("rb"))
