"""A whole study whose bucket's server is not there for 25 seconds, in the middle of a trial: real S3, real trials."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import tune
from tests.support.failing_server import vanishing_server
from trainables.places import Place
from tune.study.studies import StudyFiles, find_study

pytestmark = pytest.mark.slow

AWAY_S = 25


def test_a_study_goes_on_through_25_seconds_without_its_bucket(
    ray_cluster: str, bucket_study: StudyFiles, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(urlsplit(bucket).query.partition("=")[2].partition("&")[0]).port
    assert port
    gone: list[float] = []
    with vanishing_server(port) as (behind, vanish):
        original, copy = Place(bucket.format("runs")), Place(bucket.format("outage"))
        for file in original.files():
            copy.write(file.path, original.read(file.path) or b"")
        address = copy.at("tiny").replace(f":{port}", f":{behind}")

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "epoch" and not gone:
                gone.append(time.monotonic())
                vanish(AWAY_S)

        tune.resume(address, trials=7, events=on_event)
        assert time.monotonic() - gone[0] > AWAY_S
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))  # as another machine sees it
    state = find_study("tiny", copy.name).state()
    new = state.trials[6]
    assert new.state in ("complete", "pruned") and not new.restarts and not new.faults
    assert sorted(new.epochs) == list(range(1, max(new.epochs) + 1))
    assert (state.sessions, state.finished) == (2, True)
