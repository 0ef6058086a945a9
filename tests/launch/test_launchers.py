"""Sweeps in several processes of one box, through Hydra's own command line with a job that writes down where it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from skinaug import pipeline
from skinaug.errors import InputError
from skinaug.launch import jobs as sweep
from skinaug.launch.local import JoblibLauncher, pinned
from skinaug.launch.standing import read_standing
from skinaug.report.unfinished import NOT_ENDED, unfinished

JOB = """
import json, os, signal, sys, time
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from skinaug.launch import configs
from skinaug.errors import Ended
from hydra.experimental.callback import Callback

class Told(Callback):
    def on_multirun_end(self, config, **kwargs):
        finished = sorted(Path(config.hydra.sweep.dir).glob("*/about.json"))
        Path("reported.json").write_text(json.dumps([json.loads(file.read_text())["seed"] for file in finished]))

configs.register()

def task(cfg):
    print("seed", cfg.seed, "says hello")
    folder = Path(HydraConfig.get().runtime.output_dir)
    about = {"seed": cfg.seed, "pid": os.getpid(), "cores": sorted(os.sched_getaffinity(0))}
    about |= {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "POLARS_MAX_THREADS")}
    if cfg.seed < 4:
        import torch
        from torch.utils.data import DataLoader
        about["loaded"] = list(DataLoader([1, 2, 3], batch_size=None, num_workers=1))
        about["threads"] = torch.get_num_threads()
    time.sleep(1)
    if cfg.seed == 7:
        raise Ended(2, "seed 7 is unlucky")
    if cfg.seed == 8:
        raise RuntimeError("seed 8 fell over")
    if cfg.seed == 9 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "about.json").write_text(json.dumps(about))
    return cfg.seed / 10

task.stage = "dataset"
conf = str(configs.folder("conf").resolve())
if __name__ == "__main__":
    try:
        hydra.main(version_base="1.3", config_path=conf, config_name="config")(task)()
    except Ended as ended:
        sys.exit(ended.message)
"""
QUIET = "hydra.callbacks.report._target_=job.Told"
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def launch(folder: Path, *overrides: str, **variables: str) -> subprocess.CompletedProcess:
    return sweep_of(folder, "hydra/launcher=joblib", *overrides, **variables)


def sweep_of(folder: Path, *overrides: str, **variables: str) -> subprocess.CompletedProcess:
    (folder / "job.py").write_text(JOB)
    command = [sys.executable, "job.py", "-m", "logger=none", QUIET, *overrides]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def written(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("outputs/*/*/*/about.json"))]


def test_jobs_share_the_gpus_and_cores_and_data_loaders_work(tmp_path: Path):
    """What a process is given is decided here; whether CUDA has such GPUs is not asked before one is used."""
    done = launch(tmp_path, "seed=0,1,2,3", "hydra.launcher.n_jobs=2", CUDA_VISIBLE_DEVICES="GPU-a,GPU-b")
    assert done.returncode == 0, done.stderr[-3000:]
    jobs = written(tmp_path)
    assert [job["seed"] for job in jobs] == [0, 1, 2, 3]
    assert all(job["loaded"] == [1, 2, 3] for job in jobs)
    cores = sorted(os.sched_getaffinity(0))
    shares = {(job["pid"], job["CUDA_VISIBLE_DEVICES"], *job["cores"]) for job in jobs}
    assert len({job["pid"] for job in jobs}) == len(shares) == 2
    assert sorted(core for _, _, *own in shares for core in own) == cores, "every core is one process's"
    assert {gpu for _, gpu, *_ in shares} == {"GPU-a", "GPU-b"}
    assert all(job["threads"] == int(job["POLARS_MAX_THREADS"]) == len(cores) // 2 for job in jobs)
    logs = [file.read_text() for file in sorted(tmp_path.glob("outputs/*/*/*/log.txt"))]
    assert [f"seed {seed} says hello" in log for seed, log in enumerate(logs)] == [True] * 4
    assert "job 3 done: seed=3" in done.stdout


def test_each_job_has_a_gpu_of_its_own():
    pins = pinned(["4", "5", "6"], range(8), count=3, each=1)
    assert [gpus for gpus, _ in pins] == [["4"], ["5"], ["6"]]
    assert sorted(core for _, cores in pins for core in cores) == list(range(8))
    assert [gpus for gpus, _ in pinned(["0", "1"], range(4), count=3, each=1)] == [
        ["0"],
        ["1"],
        ["0"],
    ]
    assert [gpus for gpus, _ in pinned([*"0123"], range(4), count=2, each=2)] == [[*"01"], [*"23"]]
    assert [cores for _, cores in pinned([], [3], count=2, each=1)] == [[3], [3]]


@pytest.mark.parametrize("launcher", [[], JOBLIB], ids=["sequential", "joblib"])
def test_jobs_that_fail_are_told_when_the_others_are_done(tmp_path: Path, launcher: list[str]):
    """One falls over, one is refused while it runs, two are refused before, in batches of two; the last one finishes."""
    done = sweep_of(
        tmp_path, "seed=8,7,4", "trainer.devices=1,0", "hydra.sweeper.max_batch_size=4", *launcher
    )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "job 0 failed: seed=8" in done.stdout
    assert "job 2 failed: seed=7" in done.stdout
    assert "job 5 refused: " in done.stdout
    summary = done.stderr[done.stderr.index("5 of 6 jobs failed:") :]
    assert "RuntimeError: seed 8 fell over\n" in summary
    assert "seed 7 is unlucky\n" in summary
    assert summary.count("trainer.devices=0: it is a number above 0") == 1, "one reason of three jobs"
    assert all(f"job {number} " in summary for number in (0, 1, 2, 3, 5))
    assert [job["seed"] for job in written(tmp_path)] == [4]
    assert json.loads((tmp_path / "reported.json").read_text()) == [4]
    (sweep,) = tmp_path.glob("outputs/*/*/sweep.json")  # beside the jobs' folders
    standing = read_standing(sweep.parent)
    assert standing is not None
    assert standing.words() == "ended: 1 of 6 jobs done, 5 failed"
    assert {name.split()[1] for name, _ in standing.failed} == set("01235")
    lost = {
        (run.arm, run.seed, run.overrides["trainer.devices"]): run.failure
        for run in unfinished(sweep.parent, [])
    }
    assert lost == {
        ("hybrid", 8, "1"): "RuntimeError: seed 8 fell over",
        ("hybrid", 7, "1"): "seed 7 is unlucky",
        ("hybrid", 4, "1"): NOT_ENDED,  # it left no run.json, as a classifier does
        **{("hybrid", seed, "0"): lost["hybrid", 8, "0"] for seed in (8, 7, 4)},
    }
    assert "trainer.devices=0: it is a number above 0" in str(lost["hybrid", 8, "0"])


def test_a_sweep_of_which_all_jobs_are_refused_leaves_nothing(tmp_path: Path):
    done = sweep_of(tmp_path, "seed=4,5", "dataset=folder,imagefolder")
    assert done.returncode == 1
    assert "InputError: dataset.root has no value" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"job.py"}


def test_a_killed_worker_is_replaced(tmp_path: Path):
    done = launch(tmp_path, "seed=9,4,5", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "A worker died" in done.stdout
    assert [job["seed"] for job in written(tmp_path)] == [9, 4, 5]


def test_a_configuration_that_cannot_work_is_refused_before_any_job_runs(tmp_path: Path):
    done = launch(tmp_path, "seed=0", "dataset=folder", "dataset.root=nowhere", "hydra.launcher.n_jobs=1")
    assert done.returncode != 0
    assert "nowhere" in done.stderr
    assert written(tmp_path) == []


def test_of_jobs_that_need_the_same_artifact_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs = {
        "real": ["data"],
        "pool 1, seed 0": ["data", "pool 1", "mix 1"],
        "pool 1, seed 1": ["data", "pool 1", "mix 2"],
        "pool 2, seed 0": ["data", "pool 2", "mix 3"],
        "pool 2, seed 1": ["data", "pool 2", "mix 4"],
        "pool 1, seed 2": ["data", "pool 1", "mix 5"],
        "free": ["other data"],
        "all there": ["built"],
    }
    monkeypatch.setattr(sweep, "without_hydra", lambda cfg: cfg)
    plans = lambda cfg, stage: {key: SimpleNamespace(key=key) for key in needs[cfg.name]}  # noqa: E731
    monkeypatch.setattr(pipeline, "recipes", plans)
    monkeypatch.setattr("skinaug.store.store.Store.has", lambda self, recipe: recipe.key == "built")
    task = SimpleNamespace(stage="classify")
    jobs = [
        sweep.Job(number, SimpleNamespace(name=name, store=tmp_path), None, task)
        for number, name in enumerate(needs)
    ]
    waves = [[job.cfg.name for job in wave] for wave in sweep.waves(jobs)]
    assert waves == [
        ["real", "free", "all there"],
        ["pool 1, seed 0", "pool 2, seed 0"],
        ["pool 1, seed 1", "pool 2, seed 1", "pool 1, seed 2"],
    ]


@pytest.mark.parametrize("count", ["two", 0, -1, 1.5, True, None])
def test_how_many_jobs_run_at_once_is_a_whole_number(count):
    with pytest.raises(InputError, match="n_jobs must be auto or a whole number above 0"):
        JoblibLauncher(count)
