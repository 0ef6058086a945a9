"""Masks for mode inpaint: the area of each parent in which a lesion is drawn, and what cannot be one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from scipy import ndimage

from skinaug.errors import InputError, listing
from skinaug.generate.inpaint import ANY, COLUMN, DRAWN, FOUND, Inpaint, check_sources
from skinaug.images import open_image, square
from skinaug.manifest import Manifest
from skinaug.metrics.colour import lab_of_pixels
from skinaug.metrics.skin import GRID, find_regions
from skinaug.sources.files import list_images
from skinaug.sources.masks import TWIN, is_colourless, is_two_valued

ROUNDEST = 0.6  # least ratio of a drawn ellipse's axes
ADVICE = {
    FOUND: "Give masks (generate.inpaint.mask=<folder> or column), or use generate.inpaint.mask=drawn.",
    DRAWN: "Lower generate.inpaint.diameter, or use generate.inpaint.mask=found.",
}


class Unusable(Exception):
    """Why no lesion can be drawn on a photograph: a kind of fault."""


@dataclass(frozen=True)
class Areas:
    """Where on a parent's square of `size` pixels a lesion is drawn.

    given: file of each photograph's mask, by image_id; lesions: file of the mask of its own lesion, which must be covered.
    """

    inpaint: Inpaint
    size: int
    given: Mapping[str, Path] = field(default_factory=dict)
    lesions: Mapping[str, Path] = field(default_factory=dict)

    def area(self, parent: str, pixels: np.ndarray, seed: int) -> np.ndarray:
        """Where the lesion is drawn on the parent's square, uint8 [S, S, 3]: bool [S, S].

        Raises:
            Unusable: nowhere.
        """
        area = self._area(parent, pixels, seed)
        if not area.any():
            raise Unusable("empty in the central square")
        if area.all():
            raise Unusable("covers everything")
        return area

    def _area(self, parent: str, pixels: np.ndarray, seed: int) -> np.ndarray:
        if self.inpaint.mask == DRAWN:
            return self._ellipse(pixels, seed)
        if self.inpaint.mask == FOUND:
            lesion = find_regions(lab_of_pixels(pixels[None])).lesion[0]
            if not lesion.any():
                raise Unusable("no lesion is found")
            return grown(_on_pixels(lesion, self.size), self._reach())
        area = _read(self.given[parent], self.size)
        return grown(area, self._reach()) if self.inpaint.mask == COLUMN else area

    def check(self, parent: str, width: int, height: int, pixels: np.ndarray | None) -> None:
        """Refuse a photograph of that size on which no lesion can be drawn. pixels: its square, where the mask depends on it.

        Raises:
            Unusable: why.
        """
        if self.inpaint.mask not in (FOUND, DRAWN) and parent not in self.given:
            raise Unusable("no mask")
        for file in (files[parent] for files in (self.given, self.lesions) if parent in files):
            _check_file(file, (width, height))
        area = self.area(parent, pixels if pixels is not None else np.empty(0), seed=0)
        if self.inpaint.parent_classes == ANY:
            lesion = _read(self.lesions[parent], self.size) if parent in self.lesions else None
            if lesion is None or not lesion.any():
                raise Unusable("no mask of its own lesion")
            if (opacity(area, self.inpaint.feather)[lesion] < 1).any():
                raise Unusable("does not cover its own lesion")

    def _reach(self) -> float:
        """Pixels that a lesion's mask grows by, so that the soft edge lies outside of the lesion and the margin."""
        edge = _edge(self.inpaint.feather, self.size)
        return np.ceil(self.inpaint.margin * self.size) + (edge + 1 if edge else 0)

    def _ellipse(self, pixels: np.ndarray, seed: int) -> np.ndarray:
        """An ellipse on skin, away from lesions, backdrop and the picture's rim."""
        regions = find_regions(lab_of_pixels(pixels[None]))
        away = grown(regions.lesion[0], np.ceil(self.inpaint.margin * GRID))
        clean = np.pad(regions.skin[0] & ~away, 1)  # the picture ends there
        room = ndimage.distance_transform_edt(clean)[1:-1, 1:-1] - 1  # cells from each one's centre
        least, most = (side * GRID / 2 for side in self.inpaint.diameter)
        if room.max() < least:
            raise Unusable("no clean skin of that size")
        rng = np.random.default_rng(seed)
        radius = rng.uniform(least, min(most, room.max()))
        row, column = rng.choice(np.argwhere(room >= radius))
        other, angle = radius * rng.uniform(ROUNDEST, 1), rng.uniform(0, np.pi)
        place = (np.arange(self.size) + 0.5) * GRID / self.size - 0.5
        y, x = np.meshgrid(place - row, place - column, indexing="ij")
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        return (along / radius) ** 2 + (across / other) ** 2 <= 1


def usable_parents(real: Manifest, inpaint: Inpaint, size: int) -> tuple[Manifest, Areas, Counter[str]]:
    """The photographs on which lesions can be drawn, where on each, and how many others there are by fault.

    Raises:
        InputError: masks that were given and cannot be used, unless on_bad is drop.
    """
    areas, faults = _areas(real, inpaint, size)
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda row: _fault(areas, row), _rows(real, inpaint))
        faults |= {
            name: fault
            for name, fault in zip(real.table["image_id"], found, strict=True)
            if fault and name not in faults
        }
    counts = Counter(faults.values())
    if faults and inpaint.on_bad == "fail" and inpaint.mask not in (FOUND, DRAWN):
        told = "; ".join(f"{fault}: {count}" for fault, count in counts.most_common())
        lines = [f"{name}: {fault}" for name, fault in faults.items()]
        where = f"the folder {inpaint.folder}" if inpaint.folder else "the column `mask`"
        raise InputError(
            f"{len(faults)} of {len(real)} training photographs have no mask that a lesion can be drawn in, by {where} ({told}):\n"
            f"{listing(lines)}\nA mask is black and white, of its photograph's size, and leaves some of it. Correct them, or leave these "
            "photographs out with generate.inpaint.on_bad=drop."
        )
    return real.where(~pl.col("image_id").is_in(list(faults))), areas, counts


def check_parents(real: Manifest, inpaint: Inpaint, classes: Sequence[str], size: int) -> None:
    """Refuse photographs of which a class has none to draw on. Given masks are all looked at; where a lesion is found or drawn,
    a class's photographs are until one can be used.

    Raises:
        InputError: as `check_sources` and `usable_parents`, or a class without a parent.
    """
    check_sources(inpaint, real.table.columns, real.classes)
    if inpaint.mask in (FOUND, DRAWN):
        areas, _ = _areas(real, inpaint, size)
        good = {
            label
            for label in real.table["label"].unique()
            if any(_fault(areas, row) is None for row in _rows(real.where(pl.col("label") == label), inpaint))
        }
    else:
        good = set(usable_parents(real, inpaint, size)[0].table["label"])
    require_parents(good, inpaint, classes)


def require_parents(labels: set[str], inpaint: Inpaint, classes: Sequence[str]) -> None:
    """Raise InputError where a class has no parent. labels: those of photographs that can be parents."""
    lacking = [label for label in classes if not labels & set(inpaint.labels(label, classes))]
    if lacking:
        advice = ADVICE.get(inpaint.mask, "Give masks for some of them.")
        raise InputError(
            f"generate.mode inpaint has no training photograph on which a lesion can be drawn for: {', '.join(lacking)} "
            f"(generate.inpaint.parent_classes={inpaint.parent_classes}, mask={inpaint.mask}). {advice}"
        )


def grown(area: np.ndarray, pixels: float) -> np.ndarray:
    """An area, bool [H, W], and all within that distance of it."""
    return ndimage.distance_transform_edt(~area) <= pixels if area.any() else area


def opacity(area: np.ndarray, feather: float) -> np.ndarray:
    """How much of the drawing shows at each pixel, float32 [S, S]: 0 outside of the area, rising to 1 within the soft edge, which
    lies inside; 1 all over where it is 0 wide. The picture's rim is no edge."""
    depth = ndimage.distance_transform_edt(area)  # 1 at the outermost pixels
    return np.clip(depth / (_edge(feather, len(area)) + 1), 0, 1).astype(np.float32)


def composed(parent: np.ndarray, drawn: np.ndarray, area: np.ndarray, feather: float) -> np.ndarray:
    """The parent with what was drawn inside the area, uint8 [S, S, 3]: outside, the parent's own pixels."""
    share = opacity(area, feather)[..., None]
    mixed = parent + (drawn.astype(np.float32) - parent) * share
    return np.where(area[..., None], mixed.round(), parent).astype(np.uint8)


def _edge(feather: float, size: int) -> int:
    return round(feather * size)


def _areas(real: Manifest, inpaint: Inpaint, size: int) -> tuple[Areas, dict[str, str]]:
    """The areas, and the photographs that several given masks are named after."""
    table = real.table
    lesions = {}
    if "mask" in table.columns:
        named = table.select("image_id", "mask").drop_nulls().iter_rows()
        lesions = {name: real.root / path for name, path in named}
    if inpaint.folder:
        given, several = _named_alike(inpaint.folder, table)
        own = lesions if inpaint.parent_classes == ANY else {}
        return Areas(inpaint, size, given, own), dict.fromkeys(several, "several masks")
    if inpaint.mask == COLUMN:
        return Areas(inpaint, size, lesions, lesions), {}
    return Areas(inpaint, size), {}


def _named_alike(folder: Path, table: pl.DataFrame) -> tuple[dict[str, Path], list[str]]:
    """The mask of each photograph by image_id, and the photographs that have several: by the path without its suffix, by the
    image_id, or else by the name alone; `a/1.png`, `1_mask.png` and `1_segmentation.png` are all of `a/1.jpg`."""
    files: dict[str, set[str]] = {}
    for name in list_images(folder):
        path = PurePosixPath(name).with_suffix("")
        twin = TWIN.fullmatch(path.name)
        for stem in {path.name, *([twin[1]] if twin else [])}:
            for key in {stem, (path.parent / stem).as_posix()}:
                files.setdefault(key, set()).add(name)
    stems = Counter(PurePosixPath(path).stem for path in table["path"])
    given, several = {}, []
    for image_id, path in table.select("image_id", "path").iter_rows():
        whole = PurePosixPath(path).with_suffix("").as_posix()
        stem = PurePosixPath(path).stem
        keys = [whole, image_id, *([stem] if stems[stem] == 1 else [])]
        found = next((files[key] for key in keys if key in files), set())
        if len(found) == 1:
            given[image_id] = folder / next(iter(found))
        elif found:
            several.append(image_id)
    return given, several


def _rows(real: Manifest, inpaint: Inpaint) -> Iterator[dict[str, Any]]:
    """What `_fault` needs of each photograph: image_id, width, height, and `file` where the mask depends on what it shows."""
    shown = inpaint.mask in (FOUND, DRAWN)
    rows = real.table.select("image_id", "width", "height").iter_rows(named=True)
    for row, path in zip(rows, real.paths(), strict=True):
        yield {**row, "file": path if shown else None}


def _fault(areas: Areas, row: Mapping[str, Any]) -> str | None:
    """Why a photograph cannot be a parent, None where it can."""
    try:
        pixels = square(open_image(row["file"]), areas.size) if row["file"] else None
        areas.check(row["image_id"], row["width"], row["height"], pixels)
    except Unusable as fault:
        return str(fault)
    return None


def _check_file(file: Path, size: tuple[int, int]) -> None:
    try:
        mask = open_image(file)
    except OSError as error:
        raise Unusable("cannot be read" if file.is_file() else "no mask") from error
    if mask.size != size:
        raise Unusable("another size than its photograph")
    if not (is_two_valued(mask, is_colourless(mask)) or mask.getcolors(1)):
        raise Unusable("more than two values")


def _read(file: Path, size: int) -> np.ndarray:
    """A mask's central square: bool [size, size]. Of two values that are not black and white, the brighter one is inside."""
    grey = np.asarray(open_image(file).convert("L"))
    darkest, brightest = int(grey.min()), int(grey.max())
    inside = grey > ((darkest + brightest) / 2 if brightest > darkest else 127)
    return square(Image.fromarray(inside.astype(np.uint8) * 255).convert("RGB"), size)[..., 0] > 127


def _on_pixels(cells: np.ndarray, size: int) -> np.ndarray:
    """An area of the grid on a picture's pixels: those that it touches, bool [size, size]."""
    image = Image.fromarray(cells.astype(np.uint8) * 255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) > 0
