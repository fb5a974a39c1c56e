"""Options that several commands share: each is declared once, so that it means and says the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def local_path(given: str) -> Path:
    """Returns where to write on this machine.

    Raises:
        typer.BadParameter: a bucket's address, which as a path would be a folder of that name.
    """
    from trainables.places import is_bucket  # with pyarrow: not for --help

    if is_bucket(given):
        raise typer.BadParameter(f"name a place on this machine, and copy it from there. Received: {given}, an address")
    return Path(given)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a key, as in asha.max_epochs=8.")
]
DataSet = Annotated[str | None, typer.Option(help="Data set folder or address, in place of the study file's.")]
Trials = Annotated[int | None, typer.Option(help="Number of trials, in place of the study file's.")]
WallTime = Annotated[str | None, typer.Option(help="Wall time of the search, as in 90s, 30m or 2h.")]
MaxCost = Annotated[
    float | None, typer.Option(help="Money that ends the search, by budget.node_hour_price; not what follows.")
]
Storage = Annotated[str, typer.Option(help="Folder or bucket of all studies.", show_default=True)]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's folder or address, or its name in the storage.")
]
