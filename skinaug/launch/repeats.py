"""Sweeps whose jobs are repeated: `folds=5` runs each job once a fold, and `generate.seeds=3` deals pools of three seeds to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.stage import plain, teacher

SHORT = {
    "folds": "folds.count",
    "generate.seeds": "pools.seeds",
}  # what people type -> the key that it stands for
FOLD, NUMBER = "dataset.fold", "pools.number"


def spelled_out(overrides: Sequence[str]) -> list[str]:
    """Overrides with whole names in the place of short ones."""
    pairs = [override.partition("=") for override in overrides]
    return [f"{SHORT.get(key, key)}{sign}{value}" for key, sign, value in pairs]


def check_repeats(config: DictConfig) -> None:
    """Refuse folds and seeds of pools that there cannot be.

    Raises:
        InputError: fewer than two folds, or neither a number of seeds nor a list of them or of folders.
    """
    from skinaug.dataset.folds import check_folds

    if config.folds.count is not None:
        check_folds(plain(config.folds.count), 0, 0.0)
        teacher(config)  # refuses what refit cannot be
    seeds = plain(config.pools.seeds)
    kinds = {type(seed) for seed in seeds} if isinstance(seeds, list) else {int}
    number = seeds if type(seeds) is int else len(set(seeds)) if isinstance(seeds, list) else 0
    if seeds is not None and (
        number < 1 or kinds not in ({int}, {str}) or (isinstance(seeds, list) and number < len(seeds))
    ):
        raise InputError(
            f"generate.seeds={seeds}: it is how many pools of other seeds to make, or a list of different seeds, or of the folders of "
            "pools that were made elsewhere."
        )


def refuse_pools_without_sweep(config: DictConfig) -> None:
    """Refuse several seeds of pools for a single job, which draws from one. Raises InputError."""
    if config.pools.seeds is not None and config.pools.number is None:
        raise InputError(
            "generate.seeds deals pools to the jobs of a sweep, and this is a single job: add -m and several seeds, or set generate.seed."
        )


def repeated(
    jobs: Sequence[Sequence[str]], config: DictConfig, compose: Callable[[list[str]], DictConfig]
) -> list[list[str]]:
    """The jobs of a sweep with their pools, once a fold: all jobs of fold 0 first.

    Args:
        jobs: overrides of each.
        config: of the sweep.
        compose: the configuration of a job.

    Raises:
        InputError: jobs of other numbers of folds or pools than others, or pools that no seed would use.
    """
    for short, key in SHORT.items():
        values = {override for job in jobs for override in job if override.startswith(f"{key}=")}
        if len(values) > 1:
            raise InputError(f"{short} is one value for a whole sweep; here it is swept over {len(values)}.")
    found = [list(job) for job in jobs]
    if config.pools.seeds is not None:
        found = _with_pools(found, compose)
    if config.folds.count is None:
        return found
    return [
        job if _has(job, FOLD) else [*job, f"{FOLD}={fold}"]
        for fold in range(config.folds.count)
        for job in found
        if fold == 0 or not _has(job, FOLD)  # of one that names its fold, that alone
    ]


def _with_pools(jobs: Sequence[list[str]], compose: Callable[[list[str]], DictConfig]) -> list[list[str]]:
    """Each job with the pool that its seed uses: seed s number s mod n, so that a pool costs no further classifier."""
    found, used, number = [], set[int](), 1
    for job in jobs:
        cfg = compose(job)
        key, values = _pools_of(cfg)
        number = len(values)
        own = int(cfg.seed) % number
        used.add(own)
        kept = [override for override in job if override.partition("=")[0] not in (key, NUMBER)]
        found.append([*kept, f"{key}={values[own]}", f"{NUMBER}={own}"])
    if len(used) < number:
        raise InputError(
            f"generate.seeds asks for {number} pools, of which the seeds of this sweep use {len(used)}: seed s takes pool s mod {number}. "
            f"Sweep over at least {number} seeds, such as seed={','.join(map(str, range(number)))}, better over twice as many."
        )
    return found


def _pools_of(cfg: DictConfig) -> tuple[str, list[Any]]:
    """The key in which the pools of a job differ, and its value in each."""
    seeds: Any = plain(cfg.pools.seeds)
    folders = isinstance(seeds, list) and isinstance(seeds[0], str)
    if folders == ("seed" in cfg.generate):
        raise InputError(
            f"generate.seeds={seeds}: pools that are made here differ in their seeds, generate.seeds=3, and pools that were made "
            "elsewhere (generate=folder, csv, imagefolder) in their folders, generate.seeds=[<folder>,<folder>]."
        )
    if folders:
        return "generate.root", seeds
    return "generate.seed", seeds if isinstance(seeds, list) else [
        cfg.generate.seed + i for i in range(seeds)
    ]


def _has(job: Sequence[str], key: str) -> bool:
    return any(override.startswith(f"{key}=") for override in job)
