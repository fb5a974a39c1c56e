"""Real studies beside stock Ray Tune: the same space, model, data, folds and wall time, one after another.

    python -m benchmarks.live STUDY.yaml DATA [--seeds 0 1] [--sides NAME ...] [--output FILE.jsonl] [--keep FOLDER]

`emotune` runs the study file as it is, with the command line; its wall time is from the command's start to its end,
confirmation and export included. Stock Ray Tune (`benchmarks.stock_ray`) then searches for as long, once with the trial
as emotune leaves it (`our trial`: averaged weights, mirror, oneDNN's kernels) and once without (`plain trial`: the last
weights, the kernels that TensorFlow takes by itself), so that what the search and what the training contribute can be
told apart. `hand-set net` is one run of `benchmarks.hand_set` for as long. The sealed test is opened once for each, at
the end. What is in the output file is not run again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from benchmarks.results_file import processor, read_lines
from benchmarks.stock_ray import Settings, search
from trainables.keras_setup import ONEDNN
from tune.study.spec import StudySpec, load_spec
from tune.study.studies import load_study_folder

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

RESULTS = Path(__file__).parent / "results/live.jsonl"
PLAIN = {"weight_average": 0.0, "mirror": False}
SIDES = ("emotune", "stock Ray Tune, our trial", "stock Ray Tune, plain trial", "hand-set net")


def run_emotune(file: Path, data: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Runs the study with the command line."""
    command = [sys.executable, "-m", "tune.cli", "run", str(file), "--data", str(data)]
    command += ["--set", f"seed={seed}", "--set", f"storage={folder}"]
    started = time.monotonic()
    code = subprocess.run(command, stdout=sys.stderr).returncode
    wall_s = time.monotonic() - started
    if code not in (0, 3, 4):
        raise SystemExit(f"emotune ended with exit code {code}")
    study = load_study_folder(folder / load_spec(file).name)
    state = study.state()
    best = study.best_run(state)
    if best is None:
        raise SystemExit("no trial of emotune's study has a score")
    [sealed] = state.sealed.values()
    return {
        "wall_s": round(wall_s),
        "trials": len(state.trials),
        "epochs": state.epochs_trained,
        "values": best.values,
        "selection": max(t.best_value(study.spec.objective, study.spec.mode) or 0 for t in state.trials.values()),
        "sealed": sealed["accuracy"],
        "confirmed": state.confirmed,
        "ensemble": state.ensemble,
    }


def tensorflows_own_kernels() -> dict[str, str]:
    """Returns the setting of oneDNN that TensorFlow takes on this processor where nobody sets it."""
    code = "from tensorflow.python.framework.test_util import IsMklEnabled as on; print(int(on()))"
    unset = {name: value for name, value in os.environ.items() if name != ONEDNN}
    done = subprocess.run([sys.executable, "-c", code], env=unset, check=True, stdout=subprocess.PIPE, text=True)
    return {ONEDNN: done.stdout.split()[-1]}


def run_stock(spec: StudySpec, data: Path, seed: int, folder: Path, wall_s: float, plain: bool) -> dict[str, Any]:
    """Lets stock Ray Tune search the study's space for as long."""
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(spec.space.model_dump(mode="json"), sort_keys=False))
    found = search(
        Settings(
            data=str(data.resolve()),
            folder=str(folder / "ray"),
            space=str(space),
            fixed={**spec.fixed, **(PLAIN if plain else {}), "precision": "float32"},
            trials=100_000,
            max_epochs=spec.asha.max_epochs,
            context={"selection_share": spec.folds.selection_share, "seed": seed},
            time_s=wall_s,
            from_default=True,
            sealed=True,
        ),
        tensorflows_own_kernels() if plain else {},
    )
    return found.model_dump() | {"wall_s": round(found.wall_s)}


def run_hand_set(data: Path, seed: int, wall_s: float) -> dict[str, Any]:
    """Trains one configuration that nobody searched for, for as long."""
    command = [sys.executable, "-m", "benchmarks.hand_set", str(data.resolve()), str(wall_s), "--seed", str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def keep_or_remove(folder: Path | None, name: str) -> AbstractContextManager[str]:
    """Returns a folder for a side's files: one that stays, or a temporary one."""
    if folder is None:
        return tempfile.TemporaryDirectory()
    (folder / name).mkdir(parents=True)
    return nullcontext(str(folder / name))


def table(results: list[dict[str, Any]]) -> str:
    """Returns a row for each side: mean over seeds, and each seed's sealed accuracy."""
    lines = ["| side | seeds | minutes | trials | epochs | selection | sealed test | each |", "|---" * 8 + "|"]
    for side in SIDES:
        runs = [run for run in results if run["side"] == side]
        if runs:
            cells = [mean(run[name] for run in runs) for name in ("trials", "epochs", "sealed")]
            scored = [run["selection"] for run in runs if run["selection"] is not None]
            selection = f"{mean(scored):.4f}" if scored else ""
            each = ", ".join(f"{run['sealed']:.4f}" for run in runs)
            minutes = mean(run["wall_s"] for run in runs) / 60
            lines.append(
                f"| {side} | {len(runs)} | {minutes:.1f} | {cells[0]:.0f} | {cells[1]:.0f} | {selection} | "
                f"{cells[2]:.4f} | {each} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Runs what is still to be run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the studies there, to look at them")
    given = parser.parse_args()
    spec = load_spec(given.study, {"data": str(given.data)})
    settings = {name: getattr(spec, name).model_dump() for name in ("asha", "folds", "confirm")}
    known = {"study": spec.name, "space": spec.space.digest(), "fixed": spec.fixed, "time_s": spec.time, **settings}
    for seed in given.seeds:
        for side in SIDES:
            results = [run for run in read_lines(given.output) if known.items() <= run.items()]
            mine = [run for run in results if run["seed"] == seed]
            if side not in given.sides or any(run["side"] == side for run in mine):
                continue
            with keep_or_remove(given.keep, f"{side.replace(' ', '-')}-{seed}") as name:
                ours = next((run["wall_s"] for run in mine if run["side"] == "emotune"), spec.time)
                if side == "emotune":
                    found = run_emotune(given.study, given.data, seed, Path(name))
                elif side == "hand-set net":
                    found = run_hand_set(given.data, seed, ours)
                else:
                    found = run_stock(spec, given.data, seed, Path(name), ours, plain="plain" in side)
            about = {
                "side": side,
                "seed": seed,
                **known,
                "date": time.strftime("%Y-%m-%d"),
                "machine": f"{processor()}, {os.cpu_count()} cores",
                "versions": {package: importlib.metadata.version(package) for package in ("ray", "optuna", "keras")},
            }
            with given.output.open("a") as file:
                file.write(json.dumps(about | found) + "\n")
    print(table([run for run in read_lines(given.output) if known.items() <= run.items()]))


if __name__ == "__main__":
    main()
