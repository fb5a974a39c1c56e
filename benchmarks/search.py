"""Searches of the whole space beside one another, on recorded learning curves: who finds the better model, and when.

    python -m benchmarks.search [--seeds 50] [--workers 2 8 64] [--sides NAME ...] [--output FILE]

Nothing is trained: `benchmarks.record_curves` did that, and `benchmarks.surrogate` fills in what was not drawn.
Samplers, schedulers and queues are the real objects. Everybody gets the same wall time, in which a worker trains as
many epochs of average length as `--epochs` says, and pays for starting a trial what was measured (`START_EPOCHS`).
Every seed is a surrogate of its own, the same for all sides. The score is what the model that a side would export is
worth.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import yaml
from scipy.stats import bootstrap, trim_mean

from benchmarks.peers import KerasTunerHyperband, SyneTuneCQR
from benchmarks.proposers import forest, near_best, quantiles, searcher
from benchmarks.record_curves import EPOCHS, SPACE
from benchmarks.results_file import machine_line, tell
from benchmarks.sides import Emotune, OptunaAlone, RandomSearch, RayTune, be_quiet
from benchmarks.simulation import Found, Side, simulate
from benchmarks.surrogate import Recorded, Surrogate, held_out_error
from search_spaces import builtin_spaces
from tune.search.scheduler import Rungs
from tune.study.spec import StudySpec
from tune.study.trial_record import RungDecision

START_EPOCHS = {"warm": 0.03, "process": 0.2}
"""What a trial costs before its first epoch, in epochs: a warm process, or a fresh one that imports TensorFlow."""


class Contestant(NamedTuple):
    """A side, by what makes it from a seed, a folder and the epochs that the budget holds."""

    make: Callable[[int, Path, int], Side]
    start: str = "process"
    weights: str = "average"


def study(space: Path | Mapping[str, Any], **changes: Any) -> StudySpec:
    """Returns a study of a space, from its file or what that holds; changes are those of a study file."""
    given = {
        "name": "simulated",
        "data": "none",
        "trials": 1_000_000,
        "space": yaml.safe_load(space.read_text()) if isinstance(space, Path) else space,
        "asha": {"max_epochs": EPOCHS},
        "confirm": {"top": 0},
    }
    return StudySpec.model_validate(given | changes)


def alexnet(**learning_rate: float) -> dict[str, Any]:
    """Returns `space: alexnet` with another range of learning rates."""
    raw = yaml.safe_load(builtin_spaces()["alexnet"].read_text())
    return {**raw, "learning_rate": {**raw["learning_rate"], **learning_rate}}


def emotune(
    space: Path | Mapping[str, Any] | None = None, *, parts: Mapping[str, Any] | None = None, **changes: Any
) -> Contestant:
    """Returns our side, with changes of the study file, and with other parts (`benchmarks.sides.Emotune`)."""
    spec = study(space or builtin_spaces()["alexnet"], **changes)
    return Contestant(lambda seed, folder, epochs: Emotune(seed, folder, spec, **(parts or {})), "warm")


def variants() -> Mapping[str, Contestant]:
    """Returns what has been tried with our side, by what is changed in it: kept or not, see the results."""
    asha = lambda **changes: {"max_epochs": EPOCHS, **changes}  # noqa: E731
    return {
        "one range for all learning rates": emotune(SPACE),
        "learning rates up to 3e-3": emotune(alexnet(high=3e-3)),
        "learning rates from 5e-5 to 3e-3": emotune(alexnet(low=5e-5, high=3e-3)),
        "first rung after 2 epochs": emotune(asha=asha(grace_epochs=2)),
        "first rung after 3 epochs": emotune(asha=asha(grace_epochs=3)),
        "reduction factor 2": emotune(asha=asha(reduction_factor=2)),
        "reduction factor 4": emotune(asha=asha(reduction_factor=4)),
        "4 startup trials": emotune(startup_trials=4),
        "16 startup trials": emotune(startup_trials=16),
        "rungs judge again": emotune(parts={"rungs": JudgedAgain}),
        "the second at a rung may be stopped": emotune(parts={"rungs": Hasty}),
        **{f"nobody stopped by fewer than {n}": emotune(parts={"rungs": held_back(n)}) for n in (3, 4, 6)},
        "random sampler": emotune(parts={"sampler": optuna.samplers.RandomSampler}),
        "near the best": emotune(parts={"searcher": searcher(near_best())}),
        "forest": emotune(parts={"searcher": searcher(forest())}),
        "forest, near the default first": emotune(parts={"searcher": searcher(forest(first=near_best()))}),
        "quantile regression": emotune(parts={"searcher": searcher(quantiles())}),
        "TPE, univariate": emotune(parts={"sampler": optuna.samplers.TPESampler}),
    }


class JudgedAgain(Rungs):
    """Rungs that look at every epoch again whether a trial would still pass the last one that it passed.

    The first trials at a rung pass whatever they are: others that come later may show that they should not have.
    """

    def decide(self, trial: int, epoch: int, value: float) -> RungDecision | None:
        """Decides at rungs, and between them against all that have reached the last one by now."""
        if epoch in self.decisions:
            return super().decide(trial, epoch, value)
        passed = [rung for rung in self.decisions if rung < epoch and trial in self.decisions[rung]]
        if not passed:
            return None
        rung = self.decisions[max(passed)]
        others = np.array([decision.value for decision in rung.values() if decision.trial != trial])
        if len(others) < ENOUGH or rung[trial].value >= np.percentile(others, self._quantile):
            return None
        return dataclasses.replace(rung[trial], stopped=True)


class Hasty(Rungs):
    """Rungs that stop the second trial to reach them if it is worse than the first, as Ray Tune's do."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what `Rungs` takes."""
        super().__init__(*arguments, **options)
        self._enough = 0.0


def held_back(enough: int) -> type[Rungs]:
    """Returns rungs where a trial is stopped only after so many others have been there."""

    class HeldBack(Rungs):
        """Rungs that let the first trials pass."""

        def decide(self, trial: int, epoch: int, value: float) -> RungDecision | None:
            decision = super().decide(trial, epoch, value)
            if decision is None or decision.among > enough:
                return decision
            self.decisions[epoch][trial] = dataclasses.replace(decision, stopped=False)
            return self.decisions[epoch][trial]

    return HeldBack


ENOUGH = 3
"""Other trials at a rung before one that has passed it is judged again."""


def sides() -> Mapping[str, Contestant]:
    """Returns everybody by name."""
    spec = study(SPACE)
    stock = lambda seed, folder, epochs: RayTune(seed, spec)  # noqa: E731
    return {
        "random search": Contestant(lambda seed, folder, epochs: RandomSearch(seed, spec)),
        "one epoch, then the best 3": Contestant(
            lambda seed, folder, epochs: RandomSearch(seed, spec, first_round=max(4, epochs - 3 * (EPOCHS - 1)), top=3)
        ),
        "Optuna: TPE, Hyperband": Contestant(lambda seed, folder, epochs: OptunaAlone(seed, spec)),
        "stock Ray Tune": Contestant(stock, weights="last"),
        "stock Ray Tune, our trial": Contestant(stock),
        "KerasTuner: Hyperband": Contestant(
            lambda seed, folder, epochs: KerasTunerHyperband(seed, folder, spec), weights="last"
        ),
        "Syne Tune: ASHA, CQR": Contestant(lambda seed, folder, epochs: SyneTuneCQR(seed, spec), weights="last"),
        "emotune": emotune(),
    }


def run(name: str, found: Contestant, recorded: Recorded, seed: int, workers: int, epochs: float) -> list[Found]:
    """Lets a side search one world."""
    mean_s = float(recorded.seconds.mean())
    world = Surrogate(recorded, seed, found.weights)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        with closing(found.make(seed, Path(folder), round(workers * epochs))) as side:
            start_s = START_EPOCHS[found.start] * mean_s
            return simulate(side, world, workers=workers, budget_s=epochs * mean_s, start_s=start_s)


def interquartile_mean(values: Any) -> tuple[float, float, float]:
    """Returns the mean of the middle half, and its 95 % bootstrap interval."""
    middle = lambda sample, axis=-1: trim_mean(sample, 0.25, axis=axis)  # noqa: E731
    interval = bootstrap((values,), middle, n_resamples=2000, method="percentile", rng=0).confidence_interval
    return float(middle(np.asarray(values))), float(interval.low), float(interval.high)


def score_at(history: list[Found], at_s: float) -> float:
    """Returns what a side would have exported at a moment; 0 before its first epoch."""
    return max(((found.at_s, found.score) for found in history if found.at_s <= at_s), default=(0.0, 0.0))[1]


def table(results: Mapping[str, list[list[Found]]], budget_s: float) -> list[str]:
    """Returns a row for each side: score at a quarter, half and all of the time, trials, and our time to that score."""
    lines = [
        "| side | at 1/4 | at 1/2 | at the end | emotune minus it | trials by then | emotune is there after |",
        "|---" * 7 + "|",
    ]
    ours = results.get("emotune", [])
    moments = np.linspace(0, budget_s, 101)[1:]
    for name, histories in results.items():
        cells = []
        for share in (0.25, 0.5, 1.0):
            mean, low, high = interquartile_mean([score_at(history, share * budget_s) for history in histories])
            cells.append(f"{mean:.4f} ({low:.4f} to {high:.4f})")
        final = mean
        gap, when = "", ""
        if ours and name != "emotune":
            gaps = [score_at(a, budget_s) - score_at(b, budget_s) for a, b in zip(ours, histories, strict=True)]
            mean, low, high = interquartile_mean(gaps)
            gap = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
            reached = [m for m in moments if trim_mean([score_at(history, m) for history in ours], 0.25) >= final]
            when = f"{reached[0] / budget_s:.0%} of the time" if reached else "not in it"
        trials = np.median([history[-1].trials for history in histories])
        lines.append(f"| {name} | {' | '.join(cells)} | {gap} | {trials:g} | {when} |")
    return lines


def main() -> None:
    """Runs the sides and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--epochs", type=float, default=57.0)
    parser.add_argument("--sides", nargs="*")
    parser.add_argument(
        "--variants", nargs="*", metavar="NAME", help="our side with one thing changed, in place of peers"
    )
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    be_quiet()
    recorded = Recorded()
    error, ranks = held_out_error(recorded)
    lines = [
        f"{machine_line('ray', 'optuna')}; {given.seeds} seeds. "
        f"{len(recorded.values)} recorded trials; on those that they have not seen, the trees are off by {error:.3f} "
        f"and rank with a correlation of {ranks:.2f}.",
    ]
    for workers in given.workers:
        results: dict[str, list[list[Found]]] = {}
        everybody = dict(sides()) if given.variants is None else {"emotune": emotune(), **variants()}
        wanted = given.sides if given.variants is None else given.variants and ["emotune", *given.variants]
        for name, contestant in everybody.items():
            if not wanted or name in wanted:
                results[name] = [
                    run(name, contestant, recorded, seed, workers, given.epochs) for seed in range(given.seeds)
                ]
        lines += ["", f"{workers} workers, {given.epochs:g} epochs each:", ""]
        lines += table(results, given.epochs * float(recorded.seconds.mean()))
    tell("\n".join(lines), given.output)


if __name__ == "__main__":
    main()
