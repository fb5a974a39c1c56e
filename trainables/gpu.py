"""Gives TensorFlow the share of a GPU's memory that its trial has. Does nothing for whole GPUs, and where none is."""

from __future__ import annotations

import os
from contextlib import suppress

from trainables.node_probe import driver_gpus

CONTEXT_MIB = 400
"""Memory that CUDA takes for each process, beside what TensorFlow may use."""

LEAST_MIB = 256
"""What TensorFlow needs to train anything at all."""


def memory_limit_mib(total_mib: float, share: float) -> int:
    """Returns what TensorFlow may take of a GPU's memory in a process that has a share of it.

    Args:
        total_mib: the GPU's memory.
        share: of the GPU, above 0 and below 1. Processes with shares that add up to 1 fit beside one another.
    """
    return int(total_mib * share - CONTEXT_MIB)


def limit_gpu_memory(share: float) -> None:
    """Limits TensorFlow to a share of the memory of each GPU that this process sees; before TensorFlow's first use.

    Args:
        share: as in `memory_limit_mib`; 0, 1 and more leave TensorFlow alone.

    Raises:
        MemoryError: the share is less than TensorFlow needs.
    """
    if not 0 < share < 1 or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    memory = _visible(driver_gpus()[0])
    if not memory:
        return
    import tensorflow as tf

    for gpu, total_mib in zip(tf.config.list_physical_devices("GPU"), memory, strict=False):
        if tf.config.get_logical_device_configuration(gpu):
            continue  # an earlier call did it: TensorFlow takes a limit once
        limit = memory_limit_mib(total_mib, share)
        if limit < LEAST_MIB:
            raise MemoryError(
                f"{share:g} of a GPU with {total_mib:.0f} MiB leaves {limit} MiB beside CUDA's own {CONTEXT_MIB}; "
                f"TensorFlow needs {LEAST_MIB}. Raise resources.gpus_per_trial"
            )
        with suppress(RuntimeError):  # a notebook that has used its GPU before keeps what it has
            tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit)])


def _visible(gpus: list[tuple[str, float]]) -> list[float]:
    """Returns the memory of the GPUs that CUDA_VISIBLE_DEVICES lets this process see, in its order."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    memory = [mib for _, mib in gpus]
    if names is None:
        return memory
    indices = [int(name) for name in names.split(",") if name.strip().isdigit()]
    if not indices:  # UUIDs, as some schedulers set them: the smallest is safe for any
        return [min(memory)] * len(names.split(",")) if memory else []
    return [memory[index] for index in indices if index < len(memory)]
