"""The mean of several models of one configuration: scored on the selection fold beside the single one. Decides by it.

Seeds of one configuration err on different images, so the mean of their probabilities is right more often than each of
them (Hansen, Salamon: Neural Network Ensembles, 1990); it takes as many times the memory and the time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.config import TrialContext
from trainables.dataset.reader import Dataset
from trainables.training.metrics import evaluate
from tune.export.checkpoints import load_checkpoints, logits_of, release_members, selection_fold

_TIMED_IMAGES = 512


def judge_ensemble(checkpoints: Sequence[Path], dataset: Dataset, context: TrialContext) -> dict[str, Any]:
    """Scores the mean of several checkpoints on the selection fold, and the first of them alone.

    Args:
        checkpoints: Folders of trials of one configuration; the first is what would be exported alone.
        dataset: The data set that they were trained on.
        context: What the study's trials are told.

    Returns:
        `single` and `mean`: the objective without its `selection_`; `single_ms` and `mean_ms` for an image, in batches;
        `kept`: whether the mean is better.

    Raises:
        ExportError: A checkpoint is damaged or does not fit.
    """
    members = load_checkpoints(checkpoints, dataset)
    rows = selection_fold(members[0].config, dataset, context)
    metric = context.objective.removeprefix("selection_")

    def score(several: Any) -> float:
        logits = logits_of(several, dataset, rows)
        return float(evaluate(logits, dataset.labels[rows], len(dataset.info.classes))[metric])

    def ms(several: Any) -> float:
        some = rows[:_TIMED_IMAGES]
        started = time.perf_counter()
        logits_of(several, dataset, some)
        return 1000 * (time.perf_counter() - started) / len(some)

    single, mean = score(members[:1]), score(members)
    sign = 1 if context.mode == "max" else -1
    times = {"single_ms": round(ms(members[:1]), 3), "mean_ms": round(ms(members), 3)}
    release_members(members)
    return {"single": single, "mean": mean, **times, "kept": sign * mean > sign * single}
