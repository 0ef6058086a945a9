"""Which pictures to make: one row an image, decided before anything is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import count, islice

import polars as pl

from skinaug.errors import InputError, listing
from skinaug.generate.settings import Settings
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet, slots

SEED_BITS = 53  # whole numbers that every table format and JSON reader keeps exactly
FOLDER_SIZE = 1000  # pictures a folder: file managers and network drives choke on more


def plan(
    phrases: Mapping[str, str],
    prompts: PromptSet,
    per_class: int,
    seed: int,
    settings: Settings,
    weights: str,
    real: Manifest | None = None,
    masks: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Rows of `per_class` images for each class: image_id, label, prompt, prompt_set, seed, the settings, the weights'
    digest, parents (image ids; none in text mode) and the attributes that the prompt says (null where it says none).

    phrases: what stands for each class in its prompts. real: the training images that the modes image and inpaint start from.
    masks: SHA-256 of their given masks, by image_id.
    The first n rows of a class do not depend on per_class.
    Raises InputError where the prompts cannot tell the classes apart.
    """
    made_by = {"weights": weights, **settings.told()}
    digests = dict(real.table.select("image_id", "sha256").iter_rows()) if real else {}
    digests |= {name: f"{digests[name]} {mask}" for name, mask in (masks or {}).items()}
    tables = []
    for label, phrase in phrases.items():
        rows = pl.from_dicts(prompts.sample(label, per_class, seed, phrase), infer_schema_length=None)
        seeds = [image_seed(seed, label, index) for index in range(per_class)]
        labels = settings.inpaint.labels(label, real.classes) if settings.inpaint and real else [label]
        parents = choose_parents(real, label, per_class, seed, labels) if real else [""] * per_class
        ids = image_ids(
            made_by, rows["prompt"].to_list(), seeds, [digests.get(parent, "") for parent in parents]
        )
        rows = rows.with_columns(
            pl.Series("image_id", ids),
            pl.Series("seed", seeds, dtype=pl.Int64),
            pl.Series(
                "parents", [[parent] if parent else [] for parent in parents], dtype=pl.List(pl.String)
            ),
            label=pl.lit(label),
        )
        tables.append(rows)
    return pl.concat(tables, how="diagonal_relaxed").select(
        "image_id", "label", "seed", pl.exclude("image_id", "label", "seed"), *_constants(prompts, made_by)
    )


def with_paths(rows: pl.DataFrame, format: str) -> pl.DataFrame:
    """The rows with each picture's path: images/<folder of at most FOLDER_SIZE>/<image_id>.<format>; and in mode inpaint that of its
    mask, masks/<folder>/<image_id>.png."""
    folder = (pl.int_range(pl.len()) // FOLDER_SIZE).cast(pl.String).str.zfill(4)
    paths = {"path": pl.format("images/{}/{}.{}", folder, "image_id", pl.lit(format))}
    if "mask_from" in rows.columns:
        paths["mask"] = pl.format("masks/{}/{}.png", folder, "image_id")
    return rows.with_columns(**paths)


def choose_parents(
    real: Manifest, label: str, n: int, seed: int, labels: Sequence[str] | None = None
) -> list[str]:
    """The real image that each of n images of a class starts from: every image of the class, or of `labels`, once, in an order
    of that round's own, then again. Image i's parent does not depend on n."""
    ids = real.table.filter(pl.col("label").is_in(labels or [label]))["image_id"].to_list()

    def order(number: int) -> list[str]:
        return sorted(
            ids, key=lambda name: hashlib.sha256(f"{seed}\0{label}\0{number}\0{name}".encode()).digest()
        )

    return list(islice((parent for number in count() for parent in order(number)), n))


def image_seed(run_seed: int, label: str, index: int) -> int:
    """The noise's seed of image `index` of a class: 53 bits of a hash, so that neither batch, order nor count matter.

    Prompt sets share it: the same class and index start from the same noise, which pairs their comparison.
    """
    return _whole_number(f"{run_seed}\0{label}\0{index}")


def next_seed(seed: int, attempt: int) -> int:
    """The noise's seed of redraw `attempt`, counted from 1: a hash, so that it is no other image's seed."""
    return _whole_number(f"{seed}\0redraw\0{attempt}")


def image_ids(
    made_by: Mapping[str, object], prompts: Sequence[str], seeds: Sequence[int], parents: Sequence[str]
) -> list[str]:
    """The pictures' identities: hashes of all that decides their pixels, 20 hexadecimal digits.

    made_by: what they share. parents: each one's parent's SHA-256, "" where it has none.
    """
    shared = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())

    def identity(prompt: str, seed: int, parent: str) -> str:
        total = shared.copy()
        total.update(f"\0{prompt}\0{seed}\0{parent}".encode())
        return total.hexdigest()[:20]

    return [identity(*own) for own in zip(prompts, seeds, parents, strict=True)]


def check_templates(prompts: PromptSet, classes: Sequence[str]) -> None:
    """Raise InputError where the prompts name classes that are not there, or cannot tell them apart."""
    prompts.check_labels(classes)
    blind = [template for template in prompts.templates if "label" not in slots(template)]
    if blind and len(classes) > 1:
        raise InputError(
            f"prompts '{prompts.name}' have templates that ask for every class in the same words: {blind}. "
            "Put {label} into each, outside or inside a [fragment]."
        )


def check_real(settings: Settings, real: Manifest | None, classes: Sequence[str]) -> None:
    """Raise InputError where image or inpaint mode has no real training image for some class, or was given other images."""
    if not settings.from_parents:
        return
    if real is None:
        raise InputError(
            f"generate.mode {settings.mode} starts from real images: none were given. Use mode text without them."
        )
    other = real.table.filter((pl.col("split") != "train") | (pl.col("source") != "real"))
    if other.height:
        rows = other.select("image_id", "split", "source").iter_rows()
        raise InputError(
            f"generate.mode {settings.mode} starts from real training images only; {other.height} of those given are not:\n"
            + listing(f"{name}: {source}, split {split}" for name, split, source in rows)
        )
    if settings.inpaint:
        from skinaug.generate.masks import check_parents  # which loads SciPy

        check_parents(real, settings.inpaint, classes, settings.image_size)
        return
    empty = [label for label in classes if label not in set(real.table["label"])]
    if empty:
        raise InputError(
            f"generate.mode image has no training image to start from for: {', '.join(empty)}. "
            "Give the class training images, or use generate.mode=text."
        )


def _constants(prompts: PromptSet, made_by: Mapping[str, object]) -> list[pl.Expr]:
    values = {"prompt_set": prompts.name, **made_by}
    dtypes: dict[str, pl.DataType | type[pl.DataType]] = {
        "strength": pl.Float64,
        "guidance_interval": pl.List(pl.Float64),
        "mask_diameter": pl.List(pl.Float64),
    }
    return [pl.lit(value, dtype=dtypes.get(name)).alias(name) for name, value in values.items()]


def _whole_number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> (64 - SEED_BITS)
