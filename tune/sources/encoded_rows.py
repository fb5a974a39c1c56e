"""Tables whose rows are an encoded image and a label, in parquet files or TFRecords: their splits, classes and items.

Knows nothing of how a file keeps them: `parquet_source.py` and `tfrecord_source.py` read that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import TEST, Pixels
from tune.errors import SourceError
from tune.sources.csv_table import row_source, split_by_path
from tune.sources.decoding import decode
from tune.sources.file_store import FileStore, PassedOver
from tune.sources.folder_layout import Item
from tune.sources.label_names import LabelNames, name_labels
from tune.sources.split_names import SPLIT_KINDS, SplitDecisions

IMAGE_NAMES: Final = ("image", "img", "jpg", "png", "image_bytes", "picture", "face")
_NO_LABEL: Final = ("", "-1", "None")  # Hugging Face's and TFDS' for a test split without labels


class EncodedTable(Protocol):
    """One file.

    Attributes:
        path: where it lies in its source.
        label: what the file calls its labels, in lower case.
        class_names: the name of each number among the labels; empty if the file does not say them.
    """

    path: str
    label: str
    class_names: tuple[str, ...]

    def labels(self) -> Iterator[str]:
        """The label of each row. Raises SourceError if the file is damaged."""

    def rows(self) -> Iterator[tuple[bytes | None, str]]:
        """The encoded image of each row, None if it has none, and its label. Raises SourceError likewise."""


@dataclass(frozen=True)
class _Encoded(Item):
    data: bytes = b""


class EncodedRows:
    """Images in such tables, one or more for each split, which their paths name."""

    def __init__(
        self,
        store: FileStore,
        tables: Sequence[EncodedTable],
        read: Sequence[str],
        decisions: SplitDecisions,
        given: frozenset[str],
    ) -> None:
        """Reads the labels.

        Args:
            store: where they lie.
            tables: in the order of their paths.
            read: all files that were read for them.
            decisions: what the user decided about splits.
            given: labels that the user gives names to.

        Raises:
            SourceError: a file is damaged, or it has to be decided what its split is.
        """
        self._store, self._tables = store, tuple(tables)
        first = tables[0]
        self.name = first.path if store.name == first.path else store.name
        self.skipped: tuple[SkippedImage, ...] = ()
        self.passed_over: PassedOver = store.listing.besides(read)
        labels = {table.path: Counter(table.labels()) for table in tables}
        self.expected_images = sum(count.total() for count in labels.values())
        self._names = _class_names(tables, labels, given, self.name)
        self.classes = tuple(sorted({name for names in self._names.values() for name in names.classes.values()}))
        self._split_of = {table.path: split_by_path(table.path) for table in tables}
        labelled = {path for path, count in labels.items() if any(map(_says_class, count))}
        splits = {split for path, split in self._split_of.items() if split and path in labelled}
        kinds = {split: decisions.kind_of([], split) or split for split in sorted(splits)}
        decisions.check_used([(kind, "") for kind in SPLIT_KINDS], self.name)
        self._uses = uses = decisions.uses(kinds, self.name, folders=False)
        told = (uses.note, *(names.note for names in self._names.values()))
        self.notes = tuple(dict.fromkeys(note for note in told if note))
        self._left_out: Counter[tuple[str, str]] = Counter()

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The rows that the last iteration left out, by file."""
        rows = sorted(self._left_out.items())
        return (
            *self._store.listing.left_out,
            *(LeftOut(path=path, images=count, reason=reason) for (path, reason), count in rows),
        )

    def __iter__(self) -> Iterator[Item]:
        """The rows of the files in the order of their paths, bad ones too.

        Raises:
            SourceError: a file is damaged.
        """
        self._left_out.clear()
        has_test = TEST in self._uses.numbers.values()
        for table in self._tables:
            named = self._split_of[table.path]
            number = self._uses.numbers.get(named) if named else None
            split = number if has_test or number == TEST else None
            names = self._names[table.path]
            for row, (data, label) in enumerate(table.rows()):
                where = f"{row_source(self._store, table.path)}, row {row}"
                if not _says_class(label):
                    self._left_out[table.path, "without a label"] += 1
                elif named and number is None:
                    self._left_out[table.path, self._uses.reason_of(named)] += 1
                elif (class_name := names.of(label)) is None:
                    yield Item(where, "", None, names.problems[label])
                elif data is None:
                    yield Item(where, class_name, None, "it has no image")
                else:
                    yield _Encoded(where, class_name, split, data=data)

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image."""
        return decode(item.data if isinstance(item, _Encoded) else b"", item.path)


def _class_names(
    tables: Sequence[EncodedTable], labels: Mapping[str, Counter[str]], given: frozenset[str], where: str
) -> dict[str, LabelNames]:
    """Returns what the labels of each table mean, by its path; a table that does not say shares the others' names."""
    said = {table.path: table.class_names for table in tables}
    known = list(dict.fromkeys(names for names in said.values() if names))
    if len(known) > 1 and not all(said.values()):
        silent = next(path for path, names in said.items() if not names)
        raise SourceError(
            "Files that name their classes in different orders must all name them. Received: "
            f"{silent} in {where} without names; write it again with the names, or import the others alone."
        )
    labelled = {
        path: Counter({label: n for label, n in count.items() if _says_class(label)}) for path, count in labels.items()
    }
    if not known:
        together = sum(labelled.values(), Counter[str]())
        return dict.fromkeys(said, name_labels(together, tables[0].label, given, where))
    return {path: _by_number(labelled[path], names, known[0]) for path, names in said.items()}


def _says_class(label: str) -> bool:
    return label.strip() not in _NO_LABEL


def _by_number(labels: Iterable[str], own: Sequence[str], others: Sequence[str]) -> LabelNames:
    """A class may be called 7: where a file names its classes, a number is a place among them; in one that does not, a
    name, if all its labels are names of the other files."""
    names = own or others
    by_name, by_place = {name: name for name in names}, {str(index): name for index, name in enumerate(names)}
    known = by_place | by_name if not own and by_name.keys() >= {*labels} else by_name | by_place
    wrong = {
        label: f"the label must be 0 to {len(names) - 1}, and is {label}" for label in labels if label not in known
    }
    return LabelNames({label: known[label] for label in labels if label in known}, wrong)
