"""One process of a stage on several devices (`spread`): `python -m skinaug.devices.process <folder>`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from skinaug.errors import InputError
from skinaug.stage import Build
from skinaug.store.artifact import Artifact
from skinaug.store.files import write_text


class LogFile(Logger):
    """Metrics as lines of JSON, pictures as files beside them, by rank 0: somebody else tells the dashboard."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    @property
    def name(self) -> str:
        return "log"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._write(
            metrics={name: float(value) for name, value in metrics.items()},
            step=None if step is None else int(step),
        )

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        files = [self.file.with_name(f"{key}-{step}-{number}.png") for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            image.save(file)
        self._write(key=key, images=[str(file) for file in files], step=step)

    def _write(self, **entry: Any) -> None:
        with self.file.open("a") as log:
            log.write(json.dumps(entry) + "\n")


def main(folder: Path) -> None:
    """Take part in a build, and stay until the process that asked for it closes this one's standard input, or is killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # that process answers it
    ended = threading.Thread(target=_end_with_input, daemon=True)
    ended.start()
    task = json.loads((folder / "task.json").read_text())
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    made = {name: Artifact(stage, key, Path(path)) for name, (stage, key, path) in task["made"].items()}
    logger = LogFile(folder / "log.jsonl") if task["logs"] else False
    try:
        resolve_name(task["build"])(Build(cfg, made, Path(task["out"]), logger))
    except BaseException as error:
        refused = isinstance(error, InputError)
        if not refused:
            traceback.print_exc()
        message = str(error) if refused else f"{type(error).__name__}: {error}"
        write_text(folder / f"error-{os.getpid()}.json", json.dumps({"input": refused, "message": message}))
        os._exit(1)
    if rank_zero_only.rank == 0:
        (folder / "done").touch()
    ended.join()


def _end_with_input() -> None:
    """End this process at once, and with it whatever waits in it for others."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
