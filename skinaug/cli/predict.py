"""`skinaug predict <classifier> <folder or images>`: a classifier of the store names the classes of images, and says which are
unlike its training photographs. For research use only."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from skinaug.errors import InputError, listing, plural, printable
from skinaug.progress import shown
from skinaug.sources.files import list_images, refuse_names
from skinaug.stage import build, picture_cache
from skinaug.store.artifact import Artifact
from skinaug.store.files import write_text
from skinaug.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from skinaug.manifest import Manifest

RATE = 0.05  # share of photographs like the training ones that would be called unlike them
AT_ONCE = 1024  # images: bounds the memory that their pixels take
FEW = 10  # images whose probabilities are printed too
RESEARCH_USE_ONLY = "Research use only: not a medical device, and no basis for any decision about a patient."

console = Console()


def main(arguments: list[str]) -> int:
    """Write predictions; returns the exit status.

    Raises:
        InputError: no such classifier, no image that can be read, or a file that cannot be written.
    """
    parser = argparse.ArgumentParser(prog="skinaug predict", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    parser.add_argument("classifier", help="classify/<key> or a key, as `skinaug store ls` lists them")
    parser.add_argument("images", nargs="+", help="folders, with all images below them, or image files")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="a new file (default: predictions.csv)"
    )
    parser.add_argument(
        "--rate", type=float, default=RATE, help="share of photographs like the training ones that may be called unlike "
        f"them (default: {RATE})"
    )  # fmt: skip
    parser.add_argument(
        "--unchecked", action="store_true", help="do not look for images unlike the training photographs, which then need not be there"
    )  # fmt: skip
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    options = parser.parse_args(arguments)
    store = Store(options.store)
    artifact = _classifier(store, options.classifier)
    files = _files(options.images)
    _check_out(options.out)
    _tell_unread(options.images)
    if not 0 < options.rate < 1:
        raise InputError(f"--rate={options.rate}: give a share between 0 and 1.")
    predict(store, artifact, files, options.out, None if options.unchecked else options.rate)
    return 0


def predict(
    store: Store, artifact: Artifact, files: dict[str, Path], out: Path, rate: float | None = RATE
) -> None:
    """Write a CSV file with a row an image: `image`, `prediction`, `p:<class>` for each class, `unlike` and `typicality_p`
    (`metrics.typicality`), and `problem`, why an image could not be read; and tell of these and of those that are unlike.

    Args:
        store: holds the classifier, and what led to it.
        artifact: the classifier's.
        files: images by the name that they are shown under.
        out: the file.
        rate: an image is unlike where its `typicality_p` is at most that; None: do not look.

    Raises:
        InputError: no image can be read, or the training photographs are gone.
    """
    import polars as pl

    from skinaug.classify.trained import PROBABILITY, classes_of, load_classifier
    from skinaug.models.trainer import make_trainer

    record = artifact.record
    if "job" not in record:
        raise InputError(
            f"The record of classify/{artifact.key} does not tell its job: train the classifier again."
        )
    cfg = OmegaConf.create({**record["job"], "store": str(store.root)})
    classes = classes_of(artifact.path)
    images, problems = _readable(files, classes)
    trainer = partial(make_trainer, accelerator="auto", devices=1, precision=record["config"]["precision"])
    classifier = load_classifier(artifact.path, build(cfg.backbone), cfg.classify, trainer, None)
    tables = []
    for start in shown(range(0, len(images), AT_ONCE), "predicting"):
        part = images.with_table(images.table.slice(start, AT_ONCE))
        p = classifier(part)
        columns = {f"{PROBABILITY}{name}": pl.Series(p[:, c]) for c, name in enumerate(classes)}
        named = pl.Series([classes[c] for c in p.argmax(1)])
        tables.append(part.table.select(image="image_id", prediction=named, **columns))
    table = pl.concat(tables).with_columns(
        unlike=pl.lit(None, pl.Boolean), typicality_p=pl.lit(None, pl.Float64)
    )
    if rate is not None and (chance := _typicality(store, artifact, cfg, images, rate)) is not None:
        table = table.with_columns(unlike=pl.Series(chance <= rate), typicality_p=pl.Series(chance))
    order = pl.DataFrame({"image": list(files)})
    unread = pl.DataFrame(list(problems.items()), schema=["image", "problem"], orient="row")
    unread = unread.cast({"image": pl.String, "problem": pl.String})
    whole = order.join(table, on="image", how="left", maintain_order="left").join(
        unread, on="image", how="left", maintain_order="left"
    )
    write_text(out, whole.write_csv())
    _tell_few(table, {name: f"{PROBABILITY}{name}" for name in classes})
    _tell(int(table["unlike"].sum()), len(images), problems, out, rate)


def _tell(unlike: int, count: int, problems: dict[str, str], out: Path, rate: float | None) -> None:
    if problems:
        lines = listing(f"{name}: {reason}" for name, reason in problems.items())
        console.print(
            f"{len(problems)} of {len(problems) + count} images cannot be read:\n{lines}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if unlike and rate is not None:
        console.print(
            f"Warning: {unlike} of {count} images are unlike the photographs that the classifier was trained on (of photographs like "
            f"them, {rate:.0%} would be called so). Their predictions stand on nothing that it has seen; the column `unlike` marks "
            "them.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"{plural(count, 'prediction')} in {out}", highlight=False, markup=False, soft_wrap=True)
    console.print(RESEARCH_USE_ONLY, highlight=False, soft_wrap=True)


def _tell_few(table: pl.DataFrame, columns: dict[str, str]) -> None:
    """Print the probabilities of a few images, the highest first. columns: of the table, by class."""
    if table.height > FEW:
        return
    for row in table.iter_rows(named=True):
        ordered = sorted(columns, key=lambda name: row[columns[name]], reverse=True)
        told = ", ".join(f"{name} {row[columns[name]]:.0%}" for name in ordered)
        console.print(f"{printable(row['image'])}: {told}", highlight=False, markup=False, soft_wrap=True)


def _typicality(
    store: Store, artifact: Artifact, cfg: DictConfig, images: Manifest, rate: float
) -> np.ndarray | None:
    """`metrics.typicality.typicality_p` of images among the classifier's training images, by what validation photographs, whose
    patients are others, have; None where these are too few for the rate."""
    from skinaug.manifest import Manifest
    from skinaug.metrics.features import embed
    from skinaug.metrics.typicality import typicality, typicality_p

    lineage = store.lineage({"classify": artifact.key})
    training, data = (Manifest.read(lineage[name].path) for name in ("mix", "dataset"))
    validation = data.split("val")
    if not _enough(len(validation), rate):
        console.print(
            f"{len(validation)} validation photographs are too few to tell at a rate of {rate:g} which images are unlike the training "
            f"photographs: {_way_out(len(validation))}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return None

    def features(some: Manifest, cache: Path | None) -> np.ndarray:
        return embed(some, build(cfg.features.backbone), cfg.features.image_size, cache=cache)

    references = features(training, picture_cache(cfg))
    expected = typicality(features(validation, picture_cache(cfg)), references)
    return typicality_p(typicality(features(images, None), references), expected)


def _enough(validation: int, rate: float) -> bool:
    """Whether the smallest `typicality_p` that so many photographs can tell, 1 / (N + 1), is within a rate."""
    return (validation + 1) * rate >= 1


def least_rate(validation: int) -> float:
    """The smallest rate of two digits for which so many validation photographs, one at least, are enough."""
    least = 1 / (validation + 1)
    unit = 10.0 ** (math.floor(math.log10(least)) - 1)
    digits = round(least / unit)
    return next(
        rate
        for rate in (float(f"{(digits + more) * unit:.2g}") for more in (0, 1))
        if _enough(validation, rate)
    )


def _way_out(validation: int) -> str:
    if not validation:
        return "it has none. The other columns stand."
    return f"the smallest that works is --rate={least_rate(validation):g}."


def _classifier(store: Store, name: str) -> Artifact:
    artifact = store.find(name)
    if artifact.stage != "classify":
        raise InputError(
            f"{artifact.stage}/{artifact.key} is no classifier: name classify/<key>, as `skinaug store ls` does."
        )
    return artifact


def _files(names: Sequence[str]) -> dict[str, Path]:
    """Image files by the name that they are shown under, each once."""
    found: dict[Path, str] = {}
    for name in names:
        place = Path(name).expanduser()
        if not place.exists():
            raise InputError(f"There is no {name}. Give folders or image files.")
        inside = [place / image for image in list_images(place)] if place.is_dir() else [place.resolve()]
        if not inside:
            raise InputError(f"The folder {name} holds no images (linked folders are not followed).")
        for file in inside:
            found.setdefault(Path(os.path.abspath(file)), str(file if place.is_dir() else place))
    refuse_names(list(found.values()))
    return {shown: file for file, shown in found.items()}


def _tell_unread(names: Sequence[str]) -> None:
    """Say which files of the folders are no images that can be read."""
    from skinaug.sources.noticed import tell, unread

    for folder in (place for name in names if (place := Path(name).expanduser()).is_dir()):
        tell({"not_read": unread(folder, list_images(folder))})


def _check_out(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} is there already: name a new file with --out.")
    folder = Path(os.path.abspath(out)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out={out}: {folder} is no folder that can be written.")


def _readable(files: dict[str, Path], classes: Sequence[str]) -> tuple[Manifest, dict[str, str]]:
    """The images that can be read, under a label that means nothing; and the reasons of the others, by name."""
    import polars as pl

    from skinaug.manifest import Manifest
    from skinaug.sources.check import check_images
    from skinaug.sources.noticed import notice_pictures, tell

    names = list(files)
    root = Path(os.path.commonpath([file.parent for file in files.values()]))
    paths = [file.relative_to(root).as_posix() for file in files.values()]
    pictures, reasons = check_images(root, paths, min_size_px=1)
    problems = {names[row]: reason for row, reason in reasons.items()}
    rows: list[dict[str, Any]] = [
        {
            **dict.fromkeys(("image_id", "group_id"), name),
            "path": path,
            "label": classes[0],
            "split": "test",
            "source": "real",
            "width": picture.width,
            "height": picture.height,
            "sha256": picture.sha256,
        }
        for name, path, picture in zip(names, paths, pictures, strict=True)
        if picture is not None
    ]
    shown = [row["image_id"] for row in rows]
    tell(notice_pictures(shown, [picture for picture in pictures if picture is not None]))
    if not rows:
        lines = [f"{name}: {reason}" for name, reason in problems.items()]
        raise InputError(f"None of {len(names)} images can be read:\n{listing(lines)}")
    return Manifest(pl.DataFrame(rows), root, tuple(classes)), problems
