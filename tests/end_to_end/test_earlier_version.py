"""What emotune 0.1 wrote opens: a study with its confirmation and its export, and the data set it was begun on.

`data/study-of-0.1.zip` was written by revision 6fe7a43 (faces/ and older/, without TensorBoard's logs).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.fixtures_study import emotune, lines

ARCHIVE = Path(__file__).parent / "study-of-0.1.zip"


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, in its storage, beside its data set."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "runs")
    (tmp_path / "runs/faces").rename(tmp_path / "faces")
    study = tmp_path / "runs/older/study.yaml"
    study.write_text(study.read_text().replace("/home/ada/faces-project/faces", str(tmp_path / "faces")))
    monkeypatch.chdir(tmp_path)
    return study.parent


def test_its_study_and_data_set_are_shown(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list"], ["show", "older"], ["why", "older"], ["why", "older", "0"], ["data", "show", "faces"]):
        assert emotune(*words) == 0
    said = capsys.readouterr().out
    assert "older" in said and "trial 0" in said
    assert "mean 0.4688, spread 0.0442 over its 2 seeds" in said


def test_its_export_predicts_with_its_face_crop(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("one.png", np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8))
    assert "CropToFace" in (older / "export/preprocessing.json").read_text()
    assert emotune("predict", older / "export", "one.png", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["probabilities"]) == {"happy", "sad"}


@pytest.mark.slow
def test_its_study_is_exported_replayed_and_resumed(
    older: Path, ray_cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((older / "export/metrics.json").read_text())
    assert emotune("export", "older", "--to", "again") == 0
    after = json.loads(Path("again/metrics.json").read_text())
    assert {name: after[name] for name in ("trial", "epoch", "selection", "test")} == {
        name: before[name] for name in ("trial", "epoch", "selection", "test")
    }
    code = emotune("replay", "older", "0")
    said = capsys.readouterr().out
    assert code in (0, 1) and ("the last digit" in said or "epochs differ" in said), said  # another kind of processor
    assert emotune("resume", "older", "--trials", "4") == 0
    journal = lines(older / "journal.jsonl")
    assert [event["trial"] for event in journal if event["event"] == "trial"][-1] == 3
    assert journal[-1]["event"] == "export"
