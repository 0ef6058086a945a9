"""`skinaug review`: the page on which people judge the pool, which is built first where it is not there yet."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from omegaconf import DictConfig

from skinaug.curate.curate import prefixed
from skinaug.manifest import Manifest
from skinaug.pipeline import recipes, run
from skinaug.stage import build, picture_cache, plain
from skinaug.store.store import Store


def command(cfg: DictConfig, stage: str) -> None:
    from skinaug.curate.review import check_settings, review

    settings = plain(cfg.review)
    check_settings(settings["reviewer"], settings["host"], settings["port"])
    made = run(cfg, "generate")
    pool = Manifest.read(made["generate"].path)
    real = Manifest.read(made["dataset"].path).split("train")
    device = build(cfg.trainer)().strategy.root_device
    settings["nearest"] = build(cfg.review.nearest)(pool, real, cache=picture_cache(cfg), device=device)
    settings["folder"] = Path(cfg.review.folder)
    review(pool, stored_scores(cfg, pool), **settings)


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
