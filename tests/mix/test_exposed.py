"""Matched exposure: generator and filters learn from the photographs that the arm itself trains on."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest
from hydra import compose, initialize_config_dir

from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.mix.mix import Mix
from skinaug.mix.stage import check_exposed_data
from skinaug.pipeline import check_values, recipes, steps


@pytest.fixture(scope="module", autouse=True)
def conf() -> Iterator[None]:
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        yield


def photographs(make_manifest):
    splits = ("train",) * 8 + ("val", "test")
    rows = [
        {
            "image_id": f"{label}{i}",
            "label": label,
            "split": split,
            "group_id": f"{label}{i}",
            "source": "real",
        }
        for label in ("acne", "nevus")
        for i, split in enumerate(splits)
    ]
    return make_manifest(rows)


def ids(table: pl.DataFrame) -> set[str]:
    return set(table["image_id"])


def test_generator_and_filters_get_the_photographs_that_the_mix_draws(make_manifest):
    data = photographs(make_manifest)
    small, large = (Mix("hybrid", real_ratio=ratio, seed=3) for ratio in (0.25, 0.5))
    exposed = large.exposed(data)
    assert ids(exposed.split("train").table) == ids(large(data).table), "no synthetic ones are asked for"
    assert len(exposed.split("train").table) == 8
    assert ids(small.exposed(data).split("train").table) < ids(exposed.split("train").table), (
        "draws are nested"
    )
    for split in ("val", "test"):
        assert ids(exposed.split(split).table) == ids(data.split(split).table)
    other = Mix("hybrid", real_ratio=0.5, seed=4).exposed(data)
    assert ids(other.split("train").table) != ids(exposed.split("train").table)
    replacing = Mix("hybrid", real_ratio=0.5, synthetic_per_class=1, entry="replace", seed=3).exposed(data)
    assert len(replacing.split("train").table) == 6, "without those that make room"


def keys(*overrides: str) -> dict[str, str]:
    return {
        name: recipe.key for name, recipe in recipes(compose("config", list(overrides)), "classify").items()
    }


def test_what_has_seen_photographs_is_made_anew_and_nothing_else():
    everything, matched = keys(), keys("exposure=arm")
    assert everything == keys("exposure=all")
    assert set(matched) - set(everything) == {"exposed"}
    assert {name for name in everything if everything[name] == matched[name]} == {"dataset", "copies"}


def test_arms_share_a_generator_where_they_share_their_photographs():
    arms = {
        "hybrid": keys("exposure=arm"),
        "more synthetic": keys("exposure=arm", "mix.synthetic_ratio=2"),
        "labels": keys("exposure=arm", "mix.control=label_permuted"),
        "fewer": keys("exposure=arm", "mix.real_ratio=0.25"),
        "seed": keys("exposure=arm", "seed=1"),
    }
    taught = {
        name: (found["finetune"], found["score.ensemble"], found["curate"]) for name, found in arms.items()
    }
    assert taught["hybrid"] == taught["more synthetic"] == taught["labels"]
    assert len(set(taught.values())) == 3, "another count and another seed are other photographs"


def test_arms_without_a_pool_have_no_exposure():
    assert keys("mix=real", "exposure=arm") == keys("mix=real")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["exposure=some"], "exposure=some: the photographs"),
        (["exposure=arm", "mix=synthetic"], "keeps no photograph"),
        (["exposure=arm", "mix.pools={curate/0123456789abcdef: 1}"], "mix.pools=..."),
    ],
)
def test_exposures_that_cannot_be_are_refused(overrides: list[str], said: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = compose("config", [*overrides, "filter=[ensemble]"])
    with pytest.raises(InputError) as refused:
        check_values(cfg, steps(cfg, "classify"))
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_pools_that_were_made_elsewhere_keep_what_they_have_learned_from(make_manifest, tmp_path):
    (tmp_path / "pool").mkdir()
    make_manifest([{"image_id": "a", "label": "acne", "path": "a.png"}], root=tmp_path / "pool" / "acne")
    given = ["exposure=arm", "generate=folder", f"generate.root={tmp_path}/pool", "filter=[ensemble]"]
    cfg = compose("config", given)
    with pytest.raises(InputError, match=r"exposure=arm and generate.seen=unknown"):
        check_values(cfg, steps(cfg, "classify"))
    cfg = compose("config", [*given, "generate.seen=none"])
    check_values(cfg, steps(cfg, "classify"))


def test_a_class_without_a_photograph_is_refused_once_the_data_are_known(make_manifest):
    cfg = compose(
        "config", ["exposure=arm", "mix.real_ratio=0.05", "mix.real_limit=null", "mix.synthetic_per_class=2"]
    )
    with pytest.raises(InputError, match="keeps no photograph of acne, nevus"):
        check_exposed_data(cfg, photographs(make_manifest), {})


def test_one_generator_serves_all_folds_where_classifiers_alone_are_made_anew():
    of_fold = [keys("folds.count=3", "folds.refit=classify", f"dataset.fold={fold}") for fold in (0, 1)]
    shared = {name for name in of_fold[0] if of_fold[0][name] == of_fold[1][name]}
    assert shared == {"dataset.reserve", "finetune", "generate", "score.non_skin", "score.ensemble", "curate"}
    with pytest.raises(InputError, match="choose one of them"):
        keys("folds.count=3", "folds.refit=classify", "dataset.fold=0", "exposure=arm")
    with pytest.raises(InputError, match=r"folds\.refit=some"):
        keys("folds.count=3", "folds.refit=some", "dataset.fold=0")
