"""Obedience: whether a pool shows the words that its prompts asked for, as probes see them that know the words from real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from skinaug.errors import InputError
from skinaug.manifest import OPTIONAL, REQUIRED, Manifest
from skinaug.prompts import RESERVED
from skinaug.sources.vocabulary import place_on_scale, scales_of, titles_of

FILE_NAME = "obedience.csv"
Probe = Callable[[Manifest], np.ndarray]  # float [N, C]: probabilities of the manifest's classes
SCHEMA = {
    "attribute": pl.String,
    "words": pl.String,
    "chance": pl.Float64,
    "ceiling": pl.Float64,
    "seen": pl.Float64,
    "obedience": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "real_images": pl.Int64,
    "images": pl.Int64,
}
LEAST_WORDS = 2  # that a probe can tell apart


@dataclass(frozen=True)
class Obedience:
    """How obedience is measured.

    One probe an attribute: a classifier of its words, taught by the real training images. Its balanced accuracy on held-out
    real images is the ceiling, that on the pool's images against the words that were asked for is `seen`, and obedience is
    (seen - chance) / (ceiling - chance): 0 for a generator that is deaf to the words, 1 for one whose images show them as
    plainly as real images do, more where they show them more plainly.

    Attributes:
        fit: makes a probe: `classify.fit.fit_classifier` with its settings.
        attributes: columns to look at; None: all that the prompts ask for and the real images know.
        least: real training images, held-out ones and images of the pool that a word must have; words with fewer are left out.
        num_replicates: bootstrap samples behind the 95 % intervals.
        seed: of these samples.
    """

    fit: Callable[..., Probe]
    attributes: Sequence[str] | None = None
    least: int = 8
    num_replicates: int = 1000
    seed: int = 0

    def __call__(
        self, data: Manifest, raw: Manifest, trainer: Callable[..., L.Trainer], cache: Path | None
    ) -> pl.DataFrame:
        """A row an attribute, with the columns of `SCHEMA`; `words` are those that count, joined by commas.

        Args:
            data: the real images; those of the test split are not looked at.
            raw: the pool before curation, with a column an attribute that was asked for.
            trainer, cache: as in `fit_classifier`.

        Raises:
            InputError: an attribute that the pool or the real images lack.
        """
        rows = [self._measure(name, data, raw, trainer, cache) for name in self._names(data, raw)]
        return pl.DataFrame([row for row in rows if row is not None], schema=SCHEMA, orient="row")

    def _names(self, data: Manifest, raw: Manifest) -> list[str]:
        asked = [name for name in raw.table.columns if name not in {*RESERVED, *REQUIRED, *OPTIONAL}]
        both = [name for name in asked if name in data.table.columns and raw.table[name].dtype == pl.String]
        if self.attributes is None:
            return both
        if missing := sorted({*self.attributes} - {*both}):
            raise InputError(
                f"audit.pool.obedience.attributes: {', '.join(missing)} are not asked for in the prompts, or no word of the "
                f"data. Those that are both: {', '.join(both) or 'none'}."
            )
        return list(self.attributes)

    def _measure(
        self,
        name: str,
        data: Manifest,
        raw: Manifest,
        trainer: Callable[..., L.Trainer],
        cache: Path | None,
    ) -> dict[str, Any] | None:
        """The attribute's row; None where fewer than two words can be judged."""
        sets = [_relabelled(images, name) for images in (data.split("train"), data.split("val"), raw)]
        frequent = [_words_of(images, self.least) for images in sets]
        words = tuple(sorted(set.intersection(*frequent), key=place_on_scale))
        asked, known = (scales_of(images.classes) for images in (sets[2], sets[0]))
        if asked and known and not set(asked) & set(known):
            Console().print(
                f"obedience of {name} is not measured: prompts ask on the scale {titles_of(sets[2].classes)}, and the photographs' "
                f"is {titles_of(sets[0].classes)}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
        if len(words) < LEAST_WORDS:
            return None
        train, held_out, pool = (_only(images, words) for images in sets)
        probe = self.fit(train=train, val=None, trainer=trainer, cache=cache)
        real, made = (_hits(probe, images) for images in (held_out, pool))
        chance = 1 / len(words)
        ceiling, seen = (_balanced(labels, hits, np.ones(len(hits))) for labels, hits, _ in (real, made))
        rng = np.random.default_rng(self.seed)
        gained, allowed = (
            np.array([(_resampled(*made, rng), _resampled(*real, rng)) for _ in range(self.num_replicates)]).T
            - chance
        )
        # Of a probe that may not tell the words of photographs, a ratio to what it tells would be any number.
        told = np.quantile(allowed, 0.005) > 0
        low, high = np.quantile(gained / allowed, (0.025, 0.975)) if told else (None, None)
        return {
            "attribute": name,
            "words": ", ".join(words),
            "chance": chance,
            "ceiling": ceiling,
            "seen": seen,
            "obedience": (seen - chance) / (ceiling - chance) if told else None,
            "low": low,
            "high": high,
            "real_images": len(held_out),
            "images": len(pool),
        }


def _relabelled(images: Manifest, name: str) -> Manifest:
    """Images whose class is their word of an attribute; without those that have none."""
    table = images.table.with_columns(label=pl.col(name).cast(pl.String)).filter(pl.col("label") != "")
    return Manifest(table, images.root, tuple(sorted(table["label"].unique())))


def _words_of(images: Manifest, least: int) -> set[str]:
    counts = images.table.group_by("label").len().filter(pl.col("len") >= least)
    return set(counts["label"])


def _only(images: Manifest, words: tuple[str, ...]) -> Manifest:
    return Manifest(images.table.filter(pl.col("label").is_in(words)), images.root, words)


def _hits(probe: Probe, images: Manifest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image: its word's number, whether the probe saw it, and its patient's number."""
    labels = np.array(images.labels())
    groups = np.unique(images.table["group_id"].to_numpy(), return_inverse=True)[1]
    return labels, probe(images).argmax(1) == labels, groups


def _balanced(labels: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> float:
    """Mean over words of the share that was seen, of images that count so much; a word that none of them has does not count."""
    total, right = np.bincount(labels, weights), np.bincount(labels, weights * hits)
    return float((right[total > 0] / total[total > 0]).mean())


def _resampled(labels: np.ndarray, hits: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> float:
    """The balanced accuracy of as many patients, drawn with replacement."""
    drawn = np.bincount(rng.integers(groups.max() + 1, size=groups.max() + 1), minlength=groups.max() + 1)
    return _balanced(labels, hits, drawn[groups].astype(float))


def print_obedience(folder: Path) -> None:
    """The table, if there is something in it."""
    found = pl.read_csv(folder / FILE_NAME, schema=SCHEMA)
    if found.is_empty():
        return
    shown = Table(
        "asked for", "words", "chance", "ceiling", "seen", "obedience",
        title="Obedience: words asked for against words seen, balanced accuracy", title_justify="left",
    )  # fmt: skip
    for row in found.iter_rows(named=True):
        count = str(row["words"].count(",") + 1)
        scores = [f"{100 * row[name]:.0f} %" for name in ("chance", "ceiling", "seen")]
        shown.add_row(row["attribute"], count, *scores, obedience_text(row))
    Console().print(shown)


def obedience_text(row: dict[str, Any]) -> str:
    """Obedience with its interval."""
    if row["obedience"] is None:
        return "– (the probe cannot tell)"
    return f"{row['obedience']:.2f} ({row['low']:.2f} to {row['high']:.2f})".replace("-", "−")
