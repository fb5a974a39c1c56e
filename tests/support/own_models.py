"""A user's own model file, written from docs/own-models.md alone: two parameters, a layer of one's own."""

from __future__ import annotations

from typing import Any

OWN_MODEL = '''\
"""A small convolutional net with a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import keras
from keras import layers

if TYPE_CHECKING:
    from tune import ImageSpec


@keras.saving.register_keras_serializable("my_models")
class Gate(layers.Layer):
    """Weighs channels by what is in them, with dropout inside."""

    def __init__(self, ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, shape):
        self.drop = layers.Dropout(0.1)
        self.down = layers.Dense(max(1, shape[-1] // self.ratio), activation="relu")
        self.up = layers.Dense(shape[-1], activation="sigmoid")
        self.down.build((shape[0], shape[-1]))
        self.up.build((shape[0], max(1, shape[-1] // self.ratio)))
        super().build(shape)

    def call(self, x, training=None):
        mean = keras.ops.mean(x, axis=(1, 2))
        return x * self.up(self.drop(self.down(mean), training=training))[:, None, None, :]

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


def build(
    image: ImageSpec, classes: int, *, depth: int = 2, width: float = 1.0, act: Literal["relu", "gelu"] = "relu"
) -> keras.Model:
    x = image.input()
    y = image.standardized(x)
    for stage in range(depth):
        y = layers.Conv2D(int(8 * width) * 2**stage, 3, activation=act)(y)
        y = layers.MaxPooling2D(2)(Gate()(y))
    y = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(y))
    return keras.Model(x, layers.Dense(classes)(y))
'''


def own_parameters(text: str = OWN_MODEL, **parameters: Any) -> dict[str, Any]:
    """Returns the parameters of a trial with a model of that text."""
    return {
        "model": "my_models.py:build",
        "code": {"my_models.py": {"text": text}},
        **{f"model.{name}": value for name, value in parameters.items()},
    }
