"""The TensorBoard folders of several studies as one folder of links, whose HParams table has the columns of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from tune.report.event_files import remove_events
from tune.report.tensorboard import experiment_in, write_experiment


class TensorBoardUnion:
    """Shows each study's runs under the study's name, `first/trial-0007`.

    TensorBoard 2.21 takes its columns from one experiment alone, whichever it reads first. So what the studies declare
    is left out here, and one with the columns of all of them is declared in its place.

    Attributes:
        folders: each study's, in their order.
    """

    def __init__(self, folder: Path, studies: Mapping[str, Path]) -> None:
        """Takes an empty folder, and by name each study's TensorBoard folder, which need not be there yet."""
        self._folder = folder
        self.folders = [folder / name for name in studies]
        self._sources = [source.resolve() for source in studies.values()]
        self._declared: Any = None

    def refresh(self) -> None:
        """Takes in the runs that have begun since, and the columns where a study has others than before."""
        found = []
        for folder, source in zip(self.folders, self._sources, strict=True):
            folder.mkdir(exist_ok=True)
            for run in source.iterdir() if source.is_dir() else ():
                if run.is_dir():
                    with suppress(FileExistsError):
                        (folder / run.name).symlink_to(run, target_is_directory=True)
            experiment = experiment_in(source)
            if experiment is not None:
                found.append(experiment)
        united = unite(found)
        if found and united != self._declared:
            remove_events(self._folder)
            write_experiment(self._folder, united)
            self._declared = united


def unite(experiments: Sequence[Any]) -> Any:
    """Returns an experiment with every parameter and every metric of some; a parameter of several has all their values.

    Args:
        experiments: TensorBoard's `api_pb2.Experiment`s.
    """
    infos: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for experiment in experiments:
        for info in experiment.hparam_infos:
            infos[info.name] = _wider(infos[info.name], info) if info.name in infos else info
        metrics |= {metric.name.tag: metric for metric in experiment.metric_infos}
    began = min((experiment.time_created_secs for experiment in experiments), default=0.0)
    return api_pb2.Experiment(hparam_infos=infos.values(), metric_infos=metrics.values(), time_created_secs=began)


def _wider(one: Any, other: Any) -> Any:
    """Returns a parameter that may be what either may be; where ranges meet lists of names, it may be anything."""
    kind = one.type if one.type == other.type else api_pb2.DATA_TYPE_STRING
    both = api_pb2.HParamInfo(name=one.name, type=kind, differs=one.differs or other.differs)
    domains = {info.WhichOneof("domain") for info in (one, other)}
    if domains == {"domain_discrete"}:
        choices = [value for info in (one, other) for value in info.domain_discrete]
        both.domain_discrete.extend(choice for i, choice in enumerate(choices) if choice not in choices[:i])
    elif kind == api_pb2.DATA_TYPE_FLOAT64:
        ends = [end for info in (one, other) for end in _ends(info)]
        both.domain_interval.min_value, both.domain_interval.max_value = min(ends), max(ends)
    return both


def _ends(info: Any) -> list[float]:
    if info.WhichOneof("domain") == "domain_interval":
        return [info.domain_interval.min_value, info.domain_interval.max_value]
    return [float(value) for value in info.domain_discrete]
