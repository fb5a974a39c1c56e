"""The models that come with emotune, by name: how each is built, and how many weights it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from trainables.config import TrialConfig
from trainables.models.alexnet import build_alexnet, parameters_of_alexnet
from trainables.models.resnet_small import build_resnet_small, parameters_of_resnet_small
from trainables.models.vgg_small import build_vgg_small, parameters_of_vgg_small

if TYPE_CHECKING:
    import keras


class BuiltinModel(NamedTuple):
    """What builds a model (arguments as `build_alexnet`); its weights for a configuration, channels and classes."""

    build: Callable[..., keras.Model]
    parameters: Callable[[TrialConfig, int, int], int]


MODELS: Mapping[str, BuiltinModel] = {
    "alexnet": BuiltinModel(build_alexnet, parameters_of_alexnet),
    "resnet_small": BuiltinModel(build_resnet_small, parameters_of_resnet_small),
    "vgg_small": BuiltinModel(build_vgg_small, parameters_of_vgg_small),
}
