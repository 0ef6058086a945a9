"""The notebook that compares two sweeps runs from top to bottom on made ones, and tells what the report's functions tell."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import polars as pl
import pytest

from skinaug.errors import InputError

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "compare_sweeps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
BETTER = {"real_small": (10, 0, 1.5), "hybrid": (10, 10, 0.25), "only_here": (20, 20, 0.5)}


def execute(monkeypatch: pytest.MonkeyPatch, *sweeps: Path) -> dict:
    matplotlib.use("agg")
    monkeypatch.setenv("SKINAUG_SWEEPS", os.pathsep.join(map(str, sweeps)))
    names: dict = {}
    with pl.Config():
        for cell in CODE:
            exec(cell, names)
    plt.close("all")
    return names


def test_two_sweeps_are_compared(
    make_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    first, second = make_sweep("first", seeds=2), make_sweep("second", arms=BETTER, seeds=2)
    found = execute(monkeypatch, first, second)
    told = capsys.readouterr().out
    assert f"A  akrout2023, 8 runs, {first}" in told
    assert f"B  akrout2023, 6 runs, {second}" in told
    assert set(found["arms"]["arm"]) == {
        *(f"A: {arm}" for arm in ("real_small", "real", "hybrid", "synthetic")),
        *(f"B: {arm}" for arm in BETTER),
    }
    paired = found["paired"].filter(pl.col("metric") == "top1")
    assert list(zip(paired["arm"], paired["baseline"], strict=True)) == [
        ("B: real_small", "A: real_small"),
        ("B: hybrid", "A: hybrid"),
    ]
    scores = dict(found["arms"].select("arm", "top1").iter_rows())
    expected = scores["B: real_small"] - scores["A: real_small"]
    assert paired["difference"][0] == pytest.approx(expected)
    assert expected > 0.1
    ratios = dict(found["ratios"].select("arm", "ratio").iter_rows())
    assert (ratios["A: real_small"], ratios["A: hybrid"], ratios["B: only_here"]) == (0, 1, 1)
    assert "A: synthetic" not in ratios
    assert set(found["costs"]["sweep"]) == {"A", "B"}
    assert found["finished_runs"].height == 14


def test_arms_that_only_one_has_are_not_paired(make_sweep: Callable[..., Path], monkeypatch):
    first = make_sweep("first", seeds=1)
    second = make_sweep("second", arms={"other": (10, 0, 0.0), "another": (20, 0, 0.0)}, seeds=1)
    assert execute(monkeypatch, first, second)["paired"].is_empty()


def test_one_sweep_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SKINAUG_SWEEPS", raising=False)
    monkeypatch.setenv("SKINAUG_OUTPUT", str(tmp_path))
    with pytest.raises(InputError, match="SKINAUG_SWEEPS="):
        exec(CODE[0], {})


def test_it_defines_nothing_and_holds_no_output():
    assert not any(line.lstrip().startswith(("def ", "class ")) for cell in CODE for line in cell.split("\n"))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)
