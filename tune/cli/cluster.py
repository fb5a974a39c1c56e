"""`emotune cluster`: parses, calls, prints; no logic. Ray is imported by what it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="cluster", help="Check the files that launch a cluster.", no_args_is_help=True)


@app.callback()
def _cluster() -> None:
    pass


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file for `ray up`, or a RayCluster for KubeRay.")],
) -> None:
    """Check a cluster file before it costs anything: no network, no account needed."""
    from tune.cluster.check import check_cluster

    report = check_cluster(file)
    for line in report.summary:
        typer.echo(line)
    for line in report.notes:
        typer.echo(f"note: {line}")
    for line in report.problems:
        typer.echo(f"problem: {line}", err=True)
    if report.problems:
        raise typer.Exit(2)
    typer.echo(f"{file} is in order")
