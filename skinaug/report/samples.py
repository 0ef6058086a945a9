"""Pictures for the report: real training images beside synthetic ones, class by class."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from skinaug.images import open_image, square
from skinaug.manifest import Manifest, read_once
from skinaug.report.collect import Run, Study

THUMBNAIL = 96  # pixels a side
MOST_POOLS = 4


@dataclass(frozen=True)
class Thumbnail:
    """An image as a data URI, with the text that describes it."""

    uri: str
    text: str


@dataclass(frozen=True)
class Strip:
    """Images of one class from one place."""

    name: str
    count: int
    thumbnails: Sequence[Thumbnail]


def sample_strips(study: Study, per_class: int) -> dict[str, list[Strip]]:
    """Random images of each class: one strip of real training images, one of each curated pool.

    Drawn by chance with a fixed seed, at most one a patient: nobody has picked the good ones. Below pictures that were made from
    photographs stand these, and their masks where they were drawn into them. None where no data set is known.
    """
    data = [read_once(folder).split("train") for folder in study.artifacts("dataset")]
    if not data:
        return {}
    places = {"real": data[0]} | pools(study)
    photographs = dict(zip(data[0].table["image_id"], data[0].paths(), strict=True))
    return {
        label: [
            strip
            for name, manifest in places.items()
            for strip in _strips(name, manifest, label, per_class, photographs)
        ]
        for label in study.classes
    }


def pools(study: Study) -> dict[str, Manifest]:
    """The curated pools (as generated, where there is no curation), named by what tells them apart."""
    found = list((study.artifacts("curate") or study.artifacts("generate")).items())[:MOST_POOLS]
    names = _pool_names([runs for _, runs in found])
    return {name: read_once(folder) for name, (folder, _) in zip(names, found, strict=True)}


def _pool_names(runs: Sequence[Sequence[Run]]) -> list[str]:
    """By the overrides that all runs on a pool share and other pools' runs do not, else by the arms that drew from it."""
    if len(runs) < 2:
        return ["synthetic"] * len(runs)
    own = [set(_overrides(some[0])).intersection(*map(_overrides, some)) for some in runs]
    everywhere = own[0].intersection(*own)
    apart = [shared - everywhere for shared in own]
    arms = [", ".join(dict.fromkeys(run.arm for run in some)) for some in runs]
    told = [", ".join(f"{key}={value}" for key, value in sorted(keys)) for keys in apart]
    names = [
        f"synthetic, {words}" if words else f"synthetic, of {arm}"
        for words, arm in zip(told, arms, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _overrides(run: Run) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in run.settings.items()]


def _strips(
    name: str, manifest: Manifest, label: str, count: int, photographs: Mapping[str, Path]
) -> list[Strip]:
    """Some images of a class; below, the photographs that they were made from and their masks, where there are any."""
    table = manifest.table.filter(manifest.table["label"] == label).sort("image_id")
    order = np.random.default_rng(0).permutation(table.height)
    chosen = table[order].unique("group_id", keep="first", maintain_order=True).head(count)
    texts = chosen["prompt"] if "prompt" in chosen.columns else [f"real photograph, {label}"] * chosen.height
    paths = manifest.with_table(chosen).paths()
    shown = [thumbnail(path, str(text)) for path, text in zip(paths, texts, strict=True)]
    return [Strip(name, table.height, shown), *_made_from(name, manifest.root, table, chosen, photographs)]


def _made_from(
    name: str, root: Path, table: pl.DataFrame, chosen: pl.DataFrame, photographs: Mapping[str, Path]
) -> Iterator[Strip]:
    """Strips of the chosen pictures' first parents and of their masks, in their order."""
    if chosen.is_empty() or "synthetic" not in chosen["source"] or "parents" not in chosen.columns:
        return
    parents = chosen["parents"].cast(pl.List(pl.String)).list.first().to_list()
    if not set(parents) <= set(photographs):
        return  # it was drawn from noise, or made elsewhere of other photographs
    known = table["parents"].list.explode().n_unique()
    own = [thumbnail(photographs[parent], f"training photograph {parent}") for parent in parents]
    yield Strip(f"{name}: the photographs that they were made from", known, own)
    masks = [root / mask for mask in chosen["mask"].drop_nulls()] if "mask" in chosen.columns else []
    if len(masks) == chosen.height and all(mask.is_file() for mask in masks):
        where = [thumbnail(mask, "white where it was drawn") for mask in masks]
        yield Strip(f"{name}: where they were drawn", table.height, where)


def thumbnail(path: Path, text: str) -> Thumbnail:
    """A picture in small, as JPEG."""
    image = open_image(path)
    pixels = square(image, min(THUMBNAIL, *image.size))  # the square that the classifier sees
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return Thumbnail("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), text)
