"""Measures how fast a study trains, in processes like its trials' on the Ray that is joined. Starts no trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from search_spaces import Value
from trainables.config import OWN_PREFIXES, TrialContext
from trainables.training.calibration import Precision, Speed, choose_precision, try_speed
from trainables.training.process import prepare_process
from tune.nodes.trial_process import trial_process
from tune.search.simulated_search import Costs, TrialCost
from tune.study.feasible import RandomSuggester
from tune.study.spec import StudySpec

MEASURED_AT_ONCE = 4
"""Processes that measure side by side, as trials run side by side and slow one another down."""
_ROOM_S = 3.0

DEFAULT_S, DRAWN_S = 3.0, 1.5
"""About how long training, and then evaluation, is measured of a configuration."""

_SAVED = 0.8
"""Share of a trial's epochs that are its best so far or end at a rung, after which it is saved."""

_COSTLY = frozenset(
    "model image_size_px width stem batch_size batch_norm optimizer precision preprocessing mixup mirror "
    "split_ratio".split()
)
"""Parameters that change what an image takes."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        default: the default configuration's speed.
        drawn: speeds of configurations that were drawn at random from the space; empty where all take the same.
        precision: what `precision: auto` was found to stand for, None where that was not asked.
        process_start_s: seconds from asking for a process until it has imported TensorFlow.
        took_s: seconds of all of it.
        failures: configurations that no trial can train, and why, a line each.
    """

    default: Speed
    drawn: tuple[Speed, ...]
    precision: Precision | None
    process_start_s: float
    took_s: float
    failures: tuple[str, ...] = ()

    @property
    def costs(self) -> Costs:
        """What the simulation reckons with: each trial takes what one of the drawn configurations takes."""
        speeds = self.drawn or (self.default,)

        def drawn(rng: np.random.Generator) -> TrialCost:
            return _cost(speeds[int(rng.integers(len(speeds)))])

        return Costs(_cost(self.default), drawn, self.process_start_s)


def _cost(speed: Speed) -> TrialCost:
    saved_s = _SAVED * speed.save_s
    return TrialCost(speed.first_step_s, speed.epoch_s + saved_s, speed.refit_epoch_s + saved_s)


def drawn_configurations(
    spec: StudySpec, count: int, *, without: Mapping[str, Sequence[Value]] | None = None
) -> list[dict[str, Value]]:
    """Returns configurations drawn at random from a space, none where all cost the same.

    Args:
        spec: the study.
        count: how many, at most.
        without: values of parameters that are left out, as those that nothing can be measured with yet.
    """
    if not any(name in _COSTLY or name.startswith(OWN_PREFIXES) for name in spec.space.parameters):
        return []
    found: list[dict[str, Value]] = []
    for seed in range(100 * count):
        values = spec.space.suggest(RandomSuggester(seed))
        left_out = any(values.get(name) in some for name, some in (without or {}).items())
        if not left_out and not spec.broken_constraint(values):
            found.append(values)
        if len(found) == count:
            break
    return found


def calibrate(
    spec: StudySpec,
    context: TrialContext,
    *,
    choose: bool,
    drawn: Sequence[Mapping[str, Value]] = (),
    at_once: int = 1,
    save: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration | str:
    """Measures the default configuration, and others beside it.

    Args:
        spec: the study.
        context: what its trials are told.
        choose: first find out what `precision: auto` stands for.
        drawn: other configurations of its space.
        at_once: trials that run side by side.
        save: measure checkpoints too.
        say: called with a line when a process is long in starting.

    Returns:
        What was measured, or in one line why the default configuration cannot be.

    Raises:
        ClusterError: no process starts.
    """
    precision: Precision | None = None

    def config(values: Mapping[str, Value]) -> dict[str, object]:
        return {"parameters": spec.trial_config(values).model_dump(), "study": context.model_dump()}

    everything = [(spec.space.defaults(), DEFAULT_S), *((values, DRAWN_S) for values in drawn)]
    processes = max(1, min(at_once, MEASURED_AT_ONCE, len(everything)))
    with (
        ThreadPoolExecutor(processes) as threads,
        ExitStack() as stack,
    ):  # the processes end first, should one break off
        calls = [stack.enter_context(trial_process(spec, say))]
        for _ in range(processes - 1):  # as many as there is room for: other work may be on the cluster
            with ExitStack() as beside:
                call = beside.enter_context(trial_process(spec, say))
                if not (calls[0].has_room(_ROOM_S) and call.has_room(_ROOM_S)):
                    break
                stack.enter_context(beside.pop_all())
                calls.append(call)
        calls[0].wait_for_room()
        began = time.monotonic()
        for started in [threads.submit(call, prepare_process, context) for call in calls]:
            started.result()
        process_start_s = time.monotonic() - began
        if choose:
            precision = calls[0](choose_precision, config(spec.space.defaults()))
            context = context.model_copy(update={"precision": precision.chosen})

        def measure(
            call: Callable[..., Speed | str], share: Sequence[tuple[Mapping[str, Value], float]]
        ) -> list[Speed | str]:
            return [call(try_speed, config(values), measure_s, save) for values, measure_s in share]

        shares = [everything[first :: len(calls)] for first in range(len(calls))]
        parts = [threads.submit(measure, call, share) for call, share in zip(calls, shares, strict=True)]
        found = [part.result() for part in parts]
    default = found[0].pop(0)
    if isinstance(default, str):
        return default
    others = [one for part in found for one in part]
    return Calibration(
        default,
        tuple(one for one in others if isinstance(one, Speed)),
        precision,
        process_start_s,
        time.monotonic() - began,
        tuple(one for one in others if isinstance(one, str)),
    )
