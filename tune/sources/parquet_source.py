"""Reads Hugging Face's parquet files, as `datasets` writes them: rows of an image (bytes and path) and a label."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tune.errors import SourceError
from tune.sources.csv_table import LABEL_COLUMNS
from tune.sources.encoded_rows import IMAGE_NAMES, EncodedRows
from tune.sources.file_store import FileStore
from tune.sources.nested import seekable
from tune.sources.split_names import SplitDecisions

_BATCH_ROWS: Final = 64


def open_parquet(
    store: FileStore, paths: Sequence[str], decisions: SplitDecisions, given: frozenset[str]
) -> EncodedRows:
    """Opens the parquet files of a store.

    Raises:
        SourceError: a file cannot be read, or lacks images or labels.
    """
    return EncodedRows(store, [ParquetTable(store, path) for path in sorted(paths)], paths, decisions, given)


class ParquetTable:
    """One parquet file: an `EncodedTable`."""

    def __init__(self, store: FileStore, path: str) -> None:
        """Reads its schema.

        Raises:
            SourceError: it cannot be read, or lacks images or labels.
        """
        self._store, self.path = store, path
        with self._opened() as file:
            schema = file.schema_arrow
        image = next((name for name in IMAGE_NAMES if name in schema.names and _holds_images(schema.field(name))), None)
        label = next((name for name in schema.names if name.lower() in LABEL_COLUMNS), None)
        if image is None or label is None:
            raise SourceError(
                "A parquet file must have a column of encoded images (image) and one of labels (label). "
                f"Received: {path} with {', '.join(schema.names[:12])}."
            )
        self._image, self._label, self.label = image, label, label.lower()
        self.class_names = _feature_names(schema, label)

    def labels(self) -> Iterator[str]:
        """The label of each row."""
        with self._opened() as file:
            for batch in file.iter_batches(batch_size=1 << 16, columns=[self._label]):
                yield from map(str, batch.column(0).to_pylist())

    def rows(self) -> Iterator[tuple[bytes | None, str]]:
        """The encoded image and the label of each row."""
        with self._opened() as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[self._image, self._label]):
                images, labels = (batch.column(name).to_pylist() for name in (self._image, self._label))
                for image, label in zip(images, labels, strict=True):
                    data = image.get("bytes") if isinstance(image, dict) else image
                    yield data if isinstance(data, bytes) else None, str(label)

    def _opened(self) -> _OpenParquet:
        return _OpenParquet(self._store, self.path)


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
