"""A small reader's test: `python reading.py <folder> <reader> <port>`. Started anew it shows the same pictures."""

from __future__ import annotations

import sys
from pathlib import Path

from coloured import coloured_images

from skinaug.curate.reader_page import read_pictures
from skinaug.curate.readers import draw_pictures, encoded
from skinaug.manifest import Manifest


def small_test(folder: Path) -> Manifest:
    """Two photographs and two synthetic squares of each of three classes."""
    real = coloured_images(folder / "real", {"train": 4, "test": 2}, seed=1)
    pool = coloured_images(folder / "pool", {"train": 3}, seed=2, source="synthetic")
    return draw_pictures(real, pool, "train", 2, seed=0)


def main(folder: Path, reader: str, port: int) -> None:
    drawn = small_test(folder)
    read_pictures(drawn.table, encoded(drawn), folder / "answers", reader, port=port, open_browser=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
