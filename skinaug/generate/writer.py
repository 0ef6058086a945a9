"""Pictures to files as they are drawn, whole or not at all, with the rate and the time left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class PictureWriter(Callback):
    """Writes each batch of a Renderer to `folder/<image_id>.png` while the next one is drawn.

    A kill loses at most the batches in flight: what is there is whole, and what is whole need not be drawn again.
    """

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total = folder, total
        self.pool = ThreadPoolExecutor(max_workers=2)  # PNG compression leaves Python's lock
        self.waiting: list[Future[None]] = []
        self.progress = Progress(
            TextColumn("generate"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[rate]:.1f}/s "),
            TimeRemainingColumn(),
        )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.task = self.progress.add_task("generate", total=self.total, rate=0.0)
        if trainer.is_global_zero:
            self.progress.start()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: tuple[np.ndarray, np.ndarray],
        batch: Sequence[dict[str, Any]],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._finish_writing()
        for row, picture, redraws in zip(batch, *outputs, strict=True):
            about = {"prompt": row["prompt"], "seed": str(row["seed"]), "redraws": str(redraws)}
            path = self.folder / f"{row['image_id']}.png"
            self.waiting.append(self.pool.submit(save_picture, path, picture, about))
        self.progress.advance(self.task, len(batch) * trainer.world_size)
        self.progress.update(self.task, rate=self.images_per_second)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish_writing()
        self.progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.progress.stop()

    @property
    def images_per_second(self) -> float:
        """Images drawn by all devices over the seconds since the first batch began."""
        task = self.progress.tasks[self.task]
        return task.completed / task.elapsed if task.elapsed else 0.0

    def _finish_writing(self) -> None:
        for written in self.waiting:
            written.result()
        self.waiting.clear()


def save_picture(path: Path, picture: np.ndarray, about: dict[str, str]) -> None:
    """Write uint8 [H, W, 3] as PNG with texts beside the pixels: by another name first, so that no half file stays."""
    texts = PngInfo()
    for key, value in about.items():
        texts.add_text(key, value)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    Image.fromarray(picture).save(partial, format="png", pnginfo=texts)
    os.replace(partial, path)


def read_redraws(path: Path) -> int:
    """How often a picture that `save_picture` wrote was drawn again; reads the file's head only."""
    with Image.open(path) as image:
        return int(image.info["redraws"])


def is_whole(path: Path) -> bool:
    """Whether a PNG file reaches its end mark: a machine that lost power can leave a renamed file without its content."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False
