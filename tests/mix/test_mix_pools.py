"""A mix of several curated pools, by weight."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import commands
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing import CLASSES, ids, pool, real

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix
from skinaug.mix.shares import allot
from skinaug.pools import join_pools

REAL = real()


def named(letter: str, per_class: int = 60) -> Manifest:
    """A pool whose pictures, but not their ids, are its own."""
    own = pool(per_class, root=f"/data/{letter}")
    return own.with_table(
        own.table.with_columns(pl.format("{}-{}", pl.lit(letter), "sha256").alias("sha256"))
    )


TWO = join_pools({"curate/a": named("a"), "curate/b": named("b")})


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 40),
    st.integers(0, 15),
    st.integers(0, 3),
    st.sampled_from((None, {"plain": 1.0, "clinical": 2.0})),
)
def test_pools_are_weighted_and_nested(count, more, seed, prompt_sets):
    weights = {"curate/a": 2.0, "curate/b": 1.0}
    small, large = (
        Mix("m", synthetic_per_class=asked, pools=weights, prompt_sets=prompt_sets, seed=seed)(REAL, TWO)
        for asked in (count, count + more)
    )
    assert ids(small) <= ids(large)
    drawn = small.table.filter(pl.col("source") == "synthetic")
    for label in CLASSES:
        own = drawn.filter(pl.col("label") == label)
        share = {name: own.filter(pl.col("pool") == name).height for name in weights}
        assert share == allot(count, weights)


def test_a_pool_of_weight_0_is_not_drawn_from():
    mixed = Mix("m", synthetic_ratio=1, pools={"curate/a": 0, "curate/b": 1})(REAL, TWO)
    assert not [name for name in ids(mixed) if name.startswith("curate/a")]


def test_too_few_images_of_a_pool_are_refused_by_its_name():
    short = join_pools({"curate/a": named("a", 3), "curate/b": named("b")})
    with pytest.raises(
        InputError, match=r"(?s)images of the pool curate/a in the pool.*acne: has 3, asked 10"
    ):
        Mix("m", synthetic_per_class=20, pools={"curate/a": 1, "curate/b": 1})(REAL, short)


def test_pools_with_images_in_common_are_refused():
    with pytest.raises(InputError, match="curate/a, curate/b have 120 images in common"):
        join_pools({"curate/a": named("a"), "curate/b": named("a")})


def test_two_generators_pools_are_mixed_from_the_command_line(tmp_path: Path):
    """Two rendered pools of one store in one mix, which is certified along both."""

    def skinaug(*words: str) -> subprocess.CompletedProcess[str]:
        sizes = [
            "scale.phantom_per_class=12",
            "scale.image_size=32",
            "scale.generate_per_class=8",
            "trainer=cpu",
            "logger=none",
        ]
        environment = {**os.environ, "COLUMNS": "200"}
        return commands.skinaug(*words, "base=oracle", "filter=[]", *sizes, cwd=tmp_path, env=environment)

    for seed in (0, 1):
        made = skinaug("curate", f"generate.seed={seed}")
        assert made.returncode == 0, made.stderr
    pools = sorted(folder for folder in (tmp_path / "store" / "curate").iterdir() if folder.suffix == "")
    first, second = (f"curate/{folder.name}" for folder in pools)
    mixed = skinaug(
        "mix",
        "mix=synthetic",
        "mix.synthetic_per_class=9",
        "mix.reference=9",
        f"mix.pools={{{first}: 2, {second}: 1}}",
    )
    assert mixed.returncode == 0, mixed.stderr
    (folder,) = (path for path in (tmp_path / "store" / "mix").iterdir() if path.suffix == "")
    table = Manifest.read(folder).table
    of_pool = dict(table.group_by("pool").len().iter_rows())
    assert of_pool == {first: 36, second: 18}, "6 and 3 of each of 6 classes"
    assert '"holds": true' in (folder / "certificate.json").read_text().replace("'", '"')
    wrong = skinaug("mix", "mix=synthetic", f"mix.pools={{generate/{pools[0].name}0: 1}}")
    assert wrong.returncode == 2
    assert "There is no artifact" in wrong.stderr
    (data,) = (path.name for path in (tmp_path / "store" / "dataset").iterdir() if path.suffix == "")
    other = skinaug("mix", "mix=synthetic", f"mix.pools={{dataset/{data}: 1}}")
    assert other.returncode == 2
    assert "is no curated pool" in other.stderr
    stranger = skinaug("mix", "mix=synthetic", f"mix.pools={{{first}: 1}}", "dataset.source.seed=5")
    assert stranger.returncode == 2
    assert "made for other photographs" in stranger.stderr
