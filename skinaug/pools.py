"""Curated pools: those of a job, and several as one."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.store.artifact import Artifact


def join_pools(pools: Mapping[str, Manifest]) -> Manifest:
    """The images of all pools, with the column `pool` that names each one's and stands in front of its image_id.

    Raises:
        InputError: pools of different classes, or with pictures in common: weights of pools would mean nothing then.
    """
    digests = pl.concat([pool.table.select("sha256") for pool in pools.values()])["sha256"]
    shared = digests.filter(digests.is_duplicated()).n_unique()
    if shared:
        raise InputError(
            f"The pools {', '.join(pools)} have {shared} images in common: name pools that were drawn apart, by model, prompts or "
            "seed, or give their prompt sets weights instead (mix.prompt_sets)."
        )
    named = [pool.with_table(in_pool(pool.table, name)) for name, pool in pools.items()]
    return Manifest.concat(named)


def in_pool(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Rows of a pool, or of its scores, as they are called beside those of other pools."""
    return table.with_columns(pool=pl.lit(name), image_id=pl.format("{}/{}", pl.lit(name), "image_id"))


def curated_pools(made: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The pools that a mix draws from, by `curate/<key>`: the study's own, or others that the mix names.

    Args:
        made: the artifacts of a job.
    """
    return {f"curate/{artifact.key}": artifact for artifact in made.values() if artifact.stage == "curate"}


def curated_pool(made: Mapping[str, Artifact]) -> Manifest | None:
    """Their images; None where there is none."""
    pools = {name: Manifest.read(artifact.path) for name, artifact in curated_pools(made).items()}
    if "curate" in made:
        return Manifest.read(made["curate"].path)
    return join_pools(pools) if pools else None
