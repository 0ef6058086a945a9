"""Further questions to a report: what is refused, with what there is, and that nothing is written then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from skinaug.errors import InputError
from skinaug.report import collect
from skinaug.report.report import report
from skinaug.report.settings import REST, Asked

CLASSES = ("MEL", "BCC", "NEV", "SEK")


def test_classes_that_no_group_names_are_the_rest():
    assert Asked(groups={"bad": ["MEL", "BCC"]}).grouped(CLASSES) == {
        "bad": ["MEL", "BCC"],
        REST: ["NEV", "SEK"],
    }
    both = {"bad": ["MEL", "BCC"], "good": ["NEV", "SEK"]}
    assert Asked(groups=both).grouped(CLASSES) == both
    assert Asked().grouped(CLASSES) == {}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"groups": {"bad": ["MEL", "SCC"]}}, "names the classes SCC, but the data have MEL, BCC, NEV, SEK"),
        ({"groups": {"bad": ["MEL"], "worse": ["MEL"]}}, "names MEL more than once"),
        ({"groups": {"bad": list(CLASSES)}}, "into one group"),
        ({"groups": {"bad": "MEL"}}, "gives each group its classes"),
        ({"groups": {"NEV": ["MEL", "BCC"]}}, "the name of a class that is not all of it: NEV"),
        ({"groups": {REST: ["MEL"]}}, "calls a group rest"),
        ({"groups": ["MEL"]}, "gives each group its classes"),
        ({"ordered": ["MEL", "BCC"]}, "must name all classes or all groups once"),
        ({"ordered": "MEL"}, "ordered is a list"),
        ({"prevalence": {"bad": 0.1}}, "prevalence names bad, but the data have MEL, BCC, NEV, SEK"),
        ({"prevalence": {"MEL": 5}}, "MEL: 5: shares lie between 0 and 1"),
        ({"prevalence": 0.1}, "gives classes or groups their share"),
        (
            {"decision_curves": ["bad"], "groups": {"evil": ["MEL"]}},
            "names bad, but .* and report.groups evil, rest",
        ),
        ({"subgroups": ["skin"]}, "names skin; attributes are skin_type, body_site, sex, age"),
        ({"subgroups": [["sex", "age", "skin_type"]]}, "alone or two together"),
        ({"subgroups": "sex"}, "alone or two together"),
        ({"subgroups": [["sex", "sex"]]}, "takes sex together with itself"),
        ({"subgroups": [["sex", "age"], ["age", "sex"]]}, "the same attributes twice"),
        ({"least_patients": 1}, "a whole number of 2 or more"),
        ({"temperature": 1.5}, "true or false"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(asked: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        Asked(**asked).check_classes(CLASSES)


def test_columns_of_the_data_may_be_asked_for_by_the_names_that_they_are_mapped_to():
    asked = Asked(subgroups=["hospital", ["sex", "hospital"]])
    asked.check(["path", "hospital"])
    asked.check(None)  # nobody knows yet
    for own in ((), ["path"]):
        with pytest.raises(InputError, match="names hospital; attributes are skin_type"):
            asked.check(own)


def test_what_can_be_answered_is_accepted():
    groups = {"bad": ["MEL", "BCC"]}
    Asked().check_classes(CLASSES)
    Asked(
        ["sex", ["sex", "age"]], 5, groups, ["rest", "bad"], {"bad": 0.02, "MEL": 0.01}, ["bad"], True
    ).check_classes(CLASSES)
    Asked(ordered=["SEK", "NEV", "BCC", "MEL"]).check_classes(CLASSES)


def test_a_report_that_cannot_answer_writes_nothing(make_sweep: Callable[..., Path], tmp_path: Path):
    runs = collect.read_runs(make_sweep(seeds=1, size=8))
    for asked, said in (
        ({"groups": {"bad": ["melanoma"]}}, "melanoma, but the data have acne, eczema"),
        ({"subgroups": ["body_site"]}, "asks for body_site, but the test images tell skin_type, sex, age"),
    ):
        with pytest.raises(InputError, match=said):
            report(runs, out=tmp_path, **asked)
    for run in runs:
        file = run.artifacts["classify"] / "predictions.parquet"
        pl.read_parquet(file).filter(pl.col("split") == "test").write_parquet(file)
    with pytest.raises(
        InputError, match=r"report\.prevalence and report\.temperature need validation images"
    ):
        report(
            collect.read_runs(tmp_path / "sweep"), prevalence={"acne": 0.1}, temperature=True, out=tmp_path
        )
    assert not list(tmp_path.glob("*.csv"))
