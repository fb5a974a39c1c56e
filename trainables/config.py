"""One trial's configuration: every parameter it understands, its range and default. Knows nothing of Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from trainables.application_names import APPLICATIONS, PREFIX, find_application
from trainables.errors import nearest
from trainables.own_code import SourceFile, find_pipeline, find_reference

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "nadam", "lion"]
ScheduleName = Literal["constant", "cosine", "plateau"]
ModelName = Literal["alexnet", "resnet_small", "vgg_small"]
Sampling = Literal["natural", "balanced"]
MethodName = Literal["none", "shifts", "crop", "noise", "equalize", "augment", "face"]


def _check_model(name: str) -> str:
    if find_application(name):
        return name
    if name.startswith(PREFIX):
        hint = nearest(name.removeprefix(PREFIX), APPLICATIONS)
        raise ValueError(f"must be one of Keras' applications after {PREFIX}{hint}")
    return _name_or_function(name, get_args(ModelName), "my_models.py:build")


def _check_preprocessing(name: str) -> str:
    names, example = get_args(MethodName), "mine.yaml or my_aug.py:training"
    return _name_or_own(name, names, find_pipeline, f"a pipeline of your own, as in {example}")


def _check_optimizer(name: str) -> str:
    return _name_or_function(name, get_args(OptimizerName), "my_training.py:make_optimizer")


def _check_schedule(name: str) -> str:
    return _name_or_function(name, get_args(ScheduleName), "my_training.py:schedule")


def _name_or_function(name: str, names: tuple[str, ...], example: str) -> str:
    return _name_or_own(name, names, find_reference, f"a function of your own, as in {example}")


def _name_or_own(name: str, names: tuple[str, ...], find: Callable[[str], object], own: str) -> str:
    if name in names or find(name):
        return name
    raise ValueError(f"must be a name, or {own}.{nearest(name, names)}")


OWN_KINDS = ("model", "preprocessing", "optimizer", "schedule")
"""The parameters that may name a file of the user's own."""

OWN_PREFIXES = tuple(f"{kind}." for kind in OWN_KINDS)
"""With which studies name the parameters of what is the user's own."""

_OwnValues = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]


class TrialConfig(BaseModel, frozen=True, extra="forbid"):
    """Parameters of one trial; the search space may vary any of them, the study file may fix any of them.

    Strengths of preprocessing methods, and parameters of optimizers and models that are not in use are ignored.
    """

    # what every built-in space searches
    learning_rate: float = Field(1e-3, gt=0, le=10)
    batch_size: int = Field(32, ge=1, le=4096)
    dropout: float = Field(0.5, ge=0, lt=1)
    split_ratio: float = Field(0.8, gt=0, lt=1, description="share of the pool that trains; the rest validates")
    optimizer: Annotated[str, AfterValidator(_check_optimizer)] = "adam"
    preprocessing: Annotated[str, AfterValidator(_check_preprocessing)] = "none"

    # strengths of preprocessing methods
    shift_limit: float = Field(0.1, ge=0, le=0.5, description="shifts: largest shift, share of the side")
    crop_keep: float = Field(0.9, ge=0.5, le=1, description="crop: side of the crop, share of the image's side")
    noise_std: float = Field(0.05, ge=0, le=0.5, description="noise: standard deviation, share of 255")
    clip_limit: float = Field(2.0, ge=1, le=10, description="equalize: CLAHE contrast limit")
    augment_strength: float = Field(0.5, ge=0, le=1, description="augment: 0 leaves images alone, 1 is strongest")
    face_margin: float = Field(0.2, ge=0, le=1, description="face: margin around the box, share of its side")

    # optimizers' own
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd, rmsprop")
    nesterov: bool = Field(False, description="sgd")
    beta_1: float = Field(0.9, ge=0, lt=1, description="adam, adamw, nadam, lion")
    beta_2: float = Field(0.999, ge=0, lt=1, description="adam, adamw, nadam, lion")
    rho: float = Field(0.9, ge=0, lt=1, description="rmsprop")
    weight_decay: float = Field(4e-3, ge=0, le=1, description="adamw, lion: decoupled decay")

    # learning-rate schedule and loss
    schedule: Annotated[str, AfterValidator(_check_schedule)] = "constant"
    plateau_factor: float = Field(0.5, gt=0, lt=1, description="plateau: factor when inner validation stalls")
    plateau_patience: int = Field(2, ge=1, le=1000, description="plateau: epochs without improvement")
    warmup_epochs: float = Field(0.0, ge=0, le=1000, description="epochs in which the rate rises from 0, step by step")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, le=10, description="0 is off; images and labels are mixed by draws of Beta(a, a)")
    class_weights: Literal["none", "sqrt", "balanced"] = Field(
        "none", description="rare classes weigh more in the loss"
    )
    sampling: Sampling = Field("natural", description="balanced: an epoch draws as many images of each class")
    early_stop_patience: int = Field(0, ge=0, le=1000, description="epochs without a new best; 0 never stops by itself")

    # what is scored and exported
    weight_average: float = Field(0.0, ge=0, le=0.9999, description="momentum of the weights' average; 0 is off")
    mirror: bool = Field(False, description="the mean over image and mirror, where training mirrors images too")

    # model
    model: Annotated[str, AfterValidator(_check_model)] = "alexnet"
    weights: Literal["none", "imagenet"] = Field("none", description="applications: what training begins with")
    stem: Literal["published", "fine"] = Field(
        "published", description="alexnet below 128 px: 7x7 stride 2, or 3x3 stride 1"
    )
    normalization: Literal["unit", "standardize", "per_image"] = "unit"
    image_size_px: int = Field(227, ge=32, le=512, description="side the graph resizes to")
    width: float = Field(1.0, gt=0, le=4, description="factor on every layer's channels and units")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="of the layers' arithmetic; auto is what the study has found faster"
    )
    batch_norm: bool = Field(False, description="alexnet: batch normalisation, not local response normalisation")

    # what is the user's own
    model_parameters: _OwnValues = Field({}, description="`model.depth` is `depth` here")
    preprocessing_parameters: _OwnValues = Field({}, description="`preprocessing.strength` is `strength` here")
    optimizer_parameters: _OwnValues = Field({}, description="`optimizer.beta` is `beta` here")
    schedule_parameters: _OwnValues = Field({}, description="`schedule.power` is `power` here")
    code: dict[str, SourceFile] = Field({}, description="the files that parameters name")

    @model_validator(mode="before")
    @classmethod
    def _gather_own(cls, raw: Any) -> Any:
        """Gathers `model.depth` and its like in `model_parameters`, and those of the other kinds likewise."""
        if not isinstance(raw, Mapping):
            return raw
        gathered = {name: value for name, value in raw.items() if not str(name).startswith(OWN_PREFIXES)}
        for name in raw.keys() - gathered.keys():
            owner, _, own = name.partition(".")
            field = f"{owner}_parameters"
            gathered[field] = {**gathered.get(field, {}), own: raw[name]}
        return gathered

    def resolved(self, context: TrialContext) -> TrialConfig:
        """Returns the configuration with what `auto` stands for in a study."""
        return self.model_copy(update={"precision": context.precision}) if self.precision == "auto" else self


ParameterKind = Literal["integer", "number", "boolean", "text"]


def parameter_kind(name: str) -> ParameterKind:
    """Returns what a parameter of `TrialConfig` holds."""
    kinds: dict[object, ParameterKind] = {int: "integer", float: "number", bool: "boolean"}
    return kinds.get(TrialConfig.model_fields[name].annotation, "text")


_NOT_BY_NAME = (*(f"{kind}_parameters" for kind in OWN_KINDS), "code")

TRIAL_PARAMETERS = tuple(name for name in TrialConfig.model_fields if name not in _NOT_BY_NAME)
"""The names that a study may fix or vary, beside those of the user's own code."""


def validation_metric_of(objective: str) -> str:
    """Returns the inner validation metric that chooses a trial's best epoch: `validation_accuracy` for
    `selection_accuracy`. The selection fold scores that epoch and has no part in choosing it."""
    return "validation_" + objective.removeprefix("selection_")


class TrialContext(BaseModel, frozen=True, extra="forbid"):
    """What all trials of a study share; the runner makes it, the trial reads it.

    Attributes:
        dataset: data set folder, or its address in a bucket.
        fingerprint: of the data set; every process checks that it has opened that one.
        objective: name of the reported metric that scores a trial; `mode` says which way.
        objective_weights: of the metrics whose weighted mean it is, shares of a sum of 1; empty where it is one metric.
        rungs: epochs after which a trial may be stopped; a checkpoint is written at each.
        max_images_per_fold: upper limit on the images of each fold, None for all.
        cpus: processor cores the trial may use.
        gpus: GPUs, or the share of one, the trial may use; 0 hides them.
        process_memory_mib: a process that has grown past it is replaced before its next trial.
        save_every_epoch: write a checkpoint after every epoch, for machines that may be taken away.
        precision: what `precision: auto` stands for.
        checkpoint_every_s: write one after the first epoch that ends so many seconds after the last one; None does not.
        max_parameters: a model with more is not trained; None has no limit.
        onednn: TensorFlow's kernels that the study was begun with, as `trainables.keras_setup.onednn_setting` returns.
    """

    dataset: str
    fingerprint: str = ""
    seed: int
    objective: str
    objective_weights: dict[str, float] = {}
    mode: Literal["min", "max"]
    max_epochs: int
    rungs: tuple[int, ...]
    selection_share: float
    max_images_per_fold: int | None = None
    feed_workers: int = 0
    cpus: float = 1
    gpus: float = 0
    process_memory_mib: int = 8192
    save_every_epoch: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every_s: float | None = None
    max_parameters: int | None = None
    onednn: str | None = None
