"""What the recorded curves say: how well early scores rank final ones, how noisy a repeat is, what pays only late.

    python -m benchmarks.curves_report [--to docs/curves]

Reads `benchmarks/results/curves.parquet` (`benchmarks.record_curves` made it) and writes `index.md` with its pictures.
The final score of a trial is its holdout accuracy after the last epoch, of the averaged weights, over image and mirror
where training mirrored: what would be exported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import bootstrap, spearmanr

from benchmarks.record_curves import EPOCHS, HOLDOUT_IMAGES, PARQUET, REPEATS_FROM, TRAIN_IMAGES

KINDS = {"last": "last weights", "average": "averaged weights", "average_mirror": "averaged, with mirror"}
AT = (0.25, 0.5, 0.75, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 15.0)
KEPT = 1 / 3


class Curves:
    """The recorded trials; `scores(kind, epoch)` are their selection accuracies, `final` what they end at."""

    def __init__(self, path: Path = PARQUET) -> None:
        rows = pd.read_parquet(path)
        for fold in ("selection", "holdout"):
            plain, mirror = f"{fold}_average", f"{fold}_average_mirror"
            rows[mirror] = rows[mirror].fillna(rows[plain])  # where training does not mirror there is no mean to take
        self._rows = rows
        ends = rows.sort_values("epoch").groupby("trial").tail(1).set_index("trial")
        self.final = ends["holdout_average_mirror"].sort_index()
        self.values = {trial: json.loads(text) for trial, text in ends["values"].items()}
        self.trials = [trial for trial in self.final.index if trial < REPEATS_FROM]

    def scores(self, kind: str, epoch: float) -> pd.Series[float]:
        """Returns the selection accuracy of each trial after so many epochs; a diverged trial keeps its last."""
        upto = self._rows[np.isclose(self._rows.epoch, epoch, atol=0.06) | (self._rows.epoch <= epoch)]
        last = upto.sort_values("epoch").groupby("trial").tail(1).set_index("trial")
        return last[f"selection_{kind}"].reindex(self.trials)


def ranking(curves: Curves) -> list[str]:
    """Returns rows: Spearman's rank correlation with the final score, and the regret of keeping the best third."""
    final = curves.final.reindex(curves.trials).to_numpy()
    lines = [
        "| epochs | " + " | ".join(f"{name}: rank correlation | regret" for name in KINDS.values()) + " |",
        "|---" * (1 + 2 * len(KINDS)) + "|",
    ]
    for epoch in AT:
        cells = []
        for kind in KINDS:
            scores = curves.scores(kind, epoch).to_numpy()
            low, high = interval(scores, final)
            kept = np.argsort(-scores)[: max(1, round(KEPT * len(scores)))]
            regret = final.max() - final[kept].max()
            cells.append(f"{spearmanr(scores, final).statistic:.2f} ({low:.2f} to {high:.2f}) | {regret:.4f}")
        lines.append(f"| {epoch:g} | " + " | ".join(cells) + " |")
    return lines


def interval(one: Any, other: Any) -> tuple[float, float]:
    """Returns a 95 % bootstrap interval of Spearman's rank correlation over trials."""
    statistic = lambda a, b: spearmanr(a, b).statistic  # noqa: E731
    found = bootstrap(
        (one, other), statistic, paired=True, vectorized=False, n_resamples=200, method="percentile", rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def noise(curves: Curves) -> str:
    """Returns how much a second training of the same configuration differs."""
    pairs = [
        (curves.final[t], curves.final[t + REPEATS_FROM]) for t in curves.trials if t + REPEATS_FROM in curves.final
    ]
    if len(pairs) < 2:
        return "No configuration has been trained twice yet."
    spread = np.std([one - other for one, other in pairs], ddof=1) / np.sqrt(2)
    sampling = np.sqrt(np.mean([p * (1 - p) for p, _ in pairs]) / HOLDOUT_IMAGES)
    return (
        f"{len(pairs)} configurations trained twice: a final score has a standard deviation of {spread:.4f} over "
        f"seeds, on the same {HOLDOUT_IMAGES:,} images; other images would add {sampling:.4f}. Over configurations "
        f"it is {curves.final.reindex(curves.trials).std():.4f}."
    )


def effects(curves: Curves) -> list[str]:
    """Returns rows: how a parameter goes with the score after 1, 4 and all epochs, where it counts."""
    names = list(dict.fromkeys(name for trial in curves.trials for name in curves.values[trial]))
    lines = ["| parameter | value | trials | after 1 | after 4 | final |", "|---|---|---|---|---|---|"]
    columns = [curves.scores("average_mirror", 1.0), curves.scores("average_mirror", 4.0), curves.final]
    for name in names:
        having = [trial for trial in curves.trials if name in curves.values[trial]]
        values = [curves.values[trial][name] for trial in having]
        ranks = [column.rank(pct=True).reindex(having).to_numpy() for column in columns]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            cells = [f"{spearmanr(values, rank).statistic:+.2f}" for rank in ranks]
            lines.append(f"| {name} | rank correlation | {len(having)} | " + " | ".join(cells) + " |")
            continue
        for choice in sorted(set(values), key=str):
            chosen = [place for place, value in enumerate(values) if value == choice]
            cells = [f"{100 * np.mean(rank[chosen]):.0f}" for rank in ranks]
            lines.append(f"| {name} | {choice}: mean percentile | {len(chosen)} | " + " | ".join(cells) + " |")
    return lines


def pictures(curves: Curves, folder: Path) -> None:
    """Draws the curves, and rank correlation over epochs."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = curves.final.reindex(curves.trials).sort_values().index
    for place, trial in enumerate(order):
        points = [curves.scores("average", epoch)[trial] for epoch in range(1, EPOCHS + 1)]
        left.plot(range(1, EPOCHS + 1), points, color=(0.1, 0.3, place / len(order)), alpha=0.35, linewidth=0.8)
    left.set(xlabel="epoch", ylabel="selection accuracy", title="averaged weights, every trial")
    final = curves.final.reindex(curves.trials)
    for kind, name in KINDS.items():
        found = [spearmanr(curves.scores(kind, epoch), final).statistic for epoch in AT]
        right.plot(AT, found, marker="o", markersize=3, label=name)
    right.set(xlabel="epochs trained", title="rank correlation with the final holdout score", ylim=(0, 1))
    right.legend()
    figure.savefig(folder / "curves.png", dpi=130)


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("docs/curves"))
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    curves = Curves()
    pictures(curves, given.to)
    text = [
        "# What early scores say of final ones",
        "",
        f"{len(curves.trials)} configurations of `space: alexnet`, {TRAIN_IMAGES:,} images of FER-2013's train split, "
        f"an eighth of AlexNet's width at 48 px, {EPOCHS} epochs, nobody stopped; made with "
        "`python -m benchmarks.record_curves`, written with `python -m benchmarks.curves_report`.",
        "",
        "![Every curve, and how well each epoch ranks](curves.png)",
        "",
        "## Ranks",
        "",
        "Spearman's rank correlation of the selection score with the final holdout score (95 % bootstrap interval), "
        "and how much the best of the third that is kept after so many epochs ends below the best of all.",
        "",
        *ranking(curves),
        "",
        "## Noise",
        "",
        noise(curves),
        "",
        "## What pays early, and what late",
        "",
        *effects(curves),
    ]
    (given.to / "index.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
