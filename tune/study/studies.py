"""Studies on disk and in buckets: load, find, list, and where each of their files lies. Runs and prints nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.checkpoint_files import AVERAGE_FILE
from trainables.places import Place, is_bucket
from tune.errors import StudyError, nearest
from tune.study.bucket_mirror import Mirror
from tune.study.bucket_study import (
    EXPORT_FOLDER,
    STUDY_FILE,
    download_study,
    is_being_created,
    is_signed,
    working_folder,
)
from tune.study.budget import forbids_confirmation, repetitions_are_owed
from tune.study.journal import JOURNAL_FILE, Journal, is_locked, replay
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import CHECKPOINT_FILES, SEED_STRIDE, TrialRecord, is_final_fit


@dataclass(frozen=True)
class StudyFiles:
    """A study's folder and its resolved study file.

    Attributes:
        directory: its folder; for one in a bucket, this machine's working folder of it.
        bucket: where it lives, if that is a bucket.
        created_folders: the folders made for it, the innermost first; removed if it is refused before it begins.
    """

    directory: Path
    spec: StudySpec
    bucket: Place | None = None
    created_folders: tuple[Path, ...] = ()

    @property
    def place(self) -> Place:
        """What the journal's paths are relative to: the folder, or the bucket's prefix."""
        return self.bucket or Place(os.path.abspath(self.directory))

    @property
    def name(self) -> str:
        """What a person calls it: its folder, or its address in a bucket."""
        return self.bucket.name if self.bucket else str(self.directory)

    @property
    def shell_name(self) -> str:
        """Its name as a shell takes it, from the current folder: an address may hold `&`, a folder a space."""
        if self.bucket is None:
            with suppress(OSError, ValueError):  # there is no current folder, or it is not in it
                return shlex.quote(str(self.directory.relative_to(Path.cwd())))
        return shlex.quote(self.name)

    def with_data(self, data: str) -> StudyFiles:
        """Returns the study with its data set elsewhere than it says."""
        return replace(self, spec=self.spec.model_copy(update={"data": data}))

    @property
    def journal(self) -> Path:
        """The journal: every start, epoch, rung decision, checkpoint and end."""
        return self.directory / JOURNAL_FILE

    @property
    def optuna_file(self) -> Path:
        """Optuna's journal storage, for Optuna Dashboard."""
        return self.directory / "optuna.log"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's folder, one run per trial."""
        return self.directory / "tensorboard"

    @property
    def export(self) -> Path:
        """Where the best model is exported at the end."""
        return self.directory / EXPORT_FOLDER

    @property
    def ray_log(self) -> Path:
        """What Ray had to say."""
        return self.directory / "ray.log"

    @property
    def study_file(self) -> Path:
        """The resolved study file: the search space in place, overrides applied."""
        return self.directory / STUDY_FILE

    @property
    def running_here(self) -> bool:
        """Whether a process of this machine has the study now."""
        return self.journal.exists() and is_locked(self.journal)

    @property
    def running(self) -> bool:
        """Whether a process has the study now, with a bucket's study of any machine."""
        return self.running_here or (self.bucket is not None and is_signed(self.bucket))

    def state(self) -> StudyState:
        """Replays the journal.

        Raises:
            StudyError: it is damaged.
        """
        return replay(self.journal)[0] if self.journal.exists() else StudyState()

    def status(self, state: StudyState) -> str:
        """Returns `running`, also while the best are trained again; `unfinished`; or how its search ended."""
        if self.running:
            return "running"
        return (state.ended_by or "finished") if state.finished else "unfinished"

    def ranked(self, state: StudyState) -> list[TrialRecord]:
        """Returns the trials that have a score, best first."""
        return state.ranked(self.spec.objective, self.spec.mode)

    def ranking(self, state: StudyState) -> list[TrialRecord]:
        """Returns all that can be exported, best first, whether or not the checkpoints are still there.

        After a confirmation the winner's runs come first (`StudyState.winners_runs`), then the search's trials.
        """
        return [*state.winners_runs(self.spec.objective, self.spec.mode), *self.ranked(state)]

    def best_run(self, state: StudyState) -> TrialRecord | None:
        """Returns the run to export, None while there is none: by its score alone, wherever its checkpoint is.

        One that was interrupted before its best epoch was saved does not count: it trains that epoch again.
        """
        return next(
            (run for run in self.ranking(state) if run.state == "complete" or self.journalled_checkpoint(run)), None
        )

    def best_trial(self, state: StudyState) -> TrialRecord | None:
        """Returns the search's best trial, after a confirmation its winner; None while none has a score."""
        winner = (state.confirmed or {}).get("winner")
        if winner is not None:
            return state.trials[winner]
        run, ranked = self.best_run(state), self.ranked(state)
        return state.trials[run.number % SEED_STRIDE] if run else ranked[0] if ranked else None

    def journalled_checkpoint(self, run: TrialRecord) -> str | None:
        """Returns the folder of the checkpoint that a run is exported from, as the journal has it, or None."""
        if is_final_fit(run.number):
            return run.checkpoints[max(run.checkpoints)] if run.checkpoints else None
        epoch = run.best_epoch(self.spec.objective, self.spec.mode)
        return None if epoch is None else run.checkpoints.get(epoch)

    def checkpoint(self, run: TrialRecord) -> str | None:
        """Returns the folder of the checkpoint that a run is exported from, if it is whole in the study's place."""
        folder = self.journalled_checkpoint(run)
        whole = folder is not None and all(self.place.exists(f"{folder}/{name}") for name in self.checkpoint_files(run))
        return folder if whole else None

    def checkpoint_files(self, run: TrialRecord) -> tuple[str, ...]:
        """Returns the names of the files that a run's checkpoint needs, the one that is written last at the end."""
        averaged = self.spec.trial_config(run.values).weight_average > 0
        return (AVERAGE_FILE, *CHECKPOINT_FILES) if averaged else CHECKPOINT_FILES

    def is_checkpoint_missing(self, run: TrialRecord) -> bool:
        """Says whether the checkpoint that a run is exported from was written and is no longer there, or not whole."""
        return self.journalled_checkpoint(run) is not None and self.checkpoint(run) is None

    def owes_confirmation(self, state: StudyState) -> bool:
        """Says whether repetitions or final fits are still to be trained; not while a spent budget forbids them."""
        wanted, found = self.spec.confirm, state.judged
        if found is None or repetitions_are_owed(self.spec, state):
            return wanted.follows and not (state.confirmed and forbids_confirmation(self.spec, state))
        fits = state.final_fits_with(wanted.refit_epochs)
        return (found["winner"] is not None or "final_fits" in found) and len(fits) < wanted.refit

    def settled(self, state: StudyState) -> bool:
        """Says whether search and confirmation are over, so that the sealed test may be opened."""
        return state.finished and not self.owes_confirmation(state)


def load_study_folder(directory: Path) -> StudyFiles:
    """Loads a study from its folder.

    Raises:
        StudyError: the folder is missing or holds no study, or its study file is damaged.
    """
    path = directory / STUDY_FILE
    if not path.is_file():
        known = [entry.last_part for entry in list_studies(str(directory.parent))]
        hint = nearest(directory.name, known) if known else " List studies with: emotune list"
        raise StudyError(f"{directory} holds no study.{hint}")
    if not (directory / JOURNAL_FILE).exists():
        raise StudyError(
            f"{directory} holds a study file and no journal: it is an export, or a study that was never begun. "
            f"Begin a study with: emotune run {shlex.quote(str(path))}"
        )
    return StudyFiles(directory, read_spec(path))


def load_bucket_study(place: Place) -> StudyFiles:
    """Loads a study from a bucket, by way of its working folder on this machine.

    Raises:
        StudyError: there is none, or its study file is damaged.
        PlaceError: the bucket cannot be reached.
    """
    folder = working_folder(place)
    download_study(place, folder)
    if not (folder / STUDY_FILE).is_file():
        if is_being_created(place):
            raise StudyError(
                f"{place.name} was taken by a driver that has written nothing there yet. Try again in some seconds; if "
                "that driver is gone, begin it anew: emotune run STUDY.yaml"
            )
        raise StudyError(f"{place.name} holds no study. List studies with: emotune list --storage ADDRESS")
    return StudyFiles(folder, read_spec(folder / STUDY_FILE), place)


def load_study(place: Place) -> StudyFiles:
    """Loads a study from wherever it is."""
    return load_bucket_study(place) if place.remote else load_study_folder(Path(place.name))


def find_study(name: str, storage: str) -> StudyFiles:
    """Loads a study by its folder, its address in a bucket, its study file, or its name in the storage.

    A folder of that name that holds no study is not in the way of one in the storage.

    Raises:
        StudyError: there is none, or its study file is damaged.
        PlaceError: the bucket cannot be reached.
    """
    if is_bucket(name):
        return load_bucket_study(Place(name))
    path = Path(name)
    if path.name == STUDY_FILE and not path.is_dir():
        path = path.parent
    if path.suffix in (".yaml", ".yml") and not path.is_dir():
        raise StudyError(f"a study is named by its folder or name. Received: {name}. To start one: emotune run {name}")
    stored = Place(storage).child(name)
    is_folder = path.is_dir() and ((path / STUDY_FILE).is_file() or not stored.exists(STUDY_FILE))
    return load_study_folder(path) if is_folder else load_study(stored)


def list_studies(storage: str) -> list[Place]:
    """Returns the places of all studies in a storage, by name."""
    place = Place(storage)
    if not place.remote and Path(storage).exists() and not Path(storage).is_dir():
        raise StudyError(f"--storage must be the folder of all studies. Received: {storage}, a file. Name its folder")
    files = (STUDY_FILE, JOURNAL_FILE)  # an export has no journal
    return [place.child(name) for name in place.folders() if all(place.exists(f"{name}/{file}") for file in files)]


@contextmanager
def opened_journal(study: StudyFiles) -> Iterator[Journal]:
    """Takes a study for this process, and keeps its bucket in step with it.

    Raises:
        StudyError: another process has it, or its bucket could not be brought up to date at the end.
        PlaceError: its bucket cannot be reached.
    """
    if study.bucket is None:
        with closing(Journal(study.journal)) as journal:
            yield journal
        return
    mirror = Mirror(study.directory, study.bucket)
    mirror.open()
    try:
        with closing(Journal(study.journal, study.bucket)) as journal:
            journal.listeners.append(mirror.on_event)
            yield journal
    finally:
        mirror.close()
