"""The mix stage: which real and which synthetic images a classifier is trained on.

For each class with N real training images, a share or a count of them is kept and a multiple of a reference count is
drawn from the pool. Draws are nested: at one seed a smaller mix's images are among a larger one's, real and synthetic
alike, because every image has a fixed place in its class's queue that depends on nothing but the seed and its id.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from skinaug.errors import InputError, listing
from skinaug.manifest import Manifest

REFERENCES = ("all_real", "kept_real")
POOL_ADVICE = (
    "Lower mix.synthetic_ratio or mix.synthetic_per_class, raise generate.per_class, or filter less."
)


@dataclass(frozen=True)
class Mix:
    """How many real and synthetic images of each class to train on.

    Attributes:
        name: of the mix, for tables.
        real_ratio: share of the N real training images of a class to keep, in [0, 1].
        real_per_class: how many of them to keep, instead.
        real_limit: treat each class as having at most this many real training images: N = min(N, real_limit).
        synthetic_ratio: synthetic images to add, as a multiple of the reference count, at least 0.
        synthetic_per_class: how many of them to add, instead.
        reference: "all_real" (N), "kept_real" (what was kept) or a count.
        prompt_sets: weights of the prompt sets to draw from; None: from the whole pool alike.
        seed: of the draws.

    A ratio times a count is rounded to the nearest integer, halves up, exactly in decimals (0.29 x 50 = 14.5 is 15).

    Raises:
        InputError: on construction, for a value out of its range.
    """

    name: str
    real_ratio: float = 1.0
    real_per_class: int | None = None
    real_limit: int | None = None
    synthetic_ratio: float = 0.0
    synthetic_per_class: int | None = None
    reference: str | int = "all_real"
    prompt_sets: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise InputError(f"The mix {self.name} cannot be made:\n{listing(problems)}")

    @property
    def needs_pool(self) -> bool:
        """Whether synthetic images are asked for."""
        if self.synthetic_per_class is not None:
            return self.synthetic_per_class > 0
        return self.synthetic_ratio > 0 and self.reference != 0

    def __call__(self, real: Manifest, pool: Manifest | None = None) -> Manifest:
        """Draw the training images.

        Args:
            real: only its train split is read.
            pool: synthetic images of the same classes; may be None where `needs_pool` is False.

        Returns:
            the drawn rows, real ones first, each part by class and place in its queue.

        Raises:
            InputError: a class has too few images, or would have none; names the class, what it has and what was asked.
        """
        if self.needs_pool and pool is None:
            raise InputError(f"The mix {self.name} asks for synthetic images, and there is no pool of them.")
        train, counts = real.split("train"), self.counts(real)
        kept, added = (dict(counts.select("label", name).iter_rows()) for name in ("real", "synthetic"))
        parts = [train.with_table(_first(queue(train.table, self.seed), kept))]
        if self.needs_pool and pool is not None:
            parts.append(_draw_synthetic(pool, added, self.prompt_sets, self.seed))
        return Manifest.concat(parts) if len(parts) > 1 else parts[0]

    def counts(self, real: Manifest) -> pl.DataFrame:
        """Images that the mix asks for: `label, real, synthetic`, in the order of the classes.

        Raises:
            InputError: a class has too few real training images, or would have no training image at all.
        """
        has = _count(real.split("train"))
        if self.real_limit is not None:
            has = {label: min(count, self.real_limit) for label, count in has.items()}
        kept = {label: self.real_count(count) for label, count in has.items()}
        added = {label: self.synthetic_count(has[label], kept[label]) for label in has}
        _require(kept, has, "real training images", "Lower mix.real_per_class.")
        empty = [label for label in kept if kept[label] + added[label] == 0]
        if empty:
            raise InputError(
                f"The mix {self.name} has no training image of {', '.join(empty)}. Raise a ratio or a count."
            )
        return pl.DataFrame(
            {"label": list(has), "real": list(kept.values()), "synthetic": list(added.values())}
        )

    def real_count(self, num_real: int) -> int:
        """Real images to keep of a class that has `num_real`."""
        return scale(self.real_ratio, num_real) if self.real_per_class is None else self.real_per_class

    def synthetic_count(self, num_real: int, num_kept: int) -> int:
        """Synthetic images to add to a class that has `num_real` real ones, of which `num_kept` are kept."""
        if self.synthetic_per_class is not None:
            return self.synthetic_per_class
        if isinstance(self.reference, int):
            return scale(self.synthetic_ratio, self.reference)
        return scale(self.synthetic_ratio, {"all_real": num_real, "kept_real": num_kept}[self.reference])


def mix(recipe: Mix, real: Manifest, pool: Manifest | None, out: Path) -> Manifest:
    """Draw a mix, write `out/manifest.parquet` and `out/table.csv` (label, real, synthetic), and print the table."""
    manifest = recipe(real, pool)
    table = count_sources(manifest)
    manifest.write(out)
    table.write_csv(out / "table.csv")
    show(table, recipe.name)
    return manifest


def count_sources(manifest: Manifest) -> pl.DataFrame:
    """Images of each class by source: `label, real, synthetic`, in the order of the classes."""
    table = manifest.table
    counts = {
        source: _count(manifest.with_table(table.filter(pl.col("source") == source)))
        for source in ("real", "synthetic")
    }
    return pl.DataFrame(
        {"label": manifest.classes, **{name: list(part.values()) for name, part in counts.items()}}
    )


def show(table: pl.DataFrame, name: str) -> None:
    """Print what `count_sources` counted, with sums."""
    shown = Table("class", "real", "synthetic", title=f"mix {name}: training images")
    for row in table.iter_rows():
        shown.add_row(*map(str, row))
    shown.add_section()
    shown.add_row("all", str(table["real"].sum()), str(table["synthetic"].sum()))
    Console().print(shown)


def scale(ratio: float, count: int) -> int:
    """ratio x count to the nearest integer, halves up; the ratio is taken as the decimal that was typed."""
    return math.floor(Fraction(repr(float(ratio))) * count + Fraction(1, 2))


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
    return table.with_columns(place=pl.int_range(pl.len()).over("source", "label")).drop("digest")


def allot(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Share a count among names by weight, with the divisor method of Webster (Sainte-Lague).

    Unlike rounding each share, a larger count never gives a name fewer, so draws stay nested.
    """
    names = sorted(name for name in weights if weights[name] > 0)
    steps = (np.arange(count) + 0.5)[:, None] / np.array([weights[name] for name in names])
    owners = np.argsort(steps.reshape(-1), kind="stable")[:count] % len(names)
    return dict(zip(names, np.bincount(owners, minlength=len(names)).tolist(), strict=True))


def _problems(recipe: Mix) -> list[str]:
    """What is out of range, one line each."""
    problems = []
    if not _in_range(recipe.real_ratio, 0, 1):
        problems.append(f"mix.real_ratio={recipe.real_ratio}: it is a share, from 0 to 1")
    if not _in_range(recipe.synthetic_ratio, 0):
        problems.append(f"mix.synthetic_ratio={recipe.synthetic_ratio}: it is a number of at least 0")
    for name in ("real_per_class", "real_limit", "synthetic_per_class"):
        value = getattr(recipe, name)
        if value is not None and not _is_count(value):
            problems.append(f"mix.{name}={value}: it is a count, a whole number of at least 0")
    if recipe.reference not in REFERENCES and not _is_count(recipe.reference):
        problems.append(f"mix.reference={recipe.reference}: it is one of {', '.join(REFERENCES)}, or a count")
    weights = recipe.prompt_sets
    if weights is not None and not (
        all(_in_range(weight, 0) for weight in weights.values()) and any(weights.values())
    ):
        problems.append(
            f"mix.prompt_sets={dict(weights)}: weights are numbers of at least 0, one of them above 0"
        )
    return problems


def _in_range(value: object, least: float, most: float = sys.float_info.max) -> bool:
    return isinstance(value, (int, float)) and least <= value <= most


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _in_range(value, 0)


def _count(manifest: Manifest) -> dict[str, int]:
    """Images of each class, 0 included, in the order of the classes."""
    counts = dict(manifest.table.group_by("label").len().iter_rows())
    return {label: counts.get(label, 0) for label in manifest.classes}


def _draw_synthetic(
    pool: Manifest, asked: Mapping[str, int], prompt_sets: Mapping[str, float] | None, seed: int
) -> Manifest:
    pool = pool.split("train")
    if prompt_sets is None:
        _require(asked, _count(pool), "images in the pool", POOL_ADVICE)
        return pool.with_table(_first(queue(pool.table, seed), asked))
    known = (
        sorted(pool.table["prompt_set"].drop_nulls().unique()) if "prompt_set" in pool.table.columns else []
    )
    unknown = [name for name, weight in prompt_sets.items() if weight > 0 and name not in known]
    if unknown:
        raise InputError(
            f"mix.prompt_sets names {', '.join(unknown)}; the pool has {', '.join(known) or 'none'}."
        )
    shares = {label: allot(count, prompt_sets) for label, count in asked.items()}
    parts = []
    for name in sorted(name for name, weight in prompt_sets.items() if weight > 0):
        part = pool.where(pl.col("prompt_set") == name)
        wanted = {label: share[name] for label, share in shares.items()}
        _require(wanted, _count(part), f"images of the prompt set {name} in the pool", POOL_ADVICE)
        parts.append(_first(queue(part.table, seed), wanted))
    return pool.with_table(pl.concat(parts))


def _first(queued: pl.DataFrame, asked: Mapping[str, int]) -> pl.DataFrame:
    """The first `asked[label]` of each queue."""
    limit = pl.col("label").replace_strict(asked, default=0, return_dtype=pl.Int64)
    return queued.filter(pl.col("place") < limit).drop("place")


def _require(asked: Mapping[str, int], has: Mapping[str, int], what: str, advice: str) -> None:
    few = [
        f"{label}: has {has.get(label, 0)}, asked {count}"
        for label, count in asked.items()
        if count > has.get(label, 0)
    ]
    if few:
        raise InputError(f"Too few {what} for the mix:\n{listing(few)}\n{advice}")
