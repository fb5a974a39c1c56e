"""The sections of a study file, from `asha:` to `confirm:`, with ranges and defaults. `spec.py` joins them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tune.yaml_values import parse_number

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
            found = parse_number(text)
        except ValueError as error:
            raise ValueError(f"a time is a number with s, m, h or d, as in 90s, 30m or 1h30m; {error}") from None
        if found is None:
            raise ValueError("a time is a number with s, m, h or d, as in 90s, 30m or 1h30m")
        return found
    return value


class Section(BaseModel, frozen=True, extra="forbid"):
    """A closed, frozen part of a study file, which reads text as numbers by YAML's rules."""

    @field_validator("*", mode="before")
    @classmethod
    def _coerce_field(cls, value: object, info: ValidationInfo) -> object:
        """Reads text as a number where one is wanted, by YAML's rules; pydantic would take `010`, `inf` and `true`."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must hold no NUL character")
        field = cls.model_fields[str(info.field_name)]
        wanted = {field.annotation, *get_args(field.annotation)}
        if any(value in get_args(one) for one in wanted if get_origin(one) is Literal):
            return value
        if wanted & {int, float}:
            if isinstance(value, bool):
                raise ValueError("must be a number")
            if isinstance(value, str) and BeforeValidator(seconds) not in field.metadata:
                found = parse_number(value)
                if found is None:
                    raise ValueError("must be a number" if float in wanted else "must be a valid integer")
                return found
        elif bool in wanted and not isinstance(value, bool):
            raise ValueError(f"must be true or false. Received: {value!r}. Write one of them")
        return value


class AshaSettings(Section, frozen=True):
    """Asynchronous successive halving (Li et al., 2020): rungs at grace_epochs x reduction_factor^k."""

    max_epochs: int = Field(20, ge=1, le=100_000)
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: float = Field(3, gt=1, le=100)
    stop: bool = Field(True, description="false: every trial trains to its end")

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
        if not self.stop:
            return []
        epochs: list[int] = []
        rung = float(self.grace_epochs)
        while round(rung) < self.max_epochs:
            if round(rung) not in epochs:
                epochs.append(round(rung))
            rung *= self.reduction_factor
        return epochs


class Folds(Section, frozen=True):
    """How the training images are shared out."""

    selection_share: float = Field(
        0.15, gt=0, lt=0.9, description="share of the training images that scores every trial"
    )
    max_images_per_fold: int | None = Field(
        None, ge=1, description="use only this many images of each fold, to try things"
    )


class Resources(Section, frozen=True):
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


class Budget(Section, frozen=True):
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


class Faults(Section, frozen=True):
    """How often a trial starts again after each kind of fault (`fault_kinds.py`), and what counts as hung."""

    process_died: int = Field(3, ge=0, le=1000)
    host_memory: int = Field(2, ge=0, le=1000)
    model_memory: int = Field(1, ge=0, le=1, description="again with micro-batches, their gradients summed up")
    exception: int = Field(1, ge=0, le=1000)
    hung: int = Field(1, ge=0, le=1000)
    storage: int = Field(3, ge=0, le=1000)
    silence_factor: float = Field(
        20, gt=1, allow_inf_nan=False, description="hung: no report for so many of its usual epochs..."
    )
    silence_min_s: Annotated[float, BeforeValidator(seconds)] = Field(
        300, gt=0, allow_inf_nan=False, description="...and for at least so long"
    )
    first_epoch_limit_s: Annotated[float, BeforeValidator(seconds)] = Field(
        86400, gt=0, allow_inf_nan=False, description="hung too: no report for so long while no epoch's time is known"
    )
    start_limit_s: Annotated[float, BeforeValidator(seconds)] = Field(
        180, ge=1, allow_inf_nan=False, description="end the study if no trial's process has started for so long"
    )
    in_a_row: int = Field(6, ge=1, description="failed trials in a row that end the study")


def is_http_address(text: str) -> bool:
    """Says whether a text is `http://HOST...` or `https://HOST...`."""
    try:
        parts = urlsplit(text)
    except ValueError:  # a bracket of an IPv6 address alone
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class Notify(Section, frozen=True):
    """Who is told of the study's end, of a budget that is spent, and of faults."""

    url: str | None = Field(None, description="http(s)://..., or $NAME: an environment variable that holds it")
    format: Literal["json", "slack"] = "json"

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None or re.fullmatch(r"\$[A-Za-z_]\w*", url):
            return url
        if not is_http_address(url):
            raise ValueError(
                f"url must be http://... or https://..., or $NAME of an environment variable that holds it. "
                f"Received: {url}. Fix it"
            )
        return url


class Confirm(Section, frozen=True):
    """Training the search's best again with fresh seeds, before the sealed test is opened."""

    top: int = Field(3, ge=0, le=100, description="configurations that are trained again; 0 leaves this out")
    seeds: int = Field(3, ge=2, le=100, description="fresh seeds for each of them and for the default configuration")
    refit: int = Field(
        0,
        ge=0,
        le=20,
        description="final fits: train the winner on all training images for its best number of epochs, with so many "
        "seeds; their mean is exported. true is 1",
    )
    refit_epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="epochs of a final fit, over which its schedule falls; null: the winner's best number of epochs",
    )
    workers: int = Field(1, ge=1, le=64, description="processes that train one of these models together")

    @field_validator("refit", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        return int(value) if isinstance(value, bool) else value  # a switch before it was a number

    @property
    def follows(self) -> bool:
        """Whether anything is trained between the search and the export."""
        return self.top > 0 or self.refit > 0

    @property
    def most_trainings(self) -> int:
        """Trainings that this takes at most; the default configuration may be among the best."""
        return ((self.top + 1) * self.seeds if self.top else 0) + self.refit


AUTO_MODELS = 5
"""Models of `ensemble: auto` at most; each further one gains less and costs as much (docs/design.md)."""


class Export(Section, frozen=True):
    """What is exported at a study's end."""

    ensemble: int | Literal["auto"] = Field(
        "auto", description="the mean of so many models at most, if the selection fold says that it gains"
    )
    formats: tuple[Literal["keras", "saved_model", "tf_serving", "onnx", "litert", "litert_int8"], ...] = Field(
        ("keras", "saved_model"), description="what the model is written as; keras is what emotune itself reads"
    )

    @property
    def most_models(self) -> int:
        """Models of the exported mean at most."""
        return AUTO_MODELS if self.ensemble == "auto" else self.ensemble

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ensemble != "auto" and not 1 <= self.ensemble <= 100:
            raise ValueError(
                f"ensemble must be auto or 1 to 100. Received: {self.ensemble}. Write 1 for a single model"
            )
        if "keras" not in self.formats or len(set(self.formats)) < len(self.formats):
            raise ValueError(
                f"formats must hold keras, which emotune itself reads, and each once. Received: "
                f"{', '.join(self.formats) or 'none'}. Write [keras, onnx]"
            )
        return self
