"""What a stage says when it ends: what it has made, where, and a command that can be given as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow.parquet as pq
from commands import skinaug

from skinaug.__main__ import STAGES
from skinaug.cli.next_step import NEXT

SIZES = ("scale.phantom_per_class=10", "scale.image_size=32", "logger=none", "filter=[]", "mix=real")


def test_a_stage_ends_with_what_it_has_made_and_the_next_command(tmp_path: Path):
    out = skinaug("dataset", *SIZES, cwd=tmp_path, check=True).stdout.splitlines()
    (folder,) = (tmp_path / "store" / "dataset").iterdir()
    rows = pq.read_metadata(folder / "manifest.parquet").num_rows
    assert out[-2] == f"dataset: {rows} images in store/dataset/{folder.name}"
    words = shlex.split(out[-1].removeprefix("next: "), comments=True)
    assert words == ["skinaug", "finetune", *SIZES]
    mixed = skinaug("mix", *SIZES, cwd=tmp_path, check=True).stdout.splitlines()[-1]
    assert shlex.split(mixed.removeprefix("next: "), comments=True) == ["skinaug", "classify", *SIZES]


def test_jobs_of_a_sweep_say_nothing(tmp_path: Path):
    out = skinaug("dataset", "-m", *SIZES, "dataset.seed=0,1", cwd=tmp_path, check=True).stdout
    assert "next:" not in out


def test_every_stage_is_followed_by_a_stage():
    assert {*NEXT} >= {*STAGES} - {"report"}
    assert {follower.split()[0] for follower, _ in NEXT.values()} <= {*STAGES}
