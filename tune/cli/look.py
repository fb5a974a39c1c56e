"""The commands that look at studies: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import tune
from tune.cli.options import DataSet, MaxCost, Overrides, Storage, StudyFile, Trials, WallTime
from tune.cli.text import hanging_lines


def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder or address, or its name.")],
    to: Annotated[Path | None, typer.Option(help="Folder to write. Default: report/ in the study's folder.")] = None,
    storage: Storage = "runs",
) -> None:
    """Write a study's report: one HTML file that needs no network, and each chart as PNG and CSV."""
    typer.echo(f"report       {tune.write_report(study, to, storage=storage)}")


def compare(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY STUDY...", help="Folders, addresses or names.")],
    to: Annotated[Path, typer.Option(help="Folder to write.")] = Path("comparison"),
    storage: Storage = "runs",
) -> None:
    """Compare studies: who is ahead, with its interval, what differed, progress over time; a page of charts."""
    found = tune.compare_studies(studies, to, storage=storage)
    typer.echo(hanging_lines([*found.rows, ("page", str(found.page))]))


def plan(
    study_file: StudyFile,
    overrides: Overrides = None,
    data: DataSet = None,
    trials: Trials = None,
    time: WallTime = None,
    max_cost: MaxCost = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Reckon with the machines and prices of a file for `ray up`.")
    ] = None,
    calibrate: Annotated[bool, typer.Option(help="Measure a few configurations; without it no time is known.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Tell what a study will take before it begins: trials, epochs, time, GPU hours, money, memory, disk."""
    found = tune.plan_study(
        study_file,
        data=data,
        trials=trials,
        time=time,
        max_cost=max_cost,
        overrides=overrides,
        calibrate=calibrate,
        cluster=cluster,
        on_progress=(lambda line: None) if as_json else None,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    typer.echo(hanging_lines(found.rows()))
