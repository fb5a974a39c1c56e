"""`emotune serve` under load: every answer counted, how long they took, and the same images through a bare model call.

    python -m benchmarks.serving EXPORT [--load 1:300 8:1000 64:10000]

A client sends one image after another over a connection of its own and waits for each answer. All of it runs on this
machine, clients included, so they take part of the processor. The bare call is `model.keras` on batches of 1 and 32.
The same requests go to a Ray Serve application that does nothing (`benchmarks/empty_serving.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np

from benchmarks.results_file import machine_line

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

_READY_S = 180


class Load(NamedTuple):
    """What so many clients saw: answers by status, seconds of each answer in order, seconds of all."""

    statuses: Counter[int | str]
    seconds: Sequence[float]
    wall_s: float


def main() -> None:
    """Prints a row for each number of clients, and one for each bare batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument(
        "--load", nargs="+", default=["1:300", "8:1000", "64:10000"], metavar="N:M", help="N clients, M requests in all"
    )
    given = parser.parse_args()
    print(machine_line("ray", "keras", "tensorflow") + "\n")
    bare = {batch: bare_images_per_s(given.export, batch) for batch in (1, 32)}
    print("| server | clients | answers by status | images/s | of a bare call | median | 90 % | 99 % | longest |")
    print("|---" * 9 + "|")
    commands = {
        "emotune serve": ["tune.cli", "serve", str(given.export), "--port"],
        "empty": ["benchmarks.empty_serving"],
    }
    for name, command in commands.items():
        with serving(command) as url:
            for one in given.load:
                clients, requests = map(int, one.split(":"))
                asyncio.run(ask(f"{url}/predict", 4 * clients, clients))  # graphs are traced for each size of batch
                load = asyncio.run(ask(f"{url}/predict", requests, clients))
                print(f"| {name} {row(clients, load, bare[32])}", flush=True)
    for batch, rate in bare.items():
        print(f"\nbare call, batch {batch}: {rate:.0f} images/s")


@contextmanager
def serving(command: Sequence[str]) -> Iterator[str]:
    """Runs a module's server on a free port, which is its last argument; gives its URL."""
    with tempfile.TemporaryFile() as log:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen([sys.executable, "-m", *command, str(port)], stdout=log, stderr=log)
        try:
            yield _wait(server, log)
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """Returns the server's URL when it answers."""
    deadline = time.monotonic() + _READY_S
    while True:
        log.seek(0)
        said = log.read().decode()
        found = re.search(r"is served: (\S+)", said)
        if found:
            return found[1].rstrip("/")
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start: {said}")
        time.sleep(0.3)


def pictures(count: int = 64, side_px: int = 48) -> list[bytes]:
    """Returns PNG files of noise."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (count, side_px, side_px), dtype=np.uint8)
    return [bytes(cv2.imencode(".png", image)[1].tobytes()) for image in images]


async def ask(url: str, requests: int, clients: int) -> Load:
    """Lets clients send so many images in all."""
    import aiohttp

    images, statuses, seconds, left = pictures(), Counter[int | str](), [], iter(range(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            began = time.perf_counter()
            try:
                async with session.post(url, data=images[number % len(images)]) as answer:
                    body = await answer.json() if answer.status == 200 else {}
                    statuses[answer.status if answer.status != 200 or "label" in body else "no label"] += 1
            except aiohttp.ClientError as error:
                statuses[type(error).__name__] += 1
            seconds.append(time.perf_counter() - began)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        wall_s = time.perf_counter() - began
    return Load(statuses, sorted(seconds), wall_s)


def row(clients: int, load: Load, bare: float) -> str:
    """Returns a row of the table."""
    rate = load.statuses[200] / load.wall_s
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(load.statuses.items(), key=str))
    times = " | ".join(f"{1000 * np.quantile(load.seconds, share):.0f} ms" for share in (0.5, 0.9, 0.99, 1.0))
    return f"| {clients} | {answers} | {rate:.0f} | {rate / bare:.2f} | {times} |"


def bare_images_per_s(export: Path, batch: int, seconds: float = 5.0) -> float:
    """Returns how many images of the model's size it classifies in a second, in this process."""
    from trainables.keras_setup import import_keras

    import_keras()
    import keras

    model = keras.saving.load_model(export / "model.keras", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (batch, *model.input_shape[1:])).astype(np.uint8)
    model.predict_on_batch(images)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        model.predict_on_batch(images)
        done += batch
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
