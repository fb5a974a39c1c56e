"""Reads tables of pixels: one image a row, like `fer2013.csv`. Knows nothing of archives and folders."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import Pixels
from tune.errors import SourceError, nearest
from tune.sources.csv_table import LABEL_COLUMNS, USAGE_COLUMNS, CsvTable, numbers_in, usage_kind
from tune.sources.decoding import UnreadableImage
from tune.sources.ferplus import NO_MAJORITY, Vote, holds_votes, vote_of
from tune.sources.file_store import PassedOver
from tune.sources.folder_layout import Item, Shares
from tune.sources.label_names import name_labels
from tune.sources.split_names import SplitDecisions, SplitUses

USAGES: Final = ("Training", "PublicTest", "PrivateTest")
_SAMPLED_ROWS: Final = 64


@dataclass(frozen=True)
class PixelTable:
    """A table of pixels; `split` is what its name says where it has no Usage."""

    table: CsvTable
    split: str | None = None


@dataclass(frozen=True)
class _Row(Item):
    text: str = ""


@dataclass(frozen=True)
class _RawRow:
    where: str
    label: str
    usage: str
    text: str
    problem: str = ""
    shares: Shares = ()


@dataclass(frozen=True)
class _PixelFormat:
    """How many numbers a row has, and whether they are from 0 to 1 in place of 0 to 255."""

    count: int
    from_0_to_1: bool


class CsvSource:
    """Images whose pixels stand in a table; in FER-2013's, PublicTest and PrivateTest are the test split."""

    def __init__(
        self,
        tables: Sequence[PixelTable],
        name: str,
        decisions: SplitDecisions,
        *,
        passed_over: PassedOver | None = None,
        given: frozenset[str] = frozenset(),
        votes: Sequence[Vote] | None = None,
        left_out: Sequence[LeftOut] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Reads all labels, and the pixels of the first rows.

        Args:
            tables: each with a column of labels (or votes) and pixels.
            name: what to call the source.
            decisions: what the user decided about the values of Usage.
            passed_over: files beside them.
            given: labels that the user gives names to.
            votes: FER+ votes, by row; they take the place of the labels.
            left_out: what was left out before.
            notes: what is to be told of the choice of the tables.

        Raises:
            SourceError: a column is missing, there are no rows, or it has to be decided what they mean.
        """
        self.name, self.skipped = name, tuple[SkippedImage, ...]()
        self.passed_over: PassedOver = passed_over or Counter()
        self._tables, self._votes, self._before = tuple(tables), votes, tuple(left_out)
        for table in tables:
            _check_columns(table.table, votes is not None)
        labels, usages, sample = Counter[str](), Counter[str](), list[_RawRow]()
        self.expected_images = 0
        for row in self._raw_rows():
            self.expected_images += 1
            if row.problem:
                continue
            labels[row.label] += 1
            usages[row.usage] += 1
            if len(sample) < _SAMPLED_ROWS:
                sample.append(row)
        if not self.expected_images:
            raise SourceError(f"A CSV must hold rows. Received: {name} with a header alone.")
        column = self._label_column()
        voted = votes is not None or column is None
        self._names = name_labels(labels - Counter({NO_MAJORITY: labels[NO_MAJORITY]}), column or "vote", given, name)
        self.classes = tuple(sorted(set(self._names.classes.values())))
        uses = _usage_splits(usages, decisions, name)
        self._known = {usage for usage in usages if usage_kind(usage, decisions) is not None}
        self._uses = uses
        self._pixels = _pixel_format(sample, name)
        self._side = math.isqrt(self._pixels.count)
        self._left_out: Counter[tuple[str, str]] = Counter()
        told = [
            *notes,
            *(read.table.note for read in tables),
            uses.note,
            self._names.note,
            "labels are the majority of FER+'s votes" if voted else None,
        ]
        told += ["pixels are numbers from 0 to 1: multiplied by 255"] if self._pixels.from_0_to_1 else []
        self.notes = tuple(note for note in told if note)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The rows that the last iteration left out, by their Usage or for their votes."""
        rows = [
            LeftOut(path=f"{self.name}, {what}".removesuffix(", "), images=count, reason=reason)
            for (what, reason), count in sorted(self._left_out.items())
        ]
        return (*self._before, *rows)

    def __iter__(self) -> Iterator[Item]:
        """The rows in their order, bad ones too.

        Raises:
            SourceError: the file is no CSV.
        """
        self._left_out.clear()
        for row in self._raw_rows():
            problem = row.problem or self._names.problems.get(row.label, "")
            if not problem and row.usage and row.usage not in self._known:
                problem = f"the Usage must be known, and is {row.usage!r}.{nearest(row.usage, USAGES)}"
            if problem:
                yield _Row(row.where, self._names.of(row.label) or "", None, problem)
            elif row.label == NO_MAJORITY:
                self._left_out["", NO_MAJORITY] += 1
            elif row.usage and self._uses.numbers.get(row.usage) is None:
                self._left_out[f"Usage {row.usage}", self._uses.reason_of(row.usage)] += 1
            else:
                split = self._uses.numbers.get(row.usage) if row.usage else None
                shares = tuple((name, share) for label, share in row.shares if (name := self._names.of(label)))
                yield _Row(row.where, self._names.classes[row.label], split, shares=shares, text=row.text)

    def pixels(self, item: Item) -> Pixels:
        """The pixels of one row: uint8, (side, side, 1).

        Raises:
            UnreadableImage: not as many as in the other rows, or a value that is no number 0-255.
        """
        text = item.text if isinstance(item, _Row) else ""
        if not self._pixels.from_0_to_1:
            try:
                return self._square(np.frombuffer(bytes(map(int, text.split())), np.uint8))
            except ValueError:
                pass
        try:
            values = np.array(numbers_in(text))
        except ValueError as error:
            raise UnreadableImage(f"pixels must be numbers: {error}") from error
        scaled = values * 255 if self._pixels.from_0_to_1 else values
        if not ((scaled >= 0) & (scaled <= 255)).all():
            wrong = values[~((scaled >= 0) & (scaled <= 255))][0]
            most = "1" if self._pixels.from_0_to_1 else "255"
            raise UnreadableImage(f"pixels must be 0 to {most}, and one is {wrong:g}")
        return self._square(np.rint(scaled).astype(np.uint8))

    def _square(self, values: npt.NDArray[np.uint8]) -> Pixels:
        if len(values) != self._pixels.count:
            raise UnreadableImage(f"{len(values)} pixels where other rows have {self._pixels.count}")
        return values.reshape(self._side, self._side, 1)

    def _label_column(self) -> str | None:
        places = [table.table.column(LABEL_COLUMNS) for table in self._tables]
        return None if self._votes is not None or places[0] is None else self._tables[0].table.header[places[0]]

    def _raw_rows(self) -> Iterator[_RawRow]:
        index = 0
        for read in self._tables:
            table, fields = read.table, len(read.table.header)
            label, usage = table.column(LABEL_COLUMNS), table.column(USAGE_COLUMNS)
            pixels = table.pixel_columns()
            for number, row in table.rows():
                vote = self._vote(index, table, row) if self._votes is not None or label is None else None
                index += 1
                where = f"{table.name}, line {number}"
                used = (row[usage].strip() if usage is not None and usage < len(row) else "") or read.split or ""
                if len(row) != fields:
                    yield _RawRow(where, "", "", "", f"{len(row)} fields where the header has {fields}")
                elif usage is not None and not used:
                    yield _RawRow(where, "", "", "", "it has no Usage")
                elif vote is not None and vote.problem:
                    yield _RawRow(where, "", "", "", vote.problem)
                else:
                    if self._votes is not None and vote is not None and _differ(vote.usage, used):
                        raise SourceError(
                            f"FER+ must be of the same images, in the same order. Received: {where} of {used}, where "
                            f"FER+ has {vote.usage}; take the CSV that they were voted on."
                        )
                    said = (vote.emotion or NO_MAJORITY) if vote is not None else row[label or 0].strip()
                    text = row[pixels[0]] if len(pixels) == 1 else " ".join(row[place] for place in pixels)
                    yield _RawRow(where, said, used, text, shares=vote.shares if vote is not None else ())
        if self._votes is not None and index != len(self._votes):
            raise SourceError(
                f"FER+ must have a row for each row of the pixels. Received: {len(self._votes):,} rows for {index:,} "
                f"of {self.name}; take the CSV that they were voted on, whole and in its order."
            )

    def _vote(self, index: int, table: CsvTable, row: Sequence[str]) -> Vote | None:
        if self._votes is None:
            return vote_of(table, row)
        return self._votes[index] if index < len(self._votes) else None


def _differ(usage: str, other: str) -> bool:
    return bool(usage and other) and usage.casefold() != other.casefold()


def is_pixel_table(table: CsvTable) -> bool:
    """Whether a table has pixels and labels (or votes)."""
    return bool(table.pixel_columns()) and (table.column(LABEL_COLUMNS) is not None or holds_votes(table))


def _check_columns(table: CsvTable, labels_elsewhere: bool) -> None:
    labelled = labels_elsewhere or table.column(LABEL_COLUMNS) is not None or holds_votes(table)
    missing = [name for name, there in (("emotion", labelled), ("pixels", bool(table.pixel_columns()))) if not there]
    if missing:
        raise SourceError(
            "A CSV must have the columns emotion and pixels (and Usage, if it has splits), or name image files beside "
            f"it. Received: {table.name} without {', '.join(missing)}; its first row has {table.columns_text()}."
        )


def _usage_splits(usages: Mapping[str, int], decisions: SplitDecisions, name: str) -> SplitUses:
    """What becomes of the rows of each Usage; those that are not named are left out."""
    known = [usage for usage in usages if usage]
    decisions.check_used([(usage, "") for usage in dict.fromkeys((*known, *USAGES))], name)
    kinds = {usage: kind for usage in known if (kind := usage_kind(usage, decisions)) is not None}
    return decisions.uses(kinds, name, folders=False)


def _pixel_format(sample: Sequence[_RawRow], name: str) -> _PixelFormat:
    """What the first rows agree on.

    Raises:
        SourceError: their pixels make no square.
    """
    counts, largest, fractions = Counter[int](), 0.0, False
    for row in sample:
        try:
            values = np.array(numbers_in(row.text))
        except ValueError:
            continue
        counts[len(values)] += 1
        largest, fractions = max(largest, float(values.max(initial=0))), fractions or bool((values % 1).any())
    count = counts.most_common(1)[0][0] if counts else 0
    side = math.isqrt(count)
    if sample and (side == 0 or side * side != count):
        raise SourceError(
            f"A row's pixels must make a square, 2304 for 48 x 48. Received: {count} in {sample[0].where} of {name}."
        )
    return _PixelFormat(count, fractions and largest <= 1)
