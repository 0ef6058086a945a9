"""Sweeps beside each other: the right arms are paired, and a change that is there is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinaug.errors import InputError
from skinaug.report.compare import compare

WEAK = {"hybrid": (10, 10, 0.0), "synthetic": (0, 20, -0.4)}
STRONG = {"hybrid": (10, 10, 3.0), "synthetic": (0, 20, -0.4), "real": (20, 0, 0.5)}


def test_arms_of_one_name_are_paired(make_sweep, capsys: pytest.CaptureFixture[str]):
    folders = [make_sweep("one", arms=WEAK, tests=60), make_sweep("two", arms=STRONG, tests=60)]
    compare(folders, num_resamples=200)
    _, differences = capsys.readouterr().out.split("Differences in points")
    assert "B: hybrid" in differences
    assert "A: hybrid" in differences
    assert "B: synthetic" in differences
    assert "real" not in differences, "the first has no arm of that name"
    assert differences.count("improves") == 1


def test_single_arms_are_paired_whatever_their_names(make_sweep, capsys: pytest.CaptureFixture[str]):
    folders = [
        make_sweep("one", arms={"hybrid": (10, 10, 0.0)}, tests=60),
        make_sweep("two", arms={"weak": (10, 10, -3.0)}, tests=60),
    ]
    compare(folders, num_resamples=200)
    told = capsys.readouterr().out
    assert "B: weak" in told
    assert "harms" in told


def test_what_cannot_be_paired_is_refused(make_sweep, tmp_path: Path):
    one = make_sweep("one", arms=WEAK)
    other = make_sweep("two", arms={"duplicated": (10, 10, 0.0), "permuted": (10, 10, 0.0)})
    with pytest.raises(InputError, match="A has hybrid, synthetic; B has duplicated, permuted"):
        compare([one, other])
    with pytest.raises(InputError, match="needs two folders"):
        compare([one])
