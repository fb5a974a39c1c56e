"""Reads a CSV as rows under named columns: its encoding, its separator, its header. Knows nothing of images."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import IO, Any, Final

from tune.errors import SourceError
from tune.sources.file_kinds import is_image
from tune.sources.file_store import DAMAGED, MAX_TABLE_BYTES, FileStore, check_sizes
from tune.sources.split_names import SplitDecisions, split_named

LABEL_COLUMNS: Final = (
    *("emotion", "emotions", "expression", "label", "labels", "class", "class_name", "classname", "category"),
    *("target", "emotion_label"),
)
PIXEL_COLUMNS: Final = ("pixels", "pixel", "image_pixels")
USAGE_COLUMNS: Final = ("usage", "split", "subset", "set", "partition")
PATH_COLUMNS: Final = (
    *("path", "paths", "pth", "filepath", "file_path", "file", "filename", "file_name", "image", "image_path", "img"),
    *("img_path", "image_name", "imagename", "imagepath", "name", "subdirectory_filepath"),
)
TABLE_SUFFIXES: Final = (".csv", ".tsv")
_MAX_FIELD_CHARACTERS: Final = 32 << 20
_MAX_HEADER_CHARACTERS: Final = 1 << 20
_NUMBERED: Final = re.compile(r"(?:pixels?|px|p)?[ _-]?\d+(?:x\d+)?")
_FEWEST_NUMBERED: Final = 16
_BETWEEN: Final = re.compile(r"[\s,;]+")
_FER2013_USAGES: Final = ("training", "publictest", "privatetest")
_SHOWN_COLUMNS: Final = 8
_SHOWN_CHARACTERS: Final = 24
_BROKEN: Final = (csv.Error, UnicodeError, *DAMAGED)


class CsvTable:
    """A CSV.

    Attributes:
        name: what to call it.
        header: names of the columns, in lower case, without blanks around them.
        note: how the columns were understood, if the table has no header of its own.
    """

    def __init__(self, name: str, opened: Callable[[], IO[bytes]]) -> None:
        """Reads the header; rows behind it may still turn out not to be readable.

        Raises:
            SourceError: it is not readable text.
        """
        self.name, self._opened = name, opened
        self.note: str | None = None
        with self._text("replace") as (lines, _):
            first: list[str] = next(lines, [])
        if any("\ufffd" in column or "\0" in column for column in first):
            with self._text() as (lines, _):
                first = next(lines, [])
        known = _columns_of_data(first)
        self._first_row = 2 if known is None else 1
        self.header = known or tuple(column.strip().lower() for column in first)
        if known is not None:
            self.note = f"{name} has no header: its columns are taken for {', '.join(known)}"

    def column(self, names: Iterable[str]) -> int | None:
        """Where the first of some columns is that the table has."""
        return next((self.header.index(name) for name in names if name in self.header), None)

    def pixel_columns(self) -> tuple[int, ...]:
        """Where the pixels are: one column of numbers, or a column for each pixel (`pixel0`, `pixel1`, ...)."""
        if (alone := self.column(PIXEL_COLUMNS)) is not None:
            return (alone,)
        numbered = tuple(i for i, name in enumerate(self.header) if _NUMBERED.fullmatch(name))
        return numbered if len(numbered) >= _FEWEST_NUMBERED else ()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows below the header that are not empty, with their numbers; the first of the table is number 1.

        Raises:
            SourceError: it is not readable text.
        """
        with self._text() as (lines, text):
            if self._first_row == 2:
                next(lines, None)
            before, text.row = lines.line_num, []
            for number, row in enumerate(lines, start=self._first_row):
                swallowed = lines.line_num - before - 1
                if (swallowed and len(row) != len(self.header)) or (text.at_end and text.is_open()):
                    raise SourceError(
                        f"A quotation mark in a CSV must be closed. Received: {self.name}, where one in line "
                        f"{before + 1:,} swallows {swallowed:,} lines; close it or take it out."
                    )
                before, text.row = lines.line_num, []
                if row:
                    yield number, row

    def columns_text(self) -> str:
        """The first names of its columns, for errors."""
        plain = [" ".join(name.split()) for name in self.header[:_SHOWN_COLUMNS]]
        names = [name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..." for name in plain]
        return ", ".join(names) or "no columns"

    @contextmanager
    def _text(self, errors: str = "strict") -> Iterator[tuple[Any, _Lines]]:
        # Python's limit of 131,072 characters is less than a row of 224 x 224 pixels.
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
        try:
            with self._opened() as raw:
                buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
                encoding = _encoding(buffered.peek(4)[:4])
                with io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="") as text:
                    first = text.readline(_MAX_HEADER_CHARACTERS)
                    separator = max(",;\t", key=first.count)
                    lines = _Lines(chain([first] if first else [], text), separator)
                    yield csv.reader(lines, delimiter=separator), lines
        except _BROKEN as error:
            remedy = "; save it as UTF-8" if isinstance(error, UnicodeError) else ""
            raise SourceError(f"A CSV must be readable text. Received: {self.name}: {error}{remedy}.") from error


class _Lines:
    """Lines of a table; `row` are those since it was last emptied, `at_end` says that there are no more."""

    def __init__(self, lines: Iterable[str], separator: str) -> None:
        self._lines, self._separator = iter(lines), separator
        self.row, self.at_end = list[str](), False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.at_end = True
            raise StopIteration
        self.row.append(line)
        return line

    def is_open(self) -> bool:
        """Whether the row's last field begins with a quotation mark that nothing closes."""
        try:
            list(csv.reader(self.row, delimiter=self._separator, strict=True))
        except csv.Error as error:
            return "unexpected end of data" in str(error)
        return False


def open_table(store: FileStore, path: str) -> CsvTable:
    """Opens a CSV of a store.

    Raises:
        SourceError: it is too large, or not readable text.
    """
    check_sizes({path: store.listing.others[path].size_bytes}, MAX_TABLE_BYTES, store.packed_bytes, store.where)
    return CsvTable(row_source(store, path), lambda: store.open(path))


def row_source(store: FileStore, path: str) -> str:
    """What rows of a file of a store say that they are from."""
    return path if path == store.name else f"{store.name}/{path}"


def split_by_path(path: str) -> str | None:
    """Train, test or validation, if a file's name or one of its folders says so."""
    stem, *folders = reversed(path.split("/"))
    for name in (stem.partition(".")[0], *folders):
        if (named := split_named(name)) is not None:
            return named.kind
    return None


def numbers_in(text: str) -> list[float]:
    """Numbers between blanks, commas or semicolons, perhaps in brackets.

    Raises:
        ValueError: something is no number, or not finite.
    """
    parts = _BETWEEN.split(text.strip().strip("[]()").strip(" ,;\t\r\n"))
    values = [float(part) for part in parts if part]
    if not all(map(math.isfinite, values)):
        raise ValueError("one is not finite")
    return values


def usage_kind(usage: str, decisions: SplitDecisions) -> str | None:
    """What the user decided about a Usage, or which split it says; None if it says none."""
    named = split_named(usage)
    return decisions.kind_of([(usage, "")], named.kind if named and named.plain else None)


def _columns_of_data(first: Sequence[str]) -> tuple[str, ...] | None:
    """Names the columns of a table whose first row is data already: an image's pixels or path, its label, perhaps its
    split. None if it is a header, or not plainly one of these."""
    names: list[str] = []
    for field in (field.strip() for field in first):
        named = split_named(field)
        if _holds_pixels(field):
            names.append(PIXEL_COLUMNS[0])
        elif is_image(field):
            names.append(PATH_COLUMNS[0])
        else:
            names.append(USAGE_COLUMNS[0] if named is not None and named.plain else "label")
    images = names.count(PIXEL_COLUMNS[0]) + names.count(PATH_COLUMNS[0])
    if images != 1 or names.count("label") != 1 or names.count(USAGE_COLUMNS[0]) > 1:
        return None
    if PIXEL_COLUMNS[0] in names and any(field.strip().casefold() in _FER2013_USAGES for field in first):
        names[names.index("label")] = LABEL_COLUMNS[0]  # whose numbers are FER-2013's codes
    return tuple(names)


def _holds_pixels(field: str) -> bool:
    try:
        return len(numbers_in(field)) >= _FEWEST_NUMBERED
    except ValueError:
        return False


def _encoding(beginning: bytes) -> str:
    return "utf-16" if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
