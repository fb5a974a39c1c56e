"""`emotune submit`, `status`, `logs`, `stop`: parses, calls, prints; no logic. Ray waits inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tune.cli.options import MaxCost, Overrides, StudyFile, Trials, WallTime

Address = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
        help="The cluster's jobs server, as in http://head:8265.",
    ),
]
JobStudy = Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")]


def submit(
    study_file: StudyFile,
    address: Address,
    overrides: Overrides = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, in place of the study file's: what all nodes see.")
    ] = None,
    trials: Trials = None,
    time: WallTime = None,
    max_cost: MaxCost = None,
    wait: Annotated[bool, typer.Option(help="Follow the study to its end; Ctrl-C leaves it running.")] = True,
) -> None:
    """Run a study on a cluster: ship it with the code, follow it. Continues a study of that name."""
    from tune.jobs.server import JobsServer, check_shared
    from tune.study.spec import load_spec

    options = {"data": data, "trials": trials, "time": time, "budget.cost": max_cost}
    spec = load_spec(study_file, overrides or [], options)
    check_shared(spec)
    server = JobsServer(address)
    job = server.submit(spec)
    typer.echo(f"submitted {job.id} to {server.address}")
    hint = (
        f"follow  emotune logs {spec.name} -f --address {server.address}\n"
        f"stop    emotune stop {spec.name} --address {server.address}"
    )
    if not wait:
        typer.echo(hint)
        return
    from tune.jobs.follow import follow_study

    try:
        status = follow_study(server, job, spec, sys.stdout)
    except KeyboardInterrupt:
        typer.echo(f"the study goes on without this terminal\n{hint}")
        raise typer.Exit(130) from None
    if status:
        raise typer.Exit(status)


def status(
    address: Address, study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="A study's name.")] = None
) -> None:
    """Tell how far the studies on a cluster are: trials ended, the best one, what is spent."""
    from tune.cli.job_text import job_lines, status_lines
    from tune.jobs.server import JobsServer

    server = JobsServer(address)
    latest = [server.latest(study)] if study else [*{job.study: job for job in reversed(server.jobs())}.values()]
    typer.echo("\n".join(status_lines(job, server.log(job)) for job in latest) or job_lines([]))


def logs(
    study: JobStudy,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what a study on a cluster has said, its events left out."""
    from tune.jobs.follow import parse_event
    from tune.jobs.server import JobsServer

    server = JobsServer(address)
    job = server.latest(study)
    for line in server.follow(job.id) if follow else server.log(job):
        if line is not None and parse_event(line) is None:
            typer.echo(line)


def stop(study: JobStudy, address: Address) -> None:
    """Stop a study on a cluster: its running trials are saved; submitting it again goes on with it."""
    from tune.cli.job_text import job_line, stopped_line
    from tune.jobs.server import JobsServer

    server = JobsServer(address)
    job = server.latest(study)
    if not job.active:
        typer.echo(f"{job_line(job)}\nnothing to stop")
        return
    typer.echo(f"stopping {job.id}: running trials are saved first")
    for _ in server.stop(job):
        pass
    typer.echo(stopped_line(job, server.log(job), server.address))
