"""The curate stage: filters decide which images of the pool stay, and a funnel shows what each one took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from rich.console import Console
from rich.table import Table

from skinaug.manifest import Manifest


class Filter(Protocol):
    """One way to judge images. Its constructor takes settings alone; scoring is costly and stored, keeping is free.

    A new filter is a class with these two methods and a file `conf/filter/<name>.yaml`:

        <name>:
          scorer: {_target_: <the class>, ...}
          keep: {<arguments of keep>}
    """

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

    def keep(self, scores: pl.DataFrame, **thresholds: Any) -> pl.Series:
        """Which rows of `score`'s table stay: boolean, in its order."""
        ...


def curate(
    filters: Mapping[str, Any],
    *,
    pool: Manifest,
    scores: Mapping[str, pl.DataFrame],
    out: Path,
) -> None:
    """Keep the images that pass every filter; each filter decides on what those before it have left.

    Args:
        filters: by name, in order: {"scorer": a Filter, "keep": the arguments of its `keep`}.
        pool: the synthetic images.
        scores: by name: the table of the filter's `score`.
        out: receives manifest.parquet (images that stay), scores.parquet (all: image_id, label, prompt_set,
            `<filter>.<score>`, `<filter>.keep`, null where an earlier filter rejected) and funnel.csv (label, step, kept).
    """
    judged: dict[str, pl.DataFrame] = {}
    left = pool.table.select("image_id")
    for name, filter_ in filters.items():
        survivors = scores[name].join(left, on="image_id", how="semi", maintain_order="left")
        judged[name] = survivors.with_columns(
            keep=filter_["scorer"].keep(survivors, **filter_.get("keep", {}))
        )
        left = judged[name].filter("keep").select("image_id")
    for name, survivors in judged.items():
        unjudged = scores[name].join(survivors, on="image_id", how="anti")
        judged[name] = pl.concat([survivors, unjudged], how="diagonal")
    table = join_scores(pool, judged)
    decisions = [f"{name}.keep" for name in judged]
    funnel = count_funnel(table, decisions, pool.classes)
    kept = table.filter(pl.all_horizontal(decisions)) if decisions else table
    table.write_parquet(out / "scores.parquet")
    funnel.write_csv(out / "funnel.csv")
    print_funnel(funnel)
    pool.with_table(
        pool.table.join(kept.select("image_id"), on="image_id", how="semi", maintain_order="left")
    ).write(out)


def join_scores(pool: Manifest, judged: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One row an image of the pool; every filter's columns get its name in front."""
    columns = ["image_id", "label", *(name for name in ("prompt_set",) if name in pool.table.columns)]
    table = pool.table.select(columns)
    for name, scores in judged.items():
        renamed = scores.rename(
            {column: f"{name}.{column}" for column in scores.columns if column != "image_id"}
        )
        table = table.join(renamed, on="image_id", how="left", validate="1:1", maintain_order="left")
    return table


def count_funnel(table: pl.DataFrame, decisions: list[str], classes: tuple[str, ...]) -> pl.DataFrame:
    """Columns label, step, kept: images a class that were generated, then those that pass each filter and all before it."""
    rows = []
    for label in classes:
        left = table.filter(pl.col("label") == label)
        rows.append({"label": label, "step": "generated", "kept": left.height})
        for decision in decisions:
            left = left.filter(pl.col(decision).fill_null(False))
            rows.append({"label": label, "step": decision.removesuffix(".keep"), "kept": left.height})
    return pl.DataFrame(rows, schema={"label": pl.String, "step": pl.String, "kept": pl.Int64})


def print_funnel(funnel: pl.DataFrame) -> None:
    """The funnel as a table, a row a class; a class of which nothing is left is pointed out."""
    steps = funnel["step"].unique(maintain_order=True).to_list()
    table = Table("images", *steps)
    for (label,), rows in funnel.group_by("label", maintain_order=True):
        kept = dict(zip(rows["step"], rows["kept"], strict=True))
        style = "yellow" if kept[steps[-1]] == 0 else ""
        table.add_row(str(label), *(str(kept[step]) for step in steps), style=style)
    totals = funnel.group_by("step").agg(pl.col("kept").sum())
    total = dict(zip(totals["step"], totals["kept"], strict=True))
    table.add_row("all", *(str(total[step]) for step in steps), style="bold")
    console = Console()
    console.print(table)
    empty = funnel.filter((pl.col("step") == steps[-1]) & (pl.col("kept") == 0))["label"].to_list()
    if empty:
        console.print(
            f"[yellow]Nothing is left of {', '.join(empty)}: mixes that need images of it will be refused.[/yellow]"
        )
