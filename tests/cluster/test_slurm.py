"""Sweeps through a real Slurm, which these tests find by `sinfo`: a cluster, or one that runs on this machine alone.

They use the cluster's default partition and two cores of it, and skip where no Slurm answers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from diffusion_components import save_tiny_pipeline

from skinaug.launch.slurm import queue

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
        reason="no Slurm answers here: sinfo fails",
    ),
]

SMALL = [
    "scale.phantom_per_class=24",
    "scale.real_limit=6",
    "scale.generate_per_class=4",
    "scale.num_inference_steps=2",
    "scale.classifier_steps=60",
    "scale.classifier_val_every_steps=30",
    "prompts=plain",
    "curate=none",
    "finetune=none",
    "name=study",
]
SWEEP = ["classify", "-m", "mix=real_small,hybrid", "seed=0,1"]
SLURM = [
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=null",
    "hydra.launcher.slurm_array_parallelism=2",
]


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Run a command in a new folder; the cluster's machines must see it."""
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKINAUG_")}
    command = [sys.executable, "-m", "skinaug", *overrides, *SMALL, f"base.path={folder.parent / 'base'}"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output[-4000:]
    return output


def logs(folder: Path) -> dict[str, str]:
    """What each job has printed, by its number."""
    return {
        log.parent.name: log.read_text()
        for log in sorted(folder.glob("outputs/study/*/*/log.txt"))
        if log.exists()
    }


def wait_for(condition, seconds: float = 600):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
    return found


def slurm_id(folder: Path, job: str) -> str:
    """Of a job of the only sweep in a folder: its log is named by it."""
    (log,) = folder.glob(f"outputs/study/*/{job}/log.txt")
    return log.resolve().name.removesuffix("_0_log.out")


def predictions(folder: Path) -> dict[str, pl.DataFrame]:
    return {
        file.parent.name: pl.read_parquet(file)
        for file in sorted((folder / "store/classify").glob("*/predictions.parquet"))
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep on this machine alone."""
    root = tmp_path_factory.mktemp("cluster")
    save_tiny_pipeline(root / "base", size=64)
    finish(start(root / "local", *SWEEP))
    return root / "local"


def test_a_job_that_is_requeued_half_way_ends_in_the_same_report(local: Path):
    folder = local.parent / "slurm"
    process = start(folder, *SWEEP, *SLURM)
    training = re.compile(r"^classify +\w+  building", re.MULTILINE)
    job = wait_for(lambda: next((job for job, log in logs(folder).items() if training.search(log)), None))
    time.sleep(3)
    subprocess.run(["scontrol", "requeue", slurm_id(folder, job)], check=True)
    output = finish(process)
    assert len(training.findall(logs(folder)[job])) == 2, "it was at it twice"
    assert "4/4" in output or output.count(" done: ") == 4
    assert predictions(local).keys() == predictions(folder).keys()
    assert all(found.equals(predictions(local)[key]) for key, found in predictions(folder).items())
    for table in ("arms.csv", "differences.csv"):
        (ours,), (expected,) = (
            list(place.glob(f"outputs/study/*/report/{table}")) for place in (folder, local)
        )
        assert ours.read_text() == expected.read_text()
    pools = [
        record for record in (folder / "store/generate").iterdir() if (record / "artifact.json").exists()
    ]
    assert len(pools) == 1, "one job made it, and the others came when it was there"


def test_a_job_whose_time_is_up_leaves_a_checkpoint_and_goes_on(local: Path):
    """Slurm sends this signal some time before the end of a job's time."""
    folder = local.parent / "timeout"
    process = start(folder, *SWEEP[:2], "mix=real_small", "seed=0", *SLURM, "scale.classifier_steps=61")
    wait_for(lambda: re.search("^classify .* building", logs(folder).get("0", ""), re.MULTILINE))
    time.sleep(3)
    subprocess.run(["scancel", "--signal=USR2", slurm_id(folder, "0")], check=True)
    finish(process)
    assert "ended" not in predictions(folder)
    assert "Requeued job" in logs(folder)["0"]


def test_a_cancelled_job_is_told_and_the_same_command_goes_on(local: Path):
    folder = local.parent / "cancelled"
    overrides = [*SWEEP[:2], "mix=real_small", "seed=0,1", *SLURM, "scale.classifier_steps=62"]
    process = start(folder, *overrides)
    wait_for(lambda: re.search("^classify .* building", logs(folder).get("0", ""), re.MULTILINE))
    subprocess.run(["scancel", slurm_id(folder, "0")], check=True)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 1
    assert "1 of 2 jobs failed" in output
    assert "ended without a result: cancelled, killed or out of memory" in output
    assert "seed 1, on real test images" in output
    assert "seed 0, on real test images" in finish(start(folder, *overrides))


def test_jobs_go_on_when_the_command_is_stopped(local: Path):
    folder = local.parent / "stopped"
    overrides = [*SWEEP[:2], "mix=real_small", "seed=0", *SLURM, "scale.classifier_steps=63"]
    process = start(folder, *overrides)
    wait_for(lambda: "building" in logs(folder).get("0", ""))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "scancel" in output
    assert slurm_id(folder, "0") in (queue() or {})
    wait_for(lambda: predictions(folder))
    assert "kept" in finish(
        start(folder, *overrides[:1], "mix=real_small", "seed=0", "scale.classifier_steps=63")
    )
