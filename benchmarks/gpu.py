"""How fast a GPU trains AlexNet: image sizes, batch sizes, precisions, and several trials on one GPU.

    python -m benchmarks.gpu [--sizes 48 227] [--batches 32 64 128 256 512] [--precisions float32 bfloat16]
                             [--at-once 1 2 4 8] [--seconds 5] [--output FILE]

Every figure is a process of its own, warmed up, then measured for `--seconds` together with those beside it. `trial` is
a trial's own training loop on its own feed; `fit` is what a user would write: Keras' `model.fit` of the same model on
arrays in memory. An epoch of FER-2013 is calculated from the images/s: 24,402 training images, and 1,435 and 2,871
that are scored (the mirror image of the latter too). TensorFlow, or what KERAS_BACKEND says: trials are plain Keras 3.
Without a GPU it measures the processor and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results_file import machine_line, processor, tell

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

SPLIT_RATIO, SELECTION_SHARE = 0.95, 0.1
TRAINING_IMAGES, SCORED_IMAGES = 24_402, 1_435 + 2 * 2_871
IMAGES = 2048
"""Of the drawn faces that are trained on; as large as FER-2013's."""
PARAMETERS: dict[str, Any] = {
    "batch_norm": True,
    "learning_rate": 1e-4,
    "weight_average": 0.995,
    "split_ratio": SPLIT_RATIO,
}


def measure(job: dict[str, Any]) -> None:
    """Warms up, says so, waits for a line, and prints images/s: what a child process does."""
    if os.environ.get("KERAS_BACKEND"):
        import keras  # before emotune imports it with TensorFlow

    from benchmarks.trial_training import open_training
    from trainables.training.epochs import EVALUATION_BATCH, TrialTraining

    parameters = {**PARAMETERS, **job["parameters"]}
    training = open_training(TrialTraining(), job["data"], parameters, gpus=job["gpus"], cpus=job["cpus"])
    fit, batch = training._fit, training._config.batch_size
    if job["loop"] == "fit":
        import keras

        arrays = training._dataset.images(fit), keras.utils.to_categorical(training._dataset.labels[fit])

        def train(images: int) -> None:
            training._model.fit(arrays[0][:images], arrays[1][:images], batch_size=batch, verbose=0)
    else:

        def train(images: int) -> None:
            training._train(fit[:images], parameters["learning_rate"])

    def evaluate() -> int:
        rows = fit[:EVALUATION_BATCH]
        training._evaluate(rows)
        return len(rows)

    def train_whole() -> int:
        train(len(fit) // batch * batch)
        return len(fit) // batch * batch

    train(4 * batch)
    evaluate()
    print("warm", flush=True)
    sys.stdin.readline()
    print(json.dumps([rate(work, job["seconds"] / 2) for work in (train_whole, evaluate)]), flush=True)


def rate(work: Any, seconds: float) -> float:
    """Returns images per second of work that is done again for at least so long."""
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        images += work()
    return float(images / (time.perf_counter() - started))


def run_at_once(job: dict[str, Any], count: int) -> tuple[float, float] | str:
    """Runs `count` processes of one job; returns images/s of training and of evaluation, summed, or what went wrong."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--measure", json.dumps(job)]
    with tempfile.TemporaryFile("w+") as errors:
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            for _ in range(count)
        ]
        try:
            for child in children:
                read_until(child, lambda line: line == "warm")
            for child in children:
                print(file=child.stdin, flush=True)
            found = [json.loads(read_until(child, lambda line: line.startswith("["))) for child in children]
        except EOFError:
            errors.seek(0)
            return ([line for line in errors.read().splitlines() if line.strip()] or ["ended without a word"])[-1][:60]
        finally:
            for child in children:
                child.kill()
                child.communicate()
    return sum(training for training, _ in found), sum(evaluation for _, evaluation in found)


def read_until(child: subprocess.Popen[str], wanted: Any) -> str:
    """Returns a child's next line that is wanted; whatever its libraries print is passed over."""
    for line in child.stdout or ():
        if wanted(line.strip()):
            return line.strip()
    raise EOFError


def epoch_s(training_images_per_s: float, evaluation_images_per_s: float) -> float:
    """Returns how long an epoch of FER-2013 takes."""
    return TRAINING_IMAGES / training_images_per_s + SCORED_IMAGES / evaluation_images_per_s


def ladder(given: argparse.Namespace, data: str, gpu: bool) -> list[str]:
    """Measures everything; returns the tables' lines."""
    share = {"gpus": 1.0 if gpu else 0.0, "cpus": os.cpu_count()}
    lines = ["| size px | batch | precision | fit images/s | trial images/s | ratio | epoch s |", "|---" * 7 + "|"]
    best: dict[int, tuple[float, dict[str, Any]]] = {}
    for size in given.sizes:
        for batch in given.batches:
            for precision in given.precisions:
                parameters = {"image_size_px": size, "batch_size": batch, "precision": precision, "width": given.width}
                job = {"parameters": parameters, "data": data, "seconds": given.seconds, **share}
                fit, trial = (run_at_once({**job, "loop": loop}, 1) for loop in ("fit", "trial"))
                head = f"| {size} | {batch} | {precision} |"
                if isinstance(fit, str) or isinstance(trial, str):
                    wrong = dict.fromkeys(found for found in (fit, trial) if isinstance(found, str))
                    lines.append(f"{head} {'; '.join(wrong)} |")
                    continue
                figures = f"{fit[0]:.0f} | {trial[0]:.0f} | {trial[0] / fit[0]:.2f} | {epoch_s(*trial):.2f} |"
                lines.append(f"{head} {figures}")
                print(lines[-1], flush=True)
                if size not in best or trial[0] > best[size][0]:
                    best[size] = trial[0], job
    columns = ("size px", "batch", "precision", "trials at once", "images/s together", "against one")
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for size, (_, job) in best.items():
        alone = 0.0
        for count in given.at_once:
            # TensorFlow is held to its share of the memory; JAX takes what it needs.
            gpus = 1 / count if gpu and os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow" else job["gpus"]
            found = run_at_once({**job, "loop": "trial", "gpus": gpus, "cpus": max(1, job["cpus"] // count)}, count)
            head = f"| {size} | {job['parameters']['batch_size']} | {job['parameters']['precision']} | {count} |"
            if isinstance(found, str):
                lines.append(f"{head} {found} |")
                continue
            alone = alone or found[0] / count
            lines.append(f"{head} {found[0]:.0f} | {found[0] / alone:.2f} |")
            print(lines[-1], flush=True)
    return lines


def gpu_name() -> str:
    """Returns what the driver calls the first GPU; "" where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return (subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines() or [""])[0]


def machine(gpu: str) -> str:
    """Returns a line: date, GPU or processor, versions."""
    return machine_line("keras", os.environ.get("KERAS_BACKEND", "tensorflow"), device=gpu or f"no GPU: {processor()}")


def main() -> None:
    """Measures, prints the tables, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[48, 227])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(json.loads(given.measure))

    from tune.dataset.synth import write_faces

    gpu = gpu_name()
    if gpu:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    with tempfile.TemporaryDirectory() as folder:
        images = round(IMAGES / SPLIT_RATIO / (1 - SELECTION_SHARE)) + 1
        data = write_faces(Path(folder) / "faces", train_images=images, test_images=7)
        lines = [machine(gpu), "", *ladder(given, str(data.directory), bool(gpu))]
    tell("\n".join(lines), given.output)
    return None


if __name__ == "__main__":
    main()
