"""Decides when to stop a trial: asynchronous successive halving whose rungs are made again from the journal.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, in the stopping form that Ray Tune uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune.search.not_pickled import NotPickled
from tune.study.trial_record import RungDecision

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Rungs:
    """Values recorded at each rung, and the rule: stop below the (1 - 1/reduction_factor) quantile of those before.

    Nobody is stopped while a rung holds fewer than `reduction_factor` trials, the one that comes among them: the best
    of three is not known of two.

    Worked example, reduction_factor 3, larger is better: after 0.30, 0.50 and 0.40 the cutoff is 0.433; a fourth trial
    with 0.42 stops, one with 0.45 goes on.
    """

    def __init__(
        self,
        epochs: Sequence[int],
        reduction_factor: float,
        mode: Literal["min", "max"],
        past: Iterable[RungDecision] = (),
    ) -> None:
        self._quantile = 100 * (1 - 1 / reduction_factor)
        self._enough = reduction_factor
        self._sign = 1.0 if mode == "max" else -1.0
        self.decisions: dict[int, dict[int, RungDecision]] = {epoch: {} for epoch in epochs}
        for decision in past:
            self.decisions.setdefault(decision.epoch, {})[decision.trial] = decision

    def decide(self, trial: int, epoch: int, value: float) -> RungDecision | None:
        """Records a value and says whether the trial goes on; None between rungs.

        A trial that reports a rung again (after a restart from an older checkpoint) gets the same answer again.

        Args:
            trial: the trial's number.
            epoch: epochs it has trained, from 1.
            value: its objective, finite.
        """
        rung = self.decisions.get(epoch)
        if rung is None:
            return None
        if trial not in rung:
            before = np.array([self._sign * d.value for d in rung.values()])
            enough = before.size and 1 + before.size >= self._enough
            cutoff = float(np.percentile(before, self._quantile)) if enough else None
            signed = self._sign * value
            rung[trial] = RungDecision(
                trial=trial,
                epoch=epoch,
                value=value,
                cutoff=None if cutoff is None else self._sign * cutoff,
                rank=1 + int((before > signed).sum()),
                among=1 + before.size,
                stopped=cutoff is not None and signed < cutoff,
            )
        return rung[trial]


class AshaScheduler(NotPickled, FIFOScheduler):
    """Ray Tune's face of `Rungs`; time is the epoch that the trial reports, not Ray's iteration count."""

    def __init__(
        self,
        rungs: Rungs,
        objective: str,
        on_decision: Callable[[RungDecision], None],
        stopping: Callable[[], str],
        on_fault: Callable[[Trial], None] = lambda trial: None,
        ends: Callable[[int, Mapping[str, Any]], bool] = lambda number, result: False,
    ) -> None:
        """Takes the rungs, who is to hear of each new decision and of each fault (Ray tells the scheduler first), who
        says that the whole study is stopping, and who says of an epoch's result that its trial ends with it."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._stopping = stopping
        self._rungs = rungs
        self._objective = objective
        self._on_decision = on_decision
        self._on_fault = on_fault
        self._ends = ends

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Passes on that a trial broke off."""
        self._on_fault(trial)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accepts what Ray passes on; the objective was given to the constructor."""
        return True

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Stops the trial when its rung says so, or after this epoch when the study is stopping."""
        number = int(trial.config["trial"])
        known = number in self._rungs.decisions.get(result["epoch"], {})
        decision = self._rungs.decide(number, result["epoch"], result[self._objective])
        if decision is not None and not known:
            self._on_decision(decision)
        stop = (decision is not None and decision.stopped) or bool(self._stopping()) or self._ends(number, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)
