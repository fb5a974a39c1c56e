"""Studies on disk: create, load, list, and where each of their files lies. Runs nothing and prints nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trainables.config import chooser_of
from tune.errors import StudyError, nearest
from tune.ledger import is_taken, replay
from tune.record import REFIT_SEED, SEED_STRIDE, StudyRecord, TrialRecord
from tune.spec import StudySpec
from tune.study_file import read_yaml, write_yaml

_CHANGEABLE = {"trials", "time", "budget", "confirm", "faults", "resources", "storage", "data", "preemption"}
"""Keys of a study file that may differ when a study goes on: none changes what a score means (data goes by content)."""


@dataclass(frozen=True)
class Study:
    """A study's folder and its resolved study file."""

    directory: Path
    spec: StudySpec

    @property
    def journal(self) -> Path:
        """The journal: every start, epoch, rung decision, checkpoint and end."""
        return self.directory / "journal.jsonl"

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
        return self.directory / "export"

    @property
    def ray_log(self) -> Path:
        """What Ray had to say."""
        return self.directory / "ray.log"

    @property
    def study_file(self) -> Path:
        """The resolved study file: the search space in place, overrides applied."""
        return self.directory / "study.yaml"

    @property
    def running(self) -> bool:
        """Whether a process has the study now."""
        return self.journal.exists() and is_taken(self.journal)

    def record(self) -> StudyRecord:
        """Replays the journal.

        Raises:
            StudyError: it is damaged.
        """
        return replay(self.journal)[0] if self.journal.exists() else StudyRecord()

    def ranked(self, record: StudyRecord) -> list[TrialRecord]:
        """Returns the trials that have a score, best first."""
        return record.ranked(self.spec.objective, self.spec.mode)

    def best(self, record: StudyRecord) -> tuple[TrialRecord, Path] | None:
        """Returns the run to export and its checkpoint, or None while there is no such pair.

        After a confirmation it is the winner's: its final fit, or the repetition that its inner validation found best.
        Before, the best trial of the search.
        """
        for run in [*self._winners_runs(record), *self.ranked(record)]:
            if run.number // SEED_STRIDE == REFIT_SEED:
                checkpoints = run.whole_checkpoints(self.directory)
                checkpoint = checkpoints[0] if checkpoints and run.state == "complete" else None
            else:
                checkpoint = run.checkpoint(self.directory, run.best_epoch(self.spec.objective, self.spec.mode))
            if checkpoint is not None:
                return run, checkpoint
        return None

    def _winners_runs(self, record: StudyRecord) -> list[TrialRecord]:
        winner = (record.confirmed or {}).get("winner")
        runs = [run for run in record.confirmations.values() if run.number % SEED_STRIDE == winner]
        sign, chooser = (1 if self.spec.mode == "max" else -1), chooser_of(self.spec.objective)

        def key(run: TrialRecord) -> tuple[bool, float]:
            epoch = run.best_epoch(self.spec.objective, self.spec.mode)
            value = float("-inf") if epoch is None else sign * float(run.epochs[epoch][chooser])
            return run.number // SEED_STRIDE == REFIT_SEED, value

        return sorted((run for run in runs if run.state == "complete"), key=key, reverse=True)

    def settled(self, record: StudyRecord) -> bool:
        """Says whether search and confirmation are over, so that the sealed test may be opened."""
        return record.finished and (not self.spec.confirm.top or record.confirmed is not None)


def open_or_create(spec: StudySpec, fingerprint: str) -> Study:
    """Returns the study that the file describes: a new one, or the one of that name that is already there.

    Args:
        spec: the study.
        fingerprint: its data set's.

    Raises:
        StudyError: a study of that name exists and differs in what its scores mean, or the folder is something else or
            cannot be written.
    """
    study = Study(Path(spec.storage) / spec.name, spec)
    check_folder(study, fingerprint)
    try:
        study.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_storage(study.directory, error) from None
    _write(study)
    return study


def check_folder(study: Study, fingerprint: str) -> None:
    """Refuses a folder that cannot become this study's, or is another's; writes nothing.

    Raises:
        StudyError: as in `open_or_create`.
    """
    directory, spec = study.directory, study.spec
    try:
        blocking = next((p for p in (directory, *directory.parents) if p.exists() and not p.is_dir()), None)
        if blocking is not None:
            raise NotADirectoryError(0, "a file stands there", str(blocking))
        if not study.study_file.exists() and directory.exists() and any(directory.iterdir()):
            raise StudyError(
                f"{directory} is no study. Give the study another name or storage, or move that folder away"
            )
    except OSError as error:
        raise _no_storage(directory, error) from None
    if study.study_file.exists():
        record = study.record()
        changed = _changes(load_study_folder(directory).spec, spec) if record.trials else []
        if changed:
            raise StudyError(
                f"study {spec.name!r} exists in {directory} with another {'; '.join(changed)}. "
                f"Choose another name (--set name=...), or go on with it as it is: emotune resume {directory}"
            )
        check_data(study, record, fingerprint)


def _no_storage(directory: Path, error: OSError) -> StudyError:
    return StudyError(
        f"storage must be a folder that can be written. Received: {directory}: {error.strerror}. Name another"
    )


def reopen(study: Study, fingerprint: str, *, trials: int | None, time: str | None) -> Study:
    """Returns a study from its folder, to go on with, perhaps with more trials or time.

    Raises:
        StudyError: the data set is not the one it was begun on, or a value is out of range or used up already.
    """
    changes = {name: value for name, value in {"trials": trials, "time": time}.items() if value is not None}
    try:
        spec = StudySpec.model_validate({**study.spec.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise StudyError(f"--{first['loc'][0]}: {first['msg']}. Received: {first['input']!r}") from None
    reopened, record = Study(study.directory, spec), study.record()
    check_data(study, record, fingerprint)
    if trials is not None and trials < len(record.trials):
        raise StudyError(f"--trials must be at least the {len(record.trials)} that the study has. Received: {trials}")
    if time is not None and spec.time is not None and spec.time <= record.search_s:
        raise StudyError(
            f"--time counts from the study's beginning and must be above the {record.search_s:.0f} s used so far. "
            f"Received: {time}. Give more"
        )
    _write(reopened)
    return reopened


def check_data(study: Study, record: StudyRecord, fingerprint: str) -> None:
    """Refuses a data set that is not the one the study was begun on.

    Raises:
        StudyError: the fingerprints differ.
    """
    if record.fingerprint and record.fingerprint != fingerprint:
        raise StudyError(
            f"study {study.spec.name!r} was begun on a data set with fingerprint {record.fingerprint}. "
            f"Received: {fingerprint} in {study.spec.data}. Put the first one back, or choose another name"
        )


def _write(study: Study) -> None:
    plain = dict(study.spec.model_dump(mode="json"))
    if study.spec.data != "synthetic":
        plain["data"] = str(Path(study.spec.data).resolve())  # so that the study can be resumed from anywhere
    try:
        write_yaml(study.study_file, plain)
    except OSError as error:
        raise StudyError(
            f"{study.study_file} cannot be written: {error.strerror}. Check disk and permissions"
        ) from None


def _changes(old: StudySpec, new: StudySpec) -> list[str]:
    """Returns what makes new scores incomparable with old ones, or old trials no part of the new space."""
    fixed = _CHANGEABLE | {"space"}
    names = [name for name in StudySpec.model_fields if name not in fixed and getattr(old, name) != getattr(new, name)]
    breaks = old.space.breaks(new.space)
    return [*([", ".join(names)] if names else []), *([f"space ({', '.join(breaks)})"] if breaks else [])]


def load_study_folder(directory: Path) -> Study:
    """Loads a study from its folder.

    Raises:
        StudyError: the folder is missing or holds no study, or its study file is damaged.
    """
    path = directory / "study.yaml"
    if not path.is_file():
        known = [entry.name for entry in list_study_folders(directory.parent)]
        hint = nearest(directory.name, known) if known else " List studies with: emotune list"
        raise StudyError(f"{directory} holds no study.{hint}")
    try:
        return Study(directory, StudySpec.model_validate(read_yaml(path, "a study file")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StudyError(f"{path} is damaged at {place}: {first['msg']}. Restore it from a copy") from None


def find_study(name: str, storage: Path) -> Study:
    """Loads a study by its folder, its study file, or its name in the storage folder."""
    path = Path(name)
    if path.name == "study.yaml":
        path = path.parent
    if path.suffix in (".yaml", ".yml"):
        raise StudyError(f"a study is named by its folder or name. Received: {name}. To start one: emotune run {name}")
    return load_study_folder(path if path.is_dir() else storage / name)


def list_study_folders(storage: Path) -> list[Path]:
    """Returns the folders of all studies in a storage folder, by name."""
    return sorted(path.parent for path in storage.glob("*/study.yaml")) if storage.is_dir() else []
