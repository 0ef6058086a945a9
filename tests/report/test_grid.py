"""Grids of real by synthetic images: which arms form one, and that each cell shows its own arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from skinaug.report import collect, grid, measure
from skinaug.report.collect import Study
from tests.report.conftest import ARMS

REAL, SYNTHETIC = (5, 10, 20), (0, 10)
CELLS = {f"{real}+{made}": (real, made, real / 20 + made / 40) for real in REAL for made in SYNTHETIC}


def study_of(make_sweep: Any, arms: Mapping[str, tuple[int, int, float]], **options: Any) -> Study:
    sweep = make_sweep(arms=arms, seeds=1, size=16, classes=("a", "b"), **options)
    return collect.make_study(collect.read_runs(sweep), next(iter(arms)))


def with_config(study: Study, changes: Mapping[str, Mapping[str, Any]]) -> Study:
    """The study with other config values in the runs of some arms."""
    runs = (replace(run, config={**run.config, **changes.get(run.arm, {})}) for run in study.runs)
    return replace(study, runs=tuple(runs))


def test_each_cell_shows_its_own_arm(make_sweep):
    study = study_of(make_sweep, CELLS)
    arms = measure.arms_frame(study, measure.measure(study, 50, 0))
    (shown,) = grid.heatmaps(study, arms, "top1")
    scores = {row["arm"]: 100 * row["top1"] for row in arms.iter_rows(named=True)}
    assert shown.table.header == ["Real / class", "0", "10"]
    assert list(shown.table.groups) == [("", 1), ("Synthetic / class", 2)]
    for row, real in zip(shown.table.rows, REAL, strict=True):
        assert row[0].text == str(real)
        for cell, made in zip(row[1:], SYNTHETIC, strict=True):
            assert cell.text == f"{scores[f'{real}+{made}']:.1f}"
    heats = {cell.text: cell.heat for row in shown.table.rows for cell in row[1:]}
    assert (heats[shown.low], heats[shown.high]) == (0, 1)
    assert sorted(heats, key=float) == sorted(heats, key=lambda text: heats[text])


def test_four_arms_that_lie_scattered_are_no_grid(make_sweep):
    assert grid.grids(study_of(make_sweep, ARMS)) == {}


def test_other_training_and_controls_are_not_in_the_grid(make_sweep):
    study = study_of(make_sweep, {**CELLS, "copies": (20, 0, 0.0), "longer": (10, 10, 0.0)})
    changes = {"copies": {"mix": {"control": "duplicated_real"}}, "longer": {"classify": {"steps": 7}}}
    (cells,) = grid.grids(with_config(study, changes)).values()
    assert set(cells.values()) == set(CELLS)


def test_what_only_the_report_reads_tells_no_grids_apart(make_sweep):
    changes = {"20+10": {"report": {"compare": "mix"}, "logger": {"folder": "elsewhere"}}}
    (cells,) = grid.grids(with_config(study_of(make_sweep, CELLS), changes)).values()
    assert set(cells.values()) == set(CELLS)


@pytest.mark.parametrize("missing", [["5+10"], ["5+10", "10+10"]])
def test_cells_may_be_missing(make_sweep, missing: list[str]):
    study = study_of(make_sweep, {arm: counts for arm, counts in CELLS.items() if arm not in missing})
    found = grid.grids(study)
    assert len(found) == (len(missing) == 1)  # with one pair left, there is no second row to compare


def test_pools_have_grids_of_their_own_and_share_the_real_arms(make_sweep):
    arms = {**CELLS, **{f"{arm} far": counts for arm, counts in CELLS.items() if counts[1]}}

    def overrides(arm: str) -> dict[str, Any]:
        real, made = arm.removesuffix(" far").split("+")
        gap = {"base.gap": "1" if arm.endswith("far") else "0"} if made != "0" else {}
        return {"mix.real_per_class": real, "mix.synthetic_per_class": made, **gap}

    study = study_of(make_sweep, arms, overrides=overrides)
    far = {arm: {"base": {"gap": 1}} for arm in arms if arm.endswith("far")}
    found = grid.grids(with_config(study, far))
    assert list(found) == ["gap=0", "gap=1"]
    assert set(found["gap=0"].values()) == set(CELLS)
    assert set(found["gap=1"].values()) == {arm + " far" * arm.endswith("+10") for arm in CELLS}
    frame = measure.arms_frame(study, measure.measure(study, 50, 0))
    shown = grid.heatmaps(with_config(study, far), frame, "top1")
    heats = {(cell.text, cell.heat) for own in shown for row in own.table.rows for cell in row[1:]}
    assert len(heats) == len({text for text, _ in heats}), "one score has one colour in all grids"
    assert {(own.low, own.high) for own in shown} == {
        (f"{100 * frame['top1'].min():.1f}", f"{100 * frame['top1'].max():.1f}")
    }


def test_counts_of_the_mix_are_no_other_settings(make_sweep):
    study = study_of(make_sweep, CELLS)
    changes = {
        arm: {"mix": {"real_per_class": real, "synthetic_per_class": made, "seed": 3}}
        for arm, (real, made, _) in CELLS.items()
    }
    (cells,) = grid.grids(with_config(study, changes)).values()
    assert set(cells.values()) == set(CELLS)
