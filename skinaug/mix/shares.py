"""How many images come from each pool and each prompt set, where a mix draws from several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import Manifest

Part = tuple[str, Manifest, Mapping[str, int]]  # its name in an error, its images, how many of each class


def shared_among(parts: Iterable[Part], column: str, weights: Mapping[str, float] | None) -> Iterator[Part]:
    """Each part as parts of one value of a column, among which it is shared by weight; None: as it is."""
    for what, pool, asked in parts:
        if weights is None:
            yield what, pool, asked
            continue
        known = sorted(pool.table[column].drop_nulls().unique()) if column in pool.table.columns else []
        names = sorted(name for name, weight in weights.items() if weight > 0)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"mix.{column}s names {', '.join(unknown)}; the pool has {', '.join(known) or 'none'}."
            )
        shares = {label: allot(count, weights) for label, count in asked.items()}
        for name in names:
            own = pool.where(pl.col(column) == name)
            wanted = {label: share[name] for label, share in shares.items()}
            yield f"images of the {column.replace('_', ' ')} {name} in the pool", own, wanted


def allot(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Share a count among names by weight, with the divisor method of Webster (Sainte-Lague).

    Unlike rounding each share, a larger count never gives a name fewer, so draws stay nested.
    """
    names = sorted(name for name in weights if weights[name] > 0)
    steps = (np.arange(count) + 0.5)[:, None] / np.array([weights[name] for name in names])
    owners = np.argsort(steps.reshape(-1), kind="stable")[:count] % len(names)
    return dict(zip(names, np.bincount(owners, minlength=len(names)).tolist(), strict=True))
