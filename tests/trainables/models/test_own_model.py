"""Models of the user's own: what the check finds before anything starts, each told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.trial_training import open_training
from tests.support.own_models import OWN_MODEL, own_parameters
from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.models import own_check
from trainables.models.compiled import reseed_dropout
from trainables.models.own_model import ImageSpec, build_own_model, with_bare_tensors
from trainables.training.epochs import TrialTraining
from trainables.training.fault_kinds import TrialFault
from trainables.training.readable import load_first_readable
from tune.export.graph import Part, pixel_classifier

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

HEAD = "import keras\nfrom keras import layers\n\ndef build(image, classes, *, depth: int = 1):\n"
NET = "    x = image.input()\n    y = layers.Flatten()(image.standardized(x))\n"
END = "    return keras.Model(x, layers.Dense(classes)(y))\n"


def check(text: str, folder: Path, **parameters: Any) -> dict[str, Any]:
    """Asks what the process of a check is asked, in this process, but for opening the model in a fresh one."""
    config = TrialConfig.model_validate(own_parameters(text, **parameters)).model_dump()
    request = {"config": config, "shape": (12, 12, 1), "classes": 3, "mean": (0.5,), "std": (0.2,), "bfloat16": True}
    return own_check.check_model(request, folder)


EAGER = """\
import keras
from keras import layers

@keras.saving.register_keras_serializable("my_models")
class Brighter(layers.Layer):
    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return x * 2 if float(x[0, 0].numpy()) > 0 else x

def build(image, classes):
    x = image.input()
    y = layers.Dense(4)(layers.Flatten()(image.standardized(x)))
    return keras.Model(x, layers.Dense(classes)(Brighter()(y)))
"""

TIMES = """
@keras.saving.register_keras_serializable("my_models")
class Times(layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.multiply(x, tf.constant(2.0))
"""

BROKEN = {
    "a syntax error": (HEAD + "    return (\n", r"my_models\.py, line \d: cannot be imported: SyntaxError"),
    "an import that is not there": ("import torchh\n" + HEAD + NET + END, r"line 1: cannot be imported: Module"),
    "an error when it is imported": ("1 / 0\n" + HEAD + NET + END, r"line 1: cannot be imported: ZeroDivisionError"),
    "an error in build": (HEAD + "    return classes.nothing\n", r"\(line 5\) cannot build a model: AttributeError"),
    "nothing returned": (HEAD + NET, r"must return a keras\.Model\. Received: NoneType"),
    "a tensor returned": (HEAD + NET + "    return y\n", r"must return a keras\.Model\. Received: KerasTensor"),
    "a model without an input": (
        "import keras\nclass Net(keras.Model):\n    pass\n\ndef build(image, classes):\n    return Net()\n",
        r"must return a functional model\. Received: Net",
    ),
    "another image": (
        HEAD + "    x = keras.Input((48, 48, 3))\n    y = layers.Flatten()(x)\n" + END,
        r"a model of images \(None, 12, 12, 1\)\. Received: \(None, 48, 48, 3\)\. Begin with x = image\.input",
    ),
    "too many classes": (
        HEAD + NET + "    return keras.Model(x, layers.Dense(classes + 1)(y))\n",
        r"logits \(None, 3\)\. Received: \(None, 4\)\. End with layers\.Dense\(classes\)",
    ),
    "a map of classes": (
        HEAD + "    x = image.input()\n    return keras.Model(x, layers.Conv2D(classes, 3)(image.standardized(x)))\n",
        r"Received: \(None, 10, 10, 3\)",
    ),
    "two outputs": (HEAD + NET + "    y = layers.Dense(classes)(y)\n    return keras.Model(x, [y, y])\n", r"logits"),
    "probabilities": (
        HEAD + NET + "    return keras.Model(x, layers.Dense(classes, activation='softmax')(y))\n",
        r"must return logits\. Received: probabilities",
    ),
    "probabilities of an operation": (
        HEAD + NET + "    return keras.Model(x, keras.ops.softmax(layers.Dense(classes)(y)))\n",
        r"must return logits\. Received: probabilities",
    ),
    "probabilities of each class": (
        HEAD + NET + "    return keras.Model(x, layers.Dense(classes, activation='sigmoid')(y))\n",
        r"must return logits\. Received: probabilities",
    ),
    "nothing to train": (
        HEAD + NET + "    return keras.Model(x, y[:, :classes])\n",
        r"a model that can be trained\. Received: no trainable weights",
    ),
    "logits that are not finite": (
        HEAD + NET + "    return keras.Model(x, layers.Dense(classes)(y) / 0.0)\n",
        r"finite logits",
    ),
    "a print": (HEAD + "    print('here')\n" + NET + END, r"must print nothing\. Received: 'here'"),
    "a print when it is imported": ("print('at import')\n" + HEAD + NET + END, r"Received: 'at import'"),
    "a setting of Keras": (
        HEAD + "    keras.config.set_epsilon(1e-3)\n" + NET + END,
        r"it changes keras\.config\.epsilon",
    ),
    "a variable of the environment": (
        "import os\nos.environ['EMOTUNE_TEST_OWN'] = '1'\n" + HEAD + NET + END,
        r"it changes os\.environ",
    ),
    "a session that is cleared": (
        HEAD + "    keras.backend.clear_session()\n" + NET + END,
        r"it changes keras\.config\.dtype_policy|keras\.config\.dtype_policy is set back",
    ),
    "a constant that is float32 in any precision": (
        HEAD + NET + "    y = layers.Dense(4)(y)\n    y = Times()(y)\n" + END + TIMES,
        r"must calculate in bfloat16 as well.*fixed",
    ),
    "a layer that asks a tensor for its values": (
        EAGER,
        r"\(line \d+\) cannot be trained: .*Fix it",
    ),
    "a seed": (HEAD + "    keras.utils.set_random_seed(0)\n" + NET + END, r"must not set seeds"),
    "a layer kept between two builds": (
        HEAD.replace("def build", "KEPT = layers.Dense(3)\n\ndef build") + NET + "    return keras.Model(x, KEPT(y))\n",
        r"build every model anew\. Received: two models that share weights",
    ),
    "a count kept between two builds": (
        "units = [1]\n" + HEAD + "    units.append(1)\n" + NET + "    y = layers.Dense(len(units))(y)\n" + END,
        r"the same model for the same seed\. Received: two that differ",
    ),
    "a layer that is not registered": (
        OWN_MODEL.replace('@keras.saving.register_keras_serializable("my_models")\n', "").replace("(3)", "(2)"),
        r"Write @keras\.saving\.register_keras_serializable\(\) above class Gate",
    ),
    "a layer that cannot be saved": (
        OWN_MODEL.replace('return {**super().get_config(), "ratio": self.ratio}', "raise NotImplementedError('later')"),
        r"its model must be saved\. Received: .*Give its layers a get_config",
    ),
    "an image that is too small": (
        OWN_MODEL.replace("depth: int = 2", "depth: int = 5"),
        r"cannot build a model: ValueError: .*shape",
    ),
}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a broken model does to the process ends with its test; its check has a process of its own."""
    import keras

    monkeypatch.setenv("EMOTUNE_TEST_OWN", "")
    epsilon = keras.config.epsilon()
    yield
    keras.config.set_epsilon(epsilon)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_is_told_in_one_line(what: str, tmp_path: Path) -> None:
    text, message = BROKEN[what]
    with pytest.raises(OwnCodeError, match=message) as raised:
        check(text, tmp_path)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("my_models.py")


@pytest.mark.slow
def test_a_sound_model_is_counted_and_opens_in_a_fresh_process(tmp_path: Path) -> None:
    assert check(OWN_MODEL.replace("Conv2D(int(8", "Conv2D(int(4"), tmp_path, depth=1)["parameters"] == 40 + 13 + 15


def built(text: str = OWN_MODEL, **parameters: Any) -> Any:
    config = TrialConfig.model_validate(own_parameters(text, **parameters))
    return build_own_model(height_px=12, width_px=12, channels=1, classes=3, config=config, mean=(0.5,), std=(0.2,))


@pytest.mark.parametrize(
    "ends",
    [
        "    return keras.Model([x], [layers.Dense(classes)(y)])\n",
        "    return keras.Model({'image': x}, {'logits': layers.Dense(classes)(y)})\n",
        "    return keras.Sequential([x, layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(classes)])\n",
    ],
)
def test_a_model_whose_input_or_output_is_no_tensor_is_exported_as_any_other(ends: str, tmp_path: Path) -> None:
    import keras

    text = HEAD + NET + ends
    check(text, tmp_path)
    model = built(text)
    assert isinstance(model.input, keras.KerasTensor) and isinstance(model.output, keras.KerasTensor)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 1)).astype(np.uint8)
    expected = keras.ops.softmax(model(pixels))
    for parts in ([Part(model)], [Part(with_bare_tensors(keras.models.clone_model(model))), Part(model, mirror=True)]):
        assert pixel_classifier(parts)(pixels).shape == (2, 3)
    assert np.allclose(pixel_classifier([Part(model)])(pixels), expected, atol=1e-6)


def test_a_checkpoint_of_a_model_that_answers_in_a_list_is_taken_up(tmp_path: Path) -> None:
    import keras

    x = keras.Input((4,))
    before = keras.Model([x], [keras.layers.Dense(3)(x)])
    before.save(tmp_path / "model.keras")
    model = with_bare_tensors(keras.saving.load_model(tmp_path / "model.keras"))
    assert isinstance(model.output, keras.KerasTensor)
    assert all(np.array_equal(*both) for both in zip(model.get_weights(), before.get_weights(), strict=True))


def test_a_layer_of_any_choice_must_be_registered() -> None:
    text = OWN_MODEL.replace('@keras.saving.register_keras_serializable("my_models")\n', "").replace(
        "Gate()(y)", 'Gate()(y) if act == "gelu" else y'
    )
    built(text)
    with pytest.raises(OwnCodeError, match=r"Write @keras\.saving\.register_keras_serializable\(\) above class Gate"):
        built(text, act="gelu")


def test_what_a_machine_lacks_is_not_the_configurations_fault(faces: Path) -> None:
    with pytest.raises(TrialFault, match=r"line \d: cannot be imported: ModuleNotFoundError") as raised:
        open_training(TrialTraining(), faces, own_parameters(OWN_MODEL.replace("import keras\n", "import torchh\n", 1)))
    assert raised.value.kind == "exception"  # it is tried again, perhaps on another one


def test_a_trial_goes_on_with_code_that_was_changed_where_the_weights_fit(faces: Path, tmp_path: Path) -> None:
    begun = open_training(TrialTraining(), faces, own_parameters(depth=1), max_images_per_fold=32, max_epochs=2)
    begun._train_epoch()
    begun.save_checkpoint(str(tmp_path))

    def resumed(text: str) -> TrialTraining:
        given = own_parameters(text, depth=1)
        training = open_training(TrialTraining(), faces, given, max_images_per_fold=32, max_epochs=2)
        training._unreadable = load_first_readable([str(tmp_path)], training.load_checkpoint)
        return training

    same = resumed(OWN_MODEL.replace("activation=act", 'activation="elu"'))
    assert same._epoch == 1 and not same._unreadable
    assert '"elu"' in same._model.to_json() and '"relu"' not in same._model.to_json()
    weights = zip(same._model.get_weights(), begun._model.get_weights(), strict=True)
    assert all(np.array_equal(*both) for both in weights)
    assert int(same._model.optimizer.iterations) == int(begun._model.optimizer.iterations) > 0
    wider = resumed(OWN_MODEL.replace("int(8 * width)", "int(16 * width)"))
    assert wider._epoch == 0 and "whose weights have other shapes" in wider._unreadable[0]


def test_logits_are_float32_in_any_precision() -> None:
    from trainables.models.precision import layer_precision

    with layer_precision("bfloat16"):
        model = built(depth=1)
    assert (model.output.dtype, model.layers[-2].compute_dtype) == ("float32", "bfloat16")


def test_standardized_images_have_mean_0_and_deviation_1() -> None:
    import keras

    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    scaled = pixels / 255
    image = ImageSpec(4, 4, 3, tuple(scaled.mean((0, 1, 2))), tuple(scaled.std((0, 1, 2))))
    x = image.input()
    found = keras.Model(x, image.standardized(x)).predict_on_batch(pixels)
    assert (x.dtype, found.dtype) == ("uint8", np.float32)
    assert np.allclose(found.mean((0, 1, 2)), 0, atol=1e-5) and np.allclose(found.std((0, 1, 2)), 1, atol=1e-5)


def test_parameters_that_give_no_model_end_the_trial_with_the_shape(faces: Path) -> None:
    with pytest.raises(TrialFault, match=r"no model can be built: .*shape=\(None, 1, 1, ") as raised:
        open_training(TrialTraining(), faces, own_parameters(depth=6))
    assert raised.value.kind == "infeasible" and "\n" not in raised.value.message


def test_parameters_that_give_no_pipeline_end_the_trial_too(faces: Path) -> None:
    text = "def training(size: int = 1):\n    raise ValueError('size is too large')\n"
    own = {"preprocessing": "my_aug.py:training", "code": {"my_aug.py": {"text": text}}}
    with pytest.raises(TrialFault, match=r"my_aug\.py:training \(line 2\) cannot be built.*size is too") as raised:
        open_training(TrialTraining(), faces, own)
    assert raised.value.kind == "infeasible"


def test_every_random_stream_of_a_layer_is_set_for_an_epoch() -> None:
    import keras

    class DropPath(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator()
            self.drop = keras.layers.Dropout(0.5)

        def call(self, x: Any, training: Any = None) -> Any:
            return self.drop(x, training=training) * keras.random.uniform((), seed=self.seed_generator)

    inputs = keras.Input((8,))
    model, ones = keras.Model(inputs, DropPath()(inputs)), np.ones((4, 8), np.float32)
    answers = []
    for seed in (1, 1, 2):
        reseed_dropout(model, (seed,))
        answers.append(np.asarray(model(ones, training=True)))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0] != 0, answers[2] != 0)
