"""The mean of several trained models in place of one: chosen and judged on the selection fold.

Models that were trained apart err on different images, so the mean of their probabilities is right more often than each
of them (Hansen, Salamon: Neural Network Ensembles, 1990); it takes as many times the memory and the time. A search has
trained them anyway: the winner's seeds, and its other good trials.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from trainables.config import TrialConfig, TrialContext
from trainables.dataset.reader import Dataset
from trainables.models.compiled import Floats, mean_logits
from trainables.training.metrics import evaluate, with_score
from tune.errors import ExportError
from tune.export.checkpoints import load_checkpoints, logits_of, release_members, selection_fold
from tune.export.ensemble_selection import select_members
from tune.export.written_models import fit_together

_TIMED_IMAGES = 512


def judge_ensemble(checkpoints: Iterable[Path], dataset: Dataset, context: TrialContext, most: int) -> dict[str, Any]:
    """Chooses among several checkpoints those whose mean is best on the selection fold, and scores it beside the first.

    Args:
        checkpoints: Folders of trials, each opened after the one before was read; the first is what would be exported
            alone, and belongs to every mean.
        dataset: The data set that they were trained on.
        context: What the study's trials are told.
        most: Models of the mean at most.

    Returns:
        `members`: places of the chosen in `checkpoints`, from 0; `single` and `mean`: the objective without its
        `selection_`; `single_ms` and `mean_ms` for an image, in batches; `kept`: whether the mean is better; `unread`:
        places of those that could not be read. What cannot be in one export with the first is passed over.

    Raises:
        ExportError: The first checkpoint is damaged or does not fit.
    """
    places, answers, times, unread = [], [], [], []
    first: TrialConfig | None = None
    for place, checkpoint in enumerate(checkpoints):
        try:
            members = load_checkpoints([checkpoint], dataset)
        except ExportError:
            if not place:
                raise
            unread.append(place)
            continue
        config = members[0].config
        first = first or config
        if fit_together(first, config, dataset.info.shape):
            rows = selection_fold(config, dataset, context)
            logits = logits_of(members, dataset, rows)
            if not place or np.isfinite(logits).all():
                places.append(place)
                answers.append(logits)
                times.append(_ms(members, dataset, rows))
        release_members(members)
    labels = dataset.labels[rows]
    chosen = select_members([softmax(logits, axis=1) for logits in answers], labels, most)
    metric = context.objective.removeprefix("selection_")

    def score(several: list[Floats]) -> float:
        scores = evaluate(mean_logits(several), labels, len(dataset.info.classes))
        return float(with_score(scores, context.objective_weights)[metric])

    single, mean = score(answers[:1]), score([answers[index] for index in chosen])
    sign = 1 if context.mode == "max" else -1
    return {
        "members": [places[index] for index in chosen],
        "single": single,
        "mean": mean,
        "single_ms": round(times[0], 3),
        "mean_ms": round(sum(times[index] for index in chosen), 3),
        "kept": sign * mean > sign * single,
        "unread": unread,
    }


def _ms(members: Any, dataset: Dataset, rows: Any) -> float:
    some = rows[:_TIMED_IMAGES]
    started = time.perf_counter()
    logits_of(members, dataset, some)
    return 1000 * (time.perf_counter() - started) / len(some)
