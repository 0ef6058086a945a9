"""The reader's test `real_or_fake`: pictures drawn alike from photographs and from a pool, and what readers take them for."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path

import polars as pl
from PIL import Image
from rich.console import Console

from skinaug.curate.decisions import IMAGE, forget, read_decisions, read_own, record
from skinaug.errors import InputError
from skinaug.images import open_image, square
from skinaug.manifest import Manifest

ANSWERS = {"1": "Surely real", "2": "Probably real", "3": "Probably synthetic", "4": "Surely synthetic"}
SHOWN_SPLITS = ("train", "val")  # never test photographs
MOST_PX = 512  # pixels a side that a picture is shown with, at most
QUALITY = 90  # of the JPEG that all pictures are encoded as
SHOWN = ("image_id", "sha256", "label", "group_id", "source")


class ReaderDeck:
    """One reader's way through the pictures, in an order of the reader's own.

    Attributes:
        images: SHOWN of the pictures as dicts, in that order.
        answers: a key of ANSWERS by position in `images`, the latest last.
        current: position of the picture to answer, None at the end.
    """

    def __init__(self, pictures: pl.DataFrame, folder: Path, reader: str) -> None:
        self.folder, self.reader = folder, reader
        self.images = sorted(
            pictures.select(SHOWN).to_dicts(), key=lambda row: _digest(reader, row["source"], row["image_id"])
        )
        self.positions = {(image["image_id"], image["sha256"]): at for at, image in enumerate(self.images)}
        self.reload()

    def reload(self) -> None:
        """Read the reader's file: another page may have written to it."""
        own = read_own(self.folder, self.reader, ANSWERS).select(*IMAGE, "decision").iter_rows()
        found = ((self.positions.get((image_id, digest)), word) for image_id, digest, word in own)
        self.answers = {at: word for at, word in found if at is not None}

    @property
    def current(self) -> int | None:
        return next((at for at in range(len(self.images)) if at not in self.answers), None)

    def answer(self, word: str) -> None:
        """Write what the reader takes the current picture for."""
        if self.current is not None:
            image = self.images[self.current]
            record(self.folder, self.reader, image["image_id"], image["sha256"], word, ANSWERS)
            self.reload()

    def undo(self) -> bool:
        """Take back the latest answer; False where there is none."""
        self.reload()
        if not self.answers:
            return False
        image = self.images[list(self.answers)[-1]]
        forget(self.folder, self.reader, image["image_id"], image["sha256"], ANSWERS)
        self.reload()
        return True


def draw_pictures(real: Manifest, pool: Manifest, split: str, per_class: int, seed: int) -> Manifest:
    """As many photographs as synthetic images of each class, the same for every reader.

    Drawn by a hash of seed and image id, photographs of patients that were not drawn yet first.

    Args:
        real: the data set with all splits.
        pool: the synthetic images.
        split: of the photographs: train or val.
        per_class: of each kind and class, at most.

    Raises:
        InputError: another split, no count, or no class with both.
    """
    check_settings(split, per_class)
    parts, few = [], []
    for label in real.classes:
        photographs, images = (
            _drawn(manifest.where(pl.col("label") == label), seed) for manifest in (real.split(split), pool)
        )
        count = min(per_class, len(photographs), len(images))
        few += [f"{label} {count}"] * (count < per_class)
        parts += [
            photographs.with_table(photographs.table.head(count)),
            images.with_table(images.table.head(count)),
        ]
    drawn = Manifest.concat(parts)
    if not len(drawn):
        raise InputError(
            f"No class has both photographs of the split {split} and synthetic images: there is nothing to read."
        )
    if few:
        Console().print(
            f"fewer than {per_class} of each kind: {', '.join(few)}", highlight=False, markup=False
        )
    return drawn


def encoded(pictures: Manifest) -> dict[str, bytes]:
    """Each picture, by image id, as a JPEG without metadata of one size: the shortest side of any of them, at most MOST_PX, so that
    none is enlarged."""
    sides = pictures.table.select(pl.min_horizontal("width", "height").min()).item()
    size, found = min(sides, MOST_PX), {}
    for image_id, path in zip(pictures.table["image_id"], pictures.paths(), strict=True):
        content = BytesIO()
        Image.fromarray(square(open_image(path), size)).save(content, "JPEG", quality=QUALITY, subsampling=0)
        found[image_id] = content.getvalue()
    return found


def readings(folder: Path, real: Manifest, pool: Manifest) -> pl.DataFrame:
    """What all readers answered of these images: columns reader, image_id, group_id, label, source, answer (1 surely real to 4
    surely synthetic).

    Raises:
        InputError: damaged answers.
    """
    columns = pl.concat([images.table.select(SHOWN) for images in (real, pool)])
    answers = read_decisions(folder, ANSWERS).rename({"reviewer": "reader"})
    found = answers.join(columns, on=IMAGE, how="inner", maintain_order="left")
    return found.select(
        "reader", "image_id", "group_id", "label", "source", answer=pl.col("decision").cast(pl.Int64)
    )


def check_settings(split: str, per_class: int) -> None:
    """Refuse what can be seen to be wrong before there is a pool.

    Raises:
        InputError: a split whose photographs are not shown, or no count.
    """
    if split not in SHOWN_SPLITS:
        raise InputError(
            f"review.split={split}: readers see photographs of {' or '.join(SHOWN_SPLITS)}; those of the test split are shown to nobody."
        )
    if not isinstance(per_class, int) or per_class < 1:
        raise InputError(f"review.per_class={per_class}: give a count of at least 1.")


def _drawn(images: Manifest, seed: int) -> Manifest:
    """Rows in the order in which they are drawn: the first of each patient before any second."""
    digests = pl.Series([_digest(str(seed), name) for name in images.table["image_id"]], dtype=pl.String)
    table = images.table.with_columns(drawn=digests).sort("drawn")
    patient = pl.when(pl.col("source") == "real").then("group_id").otherwise("image_id")
    table = table.with_columns(nth=pl.int_range(pl.len()).over(patient)).sort("nth", "drawn")
    return images.with_table(table.drop("nth", "drawn"))


def _digest(*words: str) -> str:
    return sha256("\0".join(words).encode()).hexdigest()
