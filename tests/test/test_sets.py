"""A further test set: mapped to the data's classes, checked, and kept apart from what classifiers learn from."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from skinaug.audit.copies import find_held_out_copies
from skinaug.errors import InputError
from skinaug.leaks.certificate import certify
from skinaug.leaks.seen import real_rows
from skinaug.manifest import GIVEN, Manifest
from skinaug.metrics.hashes import perceptual_hashes
from skinaug.models.backbone import create_backbone
from skinaug.sources.check import check_images
from skinaug.sources.sources import Csv, Folder, Source
from skinaug.store.digest import sha256_file
from skinaug.test.apart import refuse_given_copies
from skinaug.test.sets import check_settings, take_test_set

CLASSES = ("acne", "nevus", "tinea")
FIND = partial(
    find_held_out_copies,
    partial(create_backbone, name="test_resnet", pretrained=False),
    48,
    cache=None,
    device=lambda: torch.device("cpu"),
)
SETTINGS: dict[str, Any] = {
    "labels": None,
    "patients": "shared",
    "min_size_px": 32,
    "on_bad": "fail",
    "on_shared": "fail",
}


def fill(root: Path, names: dict[str, int]) -> Path:
    """Pictures of smooth noise, no two alike, by their seeds."""
    for name, seed in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(root / name)
    return root


def manifest(root: Path, rows: list[dict[str, str]]) -> Manifest:
    table = pl.DataFrame(
        [{**row, "image_id": row["path"], "sha256": sha256_file(root / row["path"])} for row in rows]
    )
    return Manifest(
        table.with_columns(source=pl.lit("real"), width=pl.lit(64), height=pl.lit(64)), root, CLASSES
    )


@pytest.fixture
def data(tmp_path: Path) -> Manifest:
    """Of each class a training, a validation and a test photograph, of patients 0 to 8."""
    names = [(label, split) for label in CLASSES for split in ("train", "val", "test")]
    root = fill(tmp_path / "data", {f"{label}/{split}.png": n for n, (label, split) in enumerate(names)})
    rows = [
        {"path": f"{label}/{split}.png", "label": label, "split": split, "group_id": f"{n}"}
        for n, (label, split) in enumerate(names)
    ]
    return manifest(root, rows)


def take(
    source: Source, root: Path, data: Manifest, out: Path, **changes: Any
) -> tuple[Manifest, dict[str, Any]]:
    read, _ = check_images(data.root, data.table["path"].to_list())
    phash, mirrored = perceptual_hashes(np.stack([picture.thumbnail for picture in read if picture]))
    hashes = data.table.select("image_id", phash=pl.Series(phash), mirrored=pl.Series(mirrored))
    out.mkdir(exist_ok=True)
    given = {"name": "ddi", "data": data, "hashes": hashes, "find_copies": FIND, "out": out}
    take_test_set(source, str(root), **(SETTINGS | changes), **given)
    return Manifest.read(out), json.loads((out / "summary.json").read_text())


def test_names_are_mapped_and_what_is_foreign_is_left_out_with_a_count(data: Manifest, tmp_path: Path):
    names = {"pimples/a.png": 20, "nevus/b.png": 21, "nevus/c.jpg": 22, "wart/d.png": 23, "lupus/e.png": 24}
    root = fill(tmp_path / "x", names)
    (root / "nevus/moving.gif").write_bytes(b"GIF89a")
    Image.open(root / "nevus/b.png").save(root / "nevus/b.png", icc_profile=b"no profile")
    further, summary = take(Folder(), root, data, tmp_path / "out", labels={"pimples": "acne"})
    assert further.classes == CLASSES
    assert further.table.select("image_id", "label", "split", "source").rows() == [
        ("ddi/nevus/b.png", "nevus", "test", "real"),
        ("ddi/nevus/c.jpg", "nevus", "test", "real"),
        ("ddi/pimples/a.png", "acne", "test", "real"),
    ]
    assert summary["left_out"] == {"lupus": 1, "wart": 1}
    assert summary["lacking"] == ["tinea"]
    assert summary["classes"]["nevus"] == {"images": 2, "patients": 2}
    assert "Left out, of no class of the data: lupus 1, wart 1." in summary["told"]
    assert "No image of tinea: scores are those of the other classes." in summary["told"]
    assert summary["noticed"]["broken_profile"] == {"count": 1, "examples": ["nevus/b.png"]}
    assert "Other files of the folder, which are not read: 1 .gif." in summary["told"]


def test_a_table_on_another_scale_with_rows_without_a_label(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "x", {"a.png": 20, "b.png": 21, "c.png": 22})
    rows = "a,acne,12,M\nb,,34,M\nc,nevus,mixed,x\n"
    (root / "metadata.csv").write_text(f"f,y,tone,sex\n{rows}")
    columns = {"path": "f", "label": "y", "skin_type": "tone", "sex": "sex"}
    source = Csv(columns, scales={"skin_type": "fitzpatrick_pairs"}, told_by={"skin_type": "dermatologist"})
    with pytest.raises(
        InputError, match=r"1 row of the table has no path or no label:\n\s+row 2, b\.png: no label"
    ):
        take(source, root, data, tmp_path / "out")
    further, summary = take(source, root, data, tmp_path / "out", on_bad="drop")
    columns = ("path", "skin_type", "skin_type_told_by", "sex")
    assert further.table.select(columns).rows() == [
        ("a.png", "I-II", "dermatologist", "male"),
        ("c.png", None, None, None),
    ]
    assert summary["dropped"] == {"no label": 1}
    assert summary["told"][0].startswith(
        "skin_type: 1 of 3 values are not understood on the scale fitzpatrick_pairs, such as mixed."
    )
    assert summary["told"][1].startswith("sex: 1 of 3 values are not understood, such as x.")


def stolen(data: Manifest, root: Path, split: str) -> Path:
    """A further set with two pictures of its own and a copy of a photograph, smaller, mirrored and saved as JPEG."""
    fill(root, {"acne/a.png": 20, "nevus/b.png": 21})
    copy = (
        Image.open(data.root / f"nevus/{split}.png")
        .resize((50, 50))
        .transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    )
    copy.save(root / "nevus/stolen.jpg", quality=90)
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_photographs_that_classifiers_learn_from_are_refused_or_dropped(
    data: Manifest, split: str, tmp_path: Path
):
    root = stolen(data, tmp_path / "x", split)
    said = rf"(?s)1 photograph of the test set ddi.*ddi/nevus/stolen.jpg is nevus/{split}.png \({split}\).*on_shared=drop"
    with pytest.raises(InputError, match=said):
        take(Folder(), root, data, tmp_path / "out")
    assert not (tmp_path / "out/manifest.parquet").exists()
    further, summary = take(Folder(), root, data, tmp_path / "out", on_shared="drop")
    assert len(further) == 2
    assert summary["dropped"] == {"classifiers learn from it": 1}
    learned = data.where(pl.col("split") != "test")
    known = learned.with_table(learned.table.with_columns(split=pl.lit("train")))
    copies = pl.read_parquet(tmp_path / "out/copies.parquet")
    assert certify(Manifest.concat([known, further]), copies, {"training": real_rows(learned)})["holds"]


def test_photographs_of_the_own_test_set_are_counted(data: Manifest, tmp_path: Path):
    further, summary = take(Folder(), stolen(data, tmp_path / "x", "test"), data, tmp_path / "out")
    assert len(further) == 3
    assert summary["in_own_test"] == 1


def test_patients_are_the_datas_unless_the_set_has_numbers_of_its_own(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "x", {"a.png": 20, "b.png": 21})
    (root / "metadata.csv").write_text("path,label,who\na.png,acne,0\nb.png,nevus,77\n")
    source = Csv({"path": "path", "label": "label", "group_id": "who"})
    with pytest.raises(InputError, match=r"(?s)ddi/a.png is of patient 0 \(train\).*patients=own"):
        take(source, root, data, tmp_path / "out")
    further, _ = take(source, root, data, tmp_path / "out", patients="own")
    assert further.table["group_id"].to_list() == ["ddi/0", "ddi/77"]
    further, _ = take(source, root, data, tmp_path / "out", on_shared="drop")
    assert further.table["image_id"].to_list() == ["ddi/b.png"]
    (root / "metadata.csv").write_text("path,label,who\na.png,acne,0\n")
    with pytest.raises(InputError, match="1 photograph of the test set"):
        take(source, root, data, tmp_path / "out", on_shared="drop")


def test_pictures_that_are_there_twice_count_once(data: Manifest, tmp_path: Path):
    names = {"acne/a.png": 20, "acne/again.bmp": 20, "nevus/b.png": 21, "nevus/c.png": 22, "tinea/c.png": 22}
    further, summary = take(Folder(), fill(tmp_path / "x", names), data, tmp_path / "out")
    assert further.table["path"].to_list() == ["acne/a.png", "nevus/b.png"]
    assert summary["dropped"] == {
        "copy of another picture of the set": 1,
        "same picture with different labels": 2,
    }


@pytest.mark.parametrize(
    ("names", "labels", "said"),
    [
        (
            {"wart/a.png": 1},
            None,
            r"(?s)No image of the test set ddi is of a class.*test.ddi.labels=\{theirs: ours\}",
        ),
        (
            {"wart/a.png": 1},
            {"warts": "acne"},
            "maps warts, which no image of the set is labelled; its labels are wart",
        ),
        ({"wart/a.png": 1}, {"wart": "zit"}, "maps to classes that the data lack: wart: zit"),
    ],
)
def test_labels_that_cannot_be_judged_are_refused(
    data: Manifest, names: dict[str, int], labels: dict[str, str] | None, said: str, tmp_path: Path
):
    with pytest.raises(InputError, match=said):
        take(Folder(), fill(tmp_path / "x", names), data, tmp_path / "out", labels=labels)


@pytest.mark.parametrize(
    "change", [{"patients": "none"}, {"on_shared": "keep"}, {"labels": "acne"}, {"on_bad": 1}]
)
def test_settings_are_checked(change: dict[str, Any]):
    settings = {"source": {}, **SETTINGS}
    check_settings("ddi", settings)
    with pytest.raises(InputError, match=f"test.ddi.{next(iter(change))}="):
        check_settings("ddi", settings | change)
    with pytest.raises(InputError, match="name a test set in letters"):
        check_settings("a.b", settings)
    with pytest.raises(InputError, match="root is no test set"):
        check_settings("root", "/data")


def test_a_given_pool_with_its_photographs_is_refused(data: Manifest, tmp_path: Path):
    take(Folder(), fill(tmp_path / "x", {"acne/a.png": 20, "nevus/b.png": 21}), data, tmp_path / "out")
    pool = fill(tmp_path / "pool", {"p.png": 30, "q.png": 20})
    rows = [
        {"path": path, "label": "acne", "split": "train", "group_id": path} for path in ("p.png", "q.png")
    ]
    mix = manifest(pool, rows)
    drawn = mix.table.with_columns(source=pl.lit("synthetic"), weights=pl.lit(GIVEN)).with_columns(
        pl.lit(None, pl.String).alias(name)
        for name in ("prompt", "prompt_set", "seed", "guidance_scale", "num_inference_steps", "scheduler")
    )
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(
        InputError, match=r"(?s)1 picture of the pool.*test set ddi:\n.*q.png is ddi/acne/a.png"
    ):
        refuse_given_copies("ddi", mix.with_table(drawn), tmp_path / "out", FIND, work)
    refuse_given_copies("ddi", mix.with_table(drawn.head(1)), tmp_path / "out", FIND, work)
    assert list(work.iterdir()) == []
