"""`skinaug mix`: the mix as a table. Trains nothing: where the curated pool is not there yet, the counts are those asked for."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from omegaconf import DictConfig

from skinaug.cli.next_step import tell_next
from skinaug.manifest import Manifest
from skinaug.mix.mix import show
from skinaug.pipeline import check, check_data, recipes_of, run, steps
from skinaug.stage import build
from skinaug.store.store import Store

CHEAP = ("dataset", "copies", "mix")


def command(cfg: DictConfig, stage: str) -> None:
    store, plan = Store(Path(cfg.store)), steps(cfg, "mix")
    if all(store.has(recipe) for name, recipe in recipes_of(plan).items() if name not in CHEAP):
        made = run(cfg, "mix")
        counts = pl.read_csv(made["mix"].path / "table.csv", schema_overrides={"label": pl.String})
        show(counts, build(cfg.mix), Manifest.read(made["dataset"].path))
        tell_next("mix")
        return
    check(cfg, plan)
    real = Manifest.read(run(cfg, "dataset")["dataset"].path)
    check_data(cfg, plan, real)
    recipe = build(cfg.mix)
    show(recipe.counts(real), recipe, real, planned=True)
    tell_next("mix")
