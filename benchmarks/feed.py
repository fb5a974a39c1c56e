"""Images per second: emotune's feed against bare Albumentations and against Keras' ImageDataGenerator.

    python -m benchmarks.feed [--images 20000] [--rounds 5] [--output benchmarks/results/feed-YYYY-MM-DD.md]

Runs take turns, so that a slow minute of the machine hits all of them; medians are printed. The data are cartoon faces,
or FER-2013 where EMOTUNE_FER_ZIP names its zip. All augment by random shifts of up to 10 %.

What is compared: ImageDataGenerator enlarges each image to 227 px and then augments it, on the CPU. emotune augments
48 px images and the model's graph enlarges them, on the device; so one line adds that enlarging, on these same cores,
as if there were no device.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import io
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

from benchmarks.results_file import tell
from trainables.dataset.reader import TRAIN, Dataset, Rows
from trainables.preprocessing.feed import Feed
from trainables.preprocessing.methods import training_pipeline

BATCH = 32
SIDE_PX = 227
SHIFT = {"shift_limit": 0.1}
PACKAGES = ("albumentations", "keras", "numpy", "opencv-python-headless", "ray", "tensorflow")


def bare_albumentations(dataset: Dataset, rows: Rows) -> int:
    """Loops over the images with the pipeline alone: the most that one core can give."""
    pipeline = training_pipeline("shifts", SHIFT, dataset.info.shape)
    for image in dataset.images(rows):
        pipeline(image=image)["image"]
    return len(rows)


def emotune_feed(feed: Feed, rows: Rows, use: Callable[[Any], object] = lambda images: None) -> int:
    """Takes one epoch of batches; `use` stands for the device."""
    seen = 0
    for images, _ in feed.training_batches(rows, BATCH, seed=(0,), epoch=0):
        use(images)
        seen += len(images)
    return seen


def resize_in_graph() -> Callable[[Any], object]:
    """Returns what the model's first layers do with a batch: cast and enlarge to 227 px, compiled."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def enlarge(images: Any) -> Any:
        return tf.image.resize(tf.cast(images, tf.float32), (SIDE_PX, SIDE_PX))

    return lambda images: enlarge(tf.constant(images)).numpy()[0, 0, 0, 0]


def keras_rate(folder: Path, gray: bool, workers: int, processes: bool, count: int) -> float:
    """Returns images per second of the user's route, prepared ahead as Keras' own `fit` does it; start-up not counted.

    Runs in a process of its own: Keras forks, which a process that has started Ray should not.
    """
    from keras.src.legacy.preprocessing.image import ImageDataGenerator
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer

    multiprocessing.set_start_method("fork", force=True)  # its iterator cannot be pickled
    with contextlib.redirect_stdout(io.StringIO()):  # "Found 2800 images"
        flow = ImageDataGenerator(width_shift_range=0.1, height_shift_range=0.1).flow_from_directory(
            folder, target_size=(SIDE_PX, SIDE_PX), color_mode="grayscale" if gray else "rgb", batch_size=BATCH
        )
    enqueuer = OrderedEnqueuer(flow, workers=workers, use_multiprocessing=processes)
    enqueuer.start()
    batches = enqueuer.get()
    next(batches)
    start = time.perf_counter()
    seen = sum(len(next(batches)[0]) for _ in range(min(count // BATCH, len(flow) - 1)))
    rate = seen / (time.perf_counter() - start)
    enqueuer.stop(drain_queue_and_join=True)
    return rate


def open_images(folder: Path) -> Dataset:
    """Writes cartoon faces, or imports FER-2013 from EMOTUNE_FER_ZIP."""
    if source := os.environ.get("EMOTUNE_FER_ZIP"):
        from tune.dataset.ingest import import_dataset

        return import_dataset(Path(source), folder / "fer2013").dataset
    from tune.dataset.synth import write_faces

    return write_faces(folder / "cartoon-faces")


def write_files(dataset: Dataset, rows: Rows, folder: Path) -> None:
    """Writes the rows as PNG files by class, as ImageDataGenerator wants them."""
    for row in rows:
        target = folder / dataset.info.classes[dataset.labels[row]]
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{row}.png"), dataset.image(int(row)))


def measure(dataset: Dataset, files: Path, rows: Rows, rounds: int) -> dict[str, list[float]]:
    """Returns images per second of every round by name; one round before them warms everything up."""
    cores = len(os.sched_getaffinity(0))
    alone, spread = (Feed(dataset, "shifts", SHIFT, workers=workers) for workers in (0, cores))
    enlarge = resize_in_graph()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:

        def peer(processes: bool) -> float:
            gray = dataset.info.channels == 1
            return apart.submit(keras_rate, files, gray, cores, processes, len(rows) // 10).result()

        runs: dict[str, Callable[[], float]] = {
            "bare Albumentations, one core": lambda: timed(bare_albumentations, dataset, rows),
            "emotune feed, one thread": lambda: timed(emotune_feed, alone, rows),
            f"Keras ImageDataGenerator to {SIDE_PX} px, {cores} threads": lambda: peer(processes=False),
            f"Keras ImageDataGenerator to {SIDE_PX} px, {cores} processes": lambda: peer(processes=True),
            f"emotune feed, {cores} workers": lambda: timed(emotune_feed, spread, rows),
            f"emotune feed, {cores} workers, and resize to {SIDE_PX} px in the graph": (
                lambda: timed(emotune_feed, spread, rows, enlarge)
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in list(runs.items())[:: 1 if number % 2 else -1]:  # nobody always runs after the same
                rate = run()
                if number:
                    rates[name].append(rate)
    spread.close()
    return rates


class Pairs(NamedTuple):
    """Many short runs of bare Albumentations and the feed in turn: seconds per image of each."""

    bare: list[float]
    feed: list[float]

    @property
    def best(self) -> float:
        """The fastest feed over the fastest bare run: what `timeit` advises where other work disturbs the machine."""
        return min(self.bare) / min(self.feed)

    @property
    def quartiles(self) -> list[float]:
        """Quartiles of the ratios within pairs; they show how much the machine was disturbed."""
        return statistics.quantiles((b / f for b, f in zip(self.bare, self.feed, strict=True)), n=4)


def paired(dataset: Dataset, rows: Rows, pairs: int) -> dict[str, Pairs]:
    """Returns pairs by wall time and by this process' CPU time."""
    feed = Feed(dataset, "shifts", SHIFT)
    runs = {"bare": lambda: bare_albumentations(dataset, rows), "feed": lambda: emotune_feed(feed, rows)}
    found = {"wall": Pairs([], []), "CPU": Pairs([], [])}
    for number in range(pairs + 1):
        spent = {}
        for name in list(runs)[:: 1 if number % 2 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            count = runs[name]()
            spent[name] = ((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)
        if number:
            for clock, bare, fed in zip(found.values(), spent["bare"], spent["feed"], strict=True):
                clock.bare.append(bare)
                clock.feed.append(fed)
    return found


def timed(run: Callable[..., int], *arguments: Any) -> float:
    """Returns images per second, start-up of the epoch included."""
    start = time.perf_counter()
    return run(*arguments) / (time.perf_counter() - start)


def report(dataset: Dataset, rates: dict[str, list[float]], ratios: dict[str, Pairs], images: int, load: float) -> str:
    """Returns the result page: medians with their range, ratios, machine and its load before, and versions."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    _, _, threads, processes, spread, resized = medians.values()
    peer = max(threads, processes)
    rounds = len(next(iter(rates.values())))
    shape = "x".join(map(str, dataset.info.shape))
    lines = [
        f"# Feed, {dt.date.today()}",
        "",
        f"`python -m benchmarks.feed --images {images} --rounds {rounds}` on {dataset.info.name}, {shape} uint8",
        "",
        "| run | images/s, median | lowest to highest |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {medians[name]:,.0f} | {min(r):,.0f} to {max(r):,.0f} |" for name, r in rates.items()),
        "",
        "| ratio | value |",
        "| --- | ---: |",
        *(
            f"| emotune, one thread / bare Albumentations, {clock} time, fastest of {len(pairs.bare)} short runs each "
            f"(within pairs: quartiles {low:.2f}, {middle:.2f}, {high:.2f}) | {pairs.best:.2f} |"
            for clock, pairs in ratios.items()
            for low, middle, high in [pairs.quartiles]
        ),
        f"| emotune, all cores / the faster ImageDataGenerator | {spread / peer:.1f} |",
        f"| emotune, all cores, resize in the graph on the same cores / the faster ImageDataGenerator "
        f"| {resized / peer:.1f} |",
        "",
        "ImageDataGenerator hands over float32 images of 227 px; emotune hands over uint8 images of the stored size, "
        "which the model's graph enlarges on the device. The last line pays for that on the CPU.",
        "",
        f"Machine: {machine()}, load {load:.1f} when it began. Python {platform.python_version()}; "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        + ".",
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Returns the processor and the number of cores this process may use."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Reads the arguments, measures, prints and maybe writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="images in a run; Keras gets a tenth of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=60, help="short pairs of bare Albumentations and the feed")
    parser.add_argument("--output", type=Path, help="where to write the result page")
    arguments = parser.parse_args()

    import ray

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        dataset = open_images(Path(temporary))
        train = np.flatnonzero(dataset.splits == TRAIN)
        rows = np.resize(train, arguments.images)  # a small data set goes round more than once
        write_files(dataset, train[: arguments.images], Path(temporary) / "files")
        ratios = paired(dataset, rows[:2016], pairs=arguments.pairs)  # before Ray and TensorFlow wake up
        ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
        rates = measure(dataset, Path(temporary) / "files", rows, arguments.rounds)
        page = report(dataset, rates, ratios, arguments.images, load)
        ray.shutdown()
    tell(page, arguments.output)


if __name__ == "__main__":
    main()
