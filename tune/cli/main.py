"""The command line: parses, calls, prints. No logic; Ray, Keras and TensorFlow are imported by what it calls."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError  # typer 0.29 carries click inside

import tune
from trainables.errors import EmotuneError
from trainables.training.fault_kinds import is_disk_full
from tune.cli import exports as cli_exports
from tune.cli import jobs as cli_jobs
from tune.cli import look
from tune.cli.cluster import app as cluster_app
from tune.cli.data import app as data_app
from tune.cli.numbers import read_numbers_like_yaml
from tune.cli.options import DataSet, MaxCost, Overrides, Storage, StudyFile, StudyName, Trials, WallTime
from tune.cli.surroundings import given_words, settle_process, settle_surroundings
from tune.line_width import fitted_to
from tune.nodes.signals import INTERRUPTED

if TYPE_CHECKING:
    from tune.api.studies import Study

app = typer.Typer(
    help="Distributed hyperparameter tuning for image classifiers: Ray Tune, Optuna, ASHA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")

Events = Annotated[
    Path | None,
    typer.Option(help="Append a JSON line per event to this file, for CI systems; - is standard output."),
]
AcceptCodeChange = Annotated[bool, typer.Option("--accept-code-change", help="Go on though a file of yours differs.")]
MovedData = Annotated[
    str | None, typer.Option("--data", help="Where the study's data set lies now, if it was moved.", show_default=False)
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"emotune {importlib.metadata.version('emotune')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    study_file: StudyFile,
    overrides: Overrides = None,
    data: DataSet = None,
    trials: Trials = None,
    time: WallTime = None,
    max_cost: MaxCost = None,
    events: Events = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the study file and its data.")] = False,
    calibrate: Annotated[bool, typer.Option(help="Measure an epoch's time first.")] = True,
    accept_code_change: AcceptCodeChange = False,
) -> None:
    """Run a study: search, stop the losers early, export the best model. Continues a study of that name."""
    how: dict[str, Any] = {"accept_code_change": accept_code_change}
    changes: dict[str, Any] = {"data": data, "trials": trials, "time": time, "max_cost": max_cost}
    if check:
        from tune.cli.text import checked_lines

        spec = tune.check_study(study_file, overrides=overrides, events=events, **how, **changes)
        typer.echo(fitted_to(sys.stdout, checked_lines(study_file, spec)))
        return
    with _interruption_told():
        study = tune.run(study_file, overrides=overrides, events=events, calibrate=calibrate, **how, **changes)
    _tell_end(study)


@app.command()
def resume(
    study: StudyName,
    storage: Storage = "runs",
    trials: Annotated[int | None, typer.Option(help="Extend the study to this many trials.")] = None,
    time: Annotated[str | None, typer.Option(help="Extend the study to this wall time, as in 2h.")] = None,
    events: Events = None,
    calibrate: Annotated[bool, typer.Option(help="Measure an epoch's time first.")] = False,
    data: MovedData = None,
    accept_code_change: AcceptCodeChange = False,
) -> None:
    """Go on with a study that was interrupted, or extend one that has ended."""
    how: dict[str, Any] = {"calibrate": calibrate, "accept_code_change": accept_code_change, "events": events}
    with _interruption_told():
        resumed = tune.resume(study, storage=storage, data=data, trials=trials, time=time, **how)
    _tell_end(resumed)


@contextmanager
def _interruption_told() -> Iterator[None]:
    from tune.session.study_text import interrupted_line

    try:
        yield
    except tune.Interrupted as interrupted:
        typer.echo(interrupted_line(interrupted.study.files))
        raise typer.Exit(INTERRUPTED) from None


def _tell_end(study: Study) -> None:
    from tune.session.study_text import outcome_lines
    from tune.study.budget import exit_code

    typer.echo(fitted_to(sys.stdout, outcome_lines(study.files, study.ended_by)))
    if status := exit_code(study.ended_by):
        raise typer.Exit(status)


@app.command(name="list")
def list_(
    storage: Storage = "runs",
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="List a cluster's jobs instead; its jobs server.")
    ] = None,
) -> None:
    """List the studies in a storage, or the jobs of a cluster."""
    if address is not None:
        from tune.cli.job_text import job_lines
        from tune.jobs.server import JobsServer

        typer.echo(job_lines(JobsServer(address).jobs()))
        return
    from tune.cli.show import print_studies

    print_studies(storage)


@app.command()
def show(study: StudyName, storage: Storage = "runs") -> None:
    """Show a study: its trials, the best one, its curves."""
    from tune.cli.show import print_study

    print_study(tune.load_study(study, storage))


@app.command()
def why(
    study: StudyName,
    trial: Annotated[int | None, typer.Argument(metavar="[TRIAL]", help="A trial's number.", min=0)] = None,
    storage: Storage = "runs",
) -> None:
    """Tell why a trial ended where it did, and whether the study's rungs judged well."""
    typer.echo(fitted_to(sys.stdout, tune.load_study(study, storage).why(trial)))


@app.command()
def enqueue(
    study: StudyName,
    values: Annotated[list[str], typer.Argument(metavar="PARAMETER=VALUE...", help="What differs from the defaults.")],
    storage: Storage = "runs",
) -> None:
    """Have a configuration tried next, also while the study runs elsewhere."""
    from tune.cli.text import enqueued_line
    from tune.study.yaml_source import read_assignments

    loaded = tune.load_study(study, storage)
    typer.echo(enqueued_line(loaded, loaded.enqueue(read_assignments(values))))


@app.command()
def drop(
    study: StudyName,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="A trial's number.", min=0)],
    storage: Storage = "runs",
) -> None:
    """Have a trial ended with the epoch that it trains; what it did so far is kept."""
    from tune.cli.text import dropped_line

    loaded = tune.load_study(study, storage)
    loaded.drop(trial)
    typer.echo(dropped_line(loaded, trial))


@app.command()
def replay(
    study: StudyName,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="A trial's number.", min=0)],
    epochs: Annotated[int | None, typer.Option(help="Only the first epochs.", min=1)] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Put its lost checkpoint back, if every epoch is identical.")
    ] = False,
    storage: Storage = "runs",
    data: MovedData = None,
) -> None:
    """Train a trial again from its seeds and compare every epoch with what it reported."""
    from tune.cli.text import replay_lines

    replayed = tune.load_study(study, storage, data).replay(trial, epochs, restore=restore)
    typer.echo(replay_lines(replayed))
    if replayed.different:
        raise typer.Exit(1)


@app.command()
def export(
    study: StudyName,
    to: Annotated[
        str, typer.Option("--to", help="Folder to write, or a bucket's address; an earlier export there gives way.")
    ],
    trial: Annotated[
        int | None, typer.Option(help="Another trial or confirmation than the best, by its number.", min=0)
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="saved_model, tf_serving, onnx, litert, litert_int8, beside Keras; repeatable."),
    ] = None,
    storage: Storage = "runs",
    data: MovedData = None,
) -> None:
    """Export the best checkpoint of a study: Keras model, SavedModel, labels, metrics."""
    from trainables.places import Place
    from tune.session.study_text import export_lines

    typer.echo(export_lines(Place(tune.load_study(study, storage, data).export(to, trial, formats or ()))))


_OF_EXPORTS = (cli_exports.predict, cli_exports.evaluate, cli_exports.verify, cli_exports.push, cli_exports.serve)
for _of_export in _OF_EXPORTS:
    app.command()(_of_export)

for _of_jobs in (cli_jobs.submit, cli_jobs.status, cli_jobs.logs, cli_jobs.stop):
    app.command()(_of_jobs)

for _to_look in (look.plan, look.watch, look.board, look.report, look.compare):
    app.command()(_to_look)


@app.command()
def doctor(
    address: Annotated[
        str | None,
        typer.Option(help="HOST:6379, ray://HOST:10001 or auto. Without it: RAY_ADDRESS, or this machine."),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Folder or bucket of the studies, tried on every node.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set that every node should see: folder or address.")] = None,
) -> None:
    """Tell what each node has and sees: versions, GPUs, disk, storage, clock; and what fixes what is wrong."""
    from tune.nodes.doctor import doctor_exit_code, examine, print_report

    reports, found = examine(address, storage, data)
    print_report(reports, found)
    raise typer.Exit(doctor_exit_code(found))


read_numbers_like_yaml(app)


def main() -> None:
    """Runs the command line as a process of its own: it obeys Ctrl-C and survives a reader that leaves."""
    settle_process()
    command_line()


def command_line() -> None:
    """Runs the command line; an error that the user can fix is one line and its own exit code."""
    try:
        settle_surroundings()
        status = app(given_words(), standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        status = 2
    except ClickException as error:
        status = _print_error(f"{error.format_message()} See: emotune --help", 2)
    except (typer.Abort, KeyboardInterrupt):  # Ctrl-C where nothing has to be kept
        status = INTERRUPTED
    except EmotuneError as error:
        status = _print_error(str(error), error.exit_code)
    except OSError as error:  # a name too long, no permission, a full disk: the machine's, not ours
        if error.filename is None and not is_disk_full(error):
            raise
        status = _print_error(f"{error.filename or 'output'}: {error.strerror}. Check path, permissions and disk", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _print_error(message: str, status: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return status
