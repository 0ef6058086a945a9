"""The mix stage: which real and which synthetic images a classifier is trained on, and how they enter its training.

For each class with N real training images, a share or a count of them is kept and a multiple of a reference count is
drawn from the pool. Draws are nested: at one seed a smaller ratio's images are among a larger one's, because every image
has a fixed place in its class's queue (`selection`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.errors import InputError, listing, plural
from skinaug.manifest import Manifest
from skinaug.mix.selection import (
    BY_SCORE,
    Features,
    by_diversity,
    by_score,
    by_uncertainty,
    first,
    permute_labels,
    queue,
    repeat,
)
from skinaug.mix.settings import LARGEST, REAL_CONTROLS, REPEATING, recipe_problems
from skinaug.mix.shares import shared_among
from skinaug.mix.tones import check_range

POOL_ADVICE = "Lower mix.synthetic_ratio, mix.synthetic_per_class or mix.balance, raise generate.per_class, or filter less."


@dataclass(frozen=True)
class Mix:
    """How many real and synthetic images of each class to train on, which, and how.

    Attributes:
        name: of the mix, for tables.
        real_ratio: share of the N real training images of a class to keep, in [0, 1].
        real_per_class: how many of them to keep, instead.
        real_limit: treat each class as having at most this many real training images: N = min(N, real_limit).
        synthetic_ratio: synthetic images to add, as a multiple of the reference count, at least 0.
        synthetic_per_class: how many of them to add, instead.
        reference: "all_real" (N), "kept_real" (what was kept) or a count.
        balance: top up every smaller class with synthetic images to as many images as the "largest" has, or to a count.
        max_per_class: training images of a class at most; real ones go first.
        pools: weights of curated pools to draw from, by `curate/<key>`, in the place of the study's own; None: that one.
        prompt_sets: weights of the prompt sets to draw from; None: from the whole pool alike.
        selection: which images of the pool come first: "random"; "best", by `score`; "uncertain", those whose `score` is nearest
            0.5 (uncertainty sampling); "diverse", each next one the farthest from those before it (k-centre greedy).
        score: `<filter>.<score>` of the curated pool's scores: with "best" the highest first, with "uncertain" a probability.
        entry: how synthetic images enter training. "add": like real ones; "replace": instead of as many real ones; "sample":
            every draw is synthetic with `sample_probability`; "weight": their loss counts `loss_weight` times a real one's;
            "pretrain": they alone for `pretrain_share` of the optimizer steps, then the real ones alone.
        sample_probability, pretrain_share: in (0, 1).
        loss_weight: above 0.
        control: what stands in for the synthetic images: "real_alone", nothing; "duplicated_real", as many repeated real ones;
            "tone_shift", as many repeated real ones with skin of another tone (`tones.shift_tones`); "fresh_real", as many further real ones, what no generator can be expected to beat; "label_permuted", the same
            images with their labels shuffled among them. None: no control.
        tone_shift_ita: with "tone_shift": lowest and highest typology angle of the skin in degrees; None: of the tones that the
            real images lack.
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
    balance: str | int | None = None
    max_per_class: int | None = None
    pools: Mapping[str, float] | None = None
    prompt_sets: Mapping[str, float] | None = None
    selection: str = "random"
    score: str = "ensemble.probability"
    entry: str = "add"
    sample_probability: float = 0.5
    loss_weight: float = 0.2
    pretrain_share: float = 0.5
    control: str | None = None
    tone_shift_ita: Sequence[float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = recipe_problems(vars(self))
        if problems:
            raise InputError(f"The mix {self.name} cannot be made:\n{listing(problems)}")
        check_range(self.tone_shift_ita)

    @property
    def needs_pool(self) -> bool:
        """Whether synthetic images are asked for."""
        if self.control in REAL_CONTROLS:
            return False
        if self.balance is not None:
            return True
        if self.synthetic_per_class is not None:
            return self.synthetic_per_class > 0
        return self.synthetic_ratio > 0 and self.reference != 0

    @property
    def keeps_real(self) -> bool:
        """Whether real images are asked for."""
        return self.real_ratio > 0 if self.real_per_class is None else self.real_per_class > 0

    def __call__(
        self,
        real: Manifest,
        pool: Manifest | None = None,
        scores: pl.DataFrame | None = None,
        features: Features | None = None,
        shifted: Manifest | None = None,
    ) -> Manifest:
        """Draw the training images.

        Args:
            real: only its train split is read.
            pool: synthetic images of the same classes, those of several pools by `pools.join_pools`; may be None where
                `needs_pool` is False.
            scores: of the pool's images: `image_id` and the columns of the filters; for the selections "best" and "uncertain"
                alone.
            features: of pictures: Manifest -> float [N, D]; for the selection "diverse" alone.
            shifted: `repeated` with their new pictures; for the control "tone_shift" alone.

        Returns:
            the drawn rows, real ones first, each part by class and place in its queue. Where real and synthetic images are
            told apart in training, they have the columns that `classify.data` reads: `loss_weight`, or `draw_share` and
            `draw_phase`.

        Raises:
            InputError: a class has too few images, or would have none; names the class, what it has and what was asked.
        """
        if self.needs_pool and pool is None:
            raise InputError(f"The mix {self.name} asks for synthetic images, and there is no pool of them.")
        if self.control == "tone_shift" and shifted is None:
            raise InputError(f"The mix {self.name} asks for photographs of other tones, and there are none.")
        train, (kept, added) = real.split("train"), self._asked(real)
        queued = queue(train.table, self.seed)
        if self.control == "fresh_real":
            kept = self._with_fresh(train, kept, added)
        parts = [train.with_table(first(queued, kept))]
        if self.control in REPEATING:
            parts.append(self.repeated(real) if shifted is None else shifted)
        elif self.needs_pool and pool is not None:
            drawn = self._draw(pool.split("train"), added, scores, features)
            if self.control == "label_permuted":
                drawn = drawn.with_table(permute_labels(drawn.table, self.seed))
            parts.append(drawn)
        return self._enter(Manifest.concat(parts) if len(parts) > 1 else parts[0])

    def repeated(self, real: Manifest) -> Manifest:
        """Real training images again, as many as there would be synthetic ones (`selection.repeat`).

        Raises:
            InputError: a class has none to repeat.
        """
        train, (kept, added) = real.split("train"), self._asked(real)
        return train.with_table(repeat(queue(train.table, self.seed), kept, added))

    def counts(self, real: Manifest) -> pl.DataFrame:
        """Images that the mix asks for: `label, real, synthetic`, in the order of the classes; repeated and fresh ones are real.

        Raises:
            InputError: a class has too few real training images, or would have no training image at all.
        """
        kept, added = self._asked(real)
        if self.control == "fresh_real":
            kept = self._with_fresh(real.split("train"), kept, added)
        if self.control in REPEATING:
            kept = {label: kept[label] + added[label] for label in kept}
        if self.control in REAL_CONTROLS:
            added = dict.fromkeys(added, 0)
        return pl.DataFrame(
            {"label": list(kept), "real": list(kept.values()), "synthetic": list(added.values())}
        )

    def leaving_out(self, most: int) -> list[str]:
        """The settings that leave out real training images where a class has at most so many, as they would be typed."""
        limits = ("real_limit", "real_per_class", "max_per_class")
        cuts = {name: limit for name in limits if (limit := getattr(self, name)) is not None and limit < most}
        if self.real_per_class is None and self.real_ratio < 1:
            cuts["real_ratio"] = self.real_ratio
        if self.entry == "replace":
            cuts["entry"] = self.entry
        return [f"mix.{name}={value}" for name, value in cuts.items()]

    def check_pool(self, real: Manifest, pool: Manifest) -> None:
        """Refuse a pool with too few images, without drawing any.

        Raises:
            InputError: as a draw would; names each class, what the pool has and what is asked.
        """
        for _ in self._shares(pool.split("train"), self._asked(real)[1]):
            pass

    def kept(self, real: Manifest) -> dict[str, int]:
        """Real images of each class that the mix trains on. Raises as `counts`."""
        return self._asked(real)[0]

    def exposed(self, real: Manifest) -> Manifest:
        """A data set with those of its training images alone that the mix draws; validation and test as they are. Raises as `counts`."""
        drawn = first(queue(real.split("train").table, self.seed), self.kept(real))
        held_out = real.table.filter(pl.col("split") != "train")
        return real.with_table(pl.concat([drawn.select(held_out.columns), held_out]))

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

    def _asked(self, real: Manifest) -> tuple[dict[str, int], dict[str, int]]:
        """Images to keep and to add of each class: kept, replaced, topped up and cut, in this order."""
        has = _count(real.split("train"))
        if self.real_limit is not None:
            has = {label: min(count, self.real_limit) for label, count in has.items()}
        kept = {label: self.real_count(count) for label, count in has.items()}
        added = {label: self.synthetic_count(has[label], kept[label]) for label in has}
        require(kept, has, "real training images", "Lower mix.real_per_class.")
        most = math.inf if self.max_per_class is None else self.max_per_class
        kept = {label: int(min(count, most)) for label, count in kept.items()}
        if self.entry == "replace":
            require(added, kept, "real training images to replace", "Lower mix.synthetic_ratio.")
            kept = {label: kept[label] - added[label] for label in kept}
        if self.balance is not None:
            sizes = [kept[label] + added[label] for label in kept]
            target = max(sizes) if self.balance == LARGEST else int(self.balance)
            added = {label: max(added[label], target - kept[label]) for label in kept}
        added = {label: int(min(added[label], most - kept[label])) for label in kept}
        empty = [label for label in kept if kept[label] + added[label] == 0]
        if empty:
            raise InputError(
                f"The mix {self.name} has no training image of {', '.join(empty)}. Raise a ratio or a count."
            )
        return kept, added

    def _with_fresh(
        self, train: Manifest, kept: Mapping[str, int], added: Mapping[str, int]
    ) -> dict[str, int]:
        """Real images of each class with as many further ones as there would be synthetic ones; `real_limit` is no limit here."""
        asked = {label: kept[label] + added[label] for label in kept}
        require(
            asked,
            _count(train),
            "real training images to stand in for synthetic ones",
            "Ask for fewer, or render them: base=oracle with dataset=phantom.",
        )
        return asked

    def _draw(
        self,
        pool: Manifest,
        asked: Mapping[str, int],
        scores: pl.DataFrame | None,
        features: Features | None,
    ) -> Manifest:
        """Images of the pool: from the whole of it, or from each pool and prompt set its share."""
        parts = []
        for part, wanted in self._shares(pool, asked):
            queued = queue(part.table, self.seed)
            if self.selection in BY_SCORE:
                if scores is None:
                    raise InputError(
                        f"mix.selection={self.selection} needs scores of the pool, and there are none."
                    )
                ordered = by_score if self.selection == "best" else by_uncertainty
                queued = ordered(queued, scores, self.score)
            if self.selection == "diverse":
                if features is None:
                    raise InputError("mix.selection=diverse needs features of the pool, and there are none.")
                queued = by_diversity(part, queued, wanted, features)
            parts.append(first(queued, wanted))
        return pool.with_table(pl.concat(parts))

    def _shares(
        self, pool: Manifest, asked: Mapping[str, int]
    ) -> Iterator[tuple[Manifest, Mapping[str, int]]]:
        """The whole pool, or each part of it that has a weight, and how many images of each class come from there. Raises InputError
        where it has too few."""
        of_pools = shared_among([("images in the pool", pool, asked)], "pool", self.pools)
        for what, part, wanted in shared_among(of_pools, "prompt_set", self.prompt_sets):
            require(wanted, _count(part), what, POOL_ADVICE)
            yield part, wanted

    def _enter(self, mixed: Manifest) -> Manifest:
        """The rows with the columns that tell training how synthetic (first value) and real ones (second) enter it."""
        columns: dict[str, dict[str, tuple[float, float]]] = {
            "sample": {
                "draw_share": (self.sample_probability, 1 - self.sample_probability),
                "draw_phase": (0, 0),
            },
            "weight": {"loss_weight": (self.loss_weight, 1.0)},
            "pretrain": {"draw_share": (self.pretrain_share, 1 - self.pretrain_share), "draw_phase": (0, 1)},
        }
        if mixed.table["source"].n_unique() < 2:  # nothing to tell apart
            return mixed
        synthetic = pl.col("source") == "synthetic"
        return mixed.with_table(
            mixed.table.with_columns(
                pl.when(synthetic).then(ours).otherwise(theirs).alias(name)
                for name, (ours, theirs) in columns.get(self.entry, {}).items()
            )
        )


def mix(
    recipe: Mix,
    real: Manifest,
    pool: Manifest | None,
    out: Path,
    scores: pl.DataFrame | None = None,
    features: Features | None = None,
    shifted: Manifest | None = None,
) -> Manifest:
    """Draw a mix, write `out/manifest.parquet` and `out/table.csv` (label, real, synthetic), and print the table.

    Arguments are those of `Mix.__call__`.
    """
    manifest = recipe(real, pool, scores, features, shifted)
    table = count_sources(manifest)
    manifest.write(out)
    table.write_csv(out / "table.csv")
    show(table, recipe, real)
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


def show(table: pl.DataFrame, recipe: Mix, real: Manifest, planned: bool = False) -> None:
    """Print what `count_sources` counted, with sums, and how many photographs there were where the mix leaves some out.

    Args:
        real: the data set.
        planned: whether the images are only asked for.
    """
    note = " (planned: the pool is not made yet)" if planned else ""
    shown = Table("class", "real", "synthetic", title=f"mix {escape(recipe.name)}{note}: training images")
    has = _count(real.split("train"))
    used = has if recipe.control == "fresh_real" else recipe.kept(real)  # fresh ones come on top, of all
    counts = [(count, used[label], has[label]) for label, count in table.select("label", "real").iter_rows()]
    for (label, _, synthetic), own in zip(table.iter_rows(), counts, strict=True):
        shown.add_row(escape(label), _of(*own), str(synthetic))
    shown.add_section()
    shown.add_row("all", _of(*map(sum, zip(*counts, strict=True))), str(table["synthetic"].sum()))
    Console().print(shown)
    if left := sum(has.values()) - sum(used.values()):
        said = f"{plural(left, 'real training image')} left out by {', '.join(recipe.leaving_out(max(has.values())))}"
        Console().print(said, highlight=False, soft_wrap=True)


def _of(count: int, used: int, has: int) -> str:
    """A number of real images, beside those that there are where not all are used: "20 of 24"; repeated ones on top."""
    if used == has:
        return str(count)
    return f"{used} of {has}" if count == used else f"{count} ({used} of {has}, repeated)"


def scale(ratio: float, count: int) -> int:
    """ratio x count to the nearest integer, halves up; the ratio is taken as the decimal that was typed."""
    return math.floor(Fraction(repr(float(ratio))) * count + Fraction(1, 2))


def _count(manifest: Manifest) -> dict[str, int]:
    """Images of each class, 0 included, in the order of the classes."""
    counts = dict(manifest.table.group_by("label").len().iter_rows())
    return {label: counts.get(label, 0) for label in manifest.classes}


def require(asked: Mapping[str, int], has: Mapping[str, int], what: str, advice: str) -> None:
    """Raise InputError where a class has fewer of `what` than asked."""
    few = [
        f"{label}: has {has.get(label, 0)}, asked {count}"
        for label, count in asked.items()
        if count > has.get(label, 0)
    ]
    if few:
        raise InputError(f"Too few {what} for the mix:\n{listing(few)}\n{advice}")
