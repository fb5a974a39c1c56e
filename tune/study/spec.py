"""The study file's model: frozen, closed and cross-checked when it is loaded. Reads no data and starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
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
from trainables.home_folder import expand_home
from trainables.own_code import SourceFile
from trainables.places import Place
from tune.errors import StudyError, StudyFileError
from tune.study.feasible import broken_constraint, check_constraints
from tune.study.objectives import (
    Objective,
    ObjectiveWeights,
    SecondObjective,
    check_objectives,
    mode_of,
    split_objective,
)
from tune.study.own_files import check_own, code_of, with_code
from tune.study.spec_errors import explain
from tune.study.spec_sections import (
    AshaSettings,
    Budget,
    Confirm,
    Export,
    Faults,
    Folds,
    Notify,
    Resources,
    Section,
    seconds,
)
from tune.study.trial_parameters import (
    LocatedError,
    check_parameters,
    coerce_fixed,
    coerce_points,
    coerce_space,
    coerce_value,
    complete_fixed,
)
from tune.study.yaml_source import GIVEN, Overrides, read_study_file

_MOST_COUNTED = 10_000
"""Configurations of a space that are counted; more are more than anybody tries."""

SamplerName = Literal["tpe", "random"]


class StudySpec(Section, frozen=True):
    """One study: what varies, on which data, for how long, with what."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    data: str = Field(min_length=1, description="data set folder, or `synthetic` for the drawn faces")
    space: SearchSpace
    fixed: dict[str, Value] = Field(default_factory=dict, description="trial parameters that do not vary")
    constraints: list[str] = Field([], description="conditions on several parameters that every trial meets")
    seed: int = Field(0, ge=0, lt=2**31)
    objective: Objective = "selection_accuracy"
    objective_weights: ObjectiveWeights = Field({}, description="of the metrics that a weighted objective means")
    second_objective: SecondObjective | None = Field(None, description="what a good trial is beside its score")
    max_parameters: int | None = Field(None, ge=1, description="of a trial's model; one with more is not trained")
    trials: int = Field(20, ge=1, le=1_000_000)
    time: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None, gt=0, allow_inf_nan=False, description="wall time of the search"
    )
    sampler: SamplerName = Field("tpe", description="tpe learns from the trials so far; random does not")
    startup_trials: int = Field(8, ge=0, description="trials before TPE's model: the first, those given, random ones")
    near_points: float = Field(0.0, ge=0, le=1, description="share of random trials near points_to_evaluate")
    points_to_evaluate: list[dict[str, Value]] = Field(
        [], description="configurations that are tried first, after the default one; what one leaves out is the default"
    )
    transfer_from: str | None = Field(None, min_length=1, description="an earlier study, whose best are tried first")
    asha: AshaSettings = AshaSettings()
    folds: Folds = Folds()
    budget: Budget = Budget()
    confirm: Confirm = Confirm()
    export: Export = Export()
    faults: Faults = Faults()
    notify: Notify = Notify()
    resources: Resources = Resources()
    storage: str = Field("runs", min_length=1, description="folder of all studies, or s3://BUCKET/..., gs://BUCKET/...")
    optuna_storage: str | None = Field(
        None, description="postgresql://USER@HOST/DATABASE that keeps Optuna's study, in place of a file"
    )
    checkpoint_every: Annotated[float, BeforeValidator(seconds)] = Field(
        300, gt=0, allow_inf_nan=False, description="a checkpoint too when the last one is so old at an epoch's end"
    )
    preemption: Literal["none", "spot"] = Field("none", description="spot: a checkpoint after every epoch")
    code: dict[str, SourceFile] = Field({}, description="the user's own files that its parameters name")

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the objective is to be made small or large."""
        return mode_of(self.objective)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics that the sampler is told: the objective, and the second one."""
        return (self.objective, self.second_objective) if self.second_objective else (self.objective,)

    @property
    def limits(self) -> dict[str, float | None]:
        """What may be used at most, by the names of `tune/study/budget.py`; None has no limit."""
        budget = self.budget
        return {"time": self.time, "gpu_hours": budget.gpu_hours, "epochs": budget.epochs, "cost": budget.cost}

    @property
    def most_trials(self) -> int:
        """How many trials the search can have: `trials`, or all configurations of a small space that has no more."""
        every = self.every_configuration()
        return self.trials if every is None else min(self.trials, len(every))

    def every_configuration(self) -> list[dict[str, Value]] | None:
        """Returns every configuration that the constraints allow; None where the space has too many to count."""
        every = self.space.configurations(_MOST_COUNTED)
        return None if every is None else [values for values in every if not self.broken_constraint(values)]

    @property
    def may_choose_precision(self) -> bool:
        """Whether a trial may have `precision: auto`."""
        return "auto" in self.possible_values("precision")

    def possible_values(self, name: str) -> list[Any]:
        """Returns the values that a parameter of emotune's can take: choices, a range's two ends, or its one value."""
        varied = self.space.parameters.get(name)
        fixed = [self.fixed[name]] if name in self.fixed else []  # with a range too: where that does not count
        if varied is None:
            return fixed or [TrialConfig.model_fields[name].default]
        return [*(varied.choices if isinstance(varied, CategoricalParameter) else varied.bounds()), *fixed]

    def trial_config(self, values: Mapping[str, Value]) -> TrialConfig:
        """Returns the complete configuration of a trial: defaults, then `fixed`, then the proposed values.

        Raises:
            StudyError: a trial does not take the values.
        """
        try:
            chosen = {**self.fixed, **values}
            return TrialConfig.model_validate({**chosen, "code": code_of(chosen, self.code)})
        except ValidationError as error:
            first = error.errors()[0]
            raise StudyError(
                f"no trial takes {first['loc'][0]}={first['input']!r}: {first['msg']}. Change it in the study's space"
            ) from None

    def complete(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Returns a configuration of the space with these values and the defaults of all others.

        Raises:
            ValueError: a value is none of the space's, or a constraint is broken.
        """
        values = self.space.complete(given)
        broken = self.broken_constraint(values)
        if broken:
            raise ValueError(f"the constraint {broken!r} must hold. Received: {values}")
        return values

    def broken_constraint(self, values: Mapping[str, Value]) -> str:
        """Returns the first constraint that a trial's values break, empty if none."""
        return broken_constraint(self.constraints, self.space, self.fixed, values)

    def coerce_values(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Returns a trial's values as the space holds them: earlier versions journalled text where it said text."""
        return {name: coerce_value(name, value) for name, value in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, raw: Any) -> Any:
        """Takes `asha:` with nothing below it, all of it commented out, for what it would be without the key."""
        if not isinstance(raw, Mapping):
            return raw
        if raw.get("fixed") is None:
            raw = {**raw, "fixed": {}}  # its validator, which completes it, does not see a default
        sections = {name for name, field in cls.model_fields.items() if isinstance(field.default, Section)}
        return {
            name: value for name, value in split_objective(raw).items() if value is not None or name not in sections
        }

    @field_validator("data", "storage", "transfer_from", mode="after")
    @classmethod
    def _expand_home(cls, name: str | None) -> str | None:
        return name and expand_home(name)

    @field_validator("space", mode="before")
    @classmethod
    def _coerce_space(cls, space: Any) -> Any:
        return coerce_space(space)

    @field_validator("points_to_evaluate", mode="before")
    @classmethod
    def _coerce_points(cls, points: Any) -> Any:
        return coerce_points(points)

    @field_validator("fixed", mode="before")
    @classmethod
    def _coerce_fixed(cls, fixed: Any, info: ValidationInfo) -> Any:
        fixed = coerce_fixed(fixed)
        space = info.data.get("space")
        if info.context == WRITTEN or space is None or not isinstance(fixed, Mapping):
            return fixed
        return complete_fixed(fixed, space.parameters)

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
            if parts.password or {"password", "passfile"} & parse_qs(parts.query).keys():
                raise ValueError(
                    f"optuna_storage must hold no password. Received: {parts.hostname}{parts.path} with one. "
                    "Give it in PGPASSWORD or ~/.pgpass"
                )
        return self

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_objectives(self.objective, self.second_objective, self.objective_weights, self.budget.target)
        if self.near_points and self.sampler == "tpe" and not self.startup_trials:
            raise ValueError(
                "near_points needs random trials. Received: startup_trials=0. Raise it or leave near_points out"
            )
        check_parameters(self.space, self.fixed, written=info.context == WRITTEN)
        if info.context != WRITTEN:
            check_own(self.space, self.fixed, self.code)
            check_constraints(self.constraints, self.space, self.fixed)
            self._check_points()
        self._check_workers()
        return self

    def _check_points(self) -> None:
        for place, given in enumerate(self.points_to_evaluate):
            try:
                self.trial_config(self.complete(given))
            except (ValueError, StudyError) as error:
                raise LocatedError(
                    ("points_to_evaluate", place), f"points_to_evaluate, number {place + 1}: {error}"
                ) from None

    def _check_workers(self) -> None:
        workers, gpus = self.confirm.workers, self.resources.gpus_per_trial
        if workers == 1:
            return
        if gpus != int(gpus):
            raise ValueError(
                f"confirm.workers above 1 needs whole GPUs or none, two cannot share one. Received: {workers}, "
                f"with resources.gpus_per_trial={gpus:g}. Set it to 1, or confirm.workers to 1"
            )
        smallest = min([*self.possible_values("batch_size"), *filter(None, [self.folds.max_images_per_fold])])
        if smallest < workers:
            raise ValueError(
                f"confirm.workers must be at most the images of the smallest batch. Received: {workers}, with a batch "
                f"of {smallest}. Lower confirm.workers or raise batch_size"
            )


def load_spec(
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
    path = source if isinstance(source, Path) else GIVEN
    raw = with_code(read_study_file(source, overrides, values), source.parent if isinstance(source, Path) else Path())
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise StudyFileError(explain(error, StudySpec, path, raw, overrides, values)) from None
