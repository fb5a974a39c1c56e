"""Names what went wrong in a trial's process, in words that the driver can read without Keras or TensorFlow; is patient
with storage that errors."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from collections.abc import Callable
from typing import Literal, TypeVar

from trainables.errors import OwnImportError, PlaceError

STORAGE_PAUSES_S = (1, 2, 4, 8, 15, 30)
"""Seconds between attempts to save a checkpoint on storage that errors."""

T = TypeVar("T")

FaultKind = Literal[
    "preempted",
    "process_died",
    "host_memory",
    "model_memory",
    "not_finite",
    "exception",
    "hung",
    "checkpoint",
    "storage",
    "disk_full",
    "replaced",
    "infeasible",
]
"""How a trial can be held up:

preempted     its machine was taken away or died
process_died  its process ended without a word, as after `kill -9`
host_memory   the machine ran out of memory and Ray ended the process
model_memory  TensorFlow could not get the memory for a batch, on the device or on the processor
not_finite    a loss was NaN or infinite
exception     the model or the feed raised an error
hung          no report for many times the usual epoch
checkpoint    a checkpoint could not be read; the one before it was taken
storage       the study's storage refused a checkpoint for longer than a minute
disk_full     no space is left where checkpoints go
replaced      its process had grown past the limit and made room for a fresh one
infeasible    its parameters give no model, as where a pool is larger than what is left of the image
"""


class TrialFault(Exception):
    """A named fault of a trial: `kind` and what is known of it in one line."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def is_disk_full(error: BaseException | None) -> bool:
    """Says whether an error means that no space is left on a disk."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def classify_error(error: BaseException) -> TrialFault:
    """Returns an error that a trial's step raised as a fault."""
    if isinstance(error, TrialFault):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")[:300]
    if is_disk_full(error) or is_disk_full(error.__cause__):
        return TrialFault("disk_full", message)
    if isinstance(error, PlaceError):
        return TrialFault("storage", str(error))
    tensorflow = sys.modules.get("tensorflow")
    exhausted = getattr(getattr(tensorflow, "errors", None), "ResourceExhaustedError", MemoryError)
    if isinstance(error, MemoryError | exhausted) or "RESOURCE_EXHAUSTED" in str(error):
        return TrialFault("model_memory", message)
    return TrialFault("exception", message)


def classify_unreadable(error: Exception) -> TrialFault:
    """Returns what kept a checkpoint from being read: `checkpoint` where the file is not whole, else what may pass."""
    fault = classify_error(error)
    if isinstance(error, OSError) and error.errno not in (None, 0, errno.ENOENT) and fault.kind == "exception":
        return TrialFault("storage", fault.message)
    return TrialFault("checkpoint", fault.message) if fault.kind == "exception" else fault


def combination_fault(error: Exception, message: str | None = None) -> TrialFault:
    """Returns what is wrong where a configuration gives no model, pipeline or schedule.

    It is infeasible wherever it is tried; not so where only this machine cannot import the user's code.
    """
    kind: FaultKind = "exception" if isinstance(error, OwnImportError) else "infeasible"
    return TrialFault(kind, message or str(error))


def unbuildable(error: Exception) -> str:
    """Returns why no model could be built, in one line: what Keras says, and of which shape."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    shape = next((line for line in lines[1:] if "shape" in line.lower()), "")
    return f"no model can be built: {lines[0]} {shape}".strip()[:300]


def retry_save(save: Callable[[], T]) -> T:
    """Saves, and tries again for a minute while the storage errors.

    Raises:
        TrialFault: the disk is full, or the storage still errors.
    """
    pauses_s = iter(STORAGE_PAUSES_S)
    while True:
        try:
            return save()
        except Exception as error:
            traceback.print_exc()
            fault = classify_error(error)
            if not isinstance(error, OSError) or fault.kind == "disk_full":
                raise fault from None
            pause_s = next(pauses_s, None)
            if pause_s is None:
                raise TrialFault("storage", fault.message) from None
            time.sleep(pause_s)
