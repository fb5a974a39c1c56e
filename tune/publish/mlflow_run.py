"""An export as a run of MLflow: the configuration as parameters, its figures as metrics, its files as artifacts."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import first_line
from tune.errors import ExportError
from tune.export.export import METRICS_FILE, STUDY_FILE

ARTIFACTS = "export"
"""The run's folder that holds the export."""

_VARIABLE = "MLFLOW_TRACKING_URI"
_LONGEST_VALUE = 500


def push_to_mlflow(folder: Path, server: str) -> str:
    """Makes a run in the experiment of the study's name.

    Args:
        folder: an export that is whole.
        server: its address; empty for that of MLFLOW_TRACKING_URI.

    Returns:
        The run's page.

    Raises:
        ExportError: the package is missing, no server is named, or the server does not answer or says no.
    """
    server = server or os.environ.get(_VARIABLE, "")
    if not server:
        raise ExportError(f"mlflow: needs a server. Received: none. Write mlflow:http://HOST:PORT, or set {_VARIABLE}")
    try:
        import mlflow
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise ExportError("mlflow: needs the package mlflow-skinny. Install it: make setup EXTRAS=mlflow") from None
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven by default, two minutes and more
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    study = yaml.safe_load((folder / STUDY_FILE).read_text(encoding="utf-8")) or {}
    name, now = str(study.get("name", "emotune")), int(time.time() * 1000)
    client, run = mlflow.MlflowClient(tracking_uri=server), None
    try:
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        run = client.create_run(experiment, run_name=f"{name}-trial-{metrics['trial']}", tags=_tags(metrics)).info
        client.log_batch(
            run.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in figures(metrics)],
            params=[Param(key, str(value)[:_LONGEST_VALUE]) for key, value in metrics["config"].items()],
        )
        client.log_artifacts(run.run_id, str(folder), ARTIFACTS)
        with redirect_stdout(io.StringIO()):  # it prints the run's page
            client.set_terminated(run.run_id, "FINISHED")
    except (KeyboardInterrupt, SystemExit):
        if run is not None:
            _give_up(client, run.run_id, MlflowException)
        raise
    except Exception as error:  # the server's, the network's, or those of the client of its artifacts' storage
        if run is not None:
            _give_up(client, run.run_id, MlflowException)
        if isinstance(error, ImportError):
            raise ExportError(
                f"{server} keeps files where a package is needed that is not here: {first_line(error)}. Install it, as "
                "boto3 for s3://, or let the server take the files (mlflow server --serve-artifacts)"
            ) from None
        raise ExportError(
            f"{server} must take the run. Received: {first_line(error)}. Check address and network"
        ) from None
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{run.run_id}"


def _give_up(client: Any, run: str, refusal: type[Exception]) -> None:
    """Marks a run that is not whole as failed, as far as the server answers."""
    try:
        client.set_terminated(run, "FAILED")
    except (refusal, OSError):
        return


def figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Returns the numbers of metrics.json by name: `test_accuracy`, `selection_loss`."""
    for fold in ("selection", "test"):
        for name, value in (metrics[fold] or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name if name.startswith(f"{fold}_") else f"{fold}_{name}", float(value)


def _tags(metrics: Mapping[str, Any]) -> dict[str, str]:
    return {
        "emotune.trial": str(metrics["trial"]),
        "emotune.epoch": str(metrics["epoch"]),
        "emotune.fingerprint": str(metrics["dataset"]["fingerprint"]),
        "emotune.formats": ", ".join(metrics["formats"]),
    }
