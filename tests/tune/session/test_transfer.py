"""What a study takes over from an earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tune.errors import StudyError, StudyFileError
from tune.session.transfer import first_configurations, transferred_configurations
from tune.study.journal import Journal
from tune.study.spec import StudySpec, load_spec
from tune.study.study_state import StudyState
from tune.study.yaml_source import write_yaml

DROPOUT = {"type": "float", "low": 0.0, "high": 0.5, "default": 0.25}
OPTIMIZER = {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"}
MOMENTUM = {"type": "float", "low": 0.5, "high": 0.9, "default": 0.7, "when": {"optimizer": "sgd"}}


def earlier(folder: Path, *trials: tuple[dict[str, Any], float | None], **changes: Any) -> None:
    """An earlier study of these configurations with these scores."""
    given = {"name": "first", "data": "d", "space": {"optimizer": OPTIMIZER, "dropout": DROPOUT}, **changes}
    (folder / "runs/first").mkdir(parents=True)
    write_yaml(folder / "runs/first/study.yaml", StudySpec.model_validate(given).model_dump(mode="json"))
    journal = Journal(folder / "runs/first/journal.jsonl")
    for number, (values, score) in enumerate(trials):
        journal.append("trial", trial=number, values=values)
        if score is not None:
            metrics = {"selection_accuracy": score, "validation_accuracy": score}
            journal.append("epoch", trial=number, epoch=1, metrics=metrics)
        journal.append("end", trial=number, state="failed" if score is None else "complete", reason="")
    journal.close()


def later(folder: Path, **space: Any) -> StudySpec:
    given = {"name": "second", "data": "d", "storage": str(folder / "runs"), "transfer_from": "first", "space": space}
    return StudySpec.model_validate(given)


def test_the_best_three_that_fit_come_first_with_what_the_new_space_adds(tmp_path: Path) -> None:
    scores = [(0.1, 0.5), (0.2, 0.6), (0.3, 0.4), (0.4, 0.7), (0.45, None)]
    earlier(tmp_path, *(({"optimizer": "sgd", "dropout": dropout}, score) for dropout, score in scores))
    spec = later(tmp_path, optimizer=OPTIMIZER, momentum=MOMENTUM, dropout={**DROPOUT, "high": 0.35, "low": 0.05})
    found = transferred_configurations(spec)  # 0.4 was best and is out of range, 0.45 failed
    assert found == [{"optimizer": "sgd", "momentum": 0.7, "dropout": dropout} for dropout in (0.2, 0.1, 0.3)]


def test_what_the_study_file_names_comes_before_and_is_asked_for_once(tmp_path: Path) -> None:
    earlier(tmp_path, ({"optimizer": "adam", "dropout": 0.4}, 0.5))
    spec = later(tmp_path, optimizer=OPTIMIZER, momentum=MOMENTUM, dropout=DROPOUT)
    points = [{"optimizer": "sgd", "momentum": "0.8"}, {"dropout": 0}]
    spec = StudySpec.model_validate({**spec.model_dump(), "points_to_evaluate": points})
    begun = StudyState()
    first = first_configurations(spec, begun)
    assert [values for _, values in first] == [
        {"optimizer": "sgd", "momentum": 0.8, "dropout": 0.25},
        {"optimizer": "adam", "dropout": 0},
        {"optimizer": "adam", "dropout": 0.4},
    ]
    assert len(dict(first)) == 3
    begun.requests.add(first[2][0])
    assert first_configurations(spec, begun) == first[:2]
    assert first_configurations(spec, StudyState(requests={"transfer_from 1"})) == first[:2]  # of an earlier version
    assert first_configurations(spec, StudyState(requests={"a request"})) == first  # named after the study had begun
    fewer = StudySpec.model_validate({**spec.model_dump(), "points_to_evaluate": points[1:]})
    assert first_configurations(fewer, begun) == first[1:2]  # it keeps its name


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([{"dropout": 0.1}, {"dropout": 0.7}], "points_to_evaluate, number 2: dropout must be from 0 to 0.5. Rec"),
        ([{"drop": 0.1}], "points_to_evaluate, number 1: drop is not in the space"),
        ([{"momentum": 0.8}], "number 1: momentum does not count where optimizer=adam"),
        ({"dropout": 0.1}, "points_to_evaluate"),
        ([0.1], "points_to_evaluate"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, points: Any, message: str) -> None:
    space = {"optimizer": OPTIMIZER, "momentum": MOMENTUM, "dropout": DROPOUT}
    (tmp_path / "study.yaml").write_text(
        json.dumps({"name": "first", "data": "d", "space": space, "points_to_evaluate": points})
    )
    with pytest.raises(StudyFileError, match=message) as raised:
        load_spec(tmp_path / "study.yaml")
    assert "\n" not in str(raised.value)


def test_what_was_fixed_there_is_taken_over_and_what_does_not_count_is_not(tmp_path: Path) -> None:
    values = [{"optimizer": "adam"}, {"optimizer": "adam"}, {"optimizer": "sgd"}]
    space = {"optimizer": OPTIMIZER}
    earlier(
        tmp_path,
        *((v, 0.5 + i / 10) for i, v in enumerate(values)),
        space=space,
        fixed={"dropout": 0.3, "momentum": 0.8},
    )
    found = transferred_configurations(later(tmp_path, optimizer=OPTIMIZER, momentum=MOMENTUM, dropout=DROPOUT))
    assert found == [{"optimizer": "sgd", "momentum": 0.8, "dropout": 0.3}, {"optimizer": "adam", "dropout": 0.3}]


def test_a_study_that_has_nothing_to_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="first holds no study"):
        transferred_configurations(later(tmp_path, dropout=DROPOUT))
    earlier(tmp_path, ({"optimizer": "adam", "dropout": 0.5}, None), ({"optimizer": "adam", "dropout": 0.1}, None))
    with pytest.raises(StudyError, match="must name a study with scores. Received: first, without one"):
        transferred_configurations(later(tmp_path, dropout=DROPOUT))


def test_a_space_that_has_none_of_the_configurations_says_why(tmp_path: Path) -> None:
    earlier(tmp_path, ({"optimizer": "adam", "dropout": 0.5}, 0.5))
    with pytest.raises(StudyError, match="does not fit: dropout must be from 0 to 0.3. Received: 0.5. Widen the space"):
        transferred_configurations(later(tmp_path, dropout={**DROPOUT, "high": 0.3}))
