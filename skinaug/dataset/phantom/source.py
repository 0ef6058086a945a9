"""Sources that render their pictures: the six-condition phantom and the base model's morphology set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skinaug.dataset.phantom.conditions import CONDITIONS, draw_patient, draw_picture
from skinaug.dataset.phantom.morphology import draw_morphology
from skinaug.dataset.phantom.parameters import SKIN_TYPES, Picture, describe
from skinaug.dataset.phantom.render import Rendered, render
from skinaug.errors import InputError

_LICENCE = "Apache-2.0"
_MAX_PICTURES_A_PATIENT = 4
Drawn = tuple[Picture, np.random.Generator, dict[str, object]]
Planned = tuple[str, str, partial[Drawn]]  # image_id, label, how to draw it
_BLOCK = 64  # pictures a task: long enough to hide the cost of handing it over


class Phantom:
    """Rendered photographs of six conditions; patients have one to four pictures each.

    per_class: pictures of each class, > 0. image_size: pixels a side, >= 16. seed: picture k of a class depends on the
    seed, the class and k alone, whatever per_class is. workers: processes (default: one a core). Another clinic has other
    patients and another light: skin_types: those that occur (default: all six); exposure, warmth: stops that every
    photograph is brighter and warmer by.
    """

    licence = _LICENCE
    citation = "skinaug phantom: a procedural renderer of macroscopic skin photographs; no person is shown."
    classes = CONDITIONS
    needs_root = False

    def __init__(
        self,
        per_class: int,
        image_size: int,
        seed: int,
        workers: int | None = None,
        skin_types: Sequence[str] | None = None,
        exposure: float = 0.0,
        warmth: float = 0.0,
    ) -> None:
        _check(per_class, image_size, "per_class")
        if skin_types is not None and (not skin_types or set(skin_types) - set(SKIN_TYPES)):
            raise InputError(f"source.skin_types={list(skin_types)}: choose from {', '.join(SKIN_TYPES)}.")
        self.per_class, self.image_size, self.seed, self.workers = per_class, image_size, seed, workers
        self.skin_types = None if skin_types is None else tuple(skin_types)
        self.exposure, self.warmth = exposure, warmth

    def load(self, root: Path) -> pl.DataFrame:
        """Render into root/images and return one row a picture.

        Columns: path, label, group_id (patient), the attributes in words of `parameters.describe`, age (years), sex, and
        the ground truth ita_deg (degrees), lesion_area_share (of the skin in view) and redness (CIE a* units).
        """
        draws = [
            (
                f"{label}-{k:06d}",
                label,
                partial(
                    condition_picture,
                    label,
                    patient,
                    view,
                    self.seed,
                    self.skin_types,
                    self.exposure,
                    self.warmth,
                ),
            )
            for label in CONDITIONS
            for k, (patient, view) in enumerate(patient_plan(self.seed, label, self.per_class))
        ]
        return _render_all(draws, root, self.image_size, self.workers)


class PhantomMorphology:
    """Rendered skin of a broad distribution over morphology: label "skin", attributes in words, no condition.

    count: pictures, > 0. image_size and workers as for Phantom. Picture k depends on the seed and k alone.
    """

    licence = _LICENCE
    citation = Phantom.citation
    classes = ("skin",)
    needs_root = False

    def __init__(self, count: int, image_size: int, seed: int, workers: int | None = None) -> None:
        _check(count, image_size, "count")
        self.count, self.image_size, self.seed, self.workers = count, image_size, seed, workers

    def load(self, root: Path) -> pl.DataFrame:
        """Render into root/images and return one row a picture; columns as for Phantom, without age and sex.

        A further column `mask` has the path of the lesions' mask, in root/masks: white where a lesion covers the skin.
        """
        draws = [
            (f"skin-{k:06d}", "skin", partial(morphology_picture, k, self.seed)) for k in range(self.count)
        ]
        return _render_all(draws, root, self.image_size, self.workers, masks=True)


def _check(count: int, image_size: int, name: str) -> None:
    if count < 1:
        raise InputError(f"dataset.source.{name} must be at least 1, got {count}: raise it")
    if image_size < 16:
        raise InputError(f"dataset.source.image_size must be at least 16 pixels, got {image_size}: raise it")


def _generator(seed: int, *keys: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys))


def patient_plan(seed: int, label: str, num_pictures: int) -> list[tuple[int, int]]:
    """(patient, picture of this patient) of a class's pictures 0 .. num_pictures - 1."""
    sizes = _generator(seed, CONDITIONS.index(label), 0)
    plan: list[tuple[int, int]] = []
    patient = 0
    while len(plan) < num_pictures:
        plan += [(patient, view) for view in range(int(sizes.integers(1, _MAX_PICTURES_A_PATIENT + 1)))]
        patient += 1
    return plan[:num_pictures]


def condition_picture(
    label: str,
    patient: int,
    view: int,
    seed: int,
    skin_types: Sequence[str] | None = None,
    exposure: float = 0.0,
    warmth: float = 0.0,
) -> Drawn:
    """Parameters of one picture of a patient, the generator to render it with, and its row's extra columns; see `Phantom`."""
    number = CONDITIONS.index(label)
    person = draw_patient(_generator(seed, number, 1, patient), label, skin_types)
    rng = _generator(seed, number, 2, patient, view)
    extra = {"group_id": f"{label}-{patient:05d}", "age": float(person.age), "sex": person.sex}
    picture = draw_picture(rng, person)
    photo = replace(
        picture.photo, exposure=picture.photo.exposure + exposure, warmth=picture.photo.warmth + warmth
    )
    return replace(picture, photo=photo), rng, extra


def morphology_picture(k: int, seed: int) -> Drawn:
    """Parameters of picture k of the morphology set, its generator, and its row's extra columns."""
    rng = _generator(seed, len(CONDITIONS), k)
    return draw_morphology(rng), rng, {"group_id": f"skin-{k:06d}"}


def _row(drawn: Drawn, rendered: Rendered) -> dict[str, object]:
    picture, _, extra = drawn
    truth = {
        "ita_deg": round(rendered.ita_deg, 3),
        "lesion_area_share": round(rendered.lesion_area_share, 5),
        "redness": round(rendered.redness, 3),
    }
    return {**extra, **describe(picture), **truth}


def _render_block(block: list[Planned], root: Path, image_size: int, masks: bool) -> list[dict[str, object]]:
    rows = []
    for image_id, label, draw in block:
        drawn = draw()
        rendered = render(drawn[0], image_size, drawn[1])
        path = f"images/{image_id}.png"
        Image.fromarray(rendered.pixels).save(root / path, compress_level=1)
        row = {"image_id": image_id, "path": path, "label": label, **_row(drawn, rendered)}
        if masks:
            mask = f"masks/{image_id}.png"
            Image.fromarray(rendered.lesion_mask).save(root / mask)
            row["mask"] = mask
        rows.append(row)
    return rows


def _render_all(
    planned: list[Planned], root: Path, image_size: int, workers: int | None, masks: bool = False
) -> pl.DataFrame:
    for folder in ("images", "masks")[: 1 + masks]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    blocks = [planned[start : start + _BLOCK] for start in range(0, len(planned), _BLOCK)]
    task = partial(_render_block, root=root, image_size=image_size, masks=masks)
    results = _in_order(task, blocks, workers or os.cpu_count() or 1)
    return pl.DataFrame(list(_progress(results, len(planned))), infer_schema_length=None)


def _in_order(
    task: Callable[[list[Planned]], list[dict[str, object]]], blocks: list[list[Planned]], workers: int
) -> Iterator[list[dict[str, object]]]:
    """Results block by block. Processes are spawned, not forked: the caller may hold threads of torch."""
    if workers == 1 or len(blocks) < 8:
        yield from map(task, blocks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, blocks)


def _progress(results: Iterator[list[dict[str, object]]], total: int) -> Iterator[dict[str, object]]:
    rate = TextColumn("{task.fields[rate]:.0f} images/s")
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("rendering", total=total, rate=0.0)
        start = time.perf_counter()
        for rows in results:
            yield from rows
            done = progress.tasks[bar].completed + len(rows)
            progress.update(bar, completed=done, rate=done / (time.perf_counter() - start))
