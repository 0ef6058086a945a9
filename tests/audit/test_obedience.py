"""Obedience: renders show what they are said to, renders with shuffled words do not, and what cannot be told is left out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from skinaug.audit.obedience import FILE_NAME, SCHEMA, Obedience, print_obedience
from skinaug.classify.fit import fit_classifier
from skinaug.dataset.phantom.source import PhantomMorphology
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer
from skinaug.store.digest import sha256_file

TRAINER = partial(make_trainer, accelerator="cpu", enable_progress_bar=False)
FIT = partial(
    fit_classifier,
    partial(create_backbone, "tf_efficientnet_lite0"),
    64,
    200,
    learns="head",
    batch_size=64,
    optimizer=partial(torch.optim.AdamW, lr=1e-2),
)


def renders(folder: Path, seed: int, count: int) -> Manifest:
    table = PhantomMorphology(count, 64, seed, workers=1).load(folder)
    digests = pl.Series([sha256_file(folder / path) for path in table["path"]])
    split = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("val")).otherwise(pl.lit("train"))
    about = {"source": pl.lit("real"), "width": 64, "height": 64, "sha256": digests, "split": split}
    return Manifest(table.with_columns(**about), folder, ("skin",))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Manifest:
    return renders(tmp_path_factory.mktemp("data"), 0, 900)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Manifest:
    """A generator that cannot do better: the renderer itself, told what to draw."""
    return renders(tmp_path_factory.mktemp("pool"), 1, 300)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache") / "pictures.sqlite"


@pytest.fixture(scope="module")
def found(data: Manifest, pool: Manifest, cache: Path) -> pl.DataFrame:
    """Of skin types as they are, and of surfaces that were shuffled among the pictures."""
    shuffled = pool.table.with_columns(surface=pl.col("surface").shuffle(seed=0))
    asked = Obedience(FIT, attributes=["skin_type", "surface"], num_replicates=200)
    return asked(data, pool.with_table(shuffled), TRAINER, cache)


def test_renders_show_what_they_are_said_to(found: pl.DataFrame):
    row = found.row(by_predicate=pl.col("attribute") == "skin_type", named=True)
    assert row["words"] == "I, II, III, IV, V, VI"
    assert row["chance"] == pytest.approx(1 / 6)
    assert row["ceiling"] > 0.35
    assert row["low"] < 1 < row["high"]


def test_a_pool_that_is_deaf_to_a_word_is_found_so(found: pl.DataFrame):
    row = found.row(by_predicate=pl.col("attribute") == "surface", named=True)
    assert row["low"] < 0 < row["high"]
    assert row["high"] < 0.8
    assert row["seen"] == pytest.approx(row["chance"], abs=0.1)


def test_a_probe_that_guesses_measures_nothing(data: Manifest, pool: Manifest):
    """On photographs it is above chance by luck, so that a ratio to its ceiling would be any number."""
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def guessing(rng=rng, **_):
            return lambda images: rng.random((len(images), len(images.classes)))

        (row,) = Obedience(guessing, attributes=["skin_type"], num_replicates=200)(
            data, pool, TRAINER, None
        ).iter_rows(named=True)
        assert [row[name] for name in ("obedience", "low", "high")] == [None, None, None]
        if row["ceiling"] > row["chance"]:
            return
    raise AssertionError("no probe was lucky")


def test_the_test_split_is_not_looked_at(data: Manifest, pool: Manifest, cache: Path, found: pl.DataFrame):
    more = data.table.head(30).with_columns(
        split=pl.lit("test"), **{name: "gone-" + pl.col(name) for name in ("path", "image_id", "group_id")}
    )
    again = Obedience(FIT, attributes=["skin_type"], num_replicates=200)(
        data.with_table(pl.concat([data.table, more])), pool, TRAINER, cache
    )
    assert again["ceiling"].to_list() == found.filter(pl.col("attribute") == "skin_type")["ceiling"].to_list()


def test_rare_words_and_attributes_with_a_single_word_are_left_out(data: Manifest, pool: Manifest):
    rare = Obedience(FIT, attributes=["border"], least=10_000)
    assert rare(data, pool, TRAINER, None).is_empty()


def test_what_nobody_asked_for_is_refused(data: Manifest, pool: Manifest):
    with pytest.raises(InputError, match="colour_of_hair are not asked for"):
        Obedience(FIT, attributes=["colour_of_hair"])(data, pool, TRAINER, None)


def test_the_table_is_printed(found: pl.DataFrame, tmp_path: Path, capsys):
    found.write_csv(tmp_path / FILE_NAME)
    print_obedience(tmp_path)
    assert "skin_type" in capsys.readouterr().out
    pl.DataFrame(schema=SCHEMA).write_csv(tmp_path / FILE_NAME)
    print_obedience(tmp_path)
    assert capsys.readouterr().out == ""
