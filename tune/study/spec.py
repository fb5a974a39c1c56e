"""The study file's model: frozen, closed and cross-checked when it is loaded. Reads no data and starts nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces import WRITTEN, CategoricalParameter, SearchSpace, Value
from trainables.config import TrialConfig
from trainables.errors import PlaceError
from trainables.places import Place
from tune.errors import StudyError, StudyFileError
from tune.study.spec_errors import explain
from tune.study.trial_parameters import as_wanted, check_parameters, fixed_as_wanted, space_as_wanted
from tune.study.yaml_source import GIVEN, Overrides, read_study_file
from tune.yaml_values import number

Objective = Literal["selection_accuracy", "selection_macro_f1", "selection_loss"]
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: object) -> object:
    """Turns `90`, `90s`, `30m`, `2h`, `1h30m` or `1d` into seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
        if parts and "".join(n + u for n, u in parts) == text:
            return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
        try:
            found = number(text)
        except ValueError as error:
            raise ValueError(f"a time is a number with s, m, h or d, as in 90s, 30m or 1h30m; {error}") from None
        if found is None:
            raise ValueError("a time is a number with s, m, h or d, as in 90s, 30m or 1h30m")
        return found
    return value


class _Section(BaseModel, frozen=True, extra="forbid"):
    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        """Reads text as a number where one is wanted, by YAML's rules; pydantic would take `010`, `inf` and `true`."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must hold no NUL character")
        field = cls.model_fields[str(info.field_name)]
        wanted = {field.annotation, *get_args(field.annotation)}
        if wanted & {int, float}:
            if isinstance(value, bool):
                raise ValueError("must be a number")
            if isinstance(value, str) and BeforeValidator(seconds) not in field.metadata:
                found = number(value)
                if found is None:
                    raise ValueError("must be a number" if float in wanted else "must be a valid integer")
                return found
        elif bool in wanted and not isinstance(value, bool):
            raise ValueError(f"must be true or false. Received: {value!r}. Write one of them")
        return value


class Asha(_Section, frozen=True):
    """Asynchronous successive halving (Li et al., 2020): rungs at grace_epochs x reduction_factor^k."""

    max_epochs: int = Field(20, ge=1, le=100_000)
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: float = Field(3, gt=1, le=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.grace_epochs > self.max_epochs:
            raise ValueError(f"grace_epochs={self.grace_epochs} must be <= max_epochs={self.max_epochs}; lower it")
        if self.reduction_factor < 1.1:
            raise ValueError(f"reduction_factor must be at least 1.1. Received: {self.reduction_factor}. Raise it")
        return self

    @property
    def rungs(self) -> list[int]:
        """Epochs after which a trial may be stopped, ascending; the last epoch is no rung."""
        epochs: list[int] = []
        rung = float(self.grace_epochs)
        while round(rung) < self.max_epochs:
            if round(rung) not in epochs:
                epochs.append(round(rung))
            rung *= self.reduction_factor
        return epochs


class Folds(_Section, frozen=True):
    """How the training images are shared out."""

    selection_share: float = Field(
        0.15, gt=0, lt=0.9, description="share of the training images that scores every trial"
    )
    max_images_per_fold: int | None = Field(
        None, ge=1, description="use only this many images of each fold, to try things"
    )


class Resources(_Section, frozen=True):
    """What one trial takes, and how many run at once."""

    cpus_per_trial: float = Field(1, ge=0.1, le=1024)
    gpus_per_trial: float = Field(0, ge=0, le=64)
    check_gpus: bool = Field(
        True, description="false for clusters whose GPUs are only counted: do not ask the driver for them"
    )
    feed_workers: int = Field(0, ge=0, le=256, description="processes that augment ahead of the device, one CPU each")
    max_concurrent: int | None = Field(None, ge=1, le=10_000, description="default: as many as fit")
    process_memory_mib: int = Field(
        8192, ge=256, description="a trial process past it is replaced before its next trial"
    )
    reuse_processes: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise ValueError(f"gpus_per_trial above 1 must be whole. Received: {self.gpus_per_trial:g}")
        return self


class Budget(_Section, frozen=True):
    """What ends the search early, beside `trials` and `time`; the first that fires."""

    gpu_hours: float | None = Field(None, gt=0, allow_inf_nan=False, description="hours of GPUs held by trials")
    epochs: int | None = Field(None, ge=1, description="epochs of all trials together")
    cost: float | None = Field(None, gt=0, allow_inf_nan=False, description="needs node_hour_price")
    node_hour_price: float | None = Field(None, ge=0, allow_inf_nan=False, description="price of one machine's hour")
    target: float | None = Field(None, allow_inf_nan=False, description="objective that is good enough")
    stagnation: int | None = Field(None, ge=1, description="trials ended in a row without a better best")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cost is not None and self.node_hour_price is None:
            raise ValueError("cost needs node_hour_price, the price of one machine's hour. Add it to the budget")
        return self


class Faults(_Section, frozen=True):
    """How often a trial starts again after each kind of fault (`fault_kinds.py`), and what counts as hung."""

    process_died: int = Field(3, ge=0, le=1000)
    host_memory: int = Field(2, ge=0, le=1000)
    model_memory: int = Field(1, ge=0, le=1, description="again with each batch in pieces, their gradients summed up")
    exception: int = Field(1, ge=0, le=1000)
    hung: int = Field(1, ge=0, le=1000)
    storage: int = Field(3, ge=0, le=1000)
    silence_factor: float = Field(
        20, gt=1, allow_inf_nan=False, description="hung: no report for so many of its usual epochs..."
    )
    silence_min_s: Annotated[float, BeforeValidator(seconds)] = Field(
        300, gt=0, allow_inf_nan=False, description="...and for at least so long"
    )
    start_limit_s: Annotated[float, BeforeValidator(seconds)] = Field(
        180, ge=1, allow_inf_nan=False, description="end the study if no trial's process has started for so long"
    )
    in_a_row: int = Field(6, ge=1, description="failed trials in a row that end the study")


class Confirm(_Section, frozen=True):
    """Training the search's best again with fresh seeds, before the sealed test is opened."""

    top: int = Field(3, ge=0, le=100, description="configurations that are trained again; 0 leaves this out")
    seeds: int = Field(3, ge=2, le=100, description="fresh seeds for each of them and for the default configuration")
    refit: bool = Field(False, description="train the winner on all training images for its best number of epochs")
    workers: int = Field(1, ge=1, le=64, description="processes that train one of these models together")


class StudySpec(_Section, frozen=True):
    """One study: what varies, on which data, for how long, with what."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    data: str = Field(min_length=1, description="data set folder, or `synthetic` for the drawn faces")
    space: SearchSpace
    fixed: dict[str, Value] = Field(default_factory=dict, description="trial parameters that do not vary")
    seed: int = Field(0, ge=0, lt=2**31)
    objective: Objective = "selection_accuracy"
    trials: int = Field(20, ge=1, le=1_000_000)
    time: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None, gt=0, allow_inf_nan=False, description="wall time of the search"
    )
    startup_trials: int = Field(8, ge=0, description="random trials before TPE's model is used")
    asha: Asha = Asha()
    folds: Folds = Folds()
    budget: Budget = Budget()
    confirm: Confirm = Confirm()
    faults: Faults = Faults()
    resources: Resources = Resources()
    storage: str = Field("runs", min_length=1, description="folder of all studies, or s3://BUCKET/..., gs://BUCKET/...")
    optuna_storage: str | None = Field(
        None, description="postgresql://USER@HOST/DATABASE that keeps Optuna's study, in place of a file"
    )
    preemption: Literal["none", "spot"] = Field("none", description="spot: a checkpoint after every epoch")

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the objective is to be made small or large."""
        return "min" if self.objective == "selection_loss" else "max"

    def trial_config(self, values: Mapping[str, Value]) -> TrialConfig:
        """Returns the complete configuration of a trial: defaults, then `fixed`, then the proposed values.

        Raises:
            StudyError: a trial does not take the values.
        """
        try:
            return TrialConfig.model_validate({**self.fixed, **values})
        except ValidationError as error:
            first = error.errors()[0]
            raise StudyError(
                f"no trial takes {first['loc'][0]}={first['input']!r}: {first['msg']}. Change it in the study's space"
            ) from None

    def as_wanted(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Returns a trial's values as the space holds them: earlier versions journalled text where it said text."""
        return {name: as_wanted(name, value) for name, value in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, raw: Any) -> Any:
        """Takes `asha:` with nothing below it, all of it commented out, for what it would be without the key."""
        if not isinstance(raw, Mapping):
            return raw
        sections = {name for name, field in cls.model_fields.items() if isinstance(field.default, _Section)}
        return {name: value for name, value in raw.items() if value is not None or name not in sections}

    @field_validator("space", mode="before")
    @classmethod
    def _space_as_wanted(cls, space: Any) -> Any:
        return space_as_wanted(space)

    @field_validator("fixed", mode="before")
    @classmethod
    def _fixed_as_wanted(cls, fixed: Any) -> Any:
        return fixed_as_wanted(fixed)

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        for name in (self.storage, self.data):
            try:
                Place(name)
            except PlaceError as error:
                raise ValueError(str(error)) from None
        if self.optuna_storage is not None:
            parts = urlsplit(self.optuna_storage)
            if parts.scheme != "postgresql" or not parts.path.strip("/"):
                raise ValueError(
                    "optuna_storage must be postgresql://USER@HOST/DATABASE. "
                    f"Received: {parts.scheme or 'no scheme'}://{parts.hostname or ''}{parts.path}. Fix it"
                )
            if parts.password:
                raise ValueError(
                    f"optuna_storage must hold no password. Received: {parts.hostname}{parts.path} with one. "
                    "Give it in PGPASSWORD or ~/.pgpass"
                )
        return self

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        target = self.budget.target
        if target is not None and (target <= 0 or (self.mode == "max" and target > 1)):
            allowed = "above 0 and at most 1" if self.mode == "max" else "above 0"
            raise ValueError(f"budget.target of {self.objective} must be {allowed}. Received: {target:g}. Change it")
        check_parameters(self.space, self.fixed, written=info.context == WRITTEN)
        self._check_workers()
        return self

    def _check_workers(self) -> None:
        workers, gpus = self.confirm.workers, self.resources.gpus_per_trial
        if workers == 1:
            return
        if gpus != int(gpus):
            raise ValueError(
                f"confirm.workers above 1 needs whole GPUs or none, two cannot share one. Received: {workers}, "
                f"with resources.gpus_per_trial={gpus:g}. Set it to 1, or confirm.workers to 1"
            )
        parameter = self.space.parameters.get("batch_size")
        if parameter is None:
            smallest = self.fixed.get("batch_size", TrialConfig.model_fields["batch_size"].default)
        else:
            smallest = min(parameter.choices) if isinstance(parameter, CategoricalParameter) else parameter.low
        smallest = min(smallest, self.folds.max_images_per_fold or smallest)
        if smallest < workers:
            raise ValueError(
                f"confirm.workers must be at most the images of the smallest batch. Received: {workers}, with a batch "
                f"of {smallest}. Lower confirm.workers or raise batch_size"
            )


def load_study(
    source: Path | Mapping[str, Any], overrides: Overrides = (), values: Mapping[str, object] | None = None
) -> StudySpec:
    """Loads and checks a study file.

    Args:
        source: the YAML file, or what one holds.
        overrides: `dotted.path=value`, or a mapping of such paths, applied in order before the check.
        values: dotted paths that the command line's own options give, applied last; None leaves one alone.

    Raises:
        StudyFileError: one line with the first rule that is broken, the value, the line and the remedy.
    """
    raw = read_study_file(source, overrides, values)
    path = source if isinstance(source, Path) else GIVEN
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise StudyFileError(explain(error, StudySpec, path, raw, overrides, values)) from None
