"""A trial's process: what is set before TensorFlow is imported, how much memory it takes."""

from __future__ import annotations

import gc
import os
import platform

import psutil

from trainables.config import TrialContext
from trainables.gpu import limit_gpu_memory
from trainables.keras_setup import import_keras
from trainables.node_probe import driver_gpus
from trainables.training.fault_kinds import TrialFault


def set_environment(context: TrialContext) -> None:
    """Sets what TensorFlow reads once, here and in processes that are started; leaves alone what the user has set."""
    if not context.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray 2.60 no longer hides GPUs from processes that asked for none
    threads = str(max(1, int(context.cpus)))
    for name, value in {
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # Ray's and the driver's order
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }.items():
        os.environ.setdefault(name, value)


def prepare_process(context: TrialContext) -> None:
    """Imports TensorFlow and Keras with their environment set."""
    set_environment(context)
    import_keras(context.onednn)
    limit_gpu_memory(context.gpus)


def prepare_training(context: TrialContext) -> None:
    """Prepares the process, and refuses to train on the processor what has paid for a GPU.

    Raises:
        TrialFault: TensorFlow sees none of the driver's GPUs. Where Ray only counts GPUs there is no driver.
    """
    prepare_process(context)
    gc.collect()
    gc.freeze()  # TensorFlow's own million objects are not looked at again between trials
    if not context.gpus or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    import tensorflow as tf

    names = driver_gpus()[0]
    if names and not tf.config.list_physical_devices("GPU"):
        raise TrialFault(
            "exception",
            f"the driver of {platform.node()} sees {len(names)} GPUs and TensorFlow none. Install TensorFlow's CUDA "
            "libraries there: make setup EXTRAS=gpu",
        )


def process_memory_mib() -> float:
    """Returns the resident memory of this process, without pages that it shares, such as the mapped data set's."""
    memory = psutil.Process().memory_info()
    return float(memory.rss - getattr(memory, "shared", 0)) / 2**20
