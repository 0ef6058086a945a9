"""What the photographs in the store cannot serve is refused before a sweep's first job."""

from __future__ import annotations

from pathlib import Path

import commands
import numpy as np
from PIL import Image

DATA = [
    "logger=none",
    "dataset=folder",
    "dataset.root=photos",
    "dataset.duplicates=null",
    "dataset.source.licence=CC0",
]


def draw(root: Path, *labels: str) -> None:
    for place, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(10 * place + number).integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")


def test_a_class_of_the_pool_that_the_data_lack_stops_a_sweep_before_its_first_job(tmp_path: Path):
    draw(tmp_path / "photos", "acne", "eczema")
    draw(tmp_path / "pool", "acne", "eczema", "wart")
    assert commands.here("dataset", *DATA, cwd=tmp_path).returncode == 0
    kept = sorted((tmp_path / "store").glob("*/*"))
    pool = ["generate=folder", "generate.root=pool", "generate.seen=none"]
    done = commands.here("classify", "-m", "seed=0,1", *DATA, *pool, "filter=[]", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "wart" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted((tmp_path / "store").glob("*/*")) == kept
    assert not (tmp_path / "outputs").exists()
