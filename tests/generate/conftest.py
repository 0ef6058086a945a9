"""A tiny random pipeline on disk, and a pool drawn from it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from diffusion_components import save_tiny_pipeline
from drawing import PHRASES, draw_pool


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random pipeline for pictures of 16 px."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A fine-tuning artifact that adds nothing to its base."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps(PHRASES))
    return folder


@pytest.fixture
def draw(tiny: Path, weights: Path):
    """A function that runs the stage and returns its manifest."""
    return partial(draw_pool, tiny, weights)
