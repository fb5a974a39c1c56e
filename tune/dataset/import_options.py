"""How a source becomes a data set: the options of an import, and the fingerprint by which it is known again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from trainables.dataset.reader import FORMAT_VERSION
from tune.errors import SourceError
from tune.sources.named_classes import parse_class_names
from tune.sources.opening import fingerprint_labels
from tune.sources.split_names import parse_decisions

_IMPORT_VERSION: Final = 3
_OPTIONS_OF_VERSION_1: Final = ("store_size_px", "channels", "test_share", "max_bad")
_OPTIONS_SINCE: Final = ("test", "classes", "labels", "soft_labels")
"""Options that earlier versions of this import did not have."""


@dataclass(frozen=True)
class ImportOptions:
    """How a source becomes a data set.

    Attributes:
        store_size_px: side that every image is brought to; None keeps their own, which must then be equal.
        channels: 1 gray, 3 RGB; None takes the first image's, which all must then have.
        test_share: share of the images that the test split gets where the source has none.
        max_bad: share of the images that may be unreadable.
        splits: FOLDER=train, test, validation, class or leave-out, for folders (or patterns) that have to be decided.
        validation: train, test or leave-out; None makes validation images the test split where there is no other.
        test: folders that are the test split; others with the same classes are then the train split.
        classes: NAME=LABEL, for labels that shall have other names; leave-out=LABEL leaves images out.
        labels: a list of labels of the images, or `none` to take their folders whatever lists there are.
        soft_labels: keep each class's share of the votes beside the majority's label.
    """

    store_size_px: int | None = None
    channels: int | None = None
    test_share: float = 0.1
    max_bad: float = 0.01
    splits: tuple[str, ...] = ()
    validation: str | None = None
    test: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    labels: str | None = None
    soft_labels: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges."""
        parse_decisions(self.splits, self.validation, self.test)
        parse_class_names(self.classes)
        if self.store_size_px is not None and not 8 <= self.store_size_px <= 512:
            raise SourceError(f"--store-size must be 8 to 512 pixels. Received: {self.store_size_px}.")
        if self.channels not in (None, 1, 3):
            raise SourceError(f"--channels must be 1 (gray) or 3 (RGB). Received: {self.channels}.")
        if not 0 <= self.test_share < 1:
            raise SourceError(f"--test-share must be from 0 to less than 1. Received: {self.test_share}.")
        if not 0 <= self.max_bad <= 1:
            raise SourceError(f"--max-bad must be 0 to 1. Received: {self.max_bad}.")


_DEFAULTS: Final = ImportOptions()


def _digest(settings: str) -> str:
    return hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()


def import_fingerprint(
    source_fingerprint: str, source: Path, options: ImportOptions, version: int = _IMPORT_VERSION
) -> str:
    """All that an import depends on; options that are not given are left out if earlier versions did not have them."""
    known = {field.name: getattr(options, field.name) for field in fields(options)}
    later = {name: known.pop(name) for name in _OPTIONS_SINCE if known[name] != getattr(_DEFAULTS, name)}
    known = {name: value for name, value in known.items() if name not in _OPTIONS_SINCE} | later
    told = ", ".join(f"{name}={value!r}" for name, value in known.items())
    labels = fingerprint_labels(source, options.labels)
    settings = f"{FORMAT_VERSION} {version} {source_fingerprint} ImportOptions({told})"
    return _digest(f"{settings} {labels}" if labels else settings)


def earlier_import_fingerprints(source_fingerprint: str, source: Path, options: ImportOptions) -> tuple[str, str]:
    """What earlier versions would have called this import: emotune 0.1, which knew fewer formats and folder names, and
    one that read some labels and splits otherwise (CHANGELOG.md)."""
    known = ", ".join(f"{name}={getattr(options, name)!r}" for name in _OPTIONS_OF_VERSION_1)
    first = _digest(f"{FORMAT_VERSION} 1 {source_fingerprint} ImportOptions({known})")
    return first, import_fingerprint(source_fingerprint, source, options, version=2)
