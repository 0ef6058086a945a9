"""All further questions in one report: its files, its page and that the one verdict stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

from skinaug.metrics.calibration import ece, temperature, tempered
from skinaug.report import measure
from skinaug.report.collect import Study
from skinaug.report.report import report
from skinaug.report.temperature import ALL_SCORES, temperature_frame, temperature_table
from tests.report.test_report import Page

ASKED = {
    "subgroups": ["skin_type", ["sex", "age"]],
    "groups": {"malignant": ["nevus", "acne"], "benign": ["eczema", "psoriasis", "tinea", "vitiligo"]},
    "ordered": ["benign", "malignant"],
    "prevalence": {"malignant": 0.02, "acne": 0.1},
    "decision_curves": ["malignant"],
    "temperature": True,
}
BESIDE = ("ranking", "thresholds")
OWN = ("fairness", "fairness_groups", "predictive_values", "temperature")
GROUPED = (*BESIDE, "fairness", "fairness_groups", "predictive_values", "kappa", "decision_curves", "arms", "differences", "recall", "calibration", "operating_points")  # fmt: skip


@pytest.fixture(scope="module")
def reports(drawn_study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A report without further questions, and one with all."""
    folders = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("asked")
    report(drawn_study.runs, num_resamples=100, out=folders[0])
    report(drawn_study.runs, num_resamples=100, out=folders[1], **ASKED)  # type: ignore[arg-type]
    return folders


def test_answers_lie_in_files_of_their_own(reports: tuple[Path, Path]):
    plain, asked = reports
    names = [
        {file.relative_to(place).with_suffix("").as_posix() for file in place.rglob("*.csv")}
        for place in reports
    ]
    assert set(BESIDE) < names[0]
    assert names[1] - names[0] == {*OWN, *(f"groups/{name}" for name in GROUPED)}
    tables = {
        file.relative_to(asked / "tex").with_suffix("").as_posix() for file in (asked / "tex").rglob("*.tex")
    }
    assert {"ranking", "thresholds", "fairness", "temperature", "predictive_values"} < tables
    assert {"groups/arms", "groups/differences", "groups/kappa", "groups/fairness"} < tables
    assert (plain / "arms.csv").read_bytes() == (asked / "arms.csv").read_bytes()
    grouped = pl.read_csv(asked / "groups" / "arms.csv")
    assert grouped["arm"].to_list() == pl.read_csv(asked / "arms.csv")["arm"].to_list()
    assert (grouped["top1"] > pl.read_csv(asked / "arms.csv")["top1"]).all(), (
        "two are easier to tell apart than six"
    )


def test_the_verdict_and_the_arms_come_first_and_unchanged(reports: tuple[Path, Path]):
    pages = [(folder / "report.html").read_text() for folder in reports]
    texts = [Page(page).text for page in pages]
    first = [text[: text.index("Classes Recall in per cent")] for text in texts]
    # Resampled intervals are of the same draws, and only figures have names of their own.
    start = [text[: text.index("Differences to real_small")] for text in first]
    assert start[0] == start[1]
    for words in (
        "Gaps between subgroups",
        "Net benefit",
        "Groups of classes",
        "With temperature scaling",
        "Quadratic kappa",
    ):
        assert words in texts[1]
        assert words not in texts[0]
    assert pages[0].count("<details open>") <= 2, "what few look for stays closed"
    assert Page(pages[1]).open == []
    markdown = (reports[1] / "report.md").read_text()
    for words in (
        "## Groups of classes",
        "### Gaps between subgroups",
        "### Subgroups that are left out",
        "PPV",
        "AUPRC",
    ):
        assert words in markdown


def test_temperature_stands_beside_the_figures_without(drawn_study: Study):
    frame = temperature_frame(drawn_study, measure.draw(drawn_study.predictions, 100, 0))
    for row in frame.iter_rows(named=True):
        found = []
        for run, test, val in zip(
            drawn_study.runs, drawn_study.predictions, drawn_study.validation, strict=True
        ):
            if run.arm == row["arm"]:
                by = temperature(val.probabilities, val.labels)
                p = tempered(test.probabilities, by)
                losses = [log_loss(test.labels, each, labels=range(6)) for each in (p, test.probabilities)]
                errors = [ece(each, test.labels) for each in (p, test.probabilities)]
                found.append((by, errors[0], errors[0] - errors[1], losses[0], losses[0] - losses[1]))
        names = ("temperature", "ece", "ece_change", "log_loss", "log_loss_change")
        assert [row[name] for name in names] == pytest.approx(np.mean(found, 0).tolist())
        assert row["temperature_min"] <= row["temperature"] <= row["temperature_max"]
        for name in ALL_SCORES:
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    shown = temperature_table(frame)
    assert {len(cells) for cells in shown.rows} == {len(shown.header)}
