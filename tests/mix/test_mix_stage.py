"""A mix gets what it selects by, and its key holds what it depends on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from coloured import COLOURS, coloured_images
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.launch import configs
from skinaug.manifest import Manifest
from skinaug.mix import stage
from skinaug.pipeline import check, recipes, steps
from skinaug.stage import Build, Step
from skinaug.store.artifact import Artifact

SMALL = [
    "features.backbone.name=test_resnet",
    "features.backbone.pretrained=false",
    "trainer=cpu",
    "logger=none",
]


def composed(store: Path, *overrides: str) -> DictConfig:
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        return compose("config", [f"store={store}", *SMALL, *overrides])


def checked(cfg: DictConfig) -> None:
    check(cfg, steps(cfg, "mix"))


def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[Manifest, Manifest]:
    """A mix of 2 synthetic images a class out of 12 and 2 real ones out of 4, and the pool."""
    certified = []
    monkeypatch.setattr(stage, "certify_training", lambda *arguments: certified.append(arguments))
    made = {}
    for name, images in {
        "dataset": coloured_images(tmp_path / "real", {"train": 4, "val": 2, "test": 2}),
        "curate": coloured_images(tmp_path / "pool", {"train": 12}, source="synthetic"),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        images.write(folder)
        made[name] = Artifact(name, name, folder)
    pool = Manifest.read(tmp_path / "curate")
    scores = pool.table.select("image_id").with_row_index("ensemble.probability")
    scores.write_parquet(tmp_path / "curate" / "scores.parquet")
    (tmp_path / "out").mkdir()
    cfg = composed(tmp_path / "store", "mix=hybrid", *overrides)
    stage.build_mix(Build(cfg, made, tmp_path / "out"))
    assert len(certified) == 1
    return Manifest.read(tmp_path / "out"), pool


def test_the_best_scored_of_the_curated_pool_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mixed, pool = built(tmp_path, monkeypatch, "mix.selection=best")
    drawn = mixed.where(pl.col("source") == "synthetic").table
    for label in COLOURS:
        last = pool.table.filter(pl.col("label") == label)["image_id"].to_list()[-2:]
        assert sorted(drawn.filter(pl.col("label") == label)["image_id"]) == sorted(last)


def test_a_pool_that_is_too_small_is_refused_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Filters have kept 12 of 20 pictures a class, and 13 are asked for: at that share 22 are needed."""
    built(tmp_path, monkeypatch)
    made = {name: Artifact(name, name, tmp_path / name) for name in ("dataset", "curate")}
    plan = {"generate": Step("generate", {}, print, images_per_class=20)}
    check = partial(stage.check_pool, plan=plan)
    check(composed(tmp_path, "mix=synthetic", "mix.synthetic_per_class=12"), made=made)
    more = composed(tmp_path, "mix=synthetic", "mix.synthetic_per_class=13")
    with pytest.raises(
        InputError,
        match=r"(?s)The mix synthetic cannot be made.*: has 12, asked 13.*generate\.per_class=22 would be enough",
    ):
        check(more, made=made)
    check(more, made={"dataset": made["dataset"]})  # the pool is not there yet
    check(composed(tmp_path, "mix=real", "mix.synthetic_per_class=13"), made={"dataset": made["dataset"]})


def test_diverse_pictures_are_drawn_by_their_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A network whose features are the mean colour: the second picture of a class is the farthest from the first."""
    from skinaug.metrics import features

    def mean_colours(images: Manifest, network: object, size: int, **_: object) -> np.ndarray:
        return load_pixels(images, size).mean((1, 2))

    monkeypatch.setattr(features, "embed", mean_colours)
    mixed, pool = built(tmp_path, monkeypatch, "mix.selection=diverse")
    drawn = mixed.where(pl.col("source") == "synthetic")
    for label in COLOURS:
        own = drawn.where(pl.col("label") == label)
        everything = load_pixels(pool.where(pl.col("label") == label), 64).mean((1, 2))
        start, second = load_pixels(own, 64).mean((1, 2))
        distances = np.linalg.norm(everything - start, axis=1)
        assert np.linalg.norm(second - start) == pytest.approx(distances.max(), rel=1e-4)


def test_only_diverse_mixes_depend_on_the_features(tmp_path: Path):
    def key(*overrides: str) -> str:
        return recipes(composed(tmp_path, "curate=none", *overrides), "mix")["mix"].key

    diverse, other_size = "mix.selection=diverse", "features.image_size=48"
    assert key(diverse) != key(diverse, other_size)
    assert key() == key(other_size)
    assert key("mix=real", diverse) == key("mix=real", diverse, other_size), "no pool, no features"


def test_a_score_of_a_filter_that_is_not_used_is_refused_at_once(tmp_path: Path):
    best = ["filter=[non_skin]", "mix.selection=best"]
    with pytest.raises(
        InputError, match=r"mix\.score=ensemble\.probability: there is no such filter; .* non_skin"
    ):
        checked(composed(tmp_path, *best))
    checked(composed(tmp_path, *best, "mix=real"))
