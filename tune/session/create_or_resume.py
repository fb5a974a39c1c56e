"""Opens the study that a file describes, or goes on with one that is there: what may change and what may not."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from search_spaces import WRITTEN
from trainables.own_code import SourceFile
from trainables.places import Place, is_bucket
from tune.errors import StudyError
from tune.session.transfer import owes_transfer, transferred_configurations
from tune.study.bucket_study import download_study, working_folder
from tune.study.own_files import changed_files, check_own, code_today
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec
from tune.study.spec_sections import Export
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_parameters import NEW_STUDY
from tune.study.yaml_source import write_yaml

_CHANGEABLE = frozenset(
    (
        "trials time budget confirm faults notify resources storage optuna_storage data preemption checkpoint_every "
        "transfer_from points_to_evaluate max_parameters export"
    ).split()
)
"""Keys of a study file that may differ when a study goes on: none changes what a score means (data goes by content)."""


def open_or_create(spec: StudySpec, fingerprint: str, *, accept_code_change: bool = False) -> StudyFiles:
    """Returns the study that the file describes: a new one, or the one of that name that is already there.

    Args:
        spec: the study.
        fingerprint: its data set's.
        accept_code_change: go on where a file of the user's own has changed.

    Raises:
        StudyError: a study of that name exists and differs in what its scores mean, or the folder is something else or
            cannot be written.
    """
    study = locate_study(spec)
    check_folder(study, fingerprint, accept_code_change=accept_code_change)
    made = [folder for folder in (study.directory, *study.directory.parents) if not folder.exists()]
    try:
        study.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _storage_error(study.directory, error) from None
    if not study.study_file.exists():  # one that is there may be a running driver's
        write_study_file(study)
    return replace(study, created_folders=tuple(made))


def locate_study(spec: StudySpec) -> StudyFiles:
    """Returns the study that a study file describes, begun or not, with what its bucket knows of it.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    if not is_bucket(spec.storage):
        return _with_older_defaults(StudyFiles(Path(spec.storage) / spec.name, spec))
    place = Place(spec.storage).child(spec.name)
    study = StudyFiles(working_folder(place), spec, place)
    download_study(place, study.directory)
    return _with_older_defaults(study)


def _with_older_defaults(study: StudyFiles) -> StudyFiles:
    """Returns the study as its file describes it, but with the defaults of the day it was begun where it says nothing
    (or what is the default today)."""
    try:
        if not study.study_file.exists() or not study.state().trials:
            return study
    except OSError as error:
        raise _storage_error(study.directory, error) from None
    begun, spec = read_spec(study.study_file), study.spec
    older = {name for name, value in NEW_STUDY.items() if spec.fixed.get(name) == value}
    fixed = {name: value for name, value in spec.fixed.items() if name not in older}
    fixed |= {name: begun.fixed[name] for name in older if name in begun.fixed}
    export = begun.export if spec.export == Export() else spec.export
    return replace(study, spec=spec.model_copy(update={"fixed": fixed, "export": export}))


def check_folder(study: StudyFiles, fingerprint: str, *, accept_code_change: bool = False) -> None:
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
        raise _storage_error(directory, error) from None
    if study.study_file.exists():
        state = study.state()
        begun = read_spec(study.study_file)
        changed = _incompatible_changes(begun, spec) if state.trials else []
        if changed:
            raise StudyError(
                f"study {spec.name!r} exists in {study.name} with another {'; '.join(changed)}. "
                f"Choose another name (--set name=...), or go on with it as it is: emotune resume {study.shell_name}"
            )
        if state.trials and not accept_code_change:
            _check_code(study, begun.code, spec.code)
        check_data(study, state, fingerprint)
    if owes_transfer(spec, study.state() if study.study_file.exists() else StudyState()):
        transferred_configurations(spec)  # its errors, before anything is written
    _check_optuna(study)


def check_writable(study: StudyFiles) -> None:
    """Tries whether a study's storage can be written, and leaves it as it was.

    Raises:
        StudyError: its folder cannot be made, or takes no file.
        PlaceError: its bucket is not there, or takes no file.
    """
    if study.bucket:
        storage, name = Place(study.spec.storage), f".emotune-{uuid.uuid4().hex[:12]}"
        storage.write(name, b"")
        storage.delete(name)
        return
    made = [folder for folder in (study.directory, *study.directory.parents) if not folder.exists()]
    try:
        study.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=study.directory) as file:
            file.write(b"x")
    except OSError as error:
        raise _storage_error(study.directory, error) from None
    finally:
        for folder in made:
            with suppress(OSError):  # never made
                folder.rmdir()


def _check_optuna(study: StudyFiles) -> None:
    if study.spec.optuna_storage:
        from tune.search.optuna_study import check_storage

        check_storage(study.spec, study.state().began)


def _storage_error(directory: Path, error: OSError) -> StudyError:
    return StudyError(
        f"storage must be a folder that can be written. Received: {directory}: {error.strerror}. Name another"
    )


def reopen(
    study: StudyFiles,
    fingerprint: str,
    *,
    trials: int | None,
    time: str | None,
    accept_code_change: bool = False,
) -> StudyFiles:
    """Returns a study from its folder, to go on with, perhaps with more trials or time, or with its files of today.

    Writes nothing: `write_study_file` does, when the study is this process' own.

    Raises:
        StudyError: the data set is not the one it was begun on, a file of the user's own has changed since, or a value
            is out of range or used up already.
    """
    changes = {name: value for name, value in {"trials": trials, "time": time}.items() if value is not None}
    code = code_today(study.spec.code)
    if not accept_code_change:
        _check_code(study, study.spec.code, code)
    elif study.spec.code:
        with_changed = study.spec.model_copy(update={"code": code})
        try:
            check_own(with_changed.space, with_changed.fixed, code)
        except ValueError as error:
            raise StudyError(f"{error} ({study.study_file})") from None
        study = replace(study, spec=with_changed)
    try:
        spec = StudySpec.model_validate({**study.spec.model_dump(), **changes}, context=WRITTEN)
    except ValidationError as error:
        first = error.errors()[0]
        raise StudyError(f"--{first['loc'][0]}: {first['msg']}. Received: {first['input']!r}") from None
    reopened, state = replace(study, spec=spec), study.state()
    check_data(study, state, fingerprint)
    _check_optuna(reopened)
    if trials is not None and trials < state.tried:
        raise StudyError(f"--trials must be at least the {state.tried} that the study has. Received: {trials}")
    if time is not None and spec.time is not None and spec.time <= state.search_s:
        raise StudyError(
            f"--time counts from the study's beginning and must be above the {state.search_s:.0f} s used so far. "
            f"Received: {time}. Give more"
        )
    return reopened


def _check_code(study: StudyFiles, old: Mapping[str, SourceFile], new: Mapping[str, SourceFile]) -> None:
    """Refuses files of the user's own that are not those the study was begun with."""
    changed = changed_files(old, new)
    if changed:
        name = changed[0].partition(" ")[0]
        raise StudyError(
            f"study {study.spec.name!r} was begun with other code: {'; '.join(changed)}. Its scores would not be "
            f"comparable. Put the first back (code: in {study.study_file} has it), or go on with {name} as it is now: "
            "--accept-code-change (of emotune run and resume; a job takes another name: --set name=...)"
        )


def check_data(study: StudyFiles, state: StudyState, fingerprint: str) -> None:
    """Refuses a data set that is not the one the study was begun on.

    Raises:
        StudyError: the fingerprints differ.
    """
    if state.fingerprint and state.fingerprint != fingerprint:
        raise StudyError(
            f"study {study.spec.name!r} was begun on a data set with fingerprint {state.fingerprint}. "
            f"Received: {fingerprint} in {study.spec.data}. Put the first one back, or choose another name"
        )


def write_study_file(study: StudyFiles) -> None:
    """Writes the resolved study file. Of a study that has begun only whoever has its journal may do that.

    Raises:
        StudyError: it cannot be written.
    """
    plain = dict(study.spec.model_dump(mode="json"))
    if study.spec.data != "synthetic" and not is_bucket(study.spec.data):
        plain["data"] = os.path.abspath(study.spec.data)  # so that the study can be resumed from anywhere
    try:
        write_yaml(study.study_file, plain)
    except OSError as error:
        raise StudyError(
            f"{study.study_file} cannot be written: {error.strerror}. Check disk and permissions"
        ) from None


def _incompatible_changes(old: StudySpec, new: StudySpec) -> list[str]:
    """Returns what makes new scores incomparable with old ones, or old trials no part of the new space."""
    fixed = _CHANGEABLE | {"space", "code"}
    names = [name for name in StudySpec.model_fields if name not in fixed and getattr(old, name) != getattr(new, name)]
    breaks = old.space.incompatible_changes(new.space)
    return [*([", ".join(names)] if names else []), *([f"space ({', '.join(breaks)})"] if breaks else [])]


def remove_unstarted_study(study: StudyFiles, *, ours: bool = False) -> None:
    """Removes what a study that was refused before its first session has written, and the folders made for it.

    Args:
        study: the study.
        ours: this process has its journal open.
    """
    with suppress(OSError, StudyError):
        if (study.running_here and not ours) or study.state().sessions:
            return
        for path in (study.journal, study.ray_log, study.study_file):
            path.unlink(missing_ok=True)
        for folder in study.created_folders:
            folder.rmdir()
