"""What `emotune submit` refuses before it ships anything, each in one line: paths, addresses, versions."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.fixtures_study import write_study_file
from tests.tune.cli.test_cli import refused


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        (
            "--set=storage=runs",
            "storage must be what every node of the cluster sees: .*Received: runs. .*--set storage=",
        ),
        ("--data=data/faces", "data must be what every node of the cluster sees: .*Received: data/faces"),
        ("--data=synthetic", "data must be what every .*Received: synthetic. .*emotune data synth --to FOLDER"),
    ],
)
def test_a_path_that_only_one_node_sees_is_refused(
    option: str,
    rule: str,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_study_file(tmp_path, faces)
    said = refused("submit", file, option, "--address", "127.0.0.1:1", monkeypatch=monkeypatch, capsys=capsys)
    assert re.search(rule, said)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("http://127.0.0.1:1", "Received: http://127.0.0.1:1, where none answers. Start the cluster"),
        ("127.0.0.1:1", "Received: http://127.0.0.1:1, where none answers"),
        (
            "http://me:secret@head:8265",
            "must hold no user and no password: what is printed shows it. Received: head with",
        ),
        ("http://[::1", "must be the URL of the cluster's jobs server"),
        ("ray://head:10001", "must be the URL of the cluster's jobs server, as in http://head:8265"),
    ],
)
def test_an_address_where_nothing_answers_is_refused_at_once(
    address: str,
    rule: str,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_study_file(tmp_path, faces)
    begun = time.monotonic()
    assert rule in refused("submit", file, "--address", address, monkeypatch=monkeypatch, capsys=capsys)
    assert time.monotonic() - begun < 60  # Ray waits for minutes


@contextmanager
def old_ray() -> Iterator[str]:
    """A jobs server of Ray 2.40; yields its address."""

    class OldRay(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"ray_version": "2.40.0"}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), OldRay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_a_proxy_to_the_outside_is_not_asked_for_a_near_jobs_server_and_named_for_a_far_one(
    variable: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody listens
    file = write_study_file(tmp_path, faces)
    with old_ray() as address:
        said = refused("submit", file, "--address", address, monkeypatch=monkeypatch, capsys=capsys)
    assert f"2.40.0 at {address}" in said
    said = refused("submit", file, "--address", "http://head.invalid:8265", monkeypatch=monkeypatch, capsys=capsys)
    assert "where none answers" in said and f"leave the proxy of {variable} out: no_proxy=head.invalid" in said


def test_another_version_of_ray_on_the_cluster_is_refused(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with old_ray() as address:
        file = write_study_file(tmp_path, faces)
        said = refused("submit", file, "--address", address, monkeypatch=monkeypatch, capsys=capsys)
    assert f"here, 2.40.0 at {address}. Install one of them on both sides" in said
