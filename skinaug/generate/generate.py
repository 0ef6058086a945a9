"""The stage: prompts and weights to a pool of synthetic images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
from diffusers import DiffusionPipeline
from lightning import Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from skinaug.generate.plan import check_settings, plan
from skinaug.generate.predict import Renderer, build_scheduler, check_prompts, check_size
from skinaug.generate.weights import load, read_phrases
from skinaug.generate.writer import PictureWriter, is_whole, read_redraws
from skinaug.images import sha256_file
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet


def generate(
    per_class: int,
    guidance_scale: float,
    num_inference_steps: int,
    scheduler: str,
    image_size: int,
    batch_size: int,
    seed: int,
    *,
    classes: Sequence[str],
    weights: Path,
    base: Callable[[], DiffusionPipeline],
    prompts: PromptSet,
    trainer: Callable[..., Trainer],
    logger: Logger | bool,
    out: Path,
) -> None:
    """Draw `per_class` images of each class into out/images/ and write out/manifest.parquet (split train, synthetic).

    Everything is planned first and each image has a seed of its own, so batch size, order, number of devices and a kill
    do not change the pool: images that lie whole in out/images/ are not drawn again.

    Args:
        guidance_scale: weight of classifier-free guidance (Ho and Salimans 2022); 1 is none.
        scheduler: ddim, dpmsolver++, unipc or euler.
        image_size: width and height in pixels.
        weights: a fine-tuning artifact (labels.json, textual_inversion/, lora/ or pipeline/).

    Raises InputError for bad numbers and names, prompts that do not fit the data or the text encoder, and weights that do
    not fit the base.
    """
    settings = check_settings(
        per_class, guidance_scale, num_inference_steps, scheduler, image_size, batch_size
    )
    prompts.check_labels(classes)
    phrases = read_phrases(weights, classes)
    pipeline, digest = load(base, weights)
    check_size(pipeline, image_size)
    rows = plan(phrases, prompts, per_class, seed, settings, digest)
    check_prompts(pipeline, rows["prompt"].unique(maintain_order=True).to_list())
    pipeline.scheduler = build_scheduler(scheduler, pipeline)

    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    missing = _missing(rows, folder)
    writer = PictureWriter(folder, total=missing.height)
    engine = trainer(
        callbacks=[writer],
        logger=False,
        enable_progress_bar=False,  # the writer's bar counts images, not batches
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    if missing.height:
        loader = DataLoader(missing.to_dicts(), batch_size=batch_size, collate_fn=list)
        engine.predict(Renderer(pipeline, settings), loader, return_predictions=False)
        engine.strategy.barrier()  # every device's pictures are there
    if engine.is_global_zero:
        _remove_strangers(rows, folder)
        _manifest(rows, out, classes).write(out)
        _log(logger, rows, folder, writer)


def _missing(rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Rows whose picture is not there, equal prompts side by side."""
    there = [is_whole(folder / f"{image_id}.png") for image_id in rows["image_id"]]
    wanted = rows.filter(~pl.Series(there, dtype=pl.Boolean)).select("image_id", "label", "prompt", "seed")
    return wanted.sort("label", "prompt", "image_id")


def _remove_strangers(rows: pl.DataFrame, folder: Path) -> None:
    """Delete what earlier tries left that this plan does not know: half-written files, pictures of other weights."""
    names = {f"{image_id}.png" for image_id in rows["image_id"]}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _manifest(rows: pl.DataFrame, out: Path, classes: Sequence[str]) -> Manifest:
    paths = [out / "images" / f"{image_id}.png" for image_id in rows["image_id"]]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(sha256_file, paths))
        redraws = list(pool.map(read_redraws, paths))
    table = rows.with_columns(
        path=pl.format("images/{}.png", "image_id"),
        split=pl.lit("train"),
        group_id=pl.col("image_id"),
        source=pl.lit("synthetic"),
        width=pl.col("image_size"),
        height=pl.col("image_size"),
        sha256=pl.Series(digests, dtype=pl.String),
        redraws=pl.Series(redraws, dtype=pl.Int32),
        parents=pl.lit([], dtype=pl.List(pl.String)),
    )
    return Manifest(table.drop("image_size"), root=out, classes=tuple(classes))


def _log(logger: Logger | bool, rows: pl.DataFrame, folder: Path, writer: PictureWriter) -> None:
    """The rate, and where the logger shows pictures the first four of each class."""
    if isinstance(logger, bool):
        return
    if writer.total:
        logger.log_metrics({"generate/images_per_second": writer.images_per_second})
    if hasattr(logger, "log_image"):
        shown = rows.group_by("label", maintain_order=True).head(4)
        pictures = [str(folder / f"{image_id}.png") for image_id in shown["image_id"]]
        logger.log_image("generate/samples", pictures, caption=shown["prompt"].to_list())
