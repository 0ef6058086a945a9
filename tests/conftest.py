"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import settings
from PIL import Image

from skinaug.manifest import Manifest
from skinaug.store.digest import sha256_file

# What takes 20 ms alone may take 300 beside other work. `--hypothesis-profile=thorough` looks for examples three times as long.
settings.register_profile("shared_cores", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("shared_cores")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PAD_UFES_20 = Path(__file__).parents[2] / "shared" / "data" / "pad_ufes_20"


# Files whose tests take longest, the longest first: begun last, they would keep one core while the others wait.
LONGEST = (
    *("test_oracle_study", "test_pipeline", "test_extending", "test_configs", "test_bench", "test_keys"),
    *("test_launchers", "test_pretrain", "test_commands", "test_export", "test_training", "test_search"),
    *("test_cli", "test_further_study", "test_obedience", "test_review", "test_store", "test_leaks"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def pad_ufes_20() -> Path:
    """Real labelled photographs in PAD-UFES-20's layout; not part of the project."""
    if not (PAD_UFES_20 / "metadata.csv").is_file():
        pytest.skip("the real photographs of ../shared/data/pad_ufes_20 are not on this machine")
    return PAD_UFES_20


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    if (path := next(filter(None, found), None)) is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def make_manifest(tmp_path: Path):
    """A function that draws a manifest: random pictures with the given rows' values."""

    def make(
        rows: list[dict], root: Path | None = None, size: int = 16, classes: tuple[str, ...] | None = None
    ) -> Manifest:
        root = root or tmp_path / "images"
        root.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(rows))
        table = []
        for number, row in enumerate(rows):
            path = root / row.get("path", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)
            filled = {
                "image_id": f"i{number}",
                "path": path.name,
                "split": "train",
                "group_id": f"g{number}",
                "source": "real",
            }
            table.append(filled | {"width": size, "height": size, "sha256": sha256_file(path)} | row)
        names = classes or tuple(sorted({row["label"] for row in rows}))
        return Manifest(pl.DataFrame(table), root, names, licence="CC0", citation="nobody")

    return make
