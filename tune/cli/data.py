"""`emotune data`: parses, calls, prints; no logic. Heavy imports wait inside the commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tune
from trainables.errors import DatasetError

if TYPE_CHECKING:
    from rich.table import Table

    from trainables.dataset.reader import Dataset
    from tune.dataset.quality_report import DatasetReport

app = typer.Typer(name="data", help="Import, draw, fetch and look at data sets.", no_args_is_help=True)

Target = Annotated[str, typer.Option("--to", help="Folder to create, or a bucket's address.", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="Let another data set at the target give way.")]
StoreSize = Annotated[
    int | None, typer.Option(help="Squeeze every image to this side in pixels. Default: their own, if all are equal.")
]
Channels = Annotated[int | None, typer.Option(help="Store 1 (gray) or 3 (RGB). Default: as the first image.")]
TestShare = Annotated[float, typer.Option(help="Share that becomes the test split where the source has none.")]
MaxBad = Annotated[float, typer.Option(help="Share of unreadable images that is accepted.")]
Split = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="FOLDER=SPLIT",
        help="What a folder (or '*', or a CSV's Usage) is: train, test, validation, class or leave-out; repeatable.",
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(help="Validation images become train or test, or leave-out. Default: test if there is no other."),
]


@app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(help="Zip or folder of <split>/<class>/ or <class>/, or fer2013.csv.")],
    to: Target,
    store_size: StoreSize = None,
    channels: Channels = None,
    test_share: TestShare = 0.1,
    max_bad: MaxBad = 0.01,
    split: Split = None,
    validation: Validation = None,
    replace: Replace = False,
) -> None:
    """Import a zip, a folder or fer2013.csv. A second import of the same source is free.

    Without a test split, the pixels of an image decide whether it is a test image: duplicates stay together.
    """
    with _progress("Importing") as on_image:
        imported = tune.import_data(
            source,
            to,
            store_size=store_size,
            channels=channels,
            test_share=test_share,
            max_bad=max_bad,
            split=split or (),
            validation=validation,
            replace=replace,
            on_image=on_image,
        )
    _print_summary(imported.dataset, "Unchanged" if imported.unchanged else "Imported", to)


@app.command()
def synth(
    to: Target,
    images: Annotated[int, typer.Option(help="Images in all; a fifth of them is the test split.")] = 3500,
    seed: Annotated[int, typer.Option(help="Other seeds give other faces.")] = 0,
    replace: Replace = False,
) -> None:
    """Draw cartoon faces with seven expressions: a data set that needs no download."""
    with _progress("Drawing") as on_image:
        dataset = tune.draw_faces(to, images=images, seed=seed, replace=replace, on_image=on_image)
    _print_summary(dataset, "Drawn", to)


@app.command()
def fetch(
    address: Annotated[str, typer.Argument(help="kaggle:OWNER/NAME")],
    to: Target,
    store_size: StoreSize = None,
    channels: Channels = None,
    test_share: TestShare = 0.1,
    max_bad: MaxBad = 0.01,
    split: Split = None,
    validation: Validation = None,
    replace: Replace = False,
) -> None:
    """Download a public data set and import it, e.g. kaggle:ananthu017/emotion-detection-fer."""
    import_command(tune.fetch_data(address), to, store_size, channels, test_share, max_bad, split, validation, replace)


@app.command()
def show(
    directory: Annotated[str, typer.Argument(help="A data set's folder or address.", metavar="DIR")],
    sheet: Annotated[Path | None, typer.Option(help="Where the contact sheet goes. Default: into DIR.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Print classes, duplicates, conflicts and statistics, and write a contact sheet."""
    from rich.console import Console

    dataset = tune.load_data(directory)
    report = tune.describe_data(dataset)
    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        console = Console()
        console.print(_counts_table(report))
        console.print(_findings_table(report))
    try:
        written = tune.contact_sheet(dataset, sheet)
    except DatasetError as error:  # somebody else's data set may be looked at where nothing can be written
        if sheet is not None:
            raise
        typer.echo(f"No contact sheet: {error} Name another place with --sheet.", err=True)
        return
    if json:
        return
    console.print(f"Contact sheet: {written}", highlight=False, soft_wrap=True, markup=False, emoji=False)


@app.command("preview")
def preview_command(
    directory: Annotated[Path, typer.Argument(help="A data set.", metavar="DIR")],
    method: Annotated[str, typer.Option(help="A preprocessing method, e.g. augment.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="STRENGTH=VALUE", help="e.g. augment_strength=0.8; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="PNG to write. Default: preview-METHOD.png in DIR.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds show other images and variants.")] = 0,
) -> None:
    """Write a contact sheet: originals, as evaluated, and training variants."""
    written = tune.preview(directory, method, strengths=settings or (), to=output, seed=seed)
    typer.echo(f"Preview: {written}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns: tuple[Any, ...] = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def on_image(done: int, expected: int) -> None:
            if done % 64 == 0:
                progress.update(task, completed=done, total=max(done, expected))

        yield on_image


def _print_summary(dataset: Dataset, what: str, name: str) -> None:
    info = dataset.info
    train, test = (sum(info.counts[split].values()) for split in ("train", "test"))
    typer.echo(
        f"{what}: {name}: {train:,} train and {test:,} test images, {len(info.classes)} classes, "
        f"{info.width_px} x {info.height_px} px, {'gray' if info.channels == 1 else 'RGB'}."
    )
    for note in info.notes:
        typer.echo(f"Note: {note}")
    for left_out in info.left_out:
        count = f" ({left_out.images:,} images)" if left_out.images else ""
        typer.echo(f"Left out: {left_out.path}{count}: {left_out.reason}")
    for skipped in info.skipped[:10]:
        typer.echo(f"Left out: {skipped.path}: {skipped.reason}")
    if len(info.skipped) > 10:
        typer.echo(f"Left out: {len(info.skipped) - 10:,} more, listed in its dataset.json")
    if info.passed_over:
        typer.echo(f"Passed over: {counts_line(info.passed_over)}")
    if not test:
        typer.echo("warning: no test images: no study on it can end with a sealed test. Import it with more of them")
    typer.echo(f"Look at it: emotune data show {shlex.quote(name)}")


def counts_line(passed_over: Mapping[str, int]) -> str:
    """`3 .txt, 1 .DS_Store`."""
    return ", ".join(f"{files:,} {name}" for name, files in sorted(passed_over.items()))


def _counts_table(report: DatasetReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Names go in as Text: in a string, rich takes [brackets] and :colons: for markup.
    table = Table(title=Text(f"{report.name}: {report.images:,} images"), title_justify="left")
    table.add_column("class")
    for split in report.counts:
        table.add_column(split, justify="right")
    for name in report.counts["train"]:
        table.add_row(Text(name), *(f"{counts[name]:,}" for counts in report.counts.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(counts.values()):,}" for counts in report.counts.values()))
    return table


def _findings_table(report: DatasetReport) -> Table:
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
