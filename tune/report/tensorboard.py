"""Writes a study's trials for TensorBoard: one run per trial, HParams with the best epoch's metrics. No TensorFlow.

Ray's own logger writes HParams when a trial has ended, with its last result; here a trial stopped at a rung, or killed,
is in the table with its best epoch from the first epoch on.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from search_spaces import CategoricalParameter, SearchSpace, Value
from tune.report.event_files import EventFile, has_events, image, read_events, remove_events, scalar
from tune.report.figures import confusion_figure
from tune.study.trial_record import run_name

Status = Literal["SUCCESS", "FAILURE"]

# TensorBoard 2.21 lists what "differs" first and ticks five columns of its table: these come before the rest.
_MAIN = frozenset({"learning_rate", "batch_size", "dropout", "split_ratio", "optimizer", "preprocessing"})
_GROUPS = ("selection", "validation", "training")
_PLACES = {
    "learning_rate": "training/learning_rate",
    "images_per_s": "throughput/images_per_s",
    "wait_s": "throughput/wait_s",
    "epoch_s": "throughput/epoch_s",
}


def tag_of(metric: str) -> str:
    """Returns the tag of a metric: `selection_macro_f1` becomes `selection/macro_f1`, an unknown one `trial/...`."""
    if metric in _PLACES:
        return _PLACES[metric]
    group, _, rest = metric.partition("_")
    return f"{group}/{rest}" if group in _GROUPS and rest else f"trial/{metric}"


@dataclass
class _Trial:
    file: EventFile
    last_epoch: float = 0
    best_at: dict[int, dict[str, float]] = field(default_factory=dict)  # epoch -> tag -> value at the best epoch so far


class TrialLogs:
    """The TensorBoard folder of one study, with a subfolder `trial-0007` per trial.

    Args:
        directory: the folder; created when something is written.
        objective: the flat name of the metric that says which epoch is a trial's best.
        mode: `max` or `min`.
    """

    def __init__(
        self,
        directory: Path,
        objective: str = "selection_accuracy",
        mode: Literal["min", "max"] = "max",
        chooser: str | None = None,
    ) -> None:
        self._directory = directory
        self._chooser = chooser or objective
        self._sign = 1.0 if mode == "max" else -1.0
        self._metrics = list(dict.fromkeys(["selection_accuracy", "selection_macro_f1", objective, self._chooser]))
        self._open: dict[int, _Trial] = {}
        self._fixed: dict[str, Value] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def experiment(self, space: SearchSpace, fixed: Mapping[str, Value] | None = None) -> None:
        """Declares the columns of the HParams table, anew where the space has been widened since.

        Args:
            space: its parameters come first.
            fixed: further parameters to show, with the one value that every trial has.
        """
        self._fixed = dict(fixed or {})
        infos = [_domain(name, parameter) for name, parameter in space.parameters.items()]
        infos += [_choices(name, [value]) for name, value in self._fixed.items() if name not in space.parameters]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"best/{name}"), display_name=f"best_{name}")
            for name in [*self._metrics, "epoch"]
        ]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics, time_created_secs=time.time())
        if (earlier := experiment_in(self._directory)) is not None:
            experiment.time_created_secs = earlier.time_created_secs
            if experiment == earlier:
                return
            remove_events(self._directory)  # TensorBoard 2.21 shows the first that it reads
        write_experiment(self._directory, experiment)

    def start(self, trial: int, parameters: Mapping[str, Value]) -> None:
        """Opens a trial's folder; one that an earlier run has begun is continued under its first session.

        Args:
            trial: its number in the study.
            parameters: what the HParams table shows of it, by name.
        """
        folder = self._directory / run_name(trial)
        self._close(trial)
        begun = has_events(folder)
        earlier = _best_at(folder) if begun else {}
        state = self._open[trial] = _Trial(EventFile(folder), math.inf if begun else 0, earlier)
        if not begun:
            info = SessionStartInfo(start_time_secs=time.time())  # without a group: the row is called as the run is
            for name, value in {**self._fixed, **parameters}.items():
                _set_value(info.hparams[name], value)
            state.file.write([_hparams(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))])

    def epoch(
        self,
        trial: int,
        epoch: int,
        metrics: Mapping[str, float],
        confusion: npt.ArrayLike | None = None,
        classes: Sequence[str] = (),
        *,
        counts: bool | None = None,
    ) -> None:
        """Writes one epoch: a scalar per metric, each class's recall, the best epoch so far; its matrix if it is new.

        Args:
            trial: a trial that was started.
            epoch: 1 for the first. One that was written before replaces what was said of it and of later ones, as
                when a trial goes on from its checkpoint.
            metrics: flat names such as `selection_accuracy`; values that are no numbers are left out.
            confusion: counts on the selection fold, (n, n), row: true class, column: predicted.
            classes: n names; needed with `confusion`.
            counts: whether it is the epoch that counts so far; None: whether its chooser is better than any before.
        """
        state = self._open[trial]
        if epoch <= state.last_epoch:
            state.file.restart(epoch)
            state.best_at = {e: best for e, best in state.best_at.items() if e < epoch}
        state.last_epoch = epoch
        numbers = {name: float(value) for name, value in metrics.items() if _is_number(value)}
        best = state.best_at[max(state.best_at)] if state.best_at else {}
        improved = self._improves(numbers, best) if counts is None else counts
        if improved:
            best = {f"best/{name}": numbers[name] for name in self._metrics if name in numbers} | {"best/epoch": epoch}
        state.best_at[epoch] = best

        values = [scalar(tag_of(name), value) for name, value in numbers.items() if name != "epoch"]
        values += [scalar(tag, value) for tag, value in best.items()]
        if confusion is not None:
            matrix = np.asarray(confusion)
            for name, row, hits in zip(classes, matrix, np.diag(matrix), strict=True):
                if row.sum():
                    values.append(scalar(f"selection_recall/{name}", float(hits / row.sum())))
            if improved:
                values.append(_confusion_image(matrix, classes))
        state.file.write(values, epoch)

    def end(self, trial: int, status: Status) -> None:
        """Writes how a trial ended and closes its file; a trial stopped at a rung is a SUCCESS."""
        if trial in self._open:
            info = SessionEndInfo(status=api_pb2.Status.Value(f"STATUS_{status}"), end_time_secs=time.time())
            data = HParamsPluginData(session_end_info=info)
            self._open[trial].file.write([_hparams(metadata.SESSION_END_INFO_TAG, data)])
            self._close(trial)

    def close(self) -> None:
        """Closes every file; trials that have not ended can be started again."""
        for trial in list(self._open):
            self._close(trial)

    def _close(self, trial: int) -> None:
        if trial in self._open:
            self._open.pop(trial).file.close()

    def _improves(self, numbers: Mapping[str, float], best: Mapping[str, float]) -> bool:
        value = numbers.get(self._chooser, math.nan)
        known = best.get(f"best/{self._chooser}")
        # As float32, which is what event files hold: a value read back must not beat or lose to itself.
        if math.isnan(value) or known is None:
            return not math.isnan(value)
        return bool(np.float32(self._sign * value) > np.float32(self._sign * known))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def experiment_in(folder: Path) -> Any:
    """Returns the experiment that a folder declares, TensorBoard's `api_pb2.Experiment`; None where there is none."""
    for event in read_events(folder):
        for value in event.summary.value:
            if value.tag == metadata.EXPERIMENT_TAG:
                return metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content)
    return None


def write_experiment(folder: Path, experiment: Any) -> None:
    """Declares an experiment, the columns of the HParams table, in an event file of its own."""
    file = EventFile(folder)
    file.write([_hparams(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))])
    file.close()


def _best_at(folder: Path) -> dict[int, dict[str, float]]:
    best_at: dict[int, dict[str, float]] = {}
    for event in read_events(folder):
        if event.HasField("session_log"):
            best_at = {epoch: best for epoch, best in best_at.items() if epoch < event.step}
        best = {value.tag: value.simple_value for value in event.summary.value if value.tag.startswith("best/")}
        if best:
            best_at[event.step] = best
    return best_at


def _confusion_image(counts: npt.NDArray[Any], classes: Sequence[str]) -> Any:
    figure = confusion_figure(counts, classes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, height = figure.get_size_inches() * figure.dpi
    return image("selection/confusion", buffer.getvalue(), int(height), int(width))


def _hparams(tag: str, data: Any) -> Any:
    return Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)


def _domain(name: str, parameter: Any) -> Any:
    if isinstance(parameter, CategoricalParameter):
        info = _choices(name, parameter.choices)
    else:
        low, high = parameter.bounds()
        interval = api_pb2.Interval(min_value=low, max_value=high)
        info = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64, domain_interval=interval)
    info.differs = name in _MAIN
    return info


def _choices(name: str, choices: Sequence[Value]) -> Any:
    kinds = {type(choice) for choice in choices}
    if kinds == {bool}:
        kind = api_pb2.DATA_TYPE_BOOL
    elif kinds <= {int, float}:
        kind = api_pb2.DATA_TYPE_FLOAT64
    else:
        kind = api_pb2.DATA_TYPE_STRING
    info = api_pb2.HParamInfo(name=name, type=kind)
    info.domain_discrete.extend(choices)
    return info


def _set_value(target: Any, value: Value) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    else:
        target.string_value = value
