"""A pool's folder: what an earlier try left in it, and the manifest that it becomes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import polars as pl

from skinaug.generate.writer import RECORD, has_mask, read_part, read_picture, write_part
from skinaug.manifest import Manifest
from skinaug.store.digest import sha256_file


def missing(rows: pl.DataFrame, out: Path) -> pl.DataFrame:
    """The rows without a picture in `out`, or without its mask where it has one, equal prompts side by side.

    Pictures that a part names are taken for what it says where they lie there with that content; of the others each is
    decoded once, and those that are whole become a part.
    """
    with ThreadPoolExecutor() as pool:
        known = _known(rows, out)
        same = pool.map(partial(_has_content, out), known["path"], known["sha256"])
        unknown = rows.join(known.filter(pl.Series(same, dtype=pl.Boolean)), on="image_id", how="anti")
        there = unknown.filter(pl.Series([(out / p).is_file() for p in unknown["path"]], dtype=pl.Boolean))
        found = pool.map(partial(read_picture, out), there.iter_rows(named=True))
        records = [record for record in found if record]
        masked = pool.map(partial(has_mask, out), rows.iter_rows(named=True))
        bare = rows.filter(~pl.Series(masked, dtype=pl.Boolean))["image_id"].to_list()
    if records:
        write_part(out, records)
    ids = {record["image_id"] for record in records} - set(bare)
    lacking = pl.col("image_id").is_in([*unknown["image_id"], *bare]) & ~pl.col("image_id").is_in(list(ids))
    return rows.filter(lacking).sort("label", "prompt", "image_id")


def finish(rows: pl.DataFrame, out: Path, classes: Sequence[str]) -> Manifest:
    """Write out/manifest.parquet from the parts, and remove them and whatever the plan does not know: half-written files,
    pictures of other weights.

    Raises RuntimeError where a picture is missing, which no input can cause.
    """
    table = rows.join(_known(rows, out).drop("path"), on="image_id", how="left", maintain_order="left")
    lost = table.filter(pl.col("sha256").is_null())
    if lost.height:
        raise RuntimeError(
            f"{lost.height} of {rows.height} pictures were not written, {lost['path'][0]} among them."
        )
    table = table.with_columns(
        split=pl.lit("train"),
        group_id=pl.col("image_id"),
        source=pl.lit("synthetic"),
        width=pl.col("image_size"),
        height=pl.col("image_size"),
    )
    manifest = Manifest(table.drop("image_size", "bytes"), root=out, classes=tuple(classes))
    manifest.write(out)
    _remove_strangers("images", set(rows["path"]), out)
    if "mask" in rows.columns:
        _remove_strangers("masks", set(rows["mask"]), out)
    shutil.rmtree(out / "parts")
    return manifest


def _known(rows: pl.DataFrame, out: Path) -> pl.DataFrame:
    """RECORDs of the rows' pictures that some part names and that lie there in full length.

    A machine that lost power can leave a file without its content under its name.
    """
    parts = [read_part(path) for path in sorted((out / "parts").glob("*.parquet"))]
    records = pl.concat([pl.DataFrame(schema=RECORD), *(part for part in parts if part is not None)])
    records = records.join(rows.select("image_id", "path"), on=["image_id", "path"], how="semi")
    whole = [_size(out / path) == size for path, size in records.select("path", "bytes").iter_rows()]
    return records.filter(pl.Series(whole, dtype=pl.Boolean)).unique(
        "image_id", keep="last", maintain_order=True
    )


def _has_content(out: Path, path: str, sha256: str) -> bool:
    return sha256_file(out / path) == sha256


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _remove_strangers(folder: str, paths: set[str], out: Path) -> None:
    for path in (out / folder).rglob("*"):
        if path.is_file() and path.relative_to(out).as_posix() not in paths:
            path.unlink()
    for below in (out / folder).iterdir():
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()
