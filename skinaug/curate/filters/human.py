"""Pictures that people rejected in `skinaug review`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from skinaug.curate.decisions import IMAGE, read_decisions
from skinaug.errors import InputError
from skinaug.manifest import Manifest

RULES = ("majority", "any_reject")
UNREVIEWED = ("keep", "reject")


class Human:
    """Keeps what the reviewers kept.

    Args:
        reviews: folder of the reviewers' files (`skinaug.curate.decisions`).
    """

    # The page shows the nearest real training photograph beside each picture, and a reviewer decides by it.
    exposure: ClassVar[str] = "real"

    def __init__(self, reviews: str) -> None:
        self.reviews = Path(reviews)

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `keeps` and `rejects`: int64, numbers of reviewers. A decision counts for the very file that
        was judged: one about another file with the picture's id does not.

        Raises:
            InputError: no decision about any picture of the pool.
        """
        decisions = read_decisions(self.reviews)
        ours = decisions.join(pool.table, on=IMAGE, how="semi")
        if ours.is_empty():
            found = (
                f"holds {decisions.height} decisions, none about this pool"
                if decisions.height
                else "holds none"
            )
            raise InputError(
                f"The filter `human` needs reviewers' decisions: {self.reviews} {found}. Run `skinaug review` first, with "
                "the same overrides, or name the folder with filter.human.scorer.reviews=<folder>."
            )
        counts = ours.group_by(IMAGE).agg(
            keeps=(pl.col("decision") == "keep").sum(), rejects=(pl.col("decision") == "reject").sum()
        )
        images = pool.table.select(IMAGE).join(counts, on=IMAGE, how="left", maintain_order="left")
        return images.select("image_id", pl.col("keeps", "rejects").fill_null(0).cast(pl.Int64))

    def keep(self, scores: pl.DataFrame, unreviewed: str = "reject", rule: str = "majority") -> pl.DataFrame:
        """Columns `keep` (boolean) and `reason` (text, null where the picture stays).

        Args:
            scores: of `score`.
            unreviewed: keep or reject what nobody has judged.
            rule: majority (more reviewers keep than reject; a tie rejects) or any_reject (one reviewer is enough to
                reject).
        """
        for name, value, words in (("unreviewed", unreviewed, UNREVIEWED), ("rule", rule, RULES)):
            if value not in words:
                raise InputError(
                    f"filter.human.keep.{name}={value} is not there: choose {' or '.join(words)}."
                )
        keeps, rejects = pl.col("keeps"), pl.col("rejects")
        unseen = keeps + rejects == 0
        wanted = keeps > rejects if rule == "majority" else (keeps > 0) & (rejects == 0)
        reason = (
            pl.when(pl.col("keep"))
            .then(None)
            .when(unseen)
            .then(pl.lit("not reviewed"))
            .when((keeps == rejects) & (rule == "majority"))
            .then(pl.lit("reviewers are divided"))
            .otherwise(pl.lit("rejected by reviewers"))
        )
        judged = scores.with_columns(keep=wanted | (unseen & (unreviewed == "keep")))
        return judged.select("keep", reason=reason)
