"""The stages `score` and `curate`: every filter scores the pool, and the curated pool is what passes their thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.seen import write_seen
from skinaug.stage import Build, Stage, Step, build, named_files, plain, teacher


def score_steps(cfg: DictConfig) -> Iterator[Step]:
    """The scores of each filter, apart from its thresholds, which may move at no cost."""
    for name, filter_ in cfg.curate.filters.items():
        if "scorer" not in filter_:
            raise InputError(
                f"filter.{name} has settings, and {name} is no filter of filter=[...]: name it there, or leave the settings out, "
                f"with '~filter.{name}' where a file makes them."
            )
        config = {"name": name, **plain(filter_.scorer), "precision": cfg.trainer.precision}
        inputs = ["generate", teacher(cfg)]
        make = partial(build_score, name)
        yield Step(f"score.{name}", config, make, inputs, files=named_files(config), tracked=False)


def curate_steps(cfg: DictConfig) -> Iterator[Step]:
    """The curated pool."""
    keep = {name: plain(filter_.get("keep", {})) for name, filter_ in cfg.curate.filters.items()}
    config = {"filters": list(keep), "keep": keep, "subgroup": cfg.curate.get("subgroup")}
    yield Step("curate", config, build_curate, ["generate", *(f"score.{name}" for name in keep)])


def check_filters(cfg: DictConfig) -> None:
    """Refuse filters whose settings or thresholds cannot work."""
    import polars as pl

    for filter_ in cfg.curate.filters.values():
        scorer = build(filter_.scorer)
        try:
            scorer.keep(pl.DataFrame(), **plain(filter_.get("keep", {})))
        except InputError:
            raise  # thresholds are checked before scores are looked at
        except Exception:  # there are no scores yet
            continue


def build_score(name: str, job: Build) -> None:
    scorer = build(job.cfg.curate.filters[name].scorer)
    train = job.manifest(teacher(job.cfg)).split("train")
    if getattr(scorer, "exposure", "real") == "off_the_shelf":
        # What it says that it does not look at, it does not get.
        train = train.with_table(train.table.clear())
    real = write_seen(train, job.out)
    scores = scorer.score(job.manifest("generate"), real, trainer=build(job.cfg.trainer), cache=job.cache)
    scores.write_parquet(job.out / "scores.parquet")


def build_curate(job: Build) -> None:
    import polars as pl

    scores = {
        name: pl.read_parquet(job.made[f"score.{name}"].path / "scores.parquet")
        for name in job.cfg.curate.filters
    }
    build(job.cfg.curate)(pool=job.manifest("generate"), scores=scores, out=job.out)


def tags(cfg: DictConfig) -> dict[str, Any]:
    return {"filters": "+".join(cfg.curate.filters) or "none"}


SCORE = Stage("score", 5, score_steps)
STAGE = Stage("curate", 2, curate_steps, check_parts=check_filters, tags=tags)
