"""A pool that was made elsewhere: checked, told what it is, and kept apart from what classifiers are judged on."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import skinaug
from PIL import Image
from rendered import SIZES, only, rendered_study

from skinaug.audit.copies import find_held_out_copies
from skinaug.cli.export import to_csv
from skinaug.dataset.imagefolder import to_imagefolder
from skinaug.errors import InputError
from skinaug.generate.given import given_table, take_pool
from skinaug.manifest import GIVEN, Manifest
from skinaug.metrics.hashes import perceptual_hashes
from skinaug.models.backbone import create_backbone
from skinaug.sources.check import check_images
from skinaug.sources.sources import Csv, Folder, ImageFolder, Source
from skinaug.store.digest import sha256_file

CLASSES = ("acne", "nevus")


def picture(seed: int) -> Image.Image:
    """Smooth noise: no two are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)


def fill(root: Path, names: dict[str, int]) -> Path:
    for name, seed in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name)
    return root


@pytest.fixture
def data(tmp_path: Path) -> Manifest:
    """Of each class a training, a validation and a test photograph."""
    root = tmp_path / "data"
    rows = []
    for number, (label, split) in enumerate((c, s) for c in CLASSES for s in ("train", "val", "test")):
        name = f"{label}/{split}.png"
        fill(root, {name: number})
        rows.append({"label": label, "split": split, "sha256": sha256_file(root / name)})
        rows[-1] |= dict.fromkeys(("image_id", "path", "group_id"), name)
    table = pl.DataFrame(rows).with_columns(source=pl.lit("real"), width=pl.lit(64), height=pl.lit(64))
    return Manifest(table, root, CLASSES)


def take(source: Source, root: Path, data: Manifest, out: Path, **changes) -> Manifest:
    read, _ = check_images(data.root, data.table["path"].to_list())
    phash, mirrored = perceptual_hashes(np.stack([p.thumbnail for p in read if p]))
    hashes = data.table.select("image_id", phash=pl.Series(phash), mirrored=pl.Series(mirrored))
    network = partial(create_backbone, name="tf_efficientnet_lite0", pretrained=True)
    find = partial(find_held_out_copies, network, 48, cache=None, device=lambda: torch.device("cpu"))
    settings = {"name": "stylegan", "seen": "unknown", "labels": None, "min_size_px": 32, "on_bad": "fail"}
    out.mkdir(exist_ok=True)
    given = {"data": data, "hashes": hashes, "find_copies": find, "out": out}
    take_pool(source, str(root), **(settings | changes), **given)
    return Manifest.read(out)


def test_a_folder_a_class_is_a_pool(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "pool", {"acne/train.png": 10, "nevus/deep/b.png": 11, "nevus/c.jpg": 12})
    pool = take(Folder(), root, data, tmp_path / "out")
    assert pool.table["image_id"].to_list() == [f"stylegan/{path}" for path in pool.table["path"]]
    assert pool.classes == CLASSES
    assert pool.table.select("split", "source", "prompt_set", "weights").unique().row(0) == (
        "train",
        "synthetic",
        "stylegan",
        GIVEN,
    )
    assert pool.table.select("prompt", "seed", "guidance_scale").null_count().row(0) == (3, 3, 3)
    assert [Image.open(path).size for path in pool.paths()] == [(64, 64)] * 3
    assert pool.table["sha256"].n_unique() == 3


def test_an_imagefolder_carries_what_it_tells(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "pool", {"a.png": 10, "b.png": 11})
    told = {"prompt": "acne on the arm", "seed": 7, "parents": ["acne/train.png"], "skin_type": "4"}
    rows = [
        {"file_name": "a.png", "label": "acne", "generator": "gan-3", **told},
        {"file_name": "b.png", "label": "nevus", "width": 9, "image_id": "mine"},
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = take(ImageFolder(), root, data, tmp_path / "out").table.to_dicts()
    assert {name: first[name] for name in told} == told | {"skin_type": "IV"}
    assert (first["generator"], first["image_id"]) == ("gan-3", "stylegan/a.png")
    assert (second["image_id"], second["width"], second["parents"], second["prompt"]) == (
        "mine",
        64,
        None,
        None,
    )


def test_rows_without_a_label_are_refused_or_dropped_and_classes_may_be_truth_values(
    data: Manifest, tmp_path: Path
):
    root = fill(tmp_path / "pool", {"a.png": 10, "b.png": 11, "c.png": 12})
    (root / "metadata.csv").write_text("f,y\na,TRUE\nb,FALSE\nc,\n")
    source, labels = Csv({"path": "f", "label": "y"}), {True: "acne", False: "nevus"}
    with pytest.raises(InputError, match=r"row 3, c\.png: no label"):
        take(source, root, data, tmp_path / "out", labels=labels)
    pool = take(source, root, data, tmp_path / "out", labels=labels, on_bad="drop")
    assert pool.table.select("path", "label").rows() == [("a.png", "acne"), ("b.png", "nevus")]
    assert (tmp_path / "out" / "dropped.csv").read_text() == "path,reason\nc.png,no label\n"


def test_a_table_carries_what_it_tells(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "pool", {"a.png": 10, "b.png": 11})
    (root / "metadata.csv").write_text(
        "file,class,text,number,of\na.png,pimples,red,3,acne/train.png;acne/val.png\nb.png,nevus,,,\n"
    )
    columns = {"path": "file", "label": "class", "prompt": "text", "seed": "number", "parents": "of"}
    pool = take(Csv(columns), root, data, tmp_path / "out", labels={"pimples": "acne"})
    assert pool.table.select("label", "prompt", "seed").rows() == [("acne", "red", 3), ("nevus", None, None)]
    assert pool.table["parents"].to_list() == [["acne/train.png", "acne/val.png"], None]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"acne/a.png": 1, "wart/b.png": 2}, ["Not among them: wart", "Without a picture: nevus", "labels="]),
        ({"acne/a.png": 1}, ["Without a picture: nevus"]),
    ],
)
def test_classes_must_be_the_datas(names: dict[str, int], said: list[str], tmp_path: Path):
    with pytest.raises(InputError) as error:
        given_table(Folder(), fill(tmp_path, names), "x", None, CLASSES, "fail")
    assert all(words in str(error.value) for words in said)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_held_out_photographs_in_it_are_refused(data: Manifest, split: str, mirrored: bool, tmp_path: Path):
    root = fill(tmp_path / "pool", {"acne/a.png": 10, "nevus/b.png": 11})
    stolen = Image.open(data.root / f"nevus/{split}.png").resize((50, 50))
    if mirrored:
        stolen = stolen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stolen.save(root / "acne/stolen.jpg", quality=90)
    with pytest.raises(InputError, match=rf"(?s)1 picture of the pool.*acne/stolen.jpg is nevus/{split}.png"):
        take(Folder(), root, data, tmp_path / "out")
    assert not (tmp_path / "out/manifest.parquet").exists()
    shutil.copy(
        data.root / "acne/train.png", root / "acne/stolen.jpg"
    )  # what training may see, a pool may hold
    assert len(take(Folder(), root, data, tmp_path / "out")) == 3


def test_bad_and_repeated_pictures(data: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = fill(tmp_path / "pool", {"acne/a.png": 10, "acne/again.bmp": 10, "nevus/b.png": 11})
    (root / "nevus/broken.png").write_bytes((root / "nevus/b.png").read_bytes()[:200])
    (root / "nevus/moving.gif").write_bytes(b"GIF89a")
    Image.open(root / "nevus/b.png").save(root / "nevus/b.png", icc_profile=b"no profile")
    with pytest.raises(InputError, match=r"1 of 4 images cannot be used:\n.*broken.png: unreadable"):
        take(Folder(), root, data, tmp_path / "out")
    assert len(take(Folder(), root, data, tmp_path / "out", on_bad="drop")) == 2
    dropped = pl.read_csv(tmp_path / "out/dropped.csv")
    assert dropped["path"].to_list() == ["nevus/broken.png", "acne/again.bmp"]
    noticed = json.loads((tmp_path / "out/summary.json").read_text())["noticed"]
    assert noticed == {
        "not_read": {".gif": 1},
        "broken_profile": {"count": 1, "examples": ["nevus/b.png"]},
    }
    out = capsys.readouterr().out
    assert "dropped 1: copies of other pictures of the pool" in out
    assert "1 .gif" in out
    assert "values are taken for sRGB: 1 (nevus/b.png)." in out


def test_masks_in_it_are_refused_or_left_out(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "pool", {"acne/a.png": 10, "nevus/b.png": 11})
    Image.open(root / "nevus/b.png").convert("L").save(root / "nevus/b_mask.png")
    with pytest.raises(InputError, match=r"1 of 3 pictures are masks.*\n.*b_mask.png: of nevus/b.png"):
        take(Folder(), root, data, tmp_path / "out")
    assert len(take(Folder(), root, data, tmp_path / "out", masks="drop")) == 2
    assert len(take(Folder(), root, data, tmp_path / "out", masks="keep")) == 3


def test_ids_of_photographs_are_refused(data: Manifest, tmp_path: Path):
    root = fill(tmp_path / "pool", {"acne/a.png": 10, "nevus/b.png": 11})
    rows = [{"file_name": "acne/a.png", "image_id": "acne/train.png"}, {"file_name": "nevus/b.png"}]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InputError, match=r"(?s)1 picture of the pool has an id of photographs.*acne/train.png"
    ):
        take(ImageFolder(), root, data, tmp_path / "out")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a rendered pool in its store, and the same pool exported to `exported`."""
    folder = rendered_study(tmp_path_factory.mktemp("study"))
    to_imagefolder(Manifest.read(only(folder, "generate")), folder / "exported")
    return folder


def scores(folder: Path) -> list[pl.DataFrame]:
    files = sorted(
        (folder / "store/classify").glob("*/predictions.parquet"), key=lambda file: file.stat().st_mtime
    )
    return [pl.read_parquet(file).sort("image_id") for file in files]


def test_a_rendered_pool_read_back_trains_the_same_classifier(study: Path):
    given = ["generate=imagefolder", "generate.root=exported", "generate.name=renderer", "generate.seen=none"]
    done = skinaug("classify", "mix=hybrid", *given, *SIZES, cwd=study, check=True)
    assert "finetune" not in done.stdout
    rendered, read_back = scores(study)
    assert rendered.drop("group_id").equals(read_back.drop("group_id")), (
        "a given picture is a patient of its own"
    )
    certificates = [json.loads(file.read_text()) for file in study.glob("store/mix/*/certificate.json")]
    assert all(certificate["holds"] for certificate in certificates)
    notes = [note for certificate in certificates for note in certificate["not_covered"]]
    assert any("maker of renderer" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["generate=folder"], "generate.root has no value"),
        (["generate=folder", "generate.root=empty"], "holds no images"),
        (["generate=folder", "generate.root=exported", "generate.seen=some"], "Choose none, train, unknown"),
        (["generate=folder", "generate.root=exported", "generate.name=null"], "give the pool a name"),
        (["generate=imagefolder", "generate.root=plain"], "it is no ImageFolder"),
        (["generate=csv", "generate.root=plain"], "There is no file"),
        (["generate=folder", "generate.root=plain"], "Without a picture: eczema"),
    ],
)
def test_what_is_no_pool_is_told_before_anything_is_made_of_it(study: Path, options: list[str], said: str):
    (study / "empty").mkdir(exist_ok=True)
    fill(study / "plain", {"acne/a.png": 1})
    done = skinaug("classify", "mix=hybrid", *options, *SIZES, cwd=study)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("export", [to_imagefolder, to_csv])
def test_masks_stay_behind_in_an_export(make_manifest, tmp_path: Path, export):
    """In the folder of a class they would be pictures of it, and a path to what is not there helps nobody."""
    pool = make_manifest([{"label": "acne", "mask": "0.png"}, {"label": "acne", "mask": None}])
    export(pool, tmp_path / "out")
    (told,) = (tmp_path / "out").rglob("metadata.*")
    assert "mask" not in told.read_text()
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
