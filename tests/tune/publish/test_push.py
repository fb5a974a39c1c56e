"""An export sent to a bucket, to an MLflow server and to a stand-in for the Hub; what is damaged is not sent."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import tune
from tests import ROOT
from tests.support.checkpoints import write_checkpoint
from tests.support.model_hub import TOKEN, model_hub
from tests.support.servers import free_port
from trainables.dataset.reader import open_dataset
from tune.errors import ExportError
from tune.export.export import export_checkpoint
from tune.export.sealed_test import evaluate_sealed
from tune.publish.hub import hub_card


@pytest.fixture(scope="module")
def export(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, dataset = tmp_path_factory.mktemp("pushed"), open_dataset(faces)
    checkpoint = write_checkpoint(root / "checkpoint", dataset, steps=3)
    sealed = evaluate_sealed(checkpoint, dataset)
    options = {"study_yaml": "name: pushed\n", "selection": {"selection_accuracy": 0.5}, "formats": ["keras"]}
    export_checkpoint(checkpoint, dataset, root / "export", sealed=sealed, **options)
    return root / "export"


def push(export: Path, to: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tune.cli", "push", str(export), to, *options]
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MLFLOW_"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={**unset, **environment})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_hub_gets_the_export_its_card_and_nothing_of_an_earlier_one(export: Path, tmp_path: Path) -> None:
    lying = tmp_path / "with notes"
    shutil.copytree(export, lying)
    for name in (".env", ".git/config", "code/__pycache__/x.pyc", ".exporting/new/model.keras", "README.md"):
        (lying / name).parent.mkdir(parents=True, exist_ok=True)
        (lying / name).write_text("nobody else's business")
    with model_hub() as hub:
        known = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
        sent = push(lying, "hf://team/faces", **known)
        assert (sent.returncode, sent.stdout) == (0, f"pushed       {hub.address}/team/faces\n"), sent.stderr
        there = hub.files["team/faces"]
        card = there.pop("README.md").decode()
        assert {name: there[name] for name in there if name != ".gitattributes"} == files_of(export)
        assert hub.private == {"team/faces": True} and hub.messages[0].startswith("Trial 3, epoch 5, accuracy ")
        head = yaml.safe_load(card.split("---")[1])
        assert head["pipeline_tag"] == "image-classification" and "## Limits" in card

        there["old.onnx"] = b"of an earlier export"
        assert push(export, "hf://team/faces", **known).returncode == 0
        assert "old.onnx" not in hub.files["team/faces"] and ".gitattributes" in hub.files["team/faces"]
        hub.files["team/space"] = {"app.py": b"another's work", ".gitattributes": b""}
        mine = push(export, "hf://team/space", **known)
        assert (
            mine.returncode == 2 and "must be new or hold an earlier export. Received: one with app.py" in mine.stderr
        )
        assert "app.py" in hub.files["team/space"]
        assert push(export, "hf://team/open", "--public", **known).returncode == 0
        assert hub.private["team/open"] is False

        refused = push(export, "hf://team/faces", **{**known, "HF_TOKEN": "hf_another"})
        assert refused.returncode == 2 and refused.stderr.startswith(f"error: {hub.address} must take team/faces.")
        assert len(refused.stderr.splitlines()) == 1 and "hf_another" not in refused.stderr
    away = push(export, "hf://team/faces", **known)
    assert away.returncode == 2 and away.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait()


@pytest.mark.slow
def test_mlflow_gets_a_run_with_parameters_metrics_and_files(export: Path, mlflow_server: str) -> None:
    sent = push(export, "mlflow:", MLFLOW_TRACKING_URI=mlflow_server)
    assert sent.returncode == 0 and sent.stdout.startswith(f"pushed       {mlflow_server}/#/experiments/"), sent.stderr
    run_id = sent.stdout.strip().rpartition("/")[2]
    url = f"{mlflow_server}/api/2.0/mlflow/runs/get?run_id={run_id}"
    with urllib.request.urlopen(url) as answer:
        run = json.load(answer)["run"]
    figures = {one["key"]: one["value"] for one in run["data"]["metrics"]}
    test = json.loads((export / "metrics.json").read_text())["test"]
    assert figures["test_accuracy"] == pytest.approx(test["accuracy"]) and figures["selection_accuracy"] == 0.5
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert parameters["optimizer"] == "adamw" and run["info"]["status"] == "FINISHED"
    with urllib.request.urlopen(f"{mlflow_server}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=export") as answer:
        listed = {file["path"] for file in json.load(answer)["files"]}
    assert {"export/model.keras", "export/manifest.json", "export/metrics.json"} <= listed

    nobody = push(export, "mlflow:http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert nobody.returncode == 2 and nobody.stderr.startswith(
        "error: http://127.0.0.1:9 must take the run. Received: "
    )


def test_a_bucket_gets_the_export_and_opens_as_one(export: Path, bucket: str) -> None:
    to = bucket.format("models/pushed")
    assert tune.push_export(export, to) == to
    assert tune.verify_export(to) == tune.verify_export(export)


def test_what_is_damaged_is_not_sent(export: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "export"
    shutil.copytree(export, damaged)
    (damaged / "metrics.json").write_text("{}")
    with pytest.raises(ExportError, match=r"metrics\.json is damaged"):
        tune.push_export(damaged, "hf://team/faces")


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("hf://faces", "a repository of the Hub is hf://OWNER/NAME. Received: hf://faces"),
        ("hf://team/faces/main", "a repository of the Hub is hf://OWNER/NAME"),
        ("hf://team/face--model", "must take team/face--model. Received: .*Check the name"),
        ("mlflow:localhost:5000", "a server of MLflow is mlflow:http://HOST:PORT. Received: mlflow:localhost:5000"),
        ("models/faces", "an export is sent to hf://OWNER/NAME, .* A folder is what emotune export --to writes"),
        ("ftp://there/faces", "an export is sent to hf://OWNER/NAME"),
    ],
)
def test_an_address_that_names_no_place_is_refused(export: Path, to: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        tune.push_export(export, to)


def test_a_server_that_is_not_there_is_told_soon(export: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ExportError, match=rf"{address} must take the run\. Received: .*"):
            tune.push_export(export, f"mlflow:{address}")


def test_without_a_server_mlflow_is_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ExportError, match="mlflow: needs a server. Received: none. Write mlflow:http://HOST:PORT"):
        tune.push_export(export, "mlflow:")


def test_a_card_without_a_sealed_test_has_no_figures() -> None:
    metrics = {"test": None, "dataset": {"name": "faces"}}
    head = yaml.safe_load(hub_card(metrics, "# Card\n", "team/faces").split("---")[1])
    assert "model-index" not in head
