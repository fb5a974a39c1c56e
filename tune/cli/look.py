"""The commands that look at studies: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tune

Storage = Annotated[str, typer.Option(help="Folder or bucket of all studies.", show_default=True)]


def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder or address, or its name.")],
    to: Annotated[Path | None, typer.Option(help="Folder to write. Default: report/ in the study's folder.")] = None,
    storage: Storage = "runs",
) -> None:
    """Write a study's report: one HTML file that needs no network, and each chart as PNG and CSV."""
    typer.echo(f"report       {tune.write_report(study, to, storage=storage)}")
