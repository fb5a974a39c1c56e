"""What `emotune data` prints of a data set and of a source. Heavy imports wait until they are used."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from trainables.dataset.info import LeftOut, SkippedImage
    from trainables.dataset.reader import Dataset
    from tune.dataset.quality_report import DatasetReport
    from tune.dataset.source_plan import SourcePlan

_SHOWN: Final = 10


def print_summary(dataset: Dataset, what: str, name: str) -> None:
    """Prints what a data set holds, and all of its source that it does not."""
    info = dataset.info
    train, test = (sum(info.counts[split].values()) for split in ("train", "test"))
    typer.echo(
        f"{what}: {name}: {train:,} train and {test:,} test images, {len(info.classes)} classes, "
        f"{info.width_px} x {info.height_px} px, {'gray' if info.channels == 1 else 'RGB'}."
    )
    _print_notes(info.notes, info.left_out, info.skipped)
    if len(info.skipped) > _SHOWN:
        typer.echo(f"Left out: {len(info.skipped) - _SHOWN:,} more, listed in its dataset.json")
    if info.passed_over:
        typer.echo(f"Passed over: {counts_line(info.passed_over)}{_folders(info.passed_over_in)}")
    if not test:
        typer.echo("warning: no test images: no study on it can end with a sealed test. Import it with more of them")
    typer.echo(f"Look at it: emotune data show {shlex.quote(name)}")


def print_plan(plan: SourcePlan) -> None:
    """Prints how a source would be read."""
    from rich.console import Console

    total = sum(sum(counts.values()) for counts in plan.counts.values())
    typer.echo(f"{plan.source}: {total:,} images in {len(plan.classes)} classes, by their names and labels:")
    Console().print(_split_table(None, plan.counts))
    if "drawn" in plan.counts:
        typer.echo("Note: the source has no test images: --test-share of each class will be drawn")
    _print_notes(plan.notes, plan.left_out, plan.skipped)
    if len(plan.skipped) > _SHOWN:
        typer.echo(f"Left out: {len(plan.skipped) - _SHOWN:,} more")
    for bad in plan.bad_examples:
        typer.echo(f"Bad: {bad.path}: {bad.reason}")
    if plan.bad_images > len(plan.bad_examples):
        typer.echo(f"Bad: {plan.bad_images - len(plan.bad_examples):,} more")
    if plan.passed_over:
        by_suffix = Counter[str]()
        for counts in plan.passed_over.values():
            by_suffix.update(counts)
        typer.echo(f"Passed over: {counts_line(by_suffix)}{_folders(plan.passed_over)}")
    typer.echo("Nothing was decoded or written.")


def _print_notes(notes: Sequence[str], left_out: Sequence[LeftOut], skipped: Sequence[SkippedImage]) -> None:
    for note in notes:
        typer.echo(f"Note: {note}")
    for folder in left_out:
        count = f" ({folder.images:,} images)" if folder.images else ""
        typer.echo(f"Left out: {folder.path}{count}: {folder.reason}")
    for image in skipped[:_SHOWN]:
        typer.echo(f"Left out: {image.path}: {image.reason}")


def _folders(passed_over_in: Mapping[str, Mapping[str, int]]) -> str:
    """Where files were passed over, if not beside the source's folders alone: `; in docs/: 3 .txt`."""
    if set(passed_over_in) <= {"./"}:
        return ""
    shown = [f"{folder} {counts_line(counts)}" for folder, counts in passed_over_in.items()]
    more = f"; and {len(shown) - _SHOWN:,} folders more" if len(shown) > _SHOWN else ""
    return f" ({'; '.join(shown[:_SHOWN])}{more})"


def print_legend(dataset: Dataset) -> None:
    """Says which classes a picture calls by numbers, as its font lacks their letters."""
    from tune.legible_names import legible_names

    if legend := legible_names(dataset.info.classes)[1]:
        typer.echo(f"In it: {', '.join(f'{number} is {name}' for number, name in legend.items())}")


def counts_line(passed_over: Mapping[str, int]) -> str:
    """`3 .txt, 1 .DS_Store`."""
    return ", ".join(f"{files:,} {name}" for name, files in sorted(passed_over.items()))


def counts_table(report: DatasetReport) -> Table:
    """Images by class and split."""
    return _split_table(f"{report.name}: {report.images:,} images", report.counts)


def _split_table(title: str | None, counts: Mapping[str, Mapping[str, int]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Names go in as Text: in a string, rich takes [brackets] and :colons: for markup.
    table = Table(title=None if title is None else Text(title), title_justify="left")
    table.add_column("class")
    for split in counts:
        table.add_column(split, justify="right")
    for name in next(iter(counts.values()), {}):
        table.add_row(Text(name), *(f"{by_class[name]:,}" for by_class in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(by_class.values()):,}" for by_class in counts.values()))
    return table


def findings_table(report: DatasetReport) -> Table:
    """What was found out about the images."""
    from rich.table import Table
    from rich.text import Text

    duplicates = report.duplicates
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("size", f"{report.width_px} x {report.height_px} px, {report.channels} channel(s)")
    table.add_row("pixels on disk", f"{report.size_bytes / 1e6:,.1f} MB")
    for split, surplus in duplicates.surplus.items():
        table.add_row(f"surplus duplicates inside {split}", f"{surplus:,}")
    table.add_row("test images with a twin in train", f"{duplicates.test_with_twin_in_train:,}")
    table.add_row("duplicate groups with different labels", f"{duplicates.groups_with_label_conflict:,}")
    table.add_row("images in those groups", f"{duplicates.images_with_label_conflict:,}")
    table.add_row("constant images", f"{report.constant_images:,}")
    for split, pixels in report.pixels.items():
        spread = f"{pixels.mean:.1f} ± {pixels.std:.1f}, images from {pixels.mean_low:.0f} to {pixels.mean_high:.0f}"
        table.add_row(f"{split} pixels (0-255)", spread)
    left_out = len(report.skipped) + sum(folder.images for folder in report.left_out)
    table.add_row("images left out", f"{left_out:,}")
    table.add_row("other files", counts_line(report.passed_over) or "0")
    table.add_row("source", Text(report.source))
    table.add_row("fingerprint", report.fingerprint)
    return table
