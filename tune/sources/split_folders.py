"""Finds out which folders of a source are splits: by their names, by what is in them, and by what the user decided.

`split_names.py` reads one name, `folder_tree.py` holds the paths. Knows nothing of what becomes of images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tune.errors import SourceError
from tune.sources.folder_tree import FolderTree, shortened_list
from tune.sources.split_names import (
    CLASS,
    LEAVE_OUT,
    SPLIT_KINDS,
    VALIDATION,
    SplitDecisions,
    glued_splits,
    is_plain_split,
    split_named,
)


@dataclass(frozen=True)
class SplitFolders:
    """Train, test or validation by folder; none where there are class folders alone. `depth` 1: inside the classes."""

    kinds: dict[str, str]
    depth: int = 0


def find_splits(tree: FolderTree, decisions: SplitDecisions, source: str) -> SplitFolders:
    """Takes off what is around splits and classes, leaves out copies of the tree, and says which folders are splits.

    Raises:
        SourceError: there is more than one tree, a decision about no folder, or what the folders are has to be decided.
    """
    return _Search(tree, decisions, source).splits()


class _Search:
    """The work of `find_splits`, step by step."""

    def __init__(self, tree: FolderTree, decisions: SplitDecisions, source: str) -> None:
        self.tree, self.decisions, self.source = tree, decisions, source
        self.decided: dict[str, str] = {}

    def splits(self) -> SplitFolders:
        self._remove_wrapping_folders()
        tree, inner = self.tree, self.tree.folders_of_folders()
        self.decided = {top: decision for top in tree.tops() if (decision := self._decision(top)) is not None}
        if inside := self._splits_in_classes(inner):
            return SplitFolders(inside, depth=1)
        splits = self._named_splits(inner)
        if splits:
            self._check_none_is_missed(splits, inner)
            self._remove_folders_inside_splits(splits)
            for split in splits:
                self._leave_out_copies(split)
        else:
            self._check_classes()
        return SplitFolders(splits)

    def _decision(self, top: str) -> str | None:
        return self.decisions.of(top, prefix=self.tree.prefix)

    # --- folders around everything -----------------------------------------------------------------------------------

    def _remove_wrapping_folders(self) -> None:
        """Takes off single folders around everything, and leaves out what the user leaves out."""
        tree, known = self.tree, set()
        while True:
            known |= {(top, tree.prefix) for top in tree.tops()}
            for top in tree.tops():
                if self._decision(top) == LEAVE_OUT:
                    tree.leave_out(tree.below(top), "left out by --split")
            tops = sorted({file.top for file in tree.sure})
            inner = {(file.top, file.parts[1]) for file in tree.sure if file.nested}
            if any(self.decisions.of(top, prefix=tree.prefix, patterns=False) for top in tops):
                break
            if len(tops) > 1 and self._each_holds_another_split(tops, inner):
                tree.remove_level(0, tops)
                continue
            if len(tops) != 1 or not inner:
                break
            if is_plain_split(tops[0]) and not any(is_plain_split(name) for _, name in inner):
                break
            tree.leave_out([file for file in tree.files if file.top != tops[0]], f"outside {tree.prefix}{tops[0]}/")
            tree.remove_level(0, tops)
            tree.prefix += f"{tops[0]}/"
        self.decisions.check_used(known, self.source)

    def _each_holds_another_split(self, tops: list[str], inner: set[tuple[str, str]]) -> bool:
        """Whether each folder is around one split: `download-1/train`, `download-2/test`."""
        names = {name for _, name in inner}
        deep = all(len(file.parts) > 3 for file in self.tree.sure)
        return deep and len(tops) == len(inner) == len(names) and all(map(is_plain_split, names))

    def _remove_folders_inside_splits(self, splits: Mapping[str, str]) -> None:
        """Takes off the single folder in each split: `train/images/happy`, `train/train/happy`."""
        while True:
            files = [file for file in self.tree.sure if file.top in splits]
            inner = {(file.top, file.parts[1]) for file in files}
            if any(len(file.parts) < 4 for file in files) or len(inner) != len({top for top, _ in inner}):
                return
            self.tree.remove_level(1, splits)

    def _leave_out_copies(self, split: str) -> None:
        """Leaves out a tree that stands once more one level deeper, among the classes."""
        classes = defaultdict(list)
        for file in self.tree.below(split) if split else self.tree.files:
            if len(file.parts) > (2 if split else 1):
                classes[file.parts[1 if split else 0]].append(file)
        if len(classes) > 2 and (split or not self.decided):
            remedy = "" if split else f"; --split '*={CLASS}' keeps them"
            self.tree.leave_out_copies(classes, f"the same classes once more{remedy}", f"{split}/" if split else "")

    # --- which folders are splits ------------------------------------------------------------------------------------

    def _splits_in_classes(self, inner: Mapping[str, set[str]]) -> dict[str, str]:
        """Returns the splits if they are folders in each class: `happy/train/im0.png`."""
        files = [file for file in self.tree.sure if file.nested and file.top in inner]
        holding = sorted(top for top, names in inner.items() if all(map(is_plain_split, names)))
        if self.decided or any(map(is_plain_split, inner)) or len({file.top for file in self.tree.sure}) < 2:
            return {}
        deep = {file.top for file in files if len(file.parts) > 3}
        if trees := [top for top in holding if top in deep]:
            others = sorted({file.top for file in self.tree.sure} - {trees[0]})
            raise SourceError(
                f"A source must hold one tree of splits. Received: {self.source} with splits in {shortened_list(trees)}"
                f"{'' if len(trees) > 1 else f', beside {shortened_list(others)}'}; import one of its folders, or "
                f"leave the others out with --split {others[0]}={LEAVE_OUT}."
            )
        if len(holding) < 2 or len(holding) < len(inner):
            return {}
        return _joined_names(file.parts[1] for file in files)

    def _named_splits(self, inner: Mapping[str, set[str]]) -> dict[str, str]:
        """Returns the folders that are called like splits, or that the user decided to be splits."""
        tree, decided = self.tree, self.decided
        splits = {top: decision for top, decision in decided.items() if decision in SPLIT_KINDS}
        splits |= _joined_names(
            {file.top for file in tree.sure if file.nested and file.top not in decided and is_plain_split(file.top)}
        )
        open_tops = [top for top in inner if top not in decided and top not in splits]
        for top, kind in (glued_splits(open_tops) or _joined_names(open_tops)).items():
            if any(inner[top] & names for other, names in inner.items() if other != top):
                splits[top] = kind
            elif not splits and len(tree.tops()) > 1:
                raise self._undecided([top], "is called like a split")
        if self.decisions.rest is not None and splits:
            splits |= {
                top: self.decisions.rest for top, kind in splits.items() if kind == "test" and top not in decided
            }
            shared = {name for top in splits for name in inner.get(top, ())}
            splits |= {top: self.decisions.rest for top in open_tops if top not in splits and inner[top] & shared}
        if splits and (classes := sorted(top for top, decision in decided.items() if decision == CLASS)):
            raise SourceError(
                f"Folders must all be splits, or all be classes. Received: {self.source} with "
                f"{shortened_list(sorted(splits))} as splits and {shortened_list(classes)} as classes; "
                "decide with --split."
            )
        return splits

    def _check_none_is_missed(self, splits: Mapping[str, str], inner: Mapping[str, set[str]]) -> None:
        """Refuses a folder with the same classes where there is no train or no test split: it may be that."""
        kinds = set(splits.values())
        missing = "train" if "train" not in kinds else "test" if not kinds & {"test", VALIDATION} else None
        classes = {name for split in splits for name in inner.get(split, ())}
        may_be = sorted(
            top
            for top, names in inner.items()
            if top not in splits and top not in self.decided and names & classes and not all(map(is_plain_split, names))
        )
        if missing and may_be:
            which = f"hold{'s' if len(may_be) == 1 else ''} the classes of {shortened_list(sorted(splits))}"
            raise self._undecided(may_be, f"{which} and may be the {missing} split")

    def _check_classes(self) -> None:
        """Refuses folders that hold folders of the same names, as splits hold the same classes."""
        self._leave_out_copies("")
        open_tops = [top for top in self.tree.folders_of_folders() if top not in self.decided]
        if twins := self.tree.twins(open_tops):
            raise self._undecided(twins, "hold folders of the same names, as splits do")

    def _undecided(self, tops: list[str], why: str) -> SourceError:
        return SourceError(
            f"Folders must be plainly splits or plainly classes. Received: {self.source}, where {shortened_list(tops)} "
            f"{why}; decide with --split {tops[0]}={'|'.join(SPLIT_KINDS)} (once for each folder), or --split "
            f"'*={CLASS}' if they are classes."
        )


def _joined_names(names: Iterable[str]) -> dict[str, str]:
    """What the names say that have a split in them."""
    return {name: named.kind for name in names if (named := split_named(name)) is not None}
