"""Reruns of a store that somebody else made, where the photographs are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import here
from PIL import Image

OWN = ("dataset=folder", "dataset.root=lab", "dataset.duplicates=null", "logger=none")
MIX = ("mix=real", "scale.real_limit=4")


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of photographs that were read elsewhere by a relative name, and are gone."""
    there, folder = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("reviewer")
    rng = np.random.default_rng(0)
    for label in ("acne", "eczema"):
        (there / "lab" / label).mkdir(parents=True)
        for number in range(16):
            picture = Image.fromarray(rng.integers(60, 220, (6, 6, 3), dtype=np.uint8)).resize((48, 48))
            picture.save(there / "lab" / label / f"{number}.png")
    made = here("mix", *OWN, *MIX, cwd=there)
    assert made.returncode == 0, made.stderr
    shutil.copytree(there / "store", folder / "store")
    shutil.rmtree(there / "lab")
    return folder


def test_what_is_made_of_artifacts_alone_is_rerun_without_the_photographs(received: Path):
    (mix,) = (received / "store/mix").glob("*")
    done = here("rerun", f"mix/{mix.name}", cwd=received)
    assert done.returncode == 0, done.stderr
    assert "1 rerun, all are equal" in done.stdout


def test_a_data_set_is_rerun_where_it_was_read_and_says_so(received: Path):
    (data,) = (received / "store/dataset").glob("*")
    done = here("rerun", f"dataset/{data.name}", cwd=received)
    assert done.returncode == 2
    assert f"dataset/{data.name} was read from the folder /" in done.stderr
    assert "rerun it there" in done.stderr
