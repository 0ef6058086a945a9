"""Pictures that are blurred, noisy, too bright, too dark, empty or tinted, as real training photographs are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.skin import realised

# Which sides of the real distribution are faults. Sharper than real photographs at one size is noise or a pattern, for a
# lens cannot do it. Much contrast is none: a dark cloth or a black lesion gives it. No clipping at all is fine.
FAULTY_SIDES = {
    "sharpness": ("below", "above"),
    "lightness": ("below", "above"),
    "contrast": ("below",),
    "clipped": ("above",),
    "a": ("below", "above"),
    "b": ("below", "above"),
}


class Quality:
    """Keeps what is as sharp, bright, varied and neutral as the real training images, measure by measure.

    Args:
        image_size: pixels a side at which pictures are measured; sharpness depends on it.
    """

    exposure: ClassVar[str] = "real"

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id and, for each measure of `FAULTY_SIDES` (`metrics.skin.measure` tells what they are), its value,
        `<measure>_below` and `<measure>_above`: shares of real training images, [0, 1], with at most and at least this
        value. So thresholds can be moved without the real images.

        Raises:
            InputError: there are no real images.
        """
        if len(real) == 0:
            raise InputError(
                "The filter quality compares with real training images, and there are none: remove it from filter=[...]."
            )
        measured = realised(pool, self.image_size, cache)
        expected = realised(real, self.image_size, cache)
        columns = {"image_id": measured["image_id"]}
        for name in FAULTY_SIDES:
            columns[name] = measured[name]
            values, sorted_real = measured[name].to_numpy(), np.sort(expected[name].to_numpy())
            at_most = np.searchsorted(sorted_real, values, side="right")
            at_least = len(sorted_real) - np.searchsorted(sorted_real, values, side="left")
            columns[f"{name}_below"] = pl.Series(at_most / len(sorted_real))
            columns[f"{name}_above"] = pl.Series(at_least / len(sorted_real))
        return pl.DataFrame(columns)

    def keep(self, scores: pl.DataFrame, real_pass_rate: float | Mapping[str, float] = 0.98) -> pl.DataFrame:
        """Those that are no more extreme than the share `real_pass_rate` of real training images, in every measure.

        A measure with two faulty sides gives half of the rest to each. Fewer real images than this share pass all measures
        together: 88 to 90 % of other patients' at 0.98 (PAD-UFES-20 and phantoms).

        Args:
            scores: rows of `score`'s table.
            real_pass_rate: for every measure, or a measure: share; measures that a mapping leaves out are not judged.

        Returns:
            Columns keep, reason: the first of "over-exposed", "under-exposed", "blurred", "blank" (little contrast),
            "colour cast", "noisy", "clipped" that holds; null for those that stay.
        """
        rates = (
            dict.fromkeys(FAULTY_SIDES, real_pass_rate)
            if isinstance(real_pass_rate, int | float)
            else real_pass_rate
        )
        _check(rates)
        fails = {
            f"{name}_{side}": pl.col(f"{name}_{side}") < (1 - rates[name]) / len(sides) - 1e-9
            if name in rates
            else pl.lit(False)
            for name, sides in FAULTY_SIDES.items()
            for side in sides
        }
        cast = pl.any_horizontal(fails[f"{name}_{side}"] for name in "ab" for side in FAULTY_SIDES[name])
        reasons = [  # causes before what they bring with them: a black picture is blank too, a noisy one is clipped
            ("over-exposed", fails["lightness_above"]),
            ("under-exposed", fails["lightness_below"]),
            ("blurred", fails["sharpness_below"]),
            ("blank", fails["contrast_below"]),
            ("colour cast", cast),
            ("noisy", fails["sharpness_above"]),
            ("clipped", fails["clipped_above"]),
        ]
        reason = pl.coalesce(pl.when(failed).then(pl.lit(text)) for text, failed in reasons)
        return scores.select(reason.is_null().alias("keep"), reason.alias("reason"))


def _check(rates: Mapping[str, float]) -> None:
    for name, rate in rates.items():
        if name not in FAULTY_SIDES:
            raise InputError(
                f"filter.quality.keep.real_pass_rate names {name!r}, which is not measured: choose among {', '.join(FAULTY_SIDES)}."
            )
        if not 0 <= rate <= 1:
            raise InputError(
                f"filter.quality.keep.real_pass_rate of {name} is {rate}, which is no share: give a value in [0, 1]."
            )
