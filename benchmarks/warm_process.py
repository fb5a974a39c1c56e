"""Times a study of 20 one-epoch trials with warm trial processes against the same study with a fresh one per trial.

    python benchmarks/warm_process.py [--trials 20] [--output FILE]

Prints search times and their ratio, how the memory of each warm process grew from trial to trial, and what a memory
limit does: processes past it are replaced and no trial is lost. The peer is Ray Tune's default, `reuse_actors=False`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.results_file import tell
from tune.dataset.synth import write_faces
from tune.study.studies import load_study_folder

STUDY = """
name: {name}
data: {data}
space: quickstart
fixed: {{image_size_px: 48, width: 0.25, batch_norm: true}}
trials: {trials}
startup_trials: {trials}
asha: {{max_epochs: 1}}
resources: {{reuse_processes: {reuse}, process_memory_mib: {limit}}}
storage: {storage}
"""


def run(folder: Path, name: str, trials: int, *, reuse: bool, limit_mib: int = 65536) -> Path:
    """Runs one study with the command line; returns its folder."""
    file = folder / f"{name}.yaml"
    reuse_word = "true" if reuse else "false"
    file.write_text(
        STUDY.format(
            name=name, data=folder / "faces", trials=trials, reuse=reuse_word, limit=limit_mib, storage=folder / "runs"
        )
    )
    command = [sys.executable, "-m", "tune.cli", "run", str(file), "--no-calibrate"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "runs" / name


def memory_by_process(study: Path) -> dict[int, list[float]]:
    """Returns the resident memory (MiB) after each trial, by process, in the order of the trials."""
    memory: dict[int, list[float]] = defaultdict(list)
    for trial in load_study_folder(study).state().trials.values():
        for metrics in trial.epochs.values():
            memory[metrics["process"]].append(metrics["process_memory_mib"])
    return memory


def growth_per_trial(memory: dict[int, list[float]]) -> float:
    """Returns the mean growth in MiB from one trial to the next, the first (TensorFlow warming up) left out."""
    steps = [(values[-1] - values[1]) / (len(values) - 2) for values in memory.values() if len(values) > 2]
    return sum(steps) / len(steps) if steps else float("nan")


def main() -> None:
    """Runs the three studies and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"# Warm trial processes, {time.strftime('%Y-%m-%d')}",
        "",
        f"`python benchmarks/warm_process.py --trials {arguments.trials}` on {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "tensorflow", "keras", "optuna")),
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faces(folder / "faces", train_images=280, test_images=70)
        warm = run(folder, "warm", arguments.trials, reuse=True)
        fresh = run(folder, "fresh", arguments.trials, reuse=False)
        warm_s = load_study_folder(warm).state().search_s
        fresh_s = load_study_folder(fresh).state().search_s
        memory = memory_by_process(warm)
        lines += [
            "| | search | processes |",
            "|---|---|---|",
            f"| warm processes (emotune) | {warm_s:.1f} s | {len(memory)} |",
            f"| a fresh process per trial (Ray Tune's default) | {fresh_s:.1f} s | {len(memory_by_process(fresh))} |",
            "",
            f"ratio {warm_s / fresh_s:.2f}; memory grows by {growth_per_trial(memory):.1f} MiB a trial",
            "",
        ]
        limit = int(max(values[0] for values in memory.values())) + 30
        limited = load_study_folder(run(folder, "limited", arguments.trials, reuse=True, limit_mib=limit)).state()
        lines.append(
            f"memory limit {limit} MiB: {len(memory_by_process(folder / 'runs' / 'limited'))} processes, "
            f"{sum(t.restarts for t in limited.trials.values())} replaced, "
            f"{sum(t.state == 'complete' for t in limited.trials.values())} of {arguments.trials} trials complete"
        )
    tell("\n".join(lines), arguments.output)


if __name__ == "__main__":
    main()
