"""The tour notebook runs from top to bottom on a finished study, and says what to do without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from skinaug.errors import InputError
from skinaug.report.collect import read_runs
from skinaug.report.report import report

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_tour_reads_a_finished_study(
    make_sweep: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    matplotlib.use("agg")
    sweep = tmp_path / "outputs" / "akrout2023" / "2026-01-02"
    sweep.parent.mkdir(parents=True)
    shutil.move(make_sweep(seeds=1), sweep)
    (sweep / "report").mkdir()
    report(read_runs(sweep), num_resamples=50, out=sweep / "report")
    monkeypatch.setenv("SKINAUG_OUTPUT", str(tmp_path / "outputs"))
    names: dict = {}
    for cell in code_cells():
        exec(cell, names)
    assert "4 runs of akrout2023" in capsys.readouterr().out


def test_tour_without_a_study_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SKINAUG_OUTPUT", str(tmp_path))
    with pytest.raises(InputError, match="make demo"):
        exec(code_cells()[0], {})


def test_tour_defines_nothing_and_holds_no_output():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(line.startswith(("def ", "class ")) for cell in code_cells() for line in cell.split("\n"))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
