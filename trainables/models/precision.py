"""The precision that a model's layers calculate in, and whether a machine is built for bfloat16.

Weights, statistics, losses and optimizer values stay float32 (Keras' `mixed_bfloat16`), and so do a model's first and
last steps: pixels to normalised numbers, and logits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.models.blocks import refuse_xla_where_missing

if TYPE_CHECKING:
    import keras

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPUINFO = Path("/proc/cpuinfo")
_FIRST_GPU = (8, 0)
"""Compute capability of the first GPUs with bfloat16 (NVIDIA Ampere)."""


@contextmanager
def layer_precision(precision: str) -> Iterator[None]:
    """Makes layers that are built in the block calculate in a precision, `float32` or `bfloat16`."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(trained: keras.Model) -> keras.Model:
    """Returns a model of the same layers with the same weights, in float32 arithmetic.

    Not the builder's model: ImageNet's weights, or code that has changed since, may give that other layers.
    """
    import keras

    model = keras.models.model_from_json(trained.to_json().replace('"mixed_bfloat16"', '"float32"'))
    refuse_xla_where_missing(model)
    model.set_weights(trained.get_weights())
    return model


def has_bfloat16(gpus: float) -> bool:
    """Says whether what a trial of this process trains on calculates in bfloat16; elsewhere it would be slower.

    Args:
        gpus: The trial's GPUs, or share of one; 0 is the processor.
    """
    if not gpus or not os.environ.get("CUDA_VISIBLE_DEVICES", "0"):
        return bool(_CPU_FLAGS & set(_CPUINFO.read_text().split())) if _CPUINFO.exists() else False
    import tensorflow as tf

    found = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return bool(found) and all(details.get("compute_capability", (0, 0)) >= _FIRST_GPU for details in found)
