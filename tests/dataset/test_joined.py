"""A group that copies have made large is told, with what made it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.duplicates import Duplicates
from skinaug.dataset.joined import large_groups
from skinaug.sources.sources import Folder


def photograph(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(60, 230, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def test_groups_are_told_from_a_twentieth_on():
    patients = [f"p{number}" for number in range(80)]
    chain = [(number, number + 1) for number in range(4)]
    pairs = pl.DataFrame(
        [(row, other, 5, 0.9 + row / 100) for row, other in [*chain, (20, 21)]],
        schema=["row", "other", "hamming", "cosine"],
        orient="row",
    )
    after = ["p0" if number < 5 else "p20" if number == 21 else name for number, name in enumerate(patients)]
    paths = pl.Series([f"{number}.png" for number in range(80)])
    (group,) = large_groups(patients, after, paths, pairs)
    assert (group["group"], group["patients"], group["share"], group["pairs"]) == ("p0", 5, 0.0625, 4)
    assert group["joined"][0] == {"hamming": 5, "cosine": 0.9, "path": "0.png", "other_path": "1.png"}
    assert (
        large_groups(
            patients, ["p0" if number < 4 else name for number, name in enumerate(patients)], paths, pairs
        )
        == []
    )
    assert large_groups(patients[:10], after[:2] + patients[2:10], paths[:10], pairs[:1]) == [], (
        "two are always few"
    )


@pytest.mark.parametrize("exact", [True, False])
def test_the_dataset_stage_tells_the_pairs(exact: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A page `no image` in the place of photographs, as a downloader leaves it, joins all patients who have one."""
    for number in range(30):
        (tmp_path / "root" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        photograph(number).save(tmp_path / "root" / "ab"[number % 2] / f"P{number}_1.png")
    for number in range(0, 12, 2):
        page = photograph(1000).point(
            lambda value, number=number: value if exact else min(255, value + number // 2)
        )
        page.save(tmp_path / "root" / "a" / f"P{number}_2.png")
    (tmp_path / "out").mkdir()
    rules = Duplicates(max_hamming=6)
    build_dataset(Folder(r"(P\d+)_"), str(tmp_path / "root"), tmp_path / "out", duplicates=rules)
    (group,) = json.loads((tmp_path / "out/summary.json").read_text())["joined_groups"]
    assert group["patients"] == 6
    assert group["share"] == 0.2
    assert group["pairs"] == (5 if exact else 15)
    assert all(pair[side].endswith("_2.png") for pair in group["joined"] for side in ("path", "other_path"))
    out = capsys.readouterr().out
    assert out.index("Warning") < out.index("images / patients"), (
        "told before the splits, which may be impossible"
    )
    assert "Warning: copies join 6 patients, 20% of all, into one group" in out
    assert "a/P0_2.png and a/P10_2.png" in out
