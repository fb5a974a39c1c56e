"""Says whether a data set on disk is still what was written, from its pixels."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel

from trainables.dataset.reader import SPLITS, Dataset, content_fingerprint


class Verification(BaseModel, frozen=True):
    """What `emotune data verify` prints; `problems` is empty if all is as it was written."""

    name: str
    images: int
    fingerprint: str
    problems: tuple[str, ...]


def verify_dataset(dataset: Dataset) -> Verification:
    """Works out fingerprint and counts from the images and compares them with what `dataset.json` says."""
    info, problems = dataset.info, []
    found = content_fingerprint(dataset)
    if found != info.fingerprint:
        problems.append(
            f"images, labels, splits or class names are not those that were written: fingerprint {found}, "
            f"dataset.json says {info.fingerprint}"
        )
    for split, name in enumerate(SPLITS):
        counted = np.bincount(dataset.labels[dataset.splits == split], minlength=len(info.classes)).tolist()
        said = info.counts.get(name, {})
        if dict(zip(info.classes, counted, strict=False)) != said:
            problems.append(
                f"the {name} split has {sum(counted):,} images by class {counted}, dataset.json says {said}"
            )
    return Verification(name=info.name, images=len(dataset), fingerprint=found, problems=tuple(problems))
