"""Rows that name one file: one image, whatever number of rows tell of it."""

from __future__ import annotations

import polars as pl

from skinaug.errors import InputError, listing, plural


def one_row_a_file(table: pl.DataFrame, conflicts: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of each file and label, the patients of all its rows joined; and `path, reason` of the other rows.

    Args:
        table: `image_id, path, label, group_id` and other columns.
        conflicts: a file with several labels: "drop" all its rows, "fail", or "keep" a row a label, their ids numbered.

    Raises:
        InputError: a file has several labels, and `conflicts` is "fail".
    """
    if table["path"].n_unique() == table.height:
        return table, pl.DataFrame(schema={"path": pl.String, "reason": pl.String})
    from skinaug.dataset.duplicates import merge_groups  # SciPy: half a second that clean tables can spare

    first = pl.col("row").first().over("path")
    rows = table.with_row_index("row").with_columns(first=first)
    links = rows.select("row", "first").to_numpy().astype(int)
    rows = rows.with_columns(
        group_id=pl.Series(merge_groups(table["group_id"].to_list(), links), dtype=pl.String)
    )
    labels = rows.group_by("path").agg(
        labels=pl.col("label").unique().sort().str.join(", "), several=pl.col("label").n_unique() > 1
    )
    rows = rows.join(labels, on="path", how="left", maintain_order="left")
    odd = rows.filter("several").unique("path", keep="first", maintain_order=True)
    if conflicts == "fail" and odd.height:
        lines = [f"{path}: {words}" for path, words in odd.select("path", "labels").iter_rows()]
        raise InputError(
            f"{plural(len(lines), 'file stands', 'files stand')} in several rows with different labels:\n{listing(lines)}\nCorrect the labels, or leave these "
            "files out with dataset.duplicates.conflicts=drop."
        )
    again = pl.struct("path", "label").is_first_distinct().not_()
    reason = (
        pl.when(pl.col("several") & (conflicts == "drop"))
        .then(pl.format("same picture with different labels: {}", "labels"))
        .when(again)
        .then(pl.lit("copy: the file stands in an earlier row"))
    )
    rows = rows.with_columns(reason=reason)
    kept = rows.filter(pl.col("reason").is_null())
    number = pl.int_range(pl.len()).over("image_id", "path") + 1
    numbered = pl.when(number > 1).then(pl.format("{}#{}", "image_id", number)).otherwise("image_id")
    left = rows.filter(pl.col("reason").is_not_null()).select("path", "reason")
    return kept.with_columns(image_id=numbered).select(table.columns), left
