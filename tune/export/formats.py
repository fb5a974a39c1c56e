"""The formats of an export: how each is written, and how a program without emotune runs it. Compares nothing."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.dataset.reader import Pixels
from tune.errors import ExportError, nearest
from tune.export.graph import write_keras, write_saved_model

if TYPE_CHECKING:
    import keras

DEFAULT_FORMATS = ("keras", "saved_model")

OPSET = 18
"""Of ONNX; what runtimes since 2023 know."""

SERVED_VERSION = "1"
"""The folder that TensorFlow Serving looks for in a model's: of the versions there it serves the highest number."""


@dataclass(frozen=True)
class Format:
    """One way to write a model of uint8 pixels, (n, height, width, channels), to probabilities.

    Attributes:
        file: Its file or folder in the export.
        extra: The extra of emotune that writes and runs it; empty: none is needed.
        packages: What has to be importable for that.
        write: Writes the model to a path; calibrates, if it has to, on some images, uint8.
        code: Python that runs it: defines `run(path, images)`, which returns probabilities; imports no emotune.
        exact: Whether its probabilities are those of training; int8 has an accuracy of its own.
    """

    file: str
    extra: str
    packages: tuple[str, ...]
    write: Callable[[keras.Model, Path, Pixels], None]
    code: str
    exact: bool = True


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Returns those that cannot be imported in this process."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def check_formats(names: Sequence[str], find_missing: Callable[[Sequence[str]], list[str]] = missing_packages) -> None:
    """Refuses formats that there are not, and those whose packages are not installed.

    Args:
        names: The formats.
        find_missing: `missing_packages`, called where the formats will be written.

    Raises:
        ExportError: naming the format, and what installs it.
    """
    for name in names:
        if name not in FORMATS:
            raise ExportError(f"Unknown export format {name!r}.{nearest(name, FORMATS)}")
        packages = FORMATS[name].packages
        if missing := find_missing(packages) if packages else []:
            extra = FORMATS[name].extra
            raise ExportError(
                f"The export format {name} needs the package {missing[0]}. Received: none. "
                f"Install it: make setup EXTRAS={extra}; or leave {name} out of export.formats."
            )


def _keras(pixels: keras.Model, path: Path, images: Pixels) -> None:
    write_keras(pixels, path)


def _saved_model(pixels: keras.Model, path: Path, images: Pixels) -> None:
    write_saved_model(pixels, path)


def _tf_serving(pixels: keras.Model, path: Path, images: Pixels) -> None:
    path.mkdir()
    write_saved_model(pixels, path / SERVED_VERSION)


def _signature(pixels: keras.Model) -> Any:
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, *pixels.input_shape[1:]), tf.uint8, "image")])  # type: ignore[untyped-decorator]
    def probabilities(image: Any) -> dict[str, Any]:
        return {"probabilities": pixels(image, training=False)}

    return probabilities


def _onnx(pixels: keras.Model, path: Path, images: Pixels) -> None:
    import tf2onnx

    function = _signature(pixels)
    # keras.Model.export (3.15) does the same, and leaves the output the name Identity:0.
    tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, output_path=str(path)
    )


def _litert(pixels: keras.Model, path: Path, images: Pixels) -> None:
    _write_litert(pixels, path, None)


def _litert_int8(pixels: keras.Model, path: Path, images: Pixels) -> None:
    _write_litert(pixels, path, images)


def _write_litert(pixels: keras.Model, path: Path, calibration: Pixels | None) -> None:
    import tensorflow as tf

    function = _signature(pixels)
    module = tf.Module()
    module.weights = [variable.value for variable in pixels.variables]
    module.function = function
    with tempfile.TemporaryDirectory() as folder:
        # A function's variables are not frozen (TensorFlow 2.21): its model reads zeros. A SavedModel's are.
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        path.write_bytes(converter.convert())


_RUN_KERAS = """
def run(path, images):
    import keras
    return keras.saving.load_model(path, compile=False).predict_on_batch(images)
"""
_RUN_SAVED_MODEL = """
def run(path, images):
    import tensorflow as tf
    return tf.saved_model.load(path).signatures["serving_default"](image=tf.constant(images))["probabilities"].numpy()
"""
_RUN_TF_SERVING = _RUN_SAVED_MODEL.replace("load(path)", f"load(path + '/{SERVED_VERSION}')")
_RUN_ONNX = """
def run(path, images):
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]
"""
_RUN_LITERT = """
def run(path, images):
    from ai_edge_litert.interpreter import Interpreter
    return Interpreter(path).get_signature_runner("serving_default")(image=images)["probabilities"]
"""

FORMATS: dict[str, Format] = {
    "keras": Format("model.keras", "", (), _keras, _RUN_KERAS),
    "saved_model": Format("saved_model", "", (), _saved_model, _RUN_SAVED_MODEL),
    "tf_serving": Format("tf_serving", "", (), _tf_serving, _RUN_TF_SERVING),
    "onnx": Format("model.onnx", "onnx", ("tf2onnx", "onnxruntime"), _onnx, _RUN_ONNX),
    "litert": Format("model.tflite", "litert", ("ai_edge_litert",), _litert, _RUN_LITERT),
    "litert_int8": Format("model_int8.tflite", "litert", ("ai_edge_litert",), _litert_int8, _RUN_LITERT, exact=False),
}
