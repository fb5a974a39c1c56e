"""Reads TFRecords of TensorFlow Datasets: encoded images and labels, a record each, without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tune.errors import SourceError
from tune.sources.csv_table import LABEL_COLUMNS
from tune.sources.encoded_rows import IMAGE_NAMES, EncodedRows
from tune.sources.file_store import DAMAGED, MAX_IMAGE_FILE_BYTES, MAX_TABLE_BYTES, FileStore, check_sizes
from tune.sources.split_names import SplitDecisions, joined_name

_IMAGES: Final = ("image/encoded", *IMAGE_NAMES, "image_raw")
_LABELS: Final = ("image/class/text", *LABEL_COLUMNS, "image/class/label")
_SHOWN: Final = 12
_EXAMPLE: Final = """
name: "emotune_example.proto" package: "emotune" syntax: "proto3"
message_type { name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".emotune.Features" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".emotune.Entry" } }
message_type { name: "Entry" field { name: "key" number: 1 type: TYPE_BYTES }
  field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".emotune.Feature" } }
message_type { name: "Feature" field { name: "bytes" number: 1 type: TYPE_MESSAGE type_name: ".emotune.Bytes" }
  field { name: "numbers" number: 3 type: TYPE_MESSAGE type_name: ".emotune.Numbers" } }
message_type { name: "Bytes" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Numbers" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
"""
"""TensorFlow's `tf.train.Example` without its floats: importing TensorFlow for it takes ten seconds."""


def open_tfrecords(
    store: FileStore, paths: Sequence[str], decisions: SplitDecisions, given: frozenset[str]
) -> EncodedRows:
    """Opens the TFRecords of a store; names of classes are read from `label.labels.txt` beside them.

    Raises:
        SourceError: a file is damaged or too large, or lacks images or labels.
    """
    tables = [TfrecordTable(store, path) for path in sorted(paths)]
    filled = [table for table in tables if table.features]
    if not filled:
        raise SourceError(f"TFRecords must hold records. Received: {store.where} with none.")
    lists = {name for table in filled if (name := table.names_file) is not None}
    return EncodedRows(store, filled, [*paths, *lists], decisions, given)


class TfrecordTable:
    """One TFRecord file: an `EncodedTable`.

    Attributes:
        features: names of the features of its first record; empty if it has no record.
        names_file: the list of class names that was read, if there is one.
    """

    def __init__(self, store: FileStore, path: str) -> None:
        """Reads its first record.

        Raises:
            SourceError: it is damaged or too large, or lacks images or labels.
        """
        check_sizes({path: store.listing.others[path].size_bytes}, MAX_TABLE_BYTES, store.packed_bytes, store.where)
        self._store, self.path = store, path
        self.features = next(self._examples(), {})
        image = next((name for name in _IMAGES if name in self.features), None)
        label = next((name for name in _LABELS if name in self.features), None)
        if self.features and (image is None or label is None):
            raise SourceError(
                "A TFRecord must have a feature of encoded images (image) and one of labels (label). "
                f"Received: {path} with {', '.join(sorted(self.features)[:_SHOWN])}."
            )
        self._image, self._label = image or "", label or ""
        self.label = self._label.rpartition("/")[2]
        names = str(PurePosixPath(path).parent / f"{self._label}.labels.txt")
        self.names_file = names if names in store.listing.others else None
        self.class_names: tuple[str, ...] = ()
        if self.names_file is not None:
            lines = store.read(self.names_file).decode("utf-8", "replace").splitlines()
            self.class_names = tuple(name for line in lines if (name := joined_name(line.strip())))

    def labels(self) -> Iterator[str]:
        """The label of each record."""
        return (label for _, label in self.rows())

    def rows(self) -> Iterator[tuple[bytes | None, str]]:
        """The encoded image and the label of each record."""
        for example in self._examples():
            image, label = (example.get(name) for name in (self._image, self._label))
            text = label.decode("utf-8", "replace") if isinstance(label, bytes) else "" if label is None else str(label)
            yield image if isinstance(image, bytes) else None, text

    def _examples(self) -> Iterator[Mapping[str, bytes | int]]:
        """The first value of each feature that is bytes or a whole number, record by record."""
        try:
            with self._store.open(self.path) as file:
                for record in _records(file):
                    example = _example_class().FromString(record)
                    yield {
                        entry.key.decode("utf-8", "replace"): values[0]
                        for entry in example.features.feature
                        if (values := entry.value.bytes.value or entry.value.numbers.value)
                    }
        except (*DAMAGED, ValueError, DecodeError) as error:
            raise SourceError(
                f"A TFRecord must be whole. Received: {self.path} in {self._store.where}: {error}."
            ) from error


def _records(file: IO[bytes]) -> Iterator[bytes]:
    """The records of a file: a length, its checksum, the record and its checksum each.

    The checksum of a record is not looked at, in pure Python it costs more than decoding an image: that tells.
    """
    while head := file.read(12):
        if len(head) < 12 or masked_crc32c(head[:8]) != struct.unpack("<I", head[8:])[0]:
            raise ValueError("a record's length is damaged")
        (size,) = struct.unpack("<Q", head[:8])
        if size > MAX_IMAGE_FILE_BYTES:
            raise ValueError(f"a record has {size >> 20:,} MiB, and at most {MAX_IMAGE_FILE_BYTES >> 20} are read")
        record = file.read(size + 4)
        if len(record) < size + 4:
            raise ValueError("it ends within a record")
        yield record[:-4]


@cache
def _example_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("emotune.Example"))
