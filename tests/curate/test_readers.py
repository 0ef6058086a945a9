"""The reader's test: who is shown, in which form, and that answers survive; its statistics are in tests/report/test_readers.py."""

from __future__ import annotations

import itertools
from collections import Counter
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from coloured import coloured_images
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from skinaug.curate.decisions import read_own
from skinaug.curate.readers import ReaderDeck, draw_pictures, encoded, readings
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.store.digest import sha256_file


@pytest.fixture
def images(tmp_path: Path) -> tuple[Manifest, Manifest]:
    real = coloured_images(tmp_path / "real", {"train": 6, "val": 4, "test": 5}, seed=1)
    return real, coloured_images(tmp_path / "pool", {"train": 4}, seed=2, source="synthetic")


def test_equal_numbers_a_class_and_no_test_photograph(images):
    real, pool = images
    for split, most in (("train", 3), ("val", 3), ("train", 5)):
        drawn = draw_pictures(real, pool, split, most, seed=0).table
        counts = Counter(drawn.select("label", "source").iter_rows())
        assert set(counts.values()) == {min(most, 4)}, "the pool has four a class"
        assert set(drawn.filter(pl.col("source") == "real")["split"]) == {split}
    for bad, said in (("test", "shown to nobody"), ("all", "shown to nobody")):
        with pytest.raises(InputError, match=said):
            draw_pictures(real, pool, bad, 3, seed=0)
    with pytest.raises(InputError, match=r"review\.per_class=0"):
        draw_pictures(real, pool, "train", 0, seed=0)


def test_more_patients_before_more_pictures_of_one(images):
    real, pool = images
    several = real.table.with_columns(
        group_id=pl.format("{}{}", "split", pl.int_range(pl.len()).over("label", "split") // 3)
    )
    drawn = draw_pictures(real.with_table(several), pool, "train", 2, seed=0).table
    patients = drawn.filter(pl.col("source") == "real").group_by("label").agg(pl.col("group_id").n_unique())
    assert set(patients["group_id"]) == {2}


def test_every_reader_sees_the_same_pictures_in_an_order_of_their_own(images, tmp_path: Path):
    drawn = draw_pictures(*images, "train", 4, seed=0).table
    ana, bo = (ReaderDeck(drawn, tmp_path / "answers", name) for name in ("ana", "bo"))
    orders = [[image["image_id"] for image in deck.images] for deck in (ana, bo)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    kinds = [image["source"] for image in ana.images]
    assert sum(one != other for one, other in itertools.pairwise(kinds)) > 4, "mixed"


def test_pictures_tell_nothing_but_what_they_show(images, tmp_path: Path):
    real, pool = images
    file = real.root / real.table["path"][0]  # one picture is larger, and its file says where it is from
    about = PngInfo()
    about.add_text("Software", "a camera")
    Image.open(file).resize((90, 80)).save(file, pnginfo=about)
    row = pl.int_range(pl.len()) == 0
    table = real.table.with_columns(
        width=pl.when(row).then(90).otherwise("width"),
        height=pl.when(row).then(80).otherwise("height"),
        sha256=pl.when(row).then(pl.lit(sha256_file(file))).otherwise("sha256"),
    )
    drawn = draw_pictures(real.with_table(table), pool, "train", 4, seed=0)
    files = encoded(drawn)
    shown = [Image.open(BytesIO(content)) for content in files.values()]
    assert len(files) == len(drawn)
    assert len({(image.size, image.format, image.mode) for image in shown}) == 1
    smallest = min(drawn.table["width"].min(), drawn.table["height"].min())
    assert shown[0].size == (smallest, smallest)
    assert all(set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"} for image in shown)
    assert len({str(image.info) for image in shown}) == 1


def test_answers_are_on_disk_at_once_and_can_be_taken_back(images, tmp_path: Path):
    drawn, folder = draw_pictures(*images, "train", 2, seed=0), tmp_path / "answers"
    deck = ReaderDeck(drawn.table, folder, "ana")
    assert not deck.undo()
    for number, word in enumerate("1432"):
        assert deck.current == number
        deck.answer(word)
        assert read_own(folder, "ana", "1234")["decision"].to_list() == list("1432")[: number + 1]
    assert deck.undo()
    assert ReaderDeck(drawn.table, folder, "ana").current == 3, "a new start goes on where the reader was"
    with pytest.raises(InputError, match="'5' is no decision"):
        deck.answer("5")
    found = readings(folder, *images)
    assert found["answer"].to_list() == [1, 4, 3]
    assert found["source"].to_list() == [image["source"] for image in deck.images[:3]]
    assert found["reader"].unique().to_list() == ["ana"]
