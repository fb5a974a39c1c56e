"""A real export behind `emotune serve`: a server of its own, asked over HTTP, told to stop while it works."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import requests

import tune
from tests import ROOT
from tests.support.checkpoints import write_checkpoint
from tests.support.fixtures_study import emotune
from tests.support.own_pipelines import BESIDE
from tests.support.servers import free_port
from trainables.dataset.reader import Dataset, open_dataset
from tune.errors import ExportError, ServeError
from tune.export.export import export_checkpoint
from tune.export.predict import load_export
from tune.serve.classifier import MAX_BATCH, BatchingClassifier
from tune.serve.server import serve_folder

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

LIMIT_S = 300
UPLOAD_TIMEOUT_S = 8


@dataclass(frozen=True)
class Server:
    """A running `emotune serve`, and the export behind it."""

    process: subprocess.Popen[str]
    url: str
    export: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def predict(self, body: bytes, **more: Any) -> requests.Response:
        return requests.post(f"{self.url}/predict", data=body, timeout=LIMIT_S, **more)

    def connect(self, headers: str) -> socket.socket:
        """Returns a connection over which a request's head has gone."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)
        connection.sendall(f"POST /predict HTTP/1.1\r\nHost: here\r\n{headers}\r\n\r\n".encode())
        return connection


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def export(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    checkpoint = write_checkpoint(root / "checkpoint", dataset, **BESIDE)
    export_checkpoint(checkpoint, dataset, root / "export", study_yaml="", selection={}, formats=["keras"])
    return root / "export"


@pytest.fixture(scope="module")
def server(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests; it is ended by the last of them."""
    port = free_port()
    command = [sys.executable, "-m", "tune.cli", "serve", str(export), "--port", str(port)]
    command += ["--upload-timeout", str(UPLOAD_TIMEOUT_S)]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, text=True, cwd=ROOT)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(r"is served: (\S+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Server(process, found[1], export)
    finally:
        process.kill()
        process.wait()


def png(image: Any) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())


@pytest.mark.slow
def test_pictures_get_the_answers_of_predict_as_body_and_as_form(server: Server, dataset: Dataset) -> None:
    gray = dataset.image(0)
    colour = cv2.resize(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), (90, 130))
    jpeg = bytes(cv2.imencode(".jpg", colour)[1].tobytes())
    predictor = load_export(server.export)
    for body, kind in ((png(gray), "image/png"), (jpeg, "image/jpeg")):
        file = server.export.parent / "picture"
        file.write_bytes(body)
        (expected,) = predictor.predict(file)
        as_body = server.predict(body, headers={"Content-Type": kind})
        as_form = requests.post(f"{server.url}/predict", files={"image": ("a.png", body, kind)}, timeout=LIMIT_S)
        for answer in (as_body, as_form, server.predict(body)):
            assert answer.status_code == 200, answer.text
            assert answer.json()["label"] == expected.label
            assert answer.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.slow
def test_requests_that_come_together_are_batched_and_each_gets_its_own_answer(server: Server, dataset: Dataset) -> None:
    images = dataset.images(np.arange(24))
    before = figures(server)
    with ThreadPoolExecutor(24) as clients:
        answers = list(clients.map(server.predict, [png(image) for image in images] + [b"no image"]))
    assert [answer.status_code for answer in answers] == [200] * 24 + [422]
    for answer, expected in zip(answers, load_export(server.export).predict(images), strict=False):
        assert answer.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    after = figures(server)
    assert after["emotune_batch_images_sum"] - before["emotune_batch_images_sum"] == 25
    assert after["emotune_batch_images_count"] - before["emotune_batch_images_count"] < 25


def figures(server: Server) -> dict[str, float]:
    """Returns what Prometheus would read."""
    text = requests.get(f"{server.url}/metrics", timeout=LIMIT_S).text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def bomb() -> bytes:
    """A small PNG that says it has 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.slow
def test_a_batch_waits_for_what_is_being_read_and_no_longer(server: Server, dataset: Dataset) -> None:
    classifier, image = BatchingClassifier(server.export), png(dataset.image(0))

    def batches() -> list[float]:
        found = classifier.metrics.get_sample_value
        return [found(f"emotune_batch_images_{what}") or 0 for what in ("count", "sum")]

    async def ask(images: int, *, others: bool) -> list[Any]:
        async def one(delay_s: float) -> Any:
            with classifier.arriving():
                await asyncio.sleep(delay_s)
            return await classifier.classify(image)

        with classifier.arriving() if others else nullcontext():
            return await asyncio.gather(*(one(0.01 * (place % 3)) for place in range(images)))

    async def both() -> None:
        answers = await ask(MAX_BATCH + 8, others=False)
        assert len({answer.label for answer in answers}) == 1
        assert batches() == [2, MAX_BATCH + 8]
        await ask(1, others=True)  # another that never comes
        assert batches() == [3, MAX_BATCH + 9]

    asyncio.run(both())


@pytest.mark.slow
def test_a_batch_that_fails_is_each_requests_error_and_costs_the_next_nothing(
    server: Server, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, image = BatchingClassifier(server.export), png(dataset.image(0))
    predictor = classifier._predictor

    async def ask() -> list[Any]:
        monkeypatch.setattr(classifier, "_predictor", None)
        lost = asyncio.create_task(classifier.classify(image))
        lost.get_loop().call_soon(lost.cancel)
        failed = await asyncio.gather(*(classifier.classify(image) for _ in range(3)), lost, return_exceptions=True)
        monkeypatch.setattr(classifier, "_predictor", predictor)
        return [*failed, await classifier.classify(image)]

    *failed, cancelled, last = asyncio.run(ask())
    assert [type(error) for error in failed] == [AttributeError] * 3
    assert isinstance(cancelled, asyncio.CancelledError)
    assert last.label in classifier.classes


@pytest.mark.slow
def test_what_is_no_picture_is_refused_with_its_reason(server: Server, dataset: Dataset) -> None:
    body = png(dataset.image(0))
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for answer, status, reason in (
        (server.predict(b"no image"), 422, "not an image"),
        (server.predict(body[:60]), 422, "damaged"),
        (server.predict(bomb()), 422, "at most 64 megapixels"),
        (server.predict(b""), 400, "must hold one image. Received: an empty one"),
        (server.predict(b"x", headers=form), 400, ""),
        (requests.post(f"{server.url}/predict", files={"a": body, "b": body}, timeout=LIMIT_S), 400, "Too many files"),
        (
            server.predict(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--', headers=form),
            400,
            "none",
        ),
        (requests.get(f"{server.url}/predict", timeout=LIMIT_S), 405, ""),
        (requests.get(f"{server.url}/nothing", timeout=LIMIT_S), 404, ""),
    ):
        assert answer.status_code == status and reason in answer.json()["detail"], answer.text


@pytest.mark.slow
def test_what_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    for headers, status in (("Content-Length: 5000000000", b" 413 "), ("Transfer-Encoding: chunked", b" 411 ")):
        with server.connect(headers) as connection:
            assert status in connection.recv(100)  # without a byte of the body


@pytest.mark.slow
def test_an_image_that_does_not_arrive_in_time_is_refused(server: Server, dataset: Dataset) -> None:
    with server.connect("Content-Length: 5000\r\nx-request-timeout-seconds: 0") as connection:
        connection.sendall(b"\x89PNG")  # and no more
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(10_000) or pytest.fail(f"closed after {answer!r}")
    assert b" 408 " in answer and f"within {UPLOAD_TIMEOUT_S} s".encode() in answer
    assert server.predict(png(dataset.image(0))).status_code == 200


@pytest.mark.slow
def test_slow_uploads_beyond_those_that_are_worked_on_are_refused_in_time_too(server: Server, dataset: Dataset) -> None:
    """More than the model's process takes: the rest waits before it."""
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(server.connect("Content-Length: 5000")) for _ in range(150)]
        for connection in slow:
            connection.sendall(b"\x89PNG")
        assert server.predict(png(dataset.image(0))).status_code == 200
        assert all(b" 408 " in connection.recv(10_000) for connection in slow)


@pytest.mark.slow
def test_health_schema_and_page_are_the_servers_own(server: Server, dataset: Dataset) -> None:
    health = requests.get(f"{server.url}/health", timeout=LIMIT_S).json()
    assert requests.head(f"{server.url}/health", timeout=LIMIT_S).status_code == 200
    assert (health["status"], health["classes"]) == ("ok", list(dataset.info.classes))
    assert (health["height_px"], health["width_px"], health["channels"]) == dataset.info.shape
    paths = requests.get(f"{server.url}/openapi.json", timeout=LIMIT_S).json()["paths"]
    assert paths.keys() == {"/predict", "/health", "/metrics"}
    assert paths["/predict"]["post"]["requestBody"]["content"].keys() >= {"image/png", "multipart/form-data"}
    page = requests.get(server.url, timeout=LIMIT_S)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert not re.findall(r"""(?:src|href)\s*=|https?://|@import|url\(""", page.text.replace("picture.src =", ""))
    label = next(iter(dataset.info.classes))
    assert f'emotune_predictions_total{{label="{label}"}}' in figures(server)


DROP = """(content) => {
    const dropped = new DataTransfer();
    dropped.items.add(new File([new Uint8Array(content)], "face.png", { type: "image/png" }));
    const what = { dataTransfer: dropped, bubbles: true, cancelable: true };
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", what));
}"""


@pytest.mark.browser
@pytest.mark.slow
def test_a_picture_dropped_on_the_page_is_classified(server: Server, dataset: Dataset, chromium: Path) -> None:
    from playwright.sync_api import sync_playwright

    from tests.support.hparams_page import CHROMIUM_ARGUMENTS

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=str(chromium), args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        assert not page.is_visible("#picture")  # there is none yet
        page.evaluate(DROP, list(png(dataset.image(0))))
        page.wait_for_selector("tr.best", timeout=60_000)
        assert page.is_visible("#picture")
        rows = page.eval_on_selector_all("#shares th", "cells => cells.map(cell => cell.textContent)")
        assert sorted(rows) == sorted(dataset.info.classes)
        assert page.text_content("#said") == server.predict(png(dataset.image(0))).json()["label"] == rows[0]
        page.set_input_files("#file", {"name": "face.png", "mimeType": "image/png", "buffer": b"no image"})
        page.wait_for_selector("#said.error", timeout=60_000)
        assert "not an image" in (page.text_content("#said") or "")
        assert all(url.startswith((server.url, "blob:")) for url in asked)
        browser.close()


@pytest.mark.slow
def test_a_taken_port_and_a_changed_export_are_told_before_anything_starts(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=rf"free address .*Received: 127\.0\.0\.1, {server.port}: .*in use") as error:
        emotune("serve", server.export, "--port", server.port)
    assert error.value.exit_code == 2
    copy = tmp_path / "export"
    shutil.copytree(server.export, copy)
    (copy / "labels.json").write_text((copy / "labels.json").read_text().replace("happy", "sappy"))
    with pytest.raises(ExportError, match=r"labels\.json is damaged"):
        emotune("serve", copy, "--port", free_port())


def test_missing_packages_foreign_addresses_and_no_time_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServeError, match=r"upload_timeout_s must be 1 to 3600\. Received: 0\. Try 30"):
        emotune("serve", "export", "--upload-timeout", "0")
    with pytest.raises(ServeError, match=r"upload_timeout_s must be 1 to 3600\. Received: nan\. Try 30"):
        tune.serve_export("export", upload_timeout_s=float("nan"))
    with pytest.raises(ServeError, match=r"must be a free address of this machine\. Received: 198\.51\.100\.7, 8000"):
        emotune("serve", "export", "--host", "198.51.100.7")
    with pytest.raises(ServeError, match=r"Received: no\.such\.host\.invalid, 8000"):
        emotune("serve", "export", "--host", "no.such.host.invalid")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServeError, match=r"needs the package fastapi\. Received: none here.*make setup EXTRAS=serve"):
        emotune("serve", "export")


@pytest.mark.slow
def test_sigterm_lets_a_request_end_and_leaves_nothing_running(server: Server, dataset: Dataset) -> None:
    """The last test: it ends the server."""
    body = png(dataset.image(0))
    with server.connect(f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:50])
        time.sleep(3)  # until the request is at the model's process: it says nothing then
        started = psutil.Process(server.process.pid).children(recursive=True)
        assert len(started) > 3
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # the signal comes before the rest of the body
        connection.sendall(body[50:])
        answer = connection.recv(10_000)
        assert b" 200 " in answer and json.loads(answer.partition(b"\r\n\r\n")[2] or connection.recv(10_000))["label"]
    assert server.process.wait(timeout=60) == 130
    assert not psutil.wait_procs(started, timeout=30)[1]


def test_a_process_that_has_joined_ray_does_not_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(ServeError, match=r"by a process of its own. Received: one that has joined Ray.*ray\.shutdown"):
        serve_folder(tmp_path, "127.0.0.1", free_port(), 30, print)
