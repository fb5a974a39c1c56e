"""Reads the original `fer2013.csv`: one image a row, columns emotion, pixels and Usage. Knows nothing of zips."""

from __future__ import annotations

import csv
import io
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Final

import numpy as np

from trainables.dataset.reader import LeftOut, Pixels, SkippedImage
from tune.errors import SourceError, nearest
from tune.sources.folder_layout import Item
from tune.sources.split_names import CLASS, LEAVE_OUT, SplitDecisions, SplitUses

EMOTIONS: Final = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
USAGES: Final = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
_COLUMNS: Final = ("emotion", "pixels", "Usage")
_ROW_OVERHEAD_BYTES: Final = 14


@dataclass(frozen=True)
class _Row(Item):
    text: str


class CsvSource:
    """FER-2013 as it was published; PublicTest and PrivateTest are the test split, as in the Kaggle folders."""

    def __init__(
        self,
        name: str,
        size_bytes: int,
        opened: Callable[[], IO[bytes]],
        decisions: SplitDecisions | None = None,
        passed_over: Mapping[str, int] | None = None,
    ) -> None:
        """Reads the header and the first row.

        Args:
            name: what to call the file.
            size_bytes: of the file, unpacked.
            opened: opens the file from its start.
            decisions: what the user decided about the values of Usage.
            passed_over: files beside it, counted by suffix.

        Raises:
            SourceError: a column is missing, or there are no rows.
        """
        self.name, self._opened = name, opened
        self.classes = tuple(sorted(EMOTIONS))
        self.skipped: tuple[SkippedImage, ...] = ()
        self.passed_over = dict(passed_over or {})
        uses = _usage_splits(decisions or SplitDecisions(), name)
        self.notes: tuple[str, ...] = (uses.note,) if uses.note else ()
        self._splits, self._reason = uses.numbers, uses.reason
        self._left_out: Counter[str] = Counter()
        first = next(iter(self), None)
        if first is None:
            raise SourceError(f"A CSV must hold rows. Received: {name} with a header alone.")
        self._pixels = len(first.text.split())
        side = math.isqrt(self._pixels)
        if side == 0 or side * side != self._pixels:
            raise SourceError(
                f"A row's pixels must make a square, 2304 for 48 x 48. Received: {self._pixels} in {first.path}."
            )
        # An estimate: what the file's size makes of the first row's length.
        self.expected_images = max(1, size_bytes // (len(first.text) + _ROW_OVERHEAD_BYTES))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The rows that the last iteration left out, by their Usage."""
        return tuple(
            LeftOut(
                path=f"{self.name}, Usage {usage}",
                images=rows,
                reason=self._reason if usage in self._splits else "left out by --split",
            )
            for usage, rows in sorted(self._left_out.items())
        )

    def __iter__(self) -> Iterator[_Row]:
        """The rows in their order.

        Raises:
            SourceError: the file is no CSV, or a row has an unknown emotion or Usage.
        """
        self._left_out.clear()
        try:
            with self._opened() as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
                yield from self._rows(csv.reader(text))
        except (csv.Error, UnicodeDecodeError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise SourceError(f"A CSV must be readable text. Received: {self.name}: {error}.") from error

    def pixels(self, item: Item) -> Pixels:
        """The pixels of one row: uint8, (side, side, 1).

        Raises:
            SourceError: not as many as in the first row, or a value that is no integer 0-255.
        """
        values = item.text.split() if isinstance(item, _Row) else []
        if len(values) != self._pixels:
            raise SourceError(
                f"Every row must have as many pixels as the first, {self._pixels}. "
                f"Received: {len(values)} in {item.path}; fix or remove the row."
            )
        try:
            pixels = bytes(map(int, values))
        except ValueError as error:
            raise SourceError(f"Pixels must be integers 0 to 255. Received: {item.path}: {error}.") from error
        side = math.isqrt(self._pixels)
        return np.frombuffer(pixels, np.uint8).reshape(side, side, 1)

    def _rows(self, table: Iterator[list[str]]) -> Iterator[_Row]:
        header = [name.strip().lower() for name in next(table, [])]
        missing = [name for name in _COLUMNS if name.lower() not in header]
        if missing:
            raise SourceError(
                f"A CSV must have the columns {', '.join(_COLUMNS)}. "
                f"Received: {self.name} without {', '.join(missing)}."
            )
        emotion, pixels, usage = (header.index(name.lower()) for name in _COLUMNS)
        for number, row in enumerate(table, start=2):
            if not row:
                continue
            where = f"{self.name}, line {number}"
            if len(row) != len(header):
                raise SourceError(f"Every row must have {len(header)} fields. Received: {len(row)} in {where}.")
            code, used = row[emotion].strip(), row[usage].strip()
            if code not in {str(index) for index in range(len(EMOTIONS))}:
                raise SourceError(f"An emotion must be 0 to {len(EMOTIONS) - 1}. Received: {code!r} in {where}.")
            if used not in USAGES:
                raise SourceError(
                    f"Usage must be known. Received: {row[usage]!r} in {where}.{nearest(row[usage], USAGES)}"
                )
            if (split := self._splits.get(used)) is None:
                self._left_out[used] += 1
            else:
                yield _Row(where, EMOTIONS[int(code)], split, row[pixels])


def _usage_splits(decisions: SplitDecisions, name: str) -> SplitUses:
    """What becomes of the rows of each Usage; those that are not named are left out."""
    decisions.check_used([(usage, "") for usage in USAGES], name)
    kinds = {usage: decisions.of(usage) or kind for usage, kind in USAGES.items()}
    if CLASS in kinds.values():
        raise SourceError(f"A Usage must be a split. Received: --split with {CLASS} for {name}; name a split.")
    return decisions.uses({usage: kind for usage, kind in kinds.items() if kind != LEAVE_OUT}, name)
