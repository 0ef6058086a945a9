"""The curate stage: filters decide which images of the pool stay, and a funnel shows what each one took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.errors import InputError
from skinaug.manifest import EXPOSURES, Manifest


class Filter(Protocol):
    """One way to judge images. Its constructor takes settings alone; scoring is costly and stored, keeping is free.

    A new filter is a class with these members and a file `conf/filter/<name>.yaml`:

        <name>:
          scorer: {_target_: <the class>, ...}
          keep: {<arguments of keep>}

    Attributes:
        exposure: what it knows when it decides: "off_the_shelf", no real photograph of the study, or "real": its decision
            rests on the real training photographs. A filter that does not say counts as "real".
    """

    exposure: ClassVar[str]

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Judge a pool.

        Args:
            pool: the synthetic images.
            real: real images of the train split only.
            trainer: makes a Lightning Trainer: the device and precision to use.
            cache: file of what was computed of each picture (`blobs`).

        Returns:
            One row an image, in the pool's order: `image_id` and one or more columns of scores.
        """
        ...

    def keep(self, scores: pl.DataFrame, **thresholds: Any) -> pl.Series | pl.DataFrame:
        """Which rows of `score`'s table stay, in its order: a boolean mask, or a table of `keep` and `reason`.

        Thresholds that cannot work are refused with an InputError before the scores are looked at: so they are found before
        a pool is made.

        `reason` tells in a few words why an image goes, or what let it stay against the rule; null otherwise.
        """
        ...


def curate(
    filters: Mapping[str, Any],
    subgroup: str = "skin_type",
    *,
    pool: Manifest,
    scores: Mapping[str, pl.DataFrame],
    out: Path,
) -> None:
    """Keep the images that pass every filter; each filter decides on what those before it have left.

    Args:
        filters: by name, in order: {"scorer": a Filter, "keep": the arguments of its `keep`}.
        subgroup: column of the pool that the funnel is broken down by; a pool may lack it.
        pool: the synthetic images.
        scores: by name: the table of the filter's `score`.
        out: receives manifest.parquet (images that stay, with the column `exposure`), scores.parquet (all: image_id,
            label, prompt_set, subgroup, `<filter>.<score>`, `<filter>.keep` and `<filter>.reason`, null where an earlier
            filter rejected) and funnel.csv (`count_funnel`).
    """
    judged: dict[str, pl.DataFrame] = {}
    left = pool.table.select("image_id")
    for name, filter_ in filters.items():
        survivors = scores[name].join(left, on="image_id", how="semi", maintain_order="left")
        kept = filter_["scorer"].keep(survivors, **filter_.get("keep", {}))
        _require_verdicts(name, kept, survivors.height)
        verdicts = decide(name, kept)
        judged[name] = pl.concat([survivors, verdicts], how="horizontal")
        left = judged[name].filter("keep").select("image_id")
    for name, survivors in judged.items():
        unjudged = scores[name].join(survivors, on="image_id", how="anti")
        judged[name] = pl.concat([survivors, unjudged], how="diagonal")
    table = join_scores(pool, judged, subgroup)
    funnel = count_funnel(table, list(judged))
    table.write_parquet(out / "scores.parquet")
    funnel.write_csv(out / "funnel.csv")
    kept = pool.table.join(left, on="image_id", how="semi", maintain_order="left")
    label = exposure([filter_["scorer"] for filter_ in filters.values()])
    pool.with_table(kept.with_columns(exposure=pl.lit(label))).write(out)
    print_funnel(funnel, pool.classes)
    Console().print(f"exposure of the pool: {EXPOSURES[label]}", highlight=False)


def exposure(scorers: Sequence[Any]) -> str:
    """What the filters of a pool know of the study's real photographs: a key of `EXPOSURES`."""
    if not scorers:
        return "raw"
    known = [getattr(scorer, "exposure", "real") for scorer in scorers]
    return "off_the_shelf" if all(name == "off_the_shelf" for name in known) else "real"


def _require_verdicts(name: str, kept: Any, count: int) -> None:
    """Refuse what a filter of one's own gives in the place of a verdict an image."""
    table = isinstance(kept, pl.DataFrame) and "keep" in kept.columns
    column = kept["keep"] if table else kept
    given = type(kept).__name__
    if isinstance(column, pl.Series):
        if (column.dtype, len(column)) == (pl.Boolean, count):
            return
        given = f"{len(column)} values of {column.dtype}"
    raise InputError(
        f"The filter {name} answers {count} images with {given}: its `keep` returns a polars Series of as many booleans, or a DataFrame "
        "with them as `keep`, and `reason`."
    )


def decide(name: str, kept: pl.Series | pl.DataFrame) -> pl.DataFrame:
    """A filter's answer as the columns `keep` and `reason`; where it gives no reason for a rejection, its name is one."""
    table = pl.DataFrame({"keep": kept}) if isinstance(kept, pl.Series) else kept
    if "reason" not in table.columns:
        table = table.with_columns(reason=pl.lit(None, pl.String))
    rejected_for = (
        pl.when(~pl.col("keep")).then(pl.coalesce("reason", pl.lit(name))).otherwise(pl.col("reason"))
    )
    return table.select("keep", reason=rejected_for)


def join_scores(pool: Manifest, judged: Mapping[str, pl.DataFrame], subgroup: str) -> pl.DataFrame:
    """One row an image of the pool; every filter's columns get its name in front; `subgroup` is "" where unknown."""
    known = subgroup in pool.table.columns
    group = pl.col(subgroup).cast(pl.String).fill_null("") if known else pl.lit("")
    sets = pl.col("prompt_set") if "prompt_set" in pool.table.columns else pl.lit("")
    table = pool.table.select("image_id", "label", prompt_set=sets, subgroup=group)
    for name, scores in judged.items():
        table = table.join(
            prefixed(name, scores), on="image_id", how="left", validate="1:1", maintain_order="left"
        )
    return table


def prefixed(name: str, scores: pl.DataFrame) -> pl.DataFrame:
    """A filter's table with its name in front of every column but image_id."""
    return scores.rename({column: f"{name}.{column}" for column in scores.columns if column != "image_id"})


def count_funnel(table: pl.DataFrame, filters: Sequence[str]) -> pl.DataFrame:
    """How many images of each class, prompt set and subgroup each filter in turn kept and rejected, and for what reason.

    Returns:
        Columns label, prompt_set, subgroup, step ("generated", then the filters), kept (boolean), reason ("" where none was
        given) and images.
    """
    cells = ["label", "prompt_set", "subgroup"]
    steps = [table.select(*cells, step=pl.lit("generated"), kept=pl.lit(True), reason=pl.lit(""))]
    for name in filters:
        judged = table.filter(pl.col(f"{name}.keep").is_not_null())
        reason = pl.col(f"{name}.reason").fill_null("")
        steps.append(judged.select(*cells, step=pl.lit(name), kept=pl.col(f"{name}.keep"), reason=reason))
    return (
        pl.concat(steps)
        .group_by(*cells, "step", "kept", "reason", maintain_order=True)
        .agg(images=pl.len().cast(pl.Int64))
    )


def print_funnel(funnel: pl.DataFrame, classes: Sequence[str]) -> None:
    """The funnel as a table, a row a class; then the reasons; a class of which nothing is left is pointed out."""
    steps = funnel["step"].unique(maintain_order=True).to_list()
    counts = funnel.filter("kept").group_by("label", "step").agg(pl.col("images").sum())
    kept = {(label, step): images for label, step, images in counts.iter_rows()}
    table = Table("images", *steps)
    for label in classes:
        numbers = [kept.get((label, step), 0) for step in steps]
        table.add_row(escape(label), *map(str, numbers), style="" if numbers[-1] else "yellow")
    totals = [sum(kept.get((label, step), 0) for label in classes) for step in steps]
    table.add_row("all", *map(str, totals), style="bold")
    console = Console()
    console.print(table)
    told = funnel.filter(pl.col("reason") != "").group_by("step", "kept", "reason", maintain_order=True)
    for (step, stays, reason), rows in told:
        verb = "kept" if stays else "rejected"
        console.print(f"{step}: {rows['images'].sum()} {verb}: {reason}", highlight=False, markup=False)
    empty = [label for label in classes if not kept.get((label, steps[-1]))]
    if empty:
        console.print(
            f"[yellow]Nothing is left of {escape(', '.join(empty))}: mixes that need images of it will be refused.[/yellow]"
        )
