"""Simulates a study with its own rungs and budgets: how much it is likely to train, and for how long. Trains nothing.

A trial has a quality of its own, noise that fades as it trains, and costs that were measured. How good its scores are
does not matter: rungs compare trials with one another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from tune.study.budget import consumed_budget, first_spent
from tune.study.spec import StudySpec

_FEW, _MANY = 80, 240
"""Trials of one simulation, more where more run at once; what further ones take follows in proportion."""

_MOST_REPORTS = 200
"""Points of a trial's life at which budgets are looked at, beside its rungs: its epochs, if those are no more."""

_LARGEST_NOISE, _LARGEST_DRIFT = 0.5, 1.0
"""Of a score, and of the search's progress from its first to its last trial, in standard deviations of the trials'
quality; each study draws its own. The width of the forecast is mostly theirs."""

_MACHINE_SPREAD = 0.1
"""Standard deviation of the logarithm of all times together: what a measurement of some seconds misses."""


@dataclass(frozen=True)
class TrialCost:
    """Seconds of one configuration: before its first epoch, for an epoch, and for an epoch of a final fit."""

    start_s: float
    epoch_s: float
    refit_epoch_s: float


@dataclass(frozen=True)
class Costs:
    """What things take on the machine at hand.

    Attributes:
        default: of the default configuration.
        drawn: of a configuration that is drawn at random.
        process_start_s: of a trial's process, until it has imported TensorFlow.
    """

    default: TrialCost
    drawn: Callable[[np.random.Generator], TrialCost]
    process_start_s: float = 0.0


@dataclass(frozen=True)
class Beginning:
    """Where a study stands, and what ends it beside its trials; of a new one nothing is used.

    Attributes:
        trials: trials still to be ended.
        tried: those that have ended.
        used: what is used of each budget, by its name in `tune/study/budget.py`.
        node_price: price of all machines together, an hour.
        repetitions: trainings of the best again that are still to be made once nothing is left to search; None for all.
        final_fits: likewise.
        trainings_at_once: of these two, where `confirm.workers` is 1.
    """

    trials: int
    tried: int = 0
    used: tuple[tuple[str, float], ...] = ()
    node_price: float = 0.0
    repetitions: int | None = None
    final_fits: int | None = None
    trainings_at_once: int = 1


@dataclass(frozen=True)
class SimulatedStudy:
    """One simulated study. `trial_s`: seconds that trials and confirmations held their resources, all together."""

    trials: float
    stopped: float
    epochs: float
    search_s: float
    confirm_epochs: float
    confirm_s: float
    trial_s: float
    ended_by: str


def simulate_study(spec: StudySpec, beginning: Beginning, at_once: int, costs: Costs, seed: int) -> SimulatedStudy:
    """Runs one study through its rungs, its budgets and its confirmation, without training anything.

    Args:
        spec: the study.
        beginning: where it stands.
        at_once: trials at the same time.
        costs: what an epoch takes.
        seed: of the trials' qualities; the same seed gives the same study.
    """
    search = _Search(spec, beginning, at_once, costs, np.random.default_rng(seed))
    search.run()
    share, each = 1.0, search.stands_for
    left = beginning.trials / (search.simulated * each) if search.simulated else 0.0
    if left > 1 and not search.ended_by:  # the rest is as what was simulated, to a budget
        lasting = search.lasting()
        share = min([left, *lasting.values()])
        search.ended_by = next((name for name, longest in lasting.items() if longest == share), "")
    confirm_epochs, confirm_s, confirm_trial_s = 0.0, 0.0, 0.0
    if spec.confirm.follows and not search.consumed(share):
        confirm_epochs, confirm_s, confirm_trial_s = search.confirm()
    return SimulatedStudy(
        search.begun * share * each,
        search.stopped * share * each,
        search.epochs * share * each,
        search.now * share,
        confirm_epochs,
        confirm_s,
        search.trial_s * share * each + confirm_trial_s,
        search.ended_by,
    )


class _Search:
    """One simulated search; its clock starts when the first processes are asked for."""

    def __init__(
        self, spec: StudySpec, beginning: Beginning, at_once: int, costs: Costs, rng: np.random.Generator
    ) -> None:
        from tune.search.scheduler import Rungs  # which is Ray's

        self._spec, self._beginning, self._costs, self._rng = spec, beginning, costs, rng
        self._at_once = at_once
        self.simulated = min(beginning.trials, max(_FEW, min(_MANY, 4 * at_once)))
        # With more at once than are simulated, each stands for several that run beside it.
        self.stands_for = max(1.0, min(at_once, beginning.trials) / self.simulated) if self.simulated else 1.0
        self._noise, self._drift = rng.uniform(0, _LARGEST_NOISE), rng.uniform(0, _LARGEST_DRIFT)
        self._machine = float(rng.lognormal(0, _MACHINE_SPREAD))
        self._rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, "max")
        most = spec.asha.max_epochs
        step = -(-most // _MOST_REPORTS)
        self._reports = sorted({*range(step, most + 1, step), *spec.asha.rungs, most})
        self._quality: list[float] = []
        self.now = self.trial_s = 0.0
        self.epochs = self.stopped = self.begun = 0
        self.ended_by = ""

    def run(self) -> None:
        """Lets trials run until none is left or a budget is spent."""
        for _ in range(min(self._beginning.tried, _FEW)):
            self._note_earlier_trial()
        earlier = len(self._quality)
        running: list[tuple[float, int, int, TrialCost]] = []  # when it reports next, its number, which report, costs

        def begin(process_s: float) -> None:
            cost = self._drawn(default=not self._quality)
            self._quality.append(self._rng.normal() + self._drift * self.begun / max(1, self.simulated - 1))
            first_s = process_s + cost.start_s + cost.epoch_s * self._reports[0]
            heapq.heappush(running, (self.now + first_s, earlier + self.begun, 0, cost))
            self.begun += 1

        process_s = self._costs.process_start_s * self._machine
        for _ in range(min(self._at_once, self.simulated)):
            begin(process_s)
        while running:
            then, number, report, cost = heapq.heappop(running)
            self.trial_s += (then - self.now) * (1 + len(running))
            self.now = then
            epoch = self._reports[report]
            self.epochs += epoch - (self._reports[report - 1] if report else 0)
            stopped = self._stops(number, epoch)
            self.stopped += stopped
            self.ended_by = self.ended_by or self._spent()
            if not (stopped or self.ended_by or epoch == self._reports[-1]):
                step_s = (self._reports[report + 1] - epoch) * cost.epoch_s
                heapq.heappush(running, (self.now + step_s, number, report + 1, cost))
            elif self.begun < self.simulated and not self.ended_by:
                begin(0.0 if self._spec.resources.reuse_processes else process_s)

    def _note_earlier_trial(self) -> None:
        self._quality.append(self._rng.normal())
        for epoch in self._reports:
            if self._stops(len(self._quality) - 1, epoch):
                return

    def _stops(self, number: int, epoch: int) -> bool:
        if epoch not in self._rungs.decisions:
            return False
        fading = self._noise * (1 - epoch / self._reports[-1])
        decision = self._rungs.decide(number, epoch, self._quality[number] + fading * self._rng.normal())
        return decision is not None and decision.stopped

    def _drawn(self, *, default: bool = False) -> TrialCost:
        cost = self._costs.default if default else self._costs.drawn(self._rng)
        return TrialCost(*(seconds * self._machine for seconds in astuple(cost)))

    def _used(self) -> dict[str, float]:
        before = dict(self._beginning.used)
        mine = {
            "time": self.now,
            "gpu_hours": self.stands_for * self.trial_s * self._spec.resources.gpus_per_trial / 3600,
            "epochs": self.stands_for * self.epochs,
            "cost": self.now * self._beginning.node_price / 3600,
        }
        return {name: before.get(name, 0.0) + value for name, value in mine.items()}

    def _spent(self) -> str:
        return first_spent(self._spec, self._used())

    def consumed(self, share: float) -> str:
        """Returns a budget that leaves nothing for confirmations, when so many times what was simulated is over."""
        before, used = dict(self._beginning.used), self._used()
        return consumed_budget(
            self._spec, {n: before.get(n, 0.0) + share * (used[n] - before.get(n, 0.0)) for n in used}
        )

    def lasting(self) -> dict[str, float]:
        """Returns, for each budget with a limit, how many times as long as was simulated it lasts."""
        used, before, found = self._used(), dict(self._beginning.used), {}
        for name, limit in self._spec.limits.items():
            mine = used[name] - before.get(name, 0.0)
            if limit is not None and mine > 0:
                found[name] = max(1.0, (limit - before.get(name, 0.0)) / mine)
        return found

    def confirm(self) -> tuple[float, float, float]:
        """Returns the epochs of the repeated trainings, their wall time, and the seconds that they hold together."""
        wanted = self._spec.confirm
        candidates = [int(number) for number in np.argsort(self._quality)[::-1][: max(wanted.top, 1)]] or [0]
        winner = candidates[0]
        candidates += [0] if 0 not in candidates else []
        costs = {number: self._drawn(default=number == 0) for number in candidates}
        repeated = [costs[number] for _ in range(wanted.seeds) for number in candidates] if wanted.top else []
        repeated = repeated[: self._beginning.repetitions]
        fits = ([costs[winner]] * wanted.refit)[: self._beginning.final_fits]
        most = self._spec.asha.max_epochs
        longest = wanted.refit_epochs or most
        runs = [
            [cost.start_s + most * cost.epoch_s for cost in repeated],
            [cost.start_s + longest * cost.refit_epoch_s for cost in fits],
        ]
        walls, held = zip(*[self._trained_together(part) for part in runs if part] or [(0.0, 0.0)], strict=True)
        return float(len(repeated) * most + len(fits) * longest), sum(walls), sum(held)

    def _trained_together(self, runs: Sequence[float]) -> tuple[float, float]:
        """Returns the wall time of runs of so many seconds, and the seconds that they hold together."""
        process_s, workers = self._costs.process_start_s * self._machine, self._spec.confirm.workers
        if workers > 1:  # one after another, each on all workers, at best
            wall = sum(process_s + run / workers for run in runs)
            return wall, wall * workers
        at_once = self._beginning.trainings_at_once
        wall = process_s + _last_end(runs, at_once)
        return wall, sum(runs) + process_s * min(at_once, len(runs))


def _last_end(durations: Sequence[float], at_once: int) -> float:
    """Returns when the last of several runs ends that are begun in order, each as soon as there is room."""
    free = [0.0] * min(at_once, len(durations))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
