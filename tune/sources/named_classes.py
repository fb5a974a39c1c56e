"""The names that the user gives to a source's labels (`--classes happy=3,sad=4`), over any reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trainables.dataset.info import LeftOut
from trainables.dataset.reader import Pixels
from tune.errors import SourceError, nearest
from tune.sources.folder_layout import Item
from tune.sources.source import Source
from tune.sources.split_names import LEAVE_OUT, joined_name


@dataclass(frozen=True)
class ClassNames:
    """Pairs of (name, label); several labels may have one name, and `leave-out` is the name of those to leave out."""

    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> frozenset[str]:
        """The labels that have a name."""
        return frozenset(label for _, label in self.pairs)

    def of(self, label: str) -> str:
        """The name of a label; its own where none is given."""
        return next((name for name, known in self.pairs if known == label), label)


def parse_class_names(texts: Sequence[str]) -> ClassNames:
    """Reads `NAME=LABEL`, several with commas between them.

    Raises:
        SourceError: another form, or a label with two names.
    """
    pairs: list[tuple[str, str]] = []
    for part in (part for text in texts for part in text.split(",")):
        name, equals, label = (joined_name(piece.strip()) for piece in part.partition("="))
        if not equals or not name or not label:
            raise SourceError(f"--classes must be NAME=LABEL,... Received: {part!r}; try --classes happy=3,sad=4.")
        before = next((known for known, other in pairs if other == label), name)
        if before != name:
            raise SourceError(f"--classes must name a label once. Received: {before}={label} and {name}={label}.")
        pairs.append((name, label))
    return ClassNames(tuple(pairs))


class NamedClasses:
    """A source whose classes have the user's names."""

    def __init__(self, source: Source, names: ClassNames) -> None:
        """Checks that every label is one of the source's.

        Raises:
            SourceError: it is not.
        """
        for label in sorted(names.labels - set(source.classes)):
            raise SourceError(
                f"--classes must name labels of the source. Received: {label!r}; {source.name} has no such label."
                f"{nearest(label, source.classes)}"
            )
        self._source, self._names = source, names
        self.name, self.skipped, self.passed_over = source.name, source.skipped, source.passed_over
        self.expected_images = source.expected_images
        self.classes = tuple(sorted({names.of(label) for label in source.classes} - {LEAVE_OUT}))
        own = [label for label in source.classes if label not in names.labels]
        kept = [f"labels without a name in --classes keep their own: {', '.join(own)}"] if own else []
        self.notes = (*(note for note in source.notes if "--classes" not in note), *kept)
        self._left_out: Counter[str] = Counter()

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What the source leaves out, and the classes that the user leaves out."""
        rows = sorted(self._left_out.items())
        return (
            *self._source.left_out,
            *(LeftOut(path=label, images=count, reason="left out by --classes") for label, count in rows),
        )

    def __iter__(self) -> Iterator[Item]:
        """The source's images with the user's names."""
        self._left_out.clear()
        for item in self._source:
            name = self._names.of(item.class_name)
            if name == LEAVE_OUT:
                self._left_out[item.class_name] += 1
            else:
                shares = tuple((self._names.of(label), share) for label, share in item.shares)
                yield replace(item, class_name=name, shares=shares)

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image."""
        return self._source.pixels(item)
