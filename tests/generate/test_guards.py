"""The guards: no photograph and no phantom is flagged, broken and strongly tinted pictures are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skinaug.generate.guards import cast_share, flaw, is_black, is_blank
from skinaug.images import open_image, square

TINTS = {"green": (0.3, 1, 0.3), "blue": (0.3, 0.3, 1), "magenta": (1, 0.3, 1)}


def phantoms(count: int) -> np.ndarray:
    """uint8 [count, 64, 64, 3], all conditions alike."""
    from skinaug.dataset.phantom.conditions import CONDITIONS
    from skinaug.dataset.phantom.render import render
    from skinaug.dataset.phantom.source import condition_picture

    pictures = [condition_picture(CONDITIONS[k % len(CONDITIONS)], k, 0, 7) for k in range(count)]
    return np.stack([render(picture, 64, rng).pixels for picture, rng, _ in pictures])


@pytest.fixture(scope="module")
def rendered() -> np.ndarray:
    return phantoms(300) / 255


def skin() -> np.ndarray:
    """A square of skin with a little relief."""
    return np.array((0.8, 0.6, 0.5)) * np.linspace(0.8, 1, 64).reshape(8, 8, 1)


def test_no_phantom_is_flagged(rendered: np.ndarray):
    assert [flaw(picture) for picture in rendered] == [None] * len(rendered)


@pytest.mark.parametrize("tint", TINTS)
def test_tinted_phantoms_are_flagged(rendered: np.ndarray, tint: str):
    found = [flaw(picture * np.array(TINTS[tint])) for picture in rendered]
    assert found.count("cast") >= 0.99 * len(found)


@pytest.mark.slow
def test_no_photograph_is_flagged_and_tinted_ones_are(pad_ufes_20: Path):
    paths = sorted(path for path in (pad_ufes_20 / "images").rglob("*") if path.is_file())
    pictures = np.stack([square(open_image(path), 64) for path in paths]) / 255
    assert len(pictures) == 896
    assert [path.name for path, picture in zip(paths, pictures, strict=True) if flaw(picture)] == []
    for tint in TINTS.values():
        found = [flaw(picture * np.array(tint)) for picture in pictures]
        assert found.count("cast") >= 0.99 * len(found)


def test_a_larger_picture_is_judged_alike(rendered: np.ndarray):
    for picture in rendered[:20]:
        large = picture.repeat(8, 0).repeat(8, 1)
        assert cast_share(large) == pytest.approx(cast_share(picture))


def test_what_is_broken():
    spot = skin()
    spot[2:4, 2:4, 0] = 0.7
    assert flaw(spot) is None
    assert flaw(np.where(spot == 0.7, np.nan, spot)) == "nan"
    assert flaw(np.full((8, 8, 3), (0.8, 0.6, 0.5))) == "blank"
    assert flaw(np.zeros((8, 8, 3))) == "black"
    assert flaw(np.random.default_rng(0).random((8, 8, 3)) * 0.03) == "black"
    assert flaw(skin()[..., ::-1] * (0.3, 0.3, 1)) == "cast"


def test_dark_skin_is_neither_black_nor_blank():
    dark = skin() * 0.12  # luminance of 2 %
    assert not is_black(dark)
    assert not is_blank(dark)
    assert flaw(dark) is None
