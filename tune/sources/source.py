"""What every reader of labelled images offers, and the one for image files. Knows nothing of archives and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import Pixels
from tune.sources.decoding import decode
from tune.sources.file_store import MAX_IMAGE_FILE_BYTES, FileStore, PassedOver, check_sizes, folder_of
from tune.sources.folder_layout import Item, Layout


class Source(Protocol):
    """Images with a class and perhaps a split, in a fixed order, and what of the source is not among them.

    Attributes:
        name: what to call it in the data set.
        classes: in alphabetical order.
        expected_images: how many items there are.
        skipped: single images that are left out.
        passed_over: files that are no images.
        notes: how the source was understood, where that is not plain.
    """

    name: str
    classes: tuple[str, ...]
    expected_images: int
    skipped: tuple[SkippedImage, ...]
    passed_over: PassedOver
    notes: tuple[str, ...]

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is not imported, by folder or value; whole when all images have been handed out."""

    def __iter__(self) -> Iterator[Item]:
        """The images, in an order that every import repeats; those known to be bad too, with their problem."""

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image (several threads may ask): uint8, (height, width, 1 or 3). Raises UnreadableImage."""


class ImageFiles:
    """Image files of a store, with the classes and splits that a layout gives them."""

    def __init__(self, store: FileStore, layout: Layout, read: Iterable[str] = ()) -> None:
        """Takes the images of a layout.

        Args:
            store: where they lie.
            layout: their classes and splits.
            read: files that are no images and were read all the same, such as lists of labels.

        Raises:
            SourceError: a packed image is too large.
        """
        images = store.listing.images
        check_sizes(
            {path: images[path].size_bytes for path in images}, MAX_IMAGE_FILE_BYTES, store.packed_bytes, store.where
        )
        self.name, self.notes = store.name, (*layout.notes, *store.listing.notes)
        self._items, linked = _without_linked_copies(layout.items, store)
        self.classes = tuple(sorted({item.class_name for item in self._items if item.class_name}))
        self.skipped = tuple(
            SkippedImage(
                path=image.path, reason=(images[image.path].problem if image.path in images else "") or image.reason
            )
            for image in layout.skipped
        )
        self.left_out = (*layout.left_out, *store.listing.left_out, *linked)
        self.passed_over = store.listing.not_read(read)
        self.expected_images = len(self._items)
        self._store = store

    def __iter__(self) -> Iterator[Item]:
        """The images in the order of their paths."""
        return iter(self._items)

    def pixels(self, item: Item) -> Pixels:
        """Reads and decodes one file."""
        return decode(self._store.read(item.path), item.path)


def _without_linked_copies(items: tuple[Item, ...], store: FileStore) -> tuple[tuple[Item, ...], list[LeftOut]]:
    """Drops links to images that are read where they really are, and counts them by their folders."""
    images = store.listing.images
    if not any(file.is_link for file in images.values()):
        return items, []
    real = {images[item.path].real for item in items if item.path in images and not images[item.path].is_link}
    kept, dropped = [], defaultdict[str, int](int)
    for item in items:
        file = images.get(item.path)
        if file is not None and file.is_link and file.real in real:
            dropped[folder_of(item.path)] += 1
        else:
            kept.append(item)
    reason = "links to images of the same source, read there"
    return tuple(kept), [LeftOut(path=folder, images=n, reason=reason) for folder, n in sorted(dropped.items())]
