"""A whole study whose bucket's server is not there for 25 seconds, in the middle of a trial: real S3, real trials."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import tune
from tests.support.failing_server import FailingServer
from trainables.places import Place
from tune.study.studies import StudyFiles, find_study

pytestmark = pytest.mark.slow

AWAY_S = 25


def test_a_study_goes_on_through_25_seconds_without_its_bucket(
    ray_cluster: str, bucket_study: StudyFiles, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(urlsplit(bucket).query.partition("=")[2].partition("&")[0]).port
    assert port
    server = FailingServer(("127.0.0.1", port))
    behind = bucket.replace(f":{port}", f":{server.port}")
    copy, original = Place(behind.format("outage")), Place(bucket.format("runs"))
    for file in original.files():
        copy.write(file.path, original.read(file.path) or b"")
    gone: list[float] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and not gone:
            gone.append(time.monotonic())
            server.vanish_for(AWAY_S)

    try:
        tune.resume(copy.at("tiny"), trials=7, events=on_event)
        assert time.monotonic() - gone[0] > AWAY_S
        monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))  # as another machine sees it
        study = find_study("tiny", copy.name)
        state = study.state()
    finally:
        server.close()
    new = state.trials[6]
    assert (new.state, new.restarts, new.faults) in (("complete", 0, []), ("pruned", 0, []))
    assert sorted(new.epochs) == list(range(1, max(new.epochs) + 1)) and state.finished
    assert Place(bucket.format("outage/tiny")).exists("export/manifest.json")
