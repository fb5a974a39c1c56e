"""Image files whose labels stand in a list, such as a CSV of paths and labels: which list holds, what it says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import TEST
from tune.errors import SourceError
from tune.sources.csv_table import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    TABLE_SUFFIXES,
    USAGE_COLUMNS,
    CsvTable,
    open_table,
    row_source,
    split_by_path,
    usage_kind,
)
from tune.sources.ferplus import NO_MAJORITY, Vote, holds_votes, read_votes
from tune.sources.file_store import FileStore, folder_of
from tune.sources.folder_layout import Item, Layout, assign_classes_and_splits
from tune.sources.label_lists import FindImage, LabelList, Listed, affectnet_label, image_paths, known_layout
from tune.sources.label_names import name_labels
from tune.sources.source import ImageFiles
from tune.sources.split_names import SPLIT_KINDS, SplitDecisions, split_named

NO_LABELS: Final = "none"
_SHOWN: Final = 3
_MOST_FOLDERS: Final = 20


def open_images(
    store: FileStore, decisions: SplitDecisions, given: frozenset[str], labels: CsvTable | None, folders: bool
) -> ImageFiles:
    """Finds out what says the classes of image files: a list beside them, or their folders.

    Args:
        store: where they lie.
        decisions: what the user decided about splits.
        given: labels that the user gives names to.
        labels: a list that the user names.
        folders: whether the user wants the folders' names, whatever lists there are.

    Raises:
        SourceError: neither gives classes, or folders and a list contradict one another.
    """
    if labels is not None:
        return _listed(store, _of_tables(store, [(labels, None)], given, decisions), decisions)
    if not folders and (known := known_layout(store)) is not None:
        return _listed(store, known, decisions)
    tables = [] if folders else path_tables(store)
    list_, unusable = None, None
    try:
        list_ = _of_tables(store, tables, given, decisions) if tables else None
    except SourceError as error:
        unusable = error
    if list_ is not None and 2 * sum(not entry.missing for entry in list_.listed) < len(store.listing.sure_images):
        list_ = None  # of something else
    try:
        layout = _by_folders(store, decisions)
    except SourceError as error:
        if list_ is None:
            raise unusable or error from None
        return _listed(store, list_, decisions)
    if unusable is not None and unusable.__cause__ is not None:  # it may have been the labels
        note = f"classes from the folders; a table beside them is not read: {str(unusable).rstrip('.')}"
        layout = replace(layout, notes=(*layout.notes, note))
    if list_ is not None and not _agree(layout, list_):
        raise SourceError(
            f"Folders and lists of labels must agree. Received: {store.where}, where {list_.name} gives other classes "
            f"than the folders {', '.join(layout.classes[:_SHOWN])}; pass --labels {list_.name} to take those, or "
            f"--labels {NO_LABELS} to take the folders."
        )
    return ImageFiles(store, layout)


def _by_folders(store: FileStore, decisions: SplitDecisions) -> Layout:
    images = store.listing.images
    sure = set(store.listing.sure_images)
    return assign_classes_and_splits(images, store.where, doubtful=frozenset(images.keys() - sure), decisions=decisions)


def _agree(layout: Layout, list_: LabelList) -> bool:
    """Whether images of one folder have one label and the other way round, but for a few."""
    labels = {entry.image: entry.label for entry in list_.listed if entry.label and not entry.missing}
    pairs = Counter((item.class_name, labels[item.path]) for item in layout.items if item.path in labels)
    if not pairs:
        return True
    best = {folder: (label, count) for (folder, label), count in reversed(pairs.most_common())}
    labels_of_folders = {label for label, _ in best.values()}
    return len(labels_of_folders) == len(best) and sum(n for _, n in best.values()) >= 0.9 * sum(pairs.values())


def path_tables(store: FileStore) -> list[tuple[CsvTable, str | None]]:
    """The tables of a source that have a column of paths and one of labels; with the path of each."""
    found: list[tuple[CsvTable, str | None]] = []
    for path in sorted(path for path, file in store.listing.others.items() if file.kind in TABLE_SUFFIXES):
        try:
            table = open_table(store, path)
        except SourceError:
            continue
        if table.column(PATH_COLUMNS) is not None and table.column(LABEL_COLUMNS) is not None:
            found.append((table, path))
    return found


def _of_tables(
    store: FileStore,
    tables: Sequence[tuple[CsvTable, str | None]],
    given: frozenset[str],
    decisions: SplitDecisions,
) -> LabelList:
    """Reads tables of paths and labels, or of FER+ votes."""
    find, listed, notes = image_paths(store), list[Listed](), list[str]()
    may_decide = {named for path in store.listing.images for named in _folders_around(path)}
    for table, path in tables:
        notes += [table.note] if table.note else []
        if holds_votes(table):
            votes = read_votes(table)
            named = [vote for vote in votes if vote.image or vote.problem]  # FER+ has rows for removed images
            listed += [_voted(vote, find, decisions) for vote in named]
            may_decide |= {(vote.usage, "") for vote in named}
            notes.append("labels are the majority of FER+'s votes")
            if unnamed := len(votes) - len(named):
                notes.append(f"{unnamed:,} rows of {table.name} name no image")
            continue
        where, label, used = (table.column(names) for names in (PATH_COLUMNS, LABEL_COLUMNS, USAGE_COLUMNS))
        if where is None or label is None:
            raise SourceError(
                f"A list of labels must have a column of paths and one of labels. Received: {table.name} with "
                f"{table.columns_text()}; call them path and label."
            )
        rows = [row for _, row in table.rows()]
        column = table.header[label]
        whole = [row for row in rows if len(row) == len(table.header)]
        affectnet = column == "expression" and "subdirectory_filepath" in table.header and not given
        names = name_labels(
            Counter() if affectnet else Counter(row[label].strip() for row in whole), column, given, table.name
        )
        notes += [names.note] if names.note else []
        split = split_by_path(path) if path else None
        for row in rows:
            if len(row) != len(table.header):
                reason = f"{len(row)} fields where the header has {len(table.header)}"
                listed.append(Listed(f"{table.name}: {','.join(row)[:80]}", "", None, reason, True))
                continue
            name, said = row[where].strip(), row[label].strip()
            said_split = row[used].strip() if used is not None else ""
            may_decide.add((said_split, ""))
            if said_split and usage_kind(said_split, decisions) is None:
                reason = f"its split is {said_split!r}, which is none of train, test and validation"
                listed.append(Listed(name, "", None, reason, True))
                continue
            image, why = find(name, usage_kind(said_split, SplitDecisions()) or split, split)
            kind = _split_of(said_split, split, image, decisions)
            if affectnet:
                listed.append(affectnet_label(image, name, said, kind, table.name))
            elif (class_name := names.of(said)) is None:
                listed.append(Listed(image or name, "", kind, names.problems[said], True))
            else:
                problem = "" if image else f"named in {table.name}, but {why}"
                listed.append(Listed(image or name, class_name, kind, problem, image is None))
    name = ", ".join(path or table.name for table, path in tables)
    notes.append(f"classes from {name}")
    names_read = {table.name for table, _ in tables}
    read = frozenset(path for path in store.listing.others if row_source(store, path) in names_read)
    told = tuple(dict.fromkeys(notes))
    known = frozenset(may_decide - {("", "")})
    return LabelList(name, tuple(listed), read, f"not in {name}", told, known, decided=True)


def _voted(vote: Vote, find: FindImage, decisions: SplitDecisions) -> Listed:
    image, why = find(vote.image, None, None) if vote.image else (None, "")
    if image is None:
        problem = vote.problem or f"named in FER+, but {why}"
        return Listed(vote.image or "a row without a name", "", None, problem, True)
    if vote.problem:
        return Listed(image, "", None, vote.problem, True)
    kind = split_named(vote.usage)
    split = decisions.kind_of([(vote.usage, ""), *_folders_around(image)], kind.kind if kind else None)
    if vote.emotion is None:
        return Listed(image, "", split, NO_MAJORITY)
    return Listed(image, vote.emotion, split, shares=vote.shares)


def _split_of(usage: str, by_name: str | None, image: str | None, decisions: SplitDecisions) -> str | None:
    """Returns what was decided about an image's Usage or folders; else what its Usage, its list's name or they say."""
    names = [(usage, "")] if usage else []
    around = _folders_around(image) if image else []
    said = usage_kind(usage, SplitDecisions()) or by_name
    return decisions.kind_of([*names, *around], said or (split_by_path(f"{folder_of(image)}-") if image else None))


def _folders_around(path: str) -> list[tuple[str, str]]:
    """The folders that an image lies in, the innermost first, each with the path before it."""
    *folders, _ = path.split("/")
    return [(name, "/".join([*folders[:depth], ""])) for depth, name in reversed([*enumerate(folders)])]


def _listed(store: FileStore, list_: LabelList, decisions: SplitDecisions) -> ImageFiles:
    """Makes a source of a list; what it does not name is left out and told."""
    splits = {entry.split for entry in list_.listed if entry.split}
    kinds = {split: split if list_.decided else decisions.of(split) or split for split in sorted(splits)}
    decisions.check_used([*((kind, "") for kind in SPLIT_KINDS), *list_.may_decide], store.where)
    uses = decisions.uses(kinds, store.where, folders=False)
    has_test = TEST in uses.numbers.values()
    items, dropped, seen = list[Item](), defaultdict[tuple[str, str], list[str]](list), set[str]()
    for entry in list_.listed:
        if entry.image in seen and not entry.missing:
            raise SourceError(
                f"An image must be listed once. Received: {entry.image} twice in {list_.name}; leave one out."
            )
        seen.add(entry.image)
        number = uses.numbers.get(entry.split) if entry.split else None
        if entry.missing:
            items.append(Item(entry.image, entry.label, None, entry.problem))
        elif not entry.label:
            dropped[folder_of(entry.image), entry.problem].append(entry.image)
        elif entry.split and number is None:
            dropped[folder_of(entry.image), uses.reason_of(entry.split)].append(entry.image)
        else:
            split = number if has_test or number == TEST else None
            items.append(Item(entry.image, entry.label, split, shares=entry.shares))
    for path in sorted(store.listing.images.keys() - seen):
        dropped[folder_of(path), list_.unlisted].append(path)
    if len(dropped) > _MOST_FOLDERS:
        dropped = _by_top_folder(dropped)
    items.sort(key=lambda item: item.path)
    if not any(not item.problem for item in items):
        raise SourceError(
            f"A list of labels must name images of the source. Received: {list_.name}, which names none of "
            f"{len(store.listing.images):,} in {store.where}; check its "
            f"paths, or pass --labels {NO_LABELS} to take the folders."
        )
    layout = Layout(
        tuple(items),
        tuple(sorted({item.class_name for item in items if item.class_name})),
        tuple(
            SkippedImage(path=paths[0], reason=why) for (_, why), paths in sorted(dropped.items()) if len(paths) == 1
        ),
        tuple(
            LeftOut(path=folder or "./", images=len(paths), reason=why)
            for (folder, why), paths in sorted(dropped.items())
            if len(paths) > 1
        ),
        (*list_.notes, *((uses.note,) if uses.note else ())),
    )
    return ImageFiles(store, layout, list_.read)


def _by_top_folder(dropped: Mapping[tuple[str, str], list[str]]) -> defaultdict[tuple[str, str], list[str]]:
    """Joins what was left out for one reason in the folders of a topmost one."""
    joined = defaultdict[tuple[str, str], list[str]](list)
    for (folder, why), paths in dropped.items():
        joined[folder[: folder.find("/") + 1], why] += paths
    return joined
