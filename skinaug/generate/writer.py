"""Pictures to files as they are drawn, whole or not at all, with the rate and the time left."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skinaug.generate.predict import Drawn

OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True},
    "jpeg": {"quality": 95, "subsampling": 0},  # colour at full resolution: skin's is what matters
}
ENDS = {"PNG": b"\x00\x00\x00\x00IEND\xaeB`\x82", "WEBP": b"", "JPEG": b"\xff\xd9"}  # WebP tells its length
DESCRIPTION = 0x010E  # EXIF's ImageDescription, ASCII
PART_ROWS, PART_SECONDS = 256, 60.0  # a part of the manifest is written when either is reached
RECORD = {
    "image_id": pl.String,
    "path": pl.String,
    "sha256": pl.String,
    "bytes": pl.Int64,
    "redraws": pl.Int32,
    "flaw": pl.String,
}


class PictureWriter(Callback):
    """Writes each batch of a Renderer to `out` while the next one is drawn, and which files are whole to `out`/parts.

    A part is an immutable table of RECORD, named only once its pictures lie there. A kill loses at most the batches in
    flight; pictures that no part names yet are looked at by the next run.

    total: pictures that all devices together will draw. format: png, webp or jpeg.
    """

    def __init__(self, out: Path, format: str, total: int) -> None:
        self.out, self.format, self.total = out, format, total

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pool = ThreadPoolExecutor(max_workers=2)  # compression and hashing leave Python's lock
        self.waiting: list[Future[dict[str, Any]]] = []
        self.records: list[dict[str, Any]] = []
        self.written = time.monotonic()
        self.progress = _progress()
        self.task = self.progress.add_task("generate", total=self.total, rate=0.0)
        if trainer.is_global_zero:
            self.progress.start()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Drawn,
        batch: Sequence[Mapping[str, Any]],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._finish_writing()
        if len(self.records) >= PART_ROWS or time.monotonic() - self.written > PART_SECONDS:
            self._write_part()
        for row, *drawn in zip(batch, *outputs, strict=True):
            self.waiting.append(self.pool.submit(save_picture, self.out, self.format, row, *drawn))
        self.progress.advance(self.task, len(batch) * trainer.world_size)
        task = self.progress.tasks[self.task]
        self.progress.update(self.task, rate=task.completed / (task.elapsed or 1.0))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish_writing()
        self._write_part()
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if hasattr(self, "progress"):
            self._close()

    def _finish_writing(self) -> None:
        self.records += [written.result() for written in self.waiting]
        self.waiting.clear()

    def _write_part(self) -> None:
        if self.records:
            write_part(self.out, self.records)
        self.records, self.written = [], time.monotonic()

    def _close(self) -> None:
        self.progress.stop()
        self.pool.shutdown()
        del self.pool, self.progress, self.waiting


def save_picture(
    out: Path, format: str, row: Mapping[str, Any], picture: np.ndarray, redraws: int, flaw: str | None
) -> dict[str, Any]:
    """Write uint8 [H, W, 3] to `out / row["path"]`, with what made it in its EXIF, and tell its RECORD; the mask of a row with an
    `area`, bool [H, W], to `out / row["mask"]`, white where it was drawn.

    By another name first, so that no half file stays. The digest is taken from the bytes in memory.
    """
    about = {"prompt": row["prompt"], "seed": row["seed"], "redraws": redraws, "flaw": flaw}
    exif = Image.Exif()
    exif[DESCRIPTION] = json.dumps(about)
    file = BytesIO()
    Image.fromarray(picture).save(file, format=format, exif=exif, **OPTIONS[format])
    content = file.getvalue()
    if "area" in row:  # first: where there is a picture, there is its mask
        mask = BytesIO()
        Image.fromarray(row["area"].astype(np.uint8) * 255).save(mask, format="png")
        _write_whole(out / row["mask"], mask.getvalue())
    _write_whole(out / row["path"], content)
    return _record(row, content, about)


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content)
    os.replace(partial, path)


def has_mask(out: Path, row: Mapping[str, Any]) -> bool:
    """Whether a row's mask lies whole at its place, or it has none."""
    if "mask" not in row:
        return True
    path = out / row["mask"]
    return path.is_file() and path.read_bytes().endswith(ENDS["PNG"])


def read_picture(out: Path, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The RECORD of a row's picture that lies at its place, or None where it is missing, broken or another's."""
    try:
        content = (out / row["path"]).read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.verify()  # checksums
        with Image.open(BytesIO(content)) as image:
            about = json.loads(image.getexif()[DESCRIPTION])
            image.load()  # raises where the file is cut off
            right = image.size == (row["image_size"], row["image_size"]) and content.endswith(
                ENDS[str(image.format)]
            )
        right = right and (about["prompt"], about["seed"]) == (row["prompt"], row["seed"])
        return _record(row, content, about) if right else None
    except (OSError, KeyError, ValueError, SyntaxError):  # what Pillow raises for broken files
        return None


def write_part(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add a part to out/parts: whole or not at all, never changed again, safe for any number of processes."""
    path = out / "parts" / f"{uuid.uuid4().hex}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(records, schema=RECORD).write_parquet(path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def read_part(path: Path) -> pl.DataFrame | None:
    """A part's RECORDs; None where a machine that lost power left the file without its content."""
    try:
        part = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return part if part.schema == pl.Schema(RECORD) else None


def _record(row: Mapping[str, Any], content: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_id": row["image_id"],
        "path": row["path"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "redraws": about["redraws"],
        "flaw": about["flaw"],
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("generate"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images  {task.fields[rate]:.1f}/s "),
        TimeRemainingColumn(),
    )
