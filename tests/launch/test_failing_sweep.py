"""A sweep of which an arm cannot be made of its pool: that is told at once, the others run, and the report says so."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from commands import skinaug
from rendered import SIZES

# Its filter keeps about half of a pool of 6 pictures a class, and the mix asks for up to 4.
OTHERS = {"filter": "[non_skin]", "filter.non_skin.keep.real_pass_rate": "0.5", "report.num_resamples": "10"}
OWN = [f"{key}={value}" for key, value in OTHERS.items()]


def test_an_arm_that_its_pool_cannot_serve_is_told(tmp_path: Path):
    sizes = [word for word in SIZES if word.partition("=")[0] not in (*OTHERS, "mix.synthetic_ratio")]
    words = ["classify", "-m", "mix=real,synthetic", "base=oracle", *sizes, *OWN]
    done = skinaug(*words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "and 1 job cannot be built from it; the others go on:\n  job 1 mix=synthetic" in done.stdout
    assert "1 of 2 jobs failed:" in done.stderr
    (report,) = tmp_path.glob("outputs/*/*/report")
    assert (
        "**synthetic** has no result of seed 0: The mix synthetic cannot be made."
        in (report / "report.md").read_text()
    )
    assert "synthetic has no result of seed 0: The mix synthetic cannot be made." in done.stdout, (
        "its last lines"
    )
    assert pl.read_csv(report / "runs.csv")["status"].to_list() == ["finished", "failed"]
    assert len([path for path in (tmp_path / "store" / "classify").iterdir() if path.suffix == ""]) == 1
    plan = skinaug("plan", *words, cwd=tmp_path)
    assert "1 of 2 jobs would be refused" in plan.stdout
    (row,) = (line for line in plan.stdout.splitlines() if line.startswith("│ report "))
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["1", "1", "0"], (
        "the plan knows the report that is there"
    )
