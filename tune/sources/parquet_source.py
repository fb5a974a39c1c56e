"""Reads Hugging Face's parquet files: encoded images and labels, a row each. Knows nothing of other tables."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.dataset.reader import TEST, LeftOut, Pixels, SkippedImage
from tune.errors import SourceError
from tune.sources.csv_table import LABEL_COLUMNS, row_source, split_by_path
from tune.sources.decoding import decode
from tune.sources.file_store import FileStore, PassedOver
from tune.sources.folder_layout import Item
from tune.sources.label_names import LabelNames, name_labels
from tune.sources.nested import seekable
from tune.sources.split_names import SplitDecisions

_IMAGE_COLUMNS: Final = ("image", "img", "jpg", "png", "image_bytes", "picture", "face")
_BATCH_ROWS: Final = 64
_NO_LABEL: Final = ("", "-1", "None")  # Hugging Face's for a test split without labels


@dataclass(frozen=True)
class _Encoded(Item):
    data: bytes = b""


@dataclass(frozen=True)
class _Part:
    path: str
    split: str | None
    image: str
    label: str
    names: tuple[str, ...]


class ParquetSource:
    """Images in parquet files, as `datasets` writes them: struct of bytes and path, and a label or its name."""

    def __init__(
        self, store: FileStore, paths: Sequence[str], decisions: SplitDecisions, given: frozenset[str]
    ) -> None:
        """Reads the columns of labels.

        Raises:
            SourceError: a file cannot be read, or lacks images or labels.
        """
        self._store, self._decisions = store, decisions
        self.name = paths[0] if store.name == paths[0] else store.name
        self._parts = tuple(self._part(path) for path in sorted(paths))
        self.skipped: tuple[SkippedImage, ...] = ()
        self.passed_over: PassedOver = store.listing.not_read(paths)
        labels = Counter[str]()
        for part in self._parts:
            with self._opened(part) as file:
                for batch in file.iter_batches(batch_size=1 << 16, columns=[part.label]):
                    labels.update(str(label) for label in batch.column(0).to_pylist())
        self.expected_images = sum(labels.values())
        labelled = Counter({label: count for label, count in labels.items() if label.strip() not in _NO_LABEL})
        self._names = _class_names(labelled, self._parts[0], given, self.name)
        self.classes = tuple(sorted(set(self._names.classes.values())))
        kinds = {part.split: decisions.of(part.split) or part.split for part in self._parts if part.split}
        decisions.check_used([(kind, "") for kind in (*kinds, "train", "test", "validation")], self.name)
        uses = decisions.uses(kinds, self.name, folders=False)
        self._splits, self._reason = uses.numbers, uses.reason
        self.notes = tuple(note for note in (uses.note, self._names.note) if note)
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
        has_test = TEST in self._splits.values()
        for part in self._parts:
            source, row = row_source(self._store, part.path), -1
            number = self._splits.get(part.split) if part.split else None
            split = number if has_test or number == TEST else None
            with self._opened(part) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[part.image, part.label]):
                    for image, label in zip(
                        *(batch.column(i).to_pylist() for i in self._order(batch, part)), strict=True
                    ):
                        row += 1
                        yield from self._item(f"{source}, row {row}", part, image, str(label), number, split)

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image."""
        return decode(item.data if isinstance(item, _Encoded) else b"", item.path)

    def _item(
        self, where: str, part: _Part, image: Any, label: str, number: int | None, split: int | None
    ) -> Iterator[Item]:
        data = image.get("bytes") if isinstance(image, dict) else image
        if label.strip() in _NO_LABEL:
            self._left_out[part.path, "without a label"] += 1
        elif part.split and number is None:
            self._left_out[part.path, self._reason] += 1
        elif (class_name := self._names.of(label)) is None:
            yield Item(where, "", None, self._names.problems[label])
        elif not isinstance(data, bytes):
            yield Item(where, class_name, None, "it has no image")
        else:
            yield _Encoded(where, class_name, split, data=data)

    def _order(self, batch: pa.RecordBatch, part: _Part) -> tuple[int, int]:
        return batch.schema.get_field_index(part.image), batch.schema.get_field_index(part.label)

    def _part(self, path: str) -> _Part:
        with self._opened(path) as file:
            schema = file.schema_arrow
        image = next(
            (name for name in _IMAGE_COLUMNS if name in schema.names and _holds_images(schema.field(name))), None
        )
        label = next((name for name in schema.names if name.lower() in LABEL_COLUMNS), None)
        if image is None or label is None:
            raise SourceError(
                "A parquet file must have a column of encoded images (image) and one of labels (label). "
                f"Received: {path} with {', '.join(schema.names[:12])}."
            )
        return _Part(path, split_by_path(path), image, label, _feature_names(schema, label))

    def _opened(self, part: _Part | str) -> _OpenParquet:
        path = part if isinstance(part, str) else part.path
        return _OpenParquet(self._store, path)


class _OpenParquet:
    """A parquet file while it is read; what is wrong with it becomes a SourceError."""

    def __init__(self, store: FileStore, path: str) -> None:
        self._store, self._path = store, path
        self._file: IO[bytes] = io.BytesIO()

    def __enter__(self) -> pq.ParquetFile:
        self._file = seekable(self._store, self._path)
        try:
            return pq.ParquetFile(self._file)
        except pa.ArrowException as error:
            self._file.close()
            raise self._damaged(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if isinstance(error, pa.ArrowException) or (isinstance(error, OSError) and error.errno is None):
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> SourceError:
        return SourceError(f"A parquet file must be whole. Received: {self._path}: {str(error).splitlines()[0]}")


def _holds_images(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _feature_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """The names of the classes that `datasets` writes into the file's metadata."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return tuple(str(name) for name in info["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def _class_names(labels: Counter[str], part: _Part, given: frozenset[str], where: str) -> LabelNames:
    if not part.names:
        return name_labels(labels, part.label.lower(), given, where)
    known = {str(index): name for index, name in enumerate(part.names)} | {name: name for name in part.names}
    wrong = {
        label: f"the label must be 0 to {len(part.names) - 1}, and is {label}" for label in labels if label not in known
    }
    return LabelNames({label: known[label] for label in labels if label in known}, wrong)
