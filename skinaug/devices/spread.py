"""A stage on several devices: one process a device, started for one build and gone after it.

Jobs of a sweep share no process group, so none can hang on what an earlier one left; and the process that holds the store's
lease, the terminal and the dashboard is none of them, so it can tell what went wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from skinaug.errors import InputError
from skinaug.models.devices import device_count
from skinaug.stage import ONE, SHARDED, Build, Step, plain
from skinaug.store.files import write_text

FOLDER = "processes"  # in a work folder, for the time of the build
LOOK = 0.2  # seconds between looks at the processes


def is_spread(cfg: DictConfig, step: Step) -> bool:
    """Whether a step is built on several devices."""
    return step.devices != ONE and devices(cfg) * nodes(cfg) > 1


def devices(cfg: DictConfig) -> int:
    """How many devices of a machine the trainer takes: a number, a list of them, or `auto` or -1 for all GPUs."""
    count = device_count(plain(cfg.trainer.devices))
    if count is not None:
        return count
    import torch

    return 1 if cfg.trainer.accelerator == "cpu" else max(torch.cuda.device_count(), 1)


def nodes(cfg: DictConfig) -> int:
    """How many machines of a Slurm job the trainer takes."""
    return int(cfg.trainer.get("num_nodes", 1))


def for_step(cfg: DictConfig, step: Step) -> DictConfig:
    """The configuration with the trainer that a step has: of one device where it is not spread; and only one whose weights may be
    in pieces needs a strategy that keeps them so."""
    spread = is_spread(cfg, step)
    if devices(cfg) * nodes(cfg) == 1 or (spread and step.devices == SHARDED):
        return cfg
    alone = {} if spread else {"devices": 1, "num_nodes": 1}
    changed = cfg.copy()
    OmegaConf.set_struct(changed, False)
    changed.trainer = {**plain(cfg.trainer), **alone, "strategy": "auto"}
    return changed


def build_spread(step: Step, job: Build) -> None:
    """Build a step by `process` on every device, and hand what rank 0 logs to the job's logger.

    Raises:
        InputError: a process refused its input.
        RuntimeError: a process failed or was killed.
    """
    folder, cfg, logger = job.out / FOLDER, job.cfg, job.logger
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():  # by a build that was killed
        left.unlink()
    task = {
        "build": f"{step.build.__module__}:{step.build.__qualname__}",
        "out": str(job.out),
        "made": {need: [found.stage, found.key, str(found.path)] for need, found in job.made.items()},
        "logs": not isinstance(logger, bool),
    }
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    write_text(folder / "task.json", json.dumps(task))
    process = subprocess.Popen(command(cfg, folder), env=environment(cfg), stdin=subprocess.PIPE)
    logged = 0
    try:
        while process.poll() is None and not (folder / "done").exists():
            time.sleep(LOOK)
            logged = relay(folder, logged, logger)
    finally:
        process.stdin.close()  # type: ignore[union-attr]  # by which all processes end, as they do when this one is killed
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
    relay(folder, logged, logger)
    if not (folder / "done").exists():
        errors = [json.loads(file.read_text()) for file in sorted(folder.glob("error-*.json"))]
        for error in errors:
            if error["input"]:
                raise InputError(error["message"])
        told = errors[0]["message"] if errors else f"exit status {process.returncode}"
        raise RuntimeError(f"{step.name} failed on {devices(cfg) * nodes(cfg)} devices: {told}")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def command(cfg: DictConfig, folder: Path) -> list[str]:
    """What starts the processes: on one machine the first one, which lets Lightning start the others."""
    own = [sys.executable, "-m", "skinaug.devices.process", str(folder)]
    if nodes(cfg) == 1:
        return own
    tasks = [f"--nodes={nodes(cfg)}", f"--ntasks-per-node={devices(cfg)}"]
    return ["srun", "--overlap", "--kill-on-bad-exit=1", *tasks, *own]


def environment(cfg: DictConfig) -> dict[str, str]:
    """Of the processes: they find the same modules, share the cores, and on one machine take no part in a Slurm job's tasks."""
    inherited = dict(os.environ)
    if nodes(cfg) == 1:
        inherited = {name: value for name, value in inherited.items() if not name.startswith("SLURM_")}
    inherited["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    inherited.setdefault("OMP_NUM_THREADS", str(max(len(own_cores()) // devices(cfg), 1)))
    return inherited


def own_cores() -> list[int]:
    """The processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def relay(folder: Path, logged: int, logger: Any) -> int:
    """Hand the lines after the first `logged` characters of what rank 0 logs to a logger. Returns how far it got."""
    log = folder / "log.jsonl"
    if not log.exists() or isinstance(logger, bool):
        return logged
    for line in whole_lines(log.read_text()[logged:]):
        logged += len(line)
        entry = json.loads(line)
        if "metrics" in entry:
            logger.log_metrics(entry["metrics"], entry["step"])
        elif hasattr(logger, "log_image"):
            logger.log_image(key=entry["key"], images=entry["images"], step=entry["step"])
    return logged


def whole_lines(text: str) -> Iterator[str]:
    """Lines that have their end."""
    yield from (line for line in text.splitlines(keepends=True) if line.endswith("\n"))
