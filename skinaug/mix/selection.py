"""Which images come first: every class's images stand in a queue, and a mix takes as many as it wants from its head.

Whatever the order is made from, a smaller mix's images are therefore among a larger one's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing
from skinaug.manifest import Manifest

SELECTIONS = ("random", "best", "uncertain", "diverse")
BY_SCORE = ("best", "uncertain")  # those that need scores of the pool
Features = Callable[[Manifest], np.ndarray]  # float [N, D], in the manifest's order


def queue(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Rows with their `place` (0, 1, ...) among those of equal label and source, and ordered by it.

    Places come from a hash of seed, source, label and image id: a random order that neither the table's order nor other
    images change.
    """
    texts = table.select(text=pl.format("{}\0{}\0{}\0{}", pl.lit(seed), "source", "label", "image_id"))[
        "text"
    ]
    digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    table = table.with_columns(digest=pl.Series(digests, dtype=pl.Binary)).sort("source", "label", "digest")
    return _number(table).drop("digest")


def by_score(queued: pl.DataFrame, scores: pl.DataFrame, name: str) -> pl.DataFrame:
    """A queue with its places by score, the highest first; equal ones keep their order, images without a score come last.

    Args:
        queued: `queue`'s table.
        scores: `image_id` and columns of scores.
        name: of the column.

    Raises:
        InputError: no such column of numbers, or none of the images has a score.
    """
    return _ranked(queued, scores, name, pl.col("score"))


def by_uncertainty(queued: pl.DataFrame, scores: pl.DataFrame, name: str) -> pl.DataFrame:
    """A queue with its places by how near a probability is to 0.5, the nearest first; the rest is as in `by_score`.

    Uncertainty sampling (Lewis and Gale 1994, SIGIR, 3-12) for the question whether an image shows the class that it was made
    for. With two answers the least confident, the smallest margin and the highest entropy are one order (Settles 2009, 3.1).

    Raises:
        InputError: as `by_score`, or scores that are no probabilities.
    """
    ranked = _ranked(queued, scores, name, -(pl.col("score") - 0.5).abs())
    values = scores[name].cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    least, most = values.min(), values.max()
    if least < 0 or most > 1:
        raise InputError(
            f"mix.selection=uncertain takes the images whose probability is nearest 0.5, and mix.score={name} goes from {least:.3g} "
            f"to {most:.3g}. Choose a score from 0 to 1, such as ensemble.probability."
        )
    return ranked


def _ranked(queued: pl.DataFrame, scores: pl.DataFrame, name: str, rank: pl.Expr) -> pl.DataFrame:
    """The queue by an expression of the column `score`, the highest first. Arguments and errors are those of `by_score`."""
    numeric = [column for column, dtype in scores.schema.items() if dtype.is_numeric()]
    if name not in numeric:
        raise InputError(
            f"mix.score={name}: the curated pool has no such score. It has {', '.join(numeric) or 'none'}; add a filter, or "
            "choose another score."
        )
    values = scores.select("image_id", score=pl.col(name).cast(pl.Float64).fill_nan(None))
    values = values.select("image_id", rank_by=rank)
    found = queued.join(values, on="image_id", how="left", maintain_order="left", validate="1:1")
    if found["rank_by"].is_null().all():
        raise InputError(f"mix.score={name}: no image of the pool has this score. Choose another.")
    order = {"source": False, "label": False, "rank_by": True, "place": False}
    return _number(found.sort(list(order), descending=list(order.values()), nulls_last=True)).drop("rank_by")


def by_diversity(
    pool: Manifest, queued: pl.DataFrame, asked: Mapping[str, int], features: Features
) -> pl.DataFrame:
    """The first `asked[label]` images of each class when every next one is the farthest from those before it.

    Args:
        pool: whose root and classes the rows belong to.
        queued: `queue`'s table of it; the first of each class's queue is the first centre.
        asked: images of each label, at most as many as it has.
        features: of the pictures.
    """
    parts = []
    for label, count in asked.items():
        rows = queued.filter(pl.col("label") == label)
        if count:
            parts.append(rows[k_centre(features(pool.with_table(rows.drop("place"))), count)])
    return _number(pl.concat([queued.clear(), *parts]))


def k_centre(features: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows of float [N, D] in the greedy k-centre order: int [count].

    Row 0 is the first; every next one is the farthest (Euclidean) from its nearest predecessor, the earlier row of equals.
    Sener and Savarese 2018 (arXiv 1708.00489), algorithm 1; the greatest distance of any row to its nearest of them is at
    most twice the least possible (Gonzalez 1985).
    """
    points = (features - features.mean(0)).astype(np.float32)
    squares = (points**2).sum(1)
    nearest = np.full(len(points), np.inf, np.float32)
    order = np.zeros(count, np.int64)
    for k in range(1, count):
        last = order[k - 1]
        nearest = np.minimum(nearest, np.maximum(squares + squares[last] - 2 * points @ points[last], 0))
        nearest[last] = -1  # below every distance: a row is taken once, even among equal ones
        order[k] = nearest.argmax()
    return order


def first(queued: pl.DataFrame, asked: Mapping[str, int]) -> pl.DataFrame:
    """The first `asked[label]` of each queue."""
    limit = pl.col("label").replace_strict(asked, default=0, return_dtype=pl.Int64)
    return queued.filter(pl.col("place") < limit).drop("place")


def repeat(queued: pl.DataFrame, kept: Mapping[str, int], asked: Mapping[str, int]) -> pl.DataFrame:
    """`asked[label]` repetitions of the first `kept[label]` of each queue, in turn; the k-th of an image is `<image_id>~k`.

    Raises:
        InputError: repetitions of nothing.
    """
    nothing = [f"{label}: asked {count}" for label, count in asked.items() if count and not kept[label]]
    if nothing:
        raise InputError(f"There are no real training images to repeat:\n{listing(nothing)}\nKeep some.")
    parts = [queued.clear()]
    for label, count in asked.items():
        turn, place = np.divmod(np.arange(count), max(kept[label], 1))
        rows = queued.filter(pl.col("label") == label)[place]
        parts.append(rows.with_columns(image_id=pl.format("{}~{}", "image_id", pl.Series(turn + 1))))
    return pl.concat(parts).drop("place")


def permute_labels(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The rows with their labels shuffled among them: as many of each label as before."""
    shuffled = np.random.default_rng(seed).permutation(table["label"].to_numpy())
    return table.with_columns(label=pl.Series(shuffled, dtype=pl.String))


def _number(table: pl.DataFrame) -> pl.DataFrame:
    """The rows with `place`: their position among those of equal label and source."""
    return table.with_columns(place=pl.int_range(pl.len()).over("source", "label"))
