"""A study as Python sees it: its trials, its best, its curves, why trials ended, its export. Runs no search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.home_folder import expand_home
from tune.api.data import data_place
from tune.api.process_state import quiet_tensorflow, unchanged_environment
from tune.errors import StudyError
from tune.study.bucket_study import update_export
from tune.study.requests import leave_request
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles, find_study
from tune.study.studies import list_studies as list_places
from tune.study.study_follower import StudyFollower
from tune.study.study_state import StudyState
from tune.study.trade_off import pareto_front
from tune.study.trial_record import ENDED, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from trainables.dataset.reader import Dataset
    from tune.session.replay import Replay


class Study:
    """A study in a folder or a bucket. What it tells is read from its journal each time, also while it runs.

    Attributes:
        files: its folder and study file.
    """

    def __init__(self, files: StudyFiles, ended_by: str | None = None) -> None:
        """Takes a study's files, and how its last session ended if that is known."""
        self.files = replace(files, directory=files.directory.absolute())  # a notebook may change its folder
        self._ended_by = ended_by
        self._follower = StudyFollower(self.files)

    @property
    def name(self) -> str:
        """Its name, from the study file."""
        return self.spec.name

    @property
    def location(self) -> str:
        """Its folder, or its address in a bucket."""
        return self.files.name

    @property
    def spec(self) -> StudySpec:
        """Its study file, overrides and defaults in place: `study.spec.asha.max_epochs`."""
        return self.files.spec

    @property
    def state(self) -> StudyState:
        """Everything its journal adds up to: trials, confirmations, what was spent, provenance.

        Raises:
            StudyError: the journal is damaged.
            PlaceError: its bucket cannot be reached.
        """
        self._follower.fetch()
        return self.files.state()

    @property
    def begun(self) -> bool:
        """Whether there is a journal yet."""
        return self.files.journal.exists()

    @property
    def running(self) -> bool:
        """Whether a process has it now."""
        return self.files.running

    @property
    def finished(self) -> bool:
        """Whether its search is over: no trial is left, or a budget is spent."""
        return self.state.finished

    @property
    def ended_by(self) -> str:
        """How its search ended: `finished`, `interrupted`, a budget's name (docs/long-runs.md), or "" before."""
        return self.state.ended_by if self._ended_by is None else self._ended_by

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's folder: `%tensorboard --logdir {study.tensorboard}`."""
        return self.files.tensorboard

    @property
    def exported(self) -> Path | None:
        """Folder of the export that its end left, None before; of a study in a bucket the copy on this machine."""
        files, export = self.files, self.state.export
        if export and files.bucket is not None and not files.running_here:
            update_export(files.bucket, files.directory)
        return files.export if export and files.export.exists() else None

    @property
    def trials(self) -> list[TrialRecord]:
        """The search's trials, by number: `number`, `values`, `state`, `reason`, `epochs`, `rungs`, `faults`."""
        trials = self.state.trials
        return [trials[number] for number in sorted(trials)]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial: after a confirmation its winner; None while none has a score."""
        return self.files.best_trial(self.state)

    @property
    def best_score(self) -> float | None:
        """The best trial's objective in its best epoch, None while there is none."""
        best = self.best
        return None if best is None else best.best_value(self.spec.objective, self.spec.mode)

    @property
    def front(self) -> list[TrialRecord]:
        """With two objectives the trials that none beats in both, the best by the first one first; else empty."""
        state = self.state
        return [state.trials[one.trial] for one in pareto_front(self.spec, state)]

    @property
    def sealed_test(self) -> dict[str, Any] | None:
        """What the sealed test said of the exported model (`accuracy`, `macro_f1`, `confusion`...), None before."""
        state = self.state
        run = self.files.best_run(state)
        checkpoint = None if run is None else self.files.journalled_checkpoint(run)
        return None if checkpoint is None else state.sealed_scores(state.exported_checkpoints(checkpoint))

    def trials_dataframe(self) -> pd.DataFrame:
        """Returns a row per trial: state, score, epochs, its parameters, and the metrics of its best epoch.

        The index is the trial's number. Parameters and scores that a trial does not have are missing values.
        """
        from tune.api.tables import trials_dataframe

        return trials_dataframe(self.spec, self.trials)

    def curves(self, metric: str | None = None) -> pd.DataFrame:
        """Returns a metric over the epochs: a row per epoch (from 1), a column per trial; `.plot()` draws it.

        Args:
            metric: one of those that an epoch reports, as `training_loss`; None for the objective.

        Raises:
            StudyError: no epoch has a number of that name.
        """
        from tune.api.tables import curves_dataframe

        return curves_dataframe(self.trials, metric or self.spec.objective)

    def why(self, trial: int | None = None) -> str:
        """Tells why a trial ended where it did; without a number, how well the rungs judged.

        Raises:
            StudyError: there is no such trial.
        """
        from tune.search.why import why_study, why_trial

        spec, state = self.spec, self.state
        return "\n".join(why_study(spec, state) if trial is None else why_trial(spec, state, trial))

    def export(self, to: str | PathLike[str], trial: int | None = None, formats: Sequence[str] = ()) -> str:
        """Exports the best checkpoint: Keras model, SavedModel, labels, metrics.

        Args:
            to: folder to write, or a bucket's address; an earlier export there gives way.
            trial: another trial or confirmation than the best, by its number.
            formats: keys of `tune.export.formats.FORMATS` (`onnx`, ...), beside the Keras model; none: the study's.

        Returns:
            The export, for `tune.load_export`.

        Raises:
            StudyError: there is no checkpoint of it, the study is being run, or its data set is another.
            ExportError: the destination is in the way, or the checkpoint is damaged.
        """
        from tune.session.best_model import export_to

        with unchanged_environment(), quiet_tensorflow():
            export_to(self.files, expand_home(to), trial, formats)
        return expand_home(to)

    def enqueue(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Has a configuration tried next, by the process that runs the study, or when the study goes on.

        Args:
            values: of parameters of the space; those that are left out have their defaults.

        Returns:
            The whole configuration.

        Raises:
            StudyError: a parameter is not in the space, or a value is none of it.
            PlaceError: the bucket cannot be reached.
        """
        try:
            complete = self.spec.complete(self.spec.coerce_values(values))
        except ValueError as error:
            raise StudyError(f"{error}. The space is in the study's file: {self.files.study_file}") from None
        self.spec.trial_config(complete)
        leave_request(self.files.place, "enqueue", values=complete)
        return complete

    def drop(self, trial: int) -> None:
        """Has a trial ended: at the end of the epoch that it trains, or when the study goes on.

        Raises:
            StudyError: there is no such trial, or it has ended.
            PlaceError: the bucket cannot be reached.
        """
        record = self.state.trials.get(trial)
        if record is None:
            raise StudyError(f"{self.name} has no trial {trial}. See its trials: emotune show {self.files.shell_name}")
        if record.state in ENDED:
            raise StudyError(f"a trial must not have ended to be dropped. Received: trial {trial}, {record.state}")
        leave_request(self.files.place, "drop", trial=trial)

    def replay(self, trial: int, epochs: int | None = None, *, restore: bool = False) -> Replay:
        """Trains a trial again from its seeds and compares every epoch with what it reported.

        Args:
            trial: its number.
            epochs: only the first so many.
            restore: put its lost checkpoint back, if every epoch is identical.

        Returns:
            `different`: epoch -> metric -> (then, now), empty when all are equal to the last digit.

        Raises:
            EmotuneError: there is no such trial, its data set is another, or, with `restore`, the study is being run.
        """
        from tune.nodes.import_ray import import_ray

        import_ray()
        from tune.session.replay import replay_trial

        self._follower.fetch()
        return replay_trial(self.files, trial, epochs, restore=restore)

    def __repr__(self) -> str:
        return f"<Study {self.name!r} in {self.location}: {self._status()}>"

    def __rich__(self) -> RenderableType:
        """Its trials, its best, what confirmation found, its export."""
        from tune.api.tables import rich_summary

        return rich_summary(self)

    def _repr_html_(self) -> str:
        from tune.session.notebook_cell import as_html

        return as_html(self)

    def _status(self) -> str:
        from tune.study.wording import trial_counts

        state = self.state
        return f"{self.files.status(state)}, trials: {trial_counts(state)}"


def load_study(
    name: str | PathLike[str],
    storage: str | PathLike[str] = "runs",
    data: str | PathLike[str] | Dataset | None = None,
) -> Study:
    """Loads a study.

    Args:
        name: its name in the storage, its folder, or its address in a bucket.
        storage: folder or bucket of all studies.
        data: where its data set lies now, if it was moved; used for what is done with this `Study`.

    Raises:
        StudyError: there is none, or its study file is damaged.
        PlaceError: the bucket cannot be reached.
    """
    files = find_study(expand_home(name), expand_home(storage))
    return Study(files if data is None else files.with_data(data_place(data)))


def as_study(study: Study | str | PathLike[str], storage: str | PathLike[str]) -> Study:
    """Returns a study that was loaded already as it is, and loads one that is named."""
    return study if isinstance(study, Study) else load_study(study, storage)


def list_studies(storage: str | PathLike[str] = "runs") -> list[str]:
    """Returns the folders or addresses of all studies in a storage, for `load_study`.

    Raises:
        StudyError: the storage is a file.
        PlaceError: the bucket cannot be reached.
    """
    return [place.name for place in list_places(expand_home(storage))]
