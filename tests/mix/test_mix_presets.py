"""The presets are the study's four arms and two controls, and every one of them can be swept over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from skinaug.mix.mix import Mix

CONF = Path(__file__).parents[2] / "conf"


def preset(name: str, *overrides: str) -> Mix:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+mix={name}", "+seed=7", "+scale.real_limit=null", *overrides])
    return instantiate(cfg.mix)


@pytest.fixture
def real(make_manifest):
    return make_manifest([{"label": label} for label in "ab" for _ in range(9)])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("real_small", (5, 0)),
        ("real", (9, 0)),
        ("hybrid", (5, 5)),
        ("synthetic", (0, 9)),
        ("duplicated_real", (10, 0)),
        ("label_permuted", (5, 5)),
    ],
)
def test_counts_a_class(real, name, counts):
    mix = preset(name)
    assert mix.name == name
    assert mix.seed == 7
    assert mix.counts(real).select("real", "synthetic").rows() == [counts, counts]


@pytest.mark.parametrize("name", ["real_small", "real", "hybrid", "synthetic"])
def test_every_key_can_be_set(real, name):
    mix = preset(
        name, "mix.real_ratio=1", "mix.synthetic_ratio=2", "mix.reference=3", "mix.prompt_sets={plain: 1}"
    )
    assert mix.counts(real)["synthetic"].to_list() == [6, 6]
    assert type(mix.prompt_sets) is dict
    limited = preset(name, "scale.real_limit=4", "mix.real_ratio=1", "mix.synthetic_ratio=1")
    assert limited.counts(real).select(pl.exclude("label")).rows() == [(4, 4)] * 2


@pytest.mark.parametrize("control", ["duplicated_real", "label_permuted"])  # which are presets too
def test_a_control_is_one_override_of_any_mix(real, control):
    plain, changed = preset("synthetic"), preset("synthetic", f"mix.control={control}")
    assert replace(plain, control=control) == changed
    assert replace(preset("hybrid"), control=control, name=control) == preset(control)


def test_every_way_of_entering_can_be_swept_over(real):
    for entry in ("add", "replace", "sample", "weight", "pretrain"):
        assert preset("hybrid", f"mix.entry={entry}").entry == entry
