"""How much better a classifier does on synthetic images than on real ones: which images to ask it about."""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from skinaug.manifest import Manifest


def unused_synthetic(pool: Manifest, mix: Manifest, val: Manifest) -> Manifest:
    """Synthetic images that a classifier was not trained on, with the share of each class that real validation images have.

    At most as many as there are validation images, so that both scores stand on like numbers; fewer, by one factor for all
    classes, where the pool has not as many left. Which ones is decided by their content's digest: by nothing that a
    filter or a mix goes by, and the same ones in the same order at every call.

    Args:
        pool: the synthetic images that the mix drew from.
        mix: what the classifier was trained on; an image of the same content under another name is left out too.
        val: real validation images.

    Returns:
        Rows of the pool; none where some class of validation has no image left there.
    """
    left = (
        pool.where(~pl.col("sha256").is_in(mix.table["sha256"].to_list()))
        .table.sort("sha256", "image_id")
        .unique("sha256", keep="first", maintain_order=True)
    )
    available = dict(left.group_by("label").len().iter_rows())
    wanted = dict(val.table.group_by("label").len().sort("label").iter_rows())
    share = min([Fraction(1), *(Fraction(available.get(label, 0), count) for label, count in wanted.items())])
    counts = {label: int(count * share) for label, count in wanted.items()}
    if not counts or not all(counts.values()):
        return pool.with_table(pool.table.clear())
    return pool.with_table(pl.concat([left.filter(pl.col("label") == c).head(n) for c, n in counts.items()]))
