"""Pictures that a data set's own splits share leave training, and what the data set calls a copy the certificate calls one too."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import skinaug
from hydra import compose, initialize_config_dir
from PIL import Image, ImageOps
from rendered import only

from skinaug.audit.copies import find_held_out_copies
from skinaug.dataset.across_splits import copies_of_held_out
from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.duplicates import Duplicates
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.manifest import Manifest
from skinaug.sources.sources import Folder
from skinaug.stage import copies_settings

DROP = Duplicates(max_hamming=6, across_splits="drop_train")
TEST, VAL = "copy of a picture of the split test", "copy of a picture of the split val"


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(60, 230, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def again(image: Image.Image) -> Image.Image:
    """The same picture, smaller and brighter."""
    return image.resize((56, 56)).point(lambda value: min(255, value + 6))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Splits of two classes with six pictures each; a patient has two."""
    for number, place in enumerate((s, c) for s in ("train", "val", "test") for c in ("a", "b")):
        folder = tmp_path / "root" / "/".join(place)
        folder.mkdir(parents=True)
        for picked in range(6):
            name = f"P{place[0]}{place[1]}{picked // 2}_{picked}.png"
            picture(10 * number + picked).save(folder / name)
    return tmp_path / "root"


def build(root: Path, duplicates: Duplicates = DROP) -> tuple[Manifest, dict, dict[str, str]]:
    out = root.parent / "out"
    out.mkdir(exist_ok=True)
    build_dataset(Folder(r"(P[a-z]+\d*)_"), str(root), out, duplicates=duplicates)
    dropped = dict(pl.read_csv(out / "dropped.csv").select("path", "reason").iter_rows())
    return Manifest.read(out), json.loads((out / "summary.json").read_text()), dropped


def plant(root: Path) -> dict[str, str]:
    """Copies across splits, and why each is dropped."""
    train, val, test = (root / split / "a" for split in ("train", "val", "test"))
    again(Image.open(train / "Ptraina0_0.png")).save(test / "Px_saved.png")
    Image.open(train / "Ptraina0_1.png").save(test / "Py_same.png")  # sorts before the one in train
    Image.open(train / "Ptraina1_2.png").save(val / "Pz_same.png")  # and this one behind it
    again(Image.open(val / "Pvala0_0.png")).save(test / "Pw_saved.png")
    return {
        "train/a/Ptraina0_0.png": f"{TEST}: of test/a/Px_saved.png",
        "train/a/Ptraina0_1.png": f"{TEST}: of test/a/Py_same.png",
        "train/a/Ptraina1_2.png": f"{VAL}: of val/a/Pz_same.png",
        "val/a/Pvala0_0.png": f"{TEST}: of test/a/Pw_saved.png",
    }


def test_copies_of_held_out_pictures_leave_training_and_validation_with_a_count(root: Path):
    before = build(root)[0]
    expected = plant(root)
    with pytest.raises(InputError, match=r"(?s)share near-identical.*2 groups.*across_splits=drop_train"):
        build(root, Duplicates(max_hamming=6))
    manifest, summary, dropped = build(root)
    assert dropped == expected
    assert summary["dropped"] == {TEST: 3, VAL: 1}
    kept = dict(manifest.table.select("path", "split").iter_rows())
    assert {path: split for path, split in kept.items() if path.split("/")[0] == "test"} == dict.fromkeys(
        (path.relative_to(root).as_posix() for path in (root / "test").rglob("*.png")), "test"
    )
    groups, were = (dict(m.table.select("path", "group_id").iter_rows()) for m in (manifest, before))
    assert {path: groups[path] for path in were if path in groups} == {
        path: group for path, group in were.items() if path in groups
    }, "nobody else is joined or moved"


def test_one_patient_in_several_splits_is_another_matter(root: Path):
    picture(99).save(root / "test" / "a" / "Ptraina0_9.png")
    with pytest.raises(InputError, match=r"(?s)share 1 patient or lesion:.*Ptraina0: test, train.*No option"):
        build(root)
    picture(0).save(root / "test" / "a" / "Ptraina0_9.png")  # a copy of his only picture that is left
    (root / "train" / "a" / "Ptraina0_1.png").unlink()
    manifest, *_ = build(root)
    assert manifest.table.filter(pl.col("group_id") == "Ptraina0")["split"].to_list() == ["test"]


def test_copies_within_a_split_are_joined_and_dropped_as_ever(root: Path):
    again(picture(0)).save(root / "train" / "a" / "Pnew_0.png")
    picture(2).save(root / "train" / "a" / "Pold_0.png")
    manifest, _, dropped = build(root)
    assert dropped == {"train/a/Ptraina1_2.png": "copy: of train/a/Pold_0.png"}
    groups = dict(manifest.table.select("path", "group_id").iter_rows())
    assert groups["train/a/Pnew_0.png"] == groups["train/a/Ptraina0_1.png"]


def test_what_is_a_copy_of_a_copy_alone_may_stay():
    levels = np.array([0, 1, 2, 0, 0])  # 0 is like 1, 1 like 2, and 3 like 2; 4 like 3
    pairs = np.array([[0, 1], [2, 1], [3, 2], [4, 3]])
    found = copies_of_held_out(levels, pairs, list("abcde"), without=[])
    assert found == {1: f"{TEST}: of c", 3: f"{TEST}: of c"}
    assert copies_of_held_out(levels, pairs, list("abcde"), without=[2]) == {0: f"{VAL}: of b"}


def composed(*overrides: str):
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        return copies_settings(compose("config", ["dataset=folder", "dataset.root=/x", *overrides]))


def test_the_certificate_goes_by_the_rule_of_the_data():
    rule = composed("dataset.duplicates.min_cosine=0.8", "dataset.duplicates.max_hamming=7")
    assert (rule["min_cosine"], rule["max_hamming"]) == (0.8, 7)
    assert rule["embed"]["_target_"].endswith("Embedding")
    unsought = composed("dataset.duplicates.max_hamming=null")
    assert (unsought["min_cosine"], unsought["max_hamming"]) == (0.87, 10)
    assert composed("dataset.duplicates.embed=null")["min_cosine"] is None
    off = composed("dataset.duplicates=null")
    assert (off["min_cosine"], off["max_hamming"], "embed" in off) == (0.95, 10, False)


def signature(manifest: Manifest) -> np.ndarray:
    """A stand-in for a network: coarse colours around their mean."""
    images = [
        Image.open(path).convert("RGB").resize((5, 5), Image.Resampling.BOX) for path in manifest.paths()
    ]
    pixels = np.stack([np.asarray(image, np.float64).reshape(-1) for image in images])
    return pixels - pixels.mean(axis=1, keepdims=True)


def test_both_find_the_same_pairs(tmp_path: Path):
    """Copies from hardly to strongly changed, so that the thresholds part them."""
    (tmp_path / "root" / "a").mkdir(parents=True)
    for number in range(24):
        image, other = picture(number), picture(1000 + number)
        image.save(tmp_path / f"root/a/{number}.png")
        changed = Image.blend(ImageOps.mirror(image) if number % 2 else image, other, number / 40)
        changed.save(tmp_path / f"root/a/{number}_again.png")
    rule = {"max_hamming": 16, "min_cosine": 0.5, "embed": signature}
    out = tmp_path / "out"
    out.mkdir()
    build_dataset(Folder(), str(tmp_path / "root"), out, duplicates=Duplicates(**rule))
    near = pl.read_csv(out / "duplicates.csv")
    by_data = {frozenset(pair) for pair in near.select("path", "other_path").iter_rows()}
    assert 5 < len(by_data) < 24
    made = Manifest.read(out)
    test = pl.col("path").str.contains("again")
    parted = made.table.with_columns(
        group_id="image_id", split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train"))
    )
    find = partial(find_held_out_copies, None, 48, cache=None, device=lambda: "cpu", **rule)
    find(manifest=made.with_table(parted), hashes=pl.read_parquet(out / "hashes.parquet"), out=out)
    found = pl.read_parquet(out / "copies.parquet").select("image_id", "other_id")
    by_certificate = {frozenset(pair) for pair in found.iter_rows()}
    assert by_certificate <= by_data
    assert len(by_data - by_certificate) <= 1, "mirror images that are near from one side alone"


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published splits of two classes with ten pictures each, of which three of each class are in both."""
    folder = tmp_path_factory.mktemp("leaky")
    for label in ("a", "b"):
        for split in ("train", "val", "test"):
            (folder / "data" / split / label).mkdir(parents=True)
        for number in range(10):
            image = picture(100 * ord(label) + number)
            image.save(folder / f"data/train/{label}/{number}.png")
            held_out = again(image) if number > 6 else picture(7000 + 100 * ord(label) + number)
            held_out.save(folder / f"data/{('test', 'val')[number == 0]}/{label}/t{number}.jpg", quality=85)
    return folder


def mix(folder: Path, *options: str):
    return skinaug(
        *("mix", "mix=real", "dataset=folder", "dataset.root=data", "trainer=cpu", "logger=none"), *options,
        cwd=folder,
    )  # fmt: skip


def test_a_certificate_at_the_end_of_the_way_out(leaky: Path):
    done = mix(leaky, "dataset.duplicates.across_splits=drop_train", "store=apart")
    assert done.returncode == 0, done.stderr
    assert f"dropped 6: {TEST}" in done.stdout
    (certificate,) = (leaky / "apart" / "mix").glob("*/certificate.json")
    told = json.loads(certificate.read_text())
    assert told["holds"]
    assert told["places"]["training"]["photographs"] == 14


def test_without_it_the_certificate_tells_what_it_saw_whatever_is_drawn(leaky: Path):
    expected = [
        f"data set: train/{label}/{number}.png is a near-copy of test/{label}/t{number}.jpg, which is held out in another split"
        for label in "ab"
        for number in (7, 8, 9)
    ]
    for seed in (0, 1):
        done = mix(leaky, "dataset.duplicates.max_hamming=null", "mix.real_per_class=1", f"seed={seed}")
        assert done.returncode == 2
        told = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("data set: ")]
        assert told == expected
        assert "dataset.duplicates.across_splits=drop_train" in done.stderr
    assert only(leaky, "copies").is_dir()
