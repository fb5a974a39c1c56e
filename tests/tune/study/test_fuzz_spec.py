"""A thousand generated study files: each is refused in one line, or accepted and the same when it is read again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.support.memory import memory_bound
from tune.errors import EmotuneError
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec, load_spec
from tune.study.yaml_source import write_yaml

SHARE = float(os.environ.get("EMOTUNE_FUZZ", "0.2"))
"""As for sources: how much of the thousand is generated."""
MEMORY_MIB = 128

PARAMETERS = ("learning_rate", "batch_size", "dropout", "optimizer", "momentum", "batch_norm", "image_size_px", "width")
WORDS = (
    *("adam", "sgd", "cosine", "float", "int", "categorical", "quickstart", "alexnet", "none", "augment", "face", "x"),
    *("1e-3", "1:30", "010", "0x1f", "1_000", "~", "null", "yes", "on", ".inf", ".nan", "-0", "9" * 400, "1e400"),
    *(
        "30m",
        "2h",
        "",
        " ",
        "a\0b",
        "a\nb",
        "../../etc",
        "s3://b",
        "s3://u:p@b/x",
        "postgresql://h/d",
        "é",
        "\ud83d\ude00",
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, 1, 2, 16, 32, 0.1, 0.5, 1e-5, 1e-320, 1e308]),
    st.floats(),
    st.sampled_from(WORDS),
)
NAMES = st.sampled_from([*StudySpec.model_fields, *PARAMETERS, "low", "high", "default", "choices", "when", "extra"])
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
BOUNDS = st.sampled_from([0, 1, 2, 8, 16, 64, 0.0, 0.1, 0.5, 0.9, 1e-5, "1e-4", "32", True, None])


@st.composite
def parameters(draw: Any) -> dict[str, Any]:
    """A parameter's definition, right in its form if not in its values."""
    kind = draw(st.sampled_from(["float", "int", "categorical"]))
    if kind == "categorical":
        choices = draw(st.lists(st.one_of(BOUNDS, st.sampled_from(["adam", "sgd"])), max_size=3))
        return {"type": kind, "choices": choices, "default": draw(st.sampled_from(choices)) if choices else 1}
    found = {"type": kind, **{name: draw(BOUNDS) for name in ("low", "high", "default")}}
    return found | draw(st.dictionaries(st.sampled_from(["step", "log", "when"]), ANYTHING, max_size=1))


@st.composite
def studies(draw: Any) -> dict[str, Any]:
    """A sound study with a few of its keys, or of their keys, changed."""
    study: dict[str, Any] = {"name": "a", "data": "d", "space": "quickstart", "trials": 4, "fixed": {"width": 0.25}}
    if draw(st.booleans()):
        study["space"] = draw(st.dictionaries(st.sampled_from(PARAMETERS), parameters(), max_size=4))
    changes = draw(st.dictionaries(NAMES, ANYTHING, max_size=3))
    for section in draw(st.lists(st.sampled_from(["asha", "folds", "budget", "faults", "resources"]), max_size=2)):
        fields = [*type(StudySpec.model_fields[section].default).model_fields, "extra"]
        study[section] = draw(st.dictionaries(st.sampled_from(fields), SCALARS, max_size=2))
    return study | changes


def check_file(text: str) -> None:
    """Reads a study file and looks at what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            with memory_bound(mib=MEMORY_MIB):
                spec = load_spec(file)
        except EmotuneError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
            return
        finally:
            assert [path.name for path in Path(folder).iterdir()] == ["study.yaml"]
        write_yaml(file, spec.model_dump(mode="json"))
        assert read_spec(file) == spec


@pytest.mark.slow
@seed(14)
@settings(max_examples=round(800 * SHARE), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(study=studies())
def test_any_study_file_is_read_or_refused_in_one_line(study: dict[str, Any]) -> None:
    check_file(yaml.safe_dump(study, sort_keys=False, allow_unicode=True))


@pytest.mark.slow
@seed(14)
@settings(max_examples=round(200 * SHARE), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(
        st.tuples(
            NAMES, st.sampled_from([": ", ":", " :\n  - ", ": &a ", ": *a", ": [", ": {", "\t: ", ": !!int "]), SCALARS
        ),
        max_size=6,
    )
)
def test_any_text_is_no_study_or_one(lines: list[tuple[str, str, object]]) -> None:
    check_file("name: a\ndata: d\n" + "\n".join(f"{name}{how}{value}" for name, how, value in lines))
