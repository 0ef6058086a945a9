"""Patients whom near-copies have joined into one group: told where they are so many that the copies may be none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from skinaug.errors import printable

SHARE = 20  # a group of more than one in so many patients is told
FEWEST = 3  # patients in it: of a small set two are many already
SHOWN = 10  # pairs


def large_groups(
    before: Sequence[str], after: Sequence[str], paths: pl.Series, pairs: pl.DataFrame
) -> list[dict[str, Any]]:
    """Groups that hold more than a twentieth of the patients once copies have joined them, the largest first.

    Args:
        before, after: the patient and the joined group of each image; paths: its file.
        pairs: what joined them: `row, other` (numbers of images), `hamming, cosine`.

    Returns:
        Of each group its name, `patients`, the `share` of all patients, the number of `pairs` between different patients in it and
        some of them, the least alike first: `joined` as `path, other_path, hamming, cosine`.
    """
    images = pl.DataFrame({"patient": before, "group": after}).with_row_index("row")
    total = images["patient"].n_unique()
    sizes = images.group_by("group").agg(patients=pl.col("patient").n_unique())
    large = sizes.filter((pl.col("patients") * SHARE > total) & (pl.col("patients") >= FEWEST))
    if large.is_empty():
        return []
    row, other = images[pairs["row"].to_list()], images[pairs["other"].to_list()]
    across = pairs.with_columns(group=row["group"]).filter(row["patient"] != other["patient"])
    found = []
    for group, count in large.sort(["patients", "group"], descending=[True, False]).iter_rows():
        joined = across.filter(pl.col("group") == group).sort("cosine", "row", "other", nulls_last=True)
        shown = joined.head(SHOWN)
        files = {
            side: paths[shown[number].to_list()]
            for side, number in (("path", "row"), ("other_path", "other"))
        }
        found.append(
            {
                "group": group,
                "patients": count,
                "share": round(count / total, 4),
                "pairs": len(joined),
                "joined": shown.select("hamming", "cosine", **files).to_dicts(),
            }
        )
    return found


def warnings(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The groups in words, with the pairs."""
    lines = []
    for group in groups:
        lines.append(
            f"Warning: copies join {group['patients']:,} patients, {group['share']:.0%} of all, into one group, which must be in one split: "
            f"{group['pairs']:,} pairs. If these are different pictures, such as dermoscopic ones that look alike, raise "
            "dataset.duplicates.min_cosine, as to 0.95, or lower dataset.duplicates.max_hamming. The least alike:"
        )
        for pair in group["joined"]:
            cosine = "" if pair["cosine"] is None else f", cosine {pair['cosine']:.3f}"
            lines.append(
                f"  {printable(pair['path'])} and {printable(pair['other_path'])}: {pair['hamming']} bits{cosine}"
            )
    return lines
