"""A checkpoint on a real S3 server (moto) that answers with errors for 20 seconds, through Ray's own storage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs
from ray.train._internal.storage import StorageContext

from tests.support.failing_server import FailingServer
from tests.trainables.training.test_classifier import config
from trainables.training import fault_kinds as faults
from trainables.training.classifier import Classifier
from trainables.training.fault_kinds import TrialFault

pytestmark = pytest.mark.slow


@pytest.fixture
def s3(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingServer]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    server = FailingServer(moto.get_host_and_port())
    yield server
    server.close()
    moto.stop()


def trial_on(server: FailingServer, faces: Path) -> tuple[Classifier, str]:
    """A trial whose checkpoints go to the server, with the storage that Ray Tune would give it."""
    options = f"endpoint_override=http://127.0.0.1:{server.port}&scheme=http&allow_bucket_creation=true"
    storage = StorageContext(
        f"s3://studies/tiny?{options}", experiment_dir_name="session-001", trial_dir_name="trial-0"
    )
    return Classifier(config(faces), storage=storage), options


def test_a_checkpoint_gets_through_when_storage_errors_for_20_seconds(faces: Path, s3: FailingServer) -> None:
    trial, options = trial_on(s3, faces)
    trial.train()
    began = time.monotonic()
    s3.fail_for(20)
    saved = trial.save()
    assert time.monotonic() - began >= 20 and s3.errors
    assert saved.checkpoint is not None
    store, root = fs.FileSystem.from_uri(f"s3://studies/tiny?{options}")
    files = {Path(info.path).name for info in store.get_file_info(fs.FileSelector(root, recursive=True))}
    assert {"model.keras", "state.json"} <= files
    with store.open_input_stream(f"{saved.checkpoint.path}/state.json") as stream:
        assert json.loads(stream.read())["epoch"] == 1


def test_storage_that_errors_for_longer_is_a_fault_of_its_own(
    faces: Path, s3: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "STORAGE_PAUSES_S", (0.1, 0.1))
    trial, _ = trial_on(s3, faces)
    trial.train()
    s3.fail_for(3600)
    with pytest.raises(TrialFault) as caught:
        trial.save()
    assert caught.value.kind == "storage"
