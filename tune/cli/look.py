"""The commands that look at studies: parse, call, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import tune
from tune.cli.options import DataSet, MaxCost, Overrides, Storage, StudyFile, StudyName, Trials, WallTime
from tune.cli.text import hanging_lines


def report(
    study: StudyName,
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


def watch(
    study: StudyName,
    storage: Storage = "runs",
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="A study that was submitted to a cluster; its jobs server.")
    ] = None,
) -> None:
    """Follow a study that runs elsewhere: the table of `run`, or a line per event. Ctrl-C leaves the study alone."""
    try:
        if address is None:
            tune.watch_study(study, storage=storage)
        else:
            _watch_job(study, address)
    except KeyboardInterrupt:
        typer.echo("the study goes on without this terminal")
        raise typer.Exit(130) from None


def board(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies: folders, addresses, or names in the storage.")
    ],
    storage: Storage = "runs",
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets everybody look who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Start TensorBoard on them too, for this machine only.")
    ] = False,
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Start Optuna Dashboard too, likewise: make setup EXTRAS=optuna.")
    ] = False,
) -> None:
    """Show studies on a web page that follows them: trials, learning curves, workers, decisions."""

    def tell(url: str) -> None:
        typer.echo(f"board        {url}  (Ctrl-C ends it, and no study)")

    def tell_beside(name: str, url: str) -> None:
        typer.echo(f"{name:<12} {url}")

    shown: dict[str, Any] = {"tensorboard": tensorboard, "optuna": optuna, "beside": tell_beside}
    tune.serve_board(studies, storage=storage, host=host, port=port, ready=tell, **shown)


def _watch_job(study: str, address: str) -> None:
    from tune.cli.job_text import status_lines
    from tune.jobs.follow import watch_job
    from tune.jobs.server import JobsServer

    server = JobsServer(address)
    job = server.latest(study)
    watch_job(server, job, sys.stdout)
    typer.echo(status_lines(server.latest(study), server.log(job)))


def plan(
    study_file: StudyFile,
    overrides: Overrides = None,
    data: DataSet = None,
    trials: Trials = None,
    time: WallTime = None,
    max_cost: MaxCost = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Reckon with the machines and prices of a file for `ray up` on AWS or GCP."),
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
