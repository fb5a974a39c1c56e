"""What the formats of an export take and say of themselves; another file than the written one is refused."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest

from tests.support.checkpoints import write_checkpoint
from trainables.dataset.reader import Dataset, open_dataset
from trainables.preprocessing.methods import evaluation_pipeline
from tune.errors import ExportError
from tune.export.evaluation_graph import evaluation_graph
from tune.export.export import export_checkpoint
from tune.export.formats import FORMATS, check_formats
from tune.export.manifest import check_manifest
from tune.export.parity import TOLERANCE
from tune.export.predict import load_export

pytestmark = [
    # Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    # tf2onnx 1.17 looks for np.object.
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),
    # TensorFlow 2.21 announces that its converter will move to another package.
    pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning"),
]


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def export(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In every format; evaluation crops, and takes the mean over image and mirror."""
    root = tmp_path_factory.mktemp("formats")
    checkpoint = write_checkpoint(root / "checkpoint", dataset, preprocessing="crop", crop_keep=0.8, mirror=True)
    formats = list(FORMATS)
    export_checkpoint(checkpoint, dataset, root / "export", study_yaml="name: faces-1\n", selection={}, formats=formats)
    return root / "export"


@pytest.fixture(scope="module")
def metrics(export: Path) -> Any:
    return json.loads((export / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_as_near_to_training_as_it_promises(name: str, export: Path, metrics: Any) -> None:
    written = metrics["formats"][name]
    assert (export / written["file"]).exists()
    if FORMATS[name].exact:
        assert 0 <= written["max_difference"] < TOLERANCE
    else:
        assert written["max_difference"] > TOLERANCE  # it has been quantised
        low, high = written["interval"]
        assert low <= written["accuracy_difference"] <= high
        assert written["images"] > 100 and written["of"] == "train"


@pytest.mark.slow
def test_a_saved_model_takes_files_of_pictures(export: Path, dataset: Dataset) -> None:
    import cv2
    import tensorflow as tf

    signatures = tf.saved_model.load(export / "saved_model").signatures
    taken = signatures["serving_default"].structured_input_signature[1]["image"]
    assert taken.dtype == tf.uint8 and taken.shape.as_list() == [None, 48, 48, 1]
    images = dataset.images(np.arange(3))
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    of_pixels = signatures["serving_default"](image=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(signatures["encoded"](files=tf.constant(files))["probabilities"], of_pixels, atol=1e-6)
    small = cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"48,48,1"):
        signatures["encoded"](files=tf.constant([small]))


# What TensorFlow Serving makes of the JSON of its REST interface (util/json_tensor.cc), in plain TensorFlow.
ANSWER_REQUESTS = """
import base64, json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1], tags=["serve"])
for request in json.load(sys.stdin):
    signature = model.signatures[request.get("signature_name", "serving_default")]
    ((name, spec),) = signature.structured_input_signature[1].items()
    values = [base64.b64decode(one["b64"]) if isinstance(one, dict) else one for one in request["instances"]]
    (answer,) = signature(**{name: tf.constant(values, spec.dtype)}).values()
    print(json.dumps({"predictions": answer.numpy().tolist()}))
assert not {"tune", "trainables"} & set(sys.modules)
"""


@pytest.mark.slow
def test_tensorflow_serving_finds_a_numbered_version_that_answers_rest_requests(export: Path, dataset: Dataset) -> None:
    import cv2
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    assert [path.name for path in (export / "tf_serving").iterdir()] == ["1"]
    described = SavedModel.FromString((export / "tf_serving/1/saved_model.pb").read_bytes()).meta_graphs[0]
    assert described.meta_info_def.tags == ["serve"]
    for name, given in (("serving_default", "image"), ("encoded", "files")):
        signature = described.signature_def[name]
        assert signature.method_name == "tensorflow/serving/predict"
        assert (list(signature.inputs), list(signature.outputs)) == ([given], ["probabilities"])
    images = dataset.images(np.arange(2))
    files = [base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode() for image in images]
    requests = [
        {"instances": images.tolist()},
        {"signature_name": "encoded", "instances": [{"b64": file} for file in files]},
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ANSWER_REQUESTS, str(export / "tf_serving/1")],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = [list(one.probabilities.values()) for one in load_export(export).predict(images)]
    for line in done.stdout.splitlines():
        np.testing.assert_allclose(json.loads(line)["predictions"], expected, atol=TOLERANCE)
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("shape", [(48, 48, 1), (32, 32, 3), (20, 33, 3)], ids=str)
@pytest.mark.parametrize("keep", [0.5, 0.77, 0.9, 0.97])
def test_the_crop_of_the_graph_is_opencvs_to_the_last_pixel(keep: float, shape: tuple[int, int, int]) -> None:
    pipeline = evaluation_pipeline("crop", {"crop_keep": keep}, shape)
    assert pipeline is not None
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    graph = evaluation_graph(pipeline, shape)
    assert graph is not None
    expected = np.stack([pipeline(image=image)["image"] for image in images])
    np.testing.assert_array_equal(np.asarray(graph(images)), expected)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((48, 48, 1), (4, 4)), ((50, 47, 1), (4, 4)), ((33, 48, 1), (4, 4)), ((40, 64, 1), (3, 5))],
    ids=str,
)
@pytest.mark.parametrize("clip_limit", [1.0, 2.0, 3.7, 40.0])
def test_clahe_of_the_graph_is_opencvs_to_the_last_pixel(
    clip_limit: float, shape: tuple[int, int, int], grid: tuple[int, int]
) -> None:
    import cv2

    draws = np.random.default_rng(0)
    smooth = [cv2.GaussianBlur(draws.normal(size=shape[:2]), (0, 0), sigma) for sigma in (0.5, 1, 3, 8)]
    images = [(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)[..., None] for image in smooth]
    images += [draws.integers(0, 256, shape, dtype=np.uint8), np.full(shape, 7, np.uint8), np.zeros(shape, np.uint8)]
    pipeline = A.Compose([A.CLAHE(clip_limit=(clip_limit, clip_limit), tile_grid_size=grid, p=1)])
    graph = evaluation_graph(pipeline, shape)
    assert graph is not None
    expected = np.stack([pipeline(image=image)["image"] for image in images])
    np.testing.assert_array_equal(np.asarray(graph(np.stack(images))), expected)


def test_steps_follow_one_another_in_the_graph() -> None:
    crop = [A.CenterCrop(40, 40, p=1), A.Resize(48, 48, p=1)]
    pipeline = A.Compose([*crop, A.CLAHE(clip_limit=(2, 2), tile_grid_size=(4, 4), p=1)])
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    graph = evaluation_graph(pipeline, (48, 48, 1))
    assert graph is not None
    expected = np.stack([pipeline(image=image)["image"] for image in images])
    np.testing.assert_array_equal(np.asarray(graph(images)), expected)


def test_what_keras_cannot_do_stays_beside_the_graph() -> None:
    assert evaluation_graph(evaluation_pipeline("equalize", {}, (48, 48, 3)), (48, 48, 3)) is None  # colours
    drawn = A.Compose([A.CLAHE(clip_limit=(1, 4), p=1)])
    assert evaluation_graph(drawn, (48, 48, 1)) is None
    assert evaluation_graph(A.Compose([A.Equalize(p=1)]), (48, 48, 1)) is None
    never = A.Compose([A.CenterCrop(40, 40, p=0), A.Resize(48, 48, p=1)])  # a pipeline of a user's own may be anything
    assert evaluation_graph(never, (48, 48, 1)) is None
    assert evaluation_graph(None, (48, 48, 1)) is None


def test_unknown_formats_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=r"Unknown export format 'onx'\. .*onnx"):
        check_formats(["keras", "onx"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"litert needs the package ai_edge_litert.*make setup EXTRAS=litert"):
        check_formats(["keras", "litert"])


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "saved_model/saved_model.pb", "labels.json", "model.onnx"])
@pytest.mark.parametrize("harm", [change, cut])
def test_a_file_that_is_not_the_written_one_is_refused(
    harm: Callable[[Path], None], name: str, export: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "export"
    shutil.copytree(export, copy)
    harm(copy / name)
    for open_it in (check_manifest, load_export):
        with pytest.raises(ExportError, match=rf"{name} is damaged: its SHA-256 is not the one in manifest\.json"):
            open_it(copy)


@pytest.mark.slow
def test_the_manifest_says_where_the_export_is_from_and_newer_ones_are_refused(
    export: Path, dataset: Dataset, tmp_path: Path
) -> None:
    manifest = check_manifest(export)
    assert manifest is not None and (manifest.study, manifest.trial) == ("faces-1", 3)
    files = {path.relative_to(export).as_posix() for path in export.rglob("*") if path.is_file()}
    assert manifest.files.keys() == files - {"manifest.json"}
    written = json.loads((export / "manifest.json").read_text())
    assert written["dataset"]["fingerprint"] == dataset.info.fingerprint
    copy = tmp_path / "export"
    shutil.copytree(export, copy)
    (copy / "manifest.json").write_text(json.dumps(written | {"manifest_version": 2}))
    with pytest.raises(ExportError, match=r"must have version 1 or lower\. Received: .* with 2, of a newer emotune"):
        load_export(copy)
    (copy / "manifest.json").write_text(json.dumps(written | {"files": written["files"] | {"../secret": "0"}}))
    with pytest.raises(ExportError, match=r"must name files of the export\. Received: \.\./secret"):
        load_export(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(ExportError, match=r"manifest\.json is damaged"):
        load_export(copy)
    (copy / "manifest.json").write_text(json.dumps(written | {"manifest_version": 0}))
    with pytest.raises(ExportError, match=r"manifest\.json is damaged: Input should be greater than or equal to 1"):
        load_export(copy)
    (copy / "manifest.json").write_text(json.dumps(written | {"files": {}}))
    with pytest.raises(ExportError, match=r"must name labels\.json, preprocessing\.json, model\.keras"):
        load_export(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(ExportError, match=r"must hold manifest\.json"):
        load_export(copy)
    (copy / "model_card.md").unlink()  # an export of 0.1
    assert check_manifest(copy) is None
    assert load_export(copy).classes == dataset.info.classes


@pytest.mark.slow
def test_the_card_tells_formats_limits_and_where_it_is_from(export: Path, dataset: Dataset) -> None:
    card, page = ((export / f"model_card.{kind}").read_text() for kind in ("md", "html"))
    assert f"<code>{dataset.info.fingerprint}</code>" in page and "<td><code>model.onnx</code></td>" in page
    assert not re.search(r"<script|src=|href=|url\(|@import", page)
    assert "| angry | 60 | 20 |" in card and "| all | 420 | 140 |" in card
    assert dataset.info.fingerprint in card and ", ".join(dataset.info.classes) in card
    assert "| onnx | `model.onnx` |" in card and "| litert_int8 |" in card
    assert "The test split was not opened." in card and "## Limits" in card
