"""Kills and several processes: the pool is the one that a single undisturbed run draws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import drawing
import numpy as np
import polars as pl
import pytest

from skinaug.images import open_image
from skinaug.manifest import Manifest

pytestmark = pytest.mark.slow  # each process imports diffusers anew


def start(*folders: Path, changes: dict, trainer: dict | None = None) -> subprocess.Popen:
    arguments = [*map(str, folders), json.dumps(changes), json.dumps(trainer or {})]
    tests = str(Path(drawing.__file__).parent)
    return subprocess.Popen(
        [sys.executable, drawing.__file__, *arguments],
        env={**os.environ, "PYTHONPATH": tests},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output[-4000:]


def test_a_killed_run_goes_on(draw, tiny: Path, weights: Path, tmp_path: Path):
    changes = {"per_class": 300, "num_inference_steps": 2, "batch_size": 8}
    out = tmp_path / "killed"
    process = start(tiny, weights, out, changes=changes)
    while not list(out.glob("parts/*.parquet")):
        assert process.poll() is None, process.communicate()[0][-4000:]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    named = sum(pl.read_parquet(part).height for part in out.glob("parts/*.parquet"))
    there = {path: path.read_bytes() for path in out.glob("images/*/*.png")}
    assert 256 <= named <= len(there) < 600
    assert not (out / "manifest.parquet").exists()
    resumed, whole = draw(out, **changes), draw(tmp_path / "whole", **changes)
    assert resumed.table.equals(whole.table), "ids and digests of the bytes"
    assert all(path.read_bytes() == content for path, content in there.items()), "nothing was drawn twice"
    assert len(list(out.glob("images/*/*"))) == 600
    assert not (out / "parts").exists()


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_draw_the_same(draw, tiny: Path, weights: Path, tmp_path: Path, strategy: str):
    trainer = {"devices": 2, "strategy": strategy, "use_distributed_sampler": False}
    changes = {"per_class": 5, "batch_size": 2}
    one, out = draw(tmp_path / "one", **changes), tmp_path / "two"
    finished(start(tiny, weights, out, changes=changes, trainer=trainer))
    two = Manifest.read(out)
    assert two.table.drop("sha256").equals(one.table.drop("sha256"))
    for path, other in zip(one.paths(), two.paths(), strict=True):
        assert np.abs(np.asarray(open_image(path)).astype(int) - np.asarray(open_image(other))).max() <= 2
    (out / "manifest.parquet").unlink()
    two.paths()[3].unlink()
    finished(start(tiny, weights, out, changes=changes, trainer=trainer))  # one row for two devices
    assert Manifest.read(out).table.drop("sha256").equals(one.table.drop("sha256"))
