"""The stage `mix`: real and synthetic images in exact proportions, and the certificate that nothing leaked into them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from skinaug.errors import InputError, listing
from skinaug.leaks.lineage import certify_training
from skinaug.manifest import Manifest, read_once
from skinaug.mix.selection import BY_SCORE
from skinaug.pools import curated_pool, curated_pools, in_pool
from skinaug.stage import Build, Plan, Stage, Step, build, named_files, plain, teacher, without_later
from skinaug.store.artifact import Artifact
from skinaug.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

LATER = {"tone_shift_ita": None}  # options that came after the first mixes


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The mix, of the study's own pool, of others that it names, or of none. Equal draws of other names are one artifact."""
    config = recipe_config(cfg)
    given, needs_pool = given_pools(cfg), build(cfg.mix).needs_pool
    own = ["curate"] if needs_pool and not given else []
    shifted = ["tones"] if cfg.mix.control == "tone_shift" else []
    if (own or config["pools"]) and config["selection"] == "diverse":
        config["features"] = plain(cfg.features)
    yield Step(
        "mix",
        config,
        build_mix,
        ["dataset", "copies", *own, *shifted],
        files=named_files(config),
        digests=given,
        after=["audit"] if own else [],  # what a report tells of the pool
    )


def tone_steps(cfg: DictConfig) -> Iterator[Step]:
    """Photographs of other tones, which stand in for a mix's synthetic images."""
    yield Step("tones", recipe_config(cfg), build_tones, ["dataset"], tracked=False)


def recipe_config(cfg: DictConfig) -> dict[str, Any]:
    """What decides which images are drawn."""
    config = {name: value for name, value in plain(cfg.mix).items() if name != "name"}
    return without_later(config, LATER)


OF_REAL = (
    "real_ratio",
    "real_per_class",
    "real_limit",
    "max_per_class",
    "seed",
)  # what decides which photographs an arm has
OF_REPLACED = (
    "synthetic_ratio",
    "synthetic_per_class",
    "reference",
)  # besides, where synthetic ones take the place of as many


def exposed_steps(cfg: DictConfig) -> Iterator[Step]:
    """The data set with the training photographs of the arm alone, from which generator and filters learn with `exposure=arm`. Arms with
    the same photographs share it, and with it weights and pool."""
    names = OF_REAL + (OF_REPLACED if cfg.mix.entry == "replace" else ())
    config = {"entry": cfg.mix.entry == "replace", **{name: plain(cfg.mix)[name] for name in names}}
    yield Step("exposed", config, build_exposed, ["dataset"], tracked=False)


def check_exposed(cfg: DictConfig) -> None:
    """Refuse a matched exposure where there is nothing to match, or where the pool has been made before."""
    if not build(cfg.mix).keeps_real:
        raise InputError(
            f"exposure=arm: the mix {cfg.mix.name} keeps no photograph, so none could teach its generator and filters. Leave it out of the "
            "sweep over exposure, as in mix=real_small,real,hybrid, or judge it with exposure=all."
        )


def check_exposed_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    kept = build(cfg.mix).kept(data)
    if without := [label for label, count in kept.items() if not count]:
        raise InputError(
            f"exposure=arm: the mix {cfg.mix.name} keeps no photograph of {', '.join(without)}, so none could teach its generator and filters "
            "that class. Raise mix.real_ratio or mix.real_per_class."
        )


def build_exposed(job: Build) -> None:
    exposed = build(job.cfg.mix).exposed(job.manifest("dataset"))
    exposed.write(job.out)


def given_pools(cfg: DictConfig) -> dict[str, str]:
    """{`curate.<key>`: key} of the pools that the mix draws from instead of the study's own; {} for that one."""
    if not build(cfg.mix).needs_pool:
        return {}
    keys = [name.rpartition("/")[2] for name, weight in (cfg.mix.pools or {}).items() if weight]
    return {f"curate.{key}": key for key in keys}


def check(cfg: DictConfig) -> None:
    """Refuse a selection by the score of a filter that is not used, pools that are none, and an exposure that they cannot have."""
    mix = build(cfg.mix)
    if teacher(cfg) == "exposed" and mix.needs_pool:
        _check_taught_here(cfg)
    if (
        mix.needs_pool
        and not mix.pools
        and mix.selection in BY_SCORE
        and mix.score.partition(".")[0] not in cfg.curate.filters
    ):
        raise InputError(
            f"mix.score={mix.score}: there is no such filter; the pool's are {', '.join(cfg.curate.filters) or 'none'}. Choose "
            "one of their scores, or add the filter."
        )
    store = Store(Path(cfg.store))
    for key in given_pools(cfg).values():
        found = store.find(key)
        if found.stage != "curate":
            raise InputError(
                f"mix.pools names {found.stage}/{key}, which is no curated pool: name curate/<key>, as `skinaug store ls` does."
            )


def _check_taught_here(cfg: DictConfig) -> None:
    """Refuse a matched exposure of pools and weights that have learned before. Raises InputError."""
    given = {
        "mix.pools": given_pools(cfg),
        "generate.seen": cfg.generate.get("seen"),
        "finetune.seen": cfg.finetune.get("seen"),
    }
    for name, value in given.items():
        if value and value != "none":
            raise InputError(
                f"exposure=arm and {name}={'...' if name == 'mix.pools' else value}: pools and weights that were made before keep what they have "
                "learned from, and cannot be taught with the photographs of an arm. Use the study's own."
            )


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    """Refuse more synthetic images than the study's own pool will have."""
    most = plan["generate"].images_per_class if "generate" in plan else None
    if most is None:
        return
    counts = build(cfg.mix).counts(data)
    few = counts.filter(counts["synthetic"] > most)
    if few.height:
        asked = listing(
            f"{label}: asked {count}" for label, count in few.select("label", "synthetic").iter_rows()
        )
        raise InputError(
            f"The mix {cfg.mix.name} asks for more synthetic images than the pool will have ({most} a class before curation):\n"
            f"{asked}\nRaise generate.per_class or ask for fewer."
        )


def check_pool(cfg: DictConfig, plan: Plan, made: Mapping[str, Artifact]) -> None:
    """Refuse a mix that asks for more images than its pool has kept, as soon as the pool is there."""
    recipe, given = build(cfg.mix), given_pools(cfg)
    if not recipe.needs_pool or not {"dataset", *(given or ["curate"])} <= {*made}:
        return
    pool = curated_pool(made) if given else read_once(made["curate"].path)
    assert pool is not None, "all of its pools are made"
    data = read_once(made["dataset"].path)
    try:
        recipe.check_pool(data, pool)
    except InputError as error:
        raise InputError(
            f"The mix {cfg.mix.name} cannot be made. {error}{'' if given else _enough(recipe.counts(data), plan, pool)}"
        ) from None


def _enough(counts: pl.DataFrame, plan: Plan, pool: Manifest) -> str:
    """What would give each class enough of the study's own pool, at the share that the filters have kept, in words.

    counts: of the images that are asked for (`Mix.counts`).
    """
    drawn = plan["generate"].images_per_class if "generate" in plan else None
    kept = dict(pool.split("train").table.group_by("label").len().iter_rows())
    asked = counts.select("label", "synthetic").iter_rows()
    shares = [count / kept[label] if label in kept else math.inf for label, count in asked if count]
    if drawn is None or max(shares) in (math.inf, 0) or max(shares) <= 1:
        return ""
    return f" At the share that the filters keep, generate.per_class={math.ceil(drawn * max(shares))} would be enough."


def build_tones(job: Build) -> None:
    from skinaug.mix.tones import shift_tones

    recipe = build(job.cfg.mix)
    repeated = recipe.repeated(job.manifest("dataset"))
    shift_tones(repeated, recipe.tone_shift_ita, recipe.seed, job.out).write(job.out)


def build_mix(job: Build) -> None:
    import polars as pl

    from skinaug.mix.mix import mix

    cfg, pools = job.cfg, curated_pools(job.made)
    scores = {name: pl.read_parquet(artifact.path / "scores.parquet") for name, artifact in pools.items()}
    if "curate" not in job.made:
        scores = {name: in_pool(table, name) for name, table in scores.items()}

    def features(images: Manifest) -> np.ndarray:
        from skinaug.metrics.features import embed

        network, device = build(cfg.features.backbone), build(cfg.trainer)().strategy.root_device
        return embed(images, network, cfg.features.image_size, cache=job.cache, device=device)

    table = pl.concat(scores.values(), how="diagonal_relaxed") if scores else None
    shifted = job.manifest("tones") if "tones" in job.made else None
    mix(build(cfg.mix), job.manifest("dataset"), curated_pool(job.made), job.out, table, features, shifted)
    needs = {
        name: artifact.key
        for name, artifact in job.made.items()
        if artifact.stage in ("dataset", "copies", "curate")
    }
    certify_training(Store(Path(cfg.store)), needs, Manifest.read(job.out), job.out)


def tags(cfg: DictConfig) -> dict[str, Any]:
    scalars = {
        name: value
        for name, value in plain(cfg.mix).items()
        if not isinstance(value, dict | list) and name[0] != "_"
    }
    return {f"mix.{name}": value for name, value in scalars.items()}


TONES = Stage("tones", 1, tone_steps)
EXPOSED = Stage("exposed", 1, exposed_steps, check_exposed, check_data=check_exposed_data)
STAGE = Stage("mix", 2, steps, check, check_data=check_data, tags=tags, check_pool=check_pool)
