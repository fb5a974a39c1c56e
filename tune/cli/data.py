"""`emotune data`: parses, calls, prints; no logic. Heavy imports wait inside the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import tune
from trainables.errors import DatasetError
from tune.cli.data_text import counts_table, findings_table, print_legend, print_summary
from tune.cli.options import local_path

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
Test = Annotated[
    list[str] | None,
    typer.Option("--test", metavar="FOLDER", help="A folder that is the test split, the rest being train; repeatable."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes", metavar="NAME=LABEL,...", help="Names for the source's labels; leave-out=LABEL leaves images out."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="CSV of the images' labels, or of FER+'s votes; none takes the folders whatever lists there are."
    ),
]


SoftLabels = Annotated[
    bool,
    typer.Option("--soft-labels", help="Train towards the shares of FER+'s votes; score by the majority."),
]


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="Folder, zip or tar of images, CSV or parquet files; or one of these.")],
    to: Annotated[str | None, typer.Option("--to", help="Folder to create, or a bucket's address.")] = None,
    store_size: StoreSize = None,
    channels: Channels = None,
    test_share: TestShare = 0.1,
    max_bad: MaxBad = 0.01,
    split: Split = None,
    validation: Validation = None,
    test: Test = None,
    classes: Classes = None,
    labels: Labels = None,
    soft_labels: SoftLabels = False,
    replace: Replace = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how the source would be read; decode and write nothing.")
    ] = False,
) -> None:
    """Import images, a table of pixels or parquet files. A second import of the same source is free.

    Without a test split, a share of each class is drawn by the images' pixels: duplicates stay together.
    """
    decisions: dict[str, Any] = {
        "split": split or (),
        "validation": validation,
        "test": test or (),
        "classes": classes or (),
        "labels": labels,
    }
    if dry_run:
        from tune.cli.data_text import print_plan

        print_plan(tune.inspect_source(source, **decisions))
        return
    if to is None:
        raise typer.BadParameter("name the folder to create.", param_hint="--to")
    with _progress("Importing") as on_image:
        imported = tune.import_data(
            source,
            to,
            store_size=store_size,
            channels=channels,
            test_share=test_share,
            max_bad=max_bad,
            **decisions,
            soft_labels=soft_labels,
            replace=replace,
            on_image=on_image,
        )
    print_summary(imported.dataset, "Unchanged" if imported.unchanged else "Imported", to)


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
    print_summary(dataset, "Drawn", to)


@app.command()
def fetch(
    address: Annotated[str, typer.Argument(help="kaggle:OWNER/NAME, or hf://OWNER/NAME[@REVISION] of Hugging Face.")],
    to: Target,
    store_size: StoreSize = None,
    channels: Channels = None,
    test_share: TestShare = 0.1,
    max_bad: MaxBad = 0.01,
    split: Split = None,
    validation: Validation = None,
    test: Test = None,
    classes: Classes = None,
    labels: Labels = None,
    soft_labels: SoftLabels = False,
    replace: Replace = False,
) -> None:
    """Download a data set and import it, e.g. kaggle:ananthu017/emotion-detection-fer."""
    source = str(tune.fetch_data(address))
    decided = (split, validation, test, classes, labels, soft_labels, replace)
    import_command(source, to, store_size, channels, test_share, max_bad, *decided)


@app.command()
def show(
    directory: Annotated[str, typer.Argument(help="A data set's folder or address.", metavar="DIR")],
    sheet: Annotated[
        Path | None,
        typer.Option(parser=local_path, metavar="FILE", help="Where the contact sheet goes. Default: into DIR."),
    ] = None,
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
        console.print(counts_table(report))
        console.print(findings_table(report))
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
    print_legend(dataset)


@app.command()
def verify(
    directory: Annotated[str, typer.Argument(help="A data set's folder or address.", metavar="DIR")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Work out from the pixels whether a data set is as it was written; exit code 2 if it is not."""
    verification = tune.verify_data(directory)
    if json:
        typer.echo(verification.model_dump_json(indent=2))
    if verification.problems:
        raise DatasetError(f"{directory} was changed: {'; '.join(verification.problems)}. Import it again.")
    if not json:
        typer.echo(f"As written: {directory}: {verification.images:,} images, fingerprint {verification.fingerprint}.")


@app.command("preview")
def preview_command(
    directory: Annotated[Path, typer.Argument(help="A data set.", metavar="DIR")],
    method: Annotated[
        str,
        typer.Option(
            help="A preprocessing method, e.g. augment, or a pipeline of your own: mine.yaml, my_aug.py:training."
        ),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="STRENGTH=VALUE", help="e.g. augment_strength=0.8; repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=local_path, metavar="FILE", help="PNG to write. Default: preview-METHOD.png in DIR."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds show other images and variants.")] = 0,
) -> None:
    """Write a contact sheet: originals, as evaluated, and training variants."""
    written = tune.preview(directory, method, strengths=settings or (), to=output, seed=seed)
    typer.echo(f"Preview: {written}")
    print_legend(tune.load_data(str(directory)))


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
