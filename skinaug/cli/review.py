"""`skinaug review`: the page on which people judge the pool, which is built first where it is not there yet; or, with
`review.task=real_or_fake`, that of the reader's test, on which they tell its images from photographs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.cli.report import ANSWERS
from skinaug.curate.curate import prefixed
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.pipeline import recipes, run
from skinaug.stage import build, picture_cache
from skinaug.store.files import write_text
from skinaug.store.store import Store

TASKS = ("keep_or_reject", "real_or_fake")


def command(cfg: DictConfig, stage: str) -> None:
    if cfg.review.task not in TASKS:
        raise InputError(f"review.task={cfg.review.task}: it is {' or '.join(TASKS)}.")
    if cfg.review.task == "real_or_fake":
        real_or_fake(cfg)
    else:
        keep_or_reject(cfg)


def keep_or_reject(cfg: DictConfig) -> None:
    """People choose among the pool's images."""
    from skinaug.curate.nearest_real import made_from
    from skinaug.curate.review import check_settings, review

    settings = {name: cfg.review[name] for name in ("reviewer", "host", "port", "open_browser")}
    check_settings(settings["reviewer"], settings["host"], settings["port"])
    made = run(cfg, "generate")
    pool = Manifest.read(made["generate"].path)
    real = Manifest.read(made["dataset"].path).split("train")
    device = build(cfg.trainer)().strategy.root_device
    settings["nearest"] = build(cfg.review.nearest)(pool, real, cache=picture_cache(cfg), device=device)
    settings["made_from"] = made_from(pool, real)
    settings["folder"] = Path(cfg.review.folder)
    review(pool, stored_scores(cfg, pool), **settings)


def real_or_fake(cfg: DictConfig) -> None:
    """Readers tell images of the curated pool from photographs; what they answered so far is printed and written."""
    from skinaug.curate import readers
    from skinaug.curate.reader_page import read_pictures
    from skinaug.curate.review import check_settings

    settings = cfg.review
    check_settings(settings.reader, settings.host, settings.port)
    readers.check_settings(settings.split, settings.per_class)
    made = run(cfg, "curate")
    real, pool = (Manifest.read(made[name].path) for name in ("dataset", "curate"))
    drawn = readers.draw_pictures(real, pool, settings.split, settings.per_class, settings.seed)
    folder = Path(settings.readings) / made["curate"].key
    deck = read_pictures(
        drawn.table,
        readers.encoded(drawn),
        folder / ANSWERS,
        settings.reader,
        settings.host,
        settings.port,
        settings.open_browser,
    )
    print(f"{len(deck.answers)} of {len(deck.images)} pictures are answered by {deck.reader}")
    tell(readers.readings(folder / ANSWERS, real, pool), folder / "auc.csv", cfg.report.num_resamples)


def tell(readings: pl.DataFrame, file: Path, num_resamples: int) -> None:
    """Print how well readers tell images apart, and write it as CSV."""
    from skinaug.report.readers import auc_frame, auc_table, verdict

    frame = auc_frame(readings, num_resamples)
    print(verdict(frame))
    if frame.is_empty():
        return
    write_text(file, frame.write_csv())
    shown = auc_table(frame)
    table = Table(*shown.header)
    for row in shown.rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console().print(table)
    Console().print(f"AUC: {file}", soft_wrap=True, highlight=False, markup=False)


def stored_scores(cfg: DictConfig, pool: Manifest) -> pl.DataFrame:
    """One row an image of the pool: image_id and `<filter>.<score>` of the filters that have scored it already.

    Other people's decisions are left out: reviewers judge on their own.
    """
    store, table = Store(Path(cfg.store)), pool.table.select("image_id")
    for name, recipe in recipes(cfg, "curate").items():
        kind, _, filter_ = name.partition(".")
        if kind == "score" and "reviews" not in cfg.curate.filters[filter_].scorer and store.has(recipe):
            scores = pl.read_parquet(store.artifact(recipe).path / "scores.parquet")
            table = table.join(prefixed(filter_, scores), on="image_id", how="left", maintain_order="left")
    return table
