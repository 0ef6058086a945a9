"""What an earlier try left in a pool's folder: only what is whole counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from skinaug.generate.pool import finish, missing
from skinaug.generate.writer import save_picture, write_part

ROWS = pl.DataFrame(
    [
        {
            "image_id": f"i{number}",
            "path": f"images/0000/i{number}.png",
            "label": "a",
            "prompt": "a photo",
            "seed": number,
            "image_size": 16,
            "prompt_set": "plain",
            "guidance_scale": 2.0,
            "num_inference_steps": 2,
            "scheduler": "ddim",
            "weights": "0" * 16,
        }
        for number in range(6)
    ]
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder in which all pictures lie, named by two parts."""
    rng = np.random.default_rng(0)
    records = [
        save_picture(tmp_path, "png", row, rng.integers(0, 256, (16, 16, 3), np.uint8), 0, None)
        for row in ROWS.iter_rows(named=True)
    ]
    write_part(tmp_path, records[:3])
    write_part(tmp_path, records[3:])
    return tmp_path


def test_whole_pictures_are_not_drawn_again(out: Path):
    assert missing(ROWS, out).is_empty()


@pytest.mark.parametrize("content", [b"", b"PAR1 cut", bytes(3000)])
def test_a_part_without_its_content_costs_no_picture(out: Path, content: bytes):
    for part in (out / "parts").glob("*.parquet"):
        part.write_bytes(content)
    assert missing(ROWS, out).is_empty(), "the pictures themselves are read"
    assert finish(ROWS, out, ["a"]).table.height == 6
    assert not (out / "parts").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_picture_that_lost_its_content_is_drawn_again(out: Path, share: float, zeros: bool):
    picture = out / "images/0000/i4.png"
    content = picture.read_bytes()
    kept = int(share * len(content))
    picture.write_bytes(content[:kept] + (bytes(len(content) - kept) if zeros else b""))
    assert missing(ROWS, out)["image_id"].to_list() == ["i4"]
