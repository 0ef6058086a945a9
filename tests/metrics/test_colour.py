"""Colours against published values, closed forms and each other."""

from __future__ import annotations

import numpy as np
import pytest

from skinaug.metrics.colour import lab, lab_of_pixels


@pytest.mark.parametrize(
    ("srgb", "known"),  # published values of the primaries over D65
    [
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_colours_are_cie_lab(srgb: tuple, known: tuple):
    assert lab(np.array(srgb, float)) == pytest.approx(known, abs=0.02)


def test_greys_are_neutral_and_as_light_as_the_formula_says():
    """L* = 116 Y^(1/3) - 16 with Y = ((v + 0.055) / 1.055)^2.4: CIE 15 and IEC 61966-2-1."""
    grey = np.linspace(0.2, 1, 9)
    found = lab(np.repeat(grey[:, None], 3, axis=1))
    np.testing.assert_allclose(found[:, 0], 116 * ((grey + 0.055) / 1.055) ** (2.4 / 3) - 16, atol=1e-3)
    np.testing.assert_allclose(found[:, 1:], 0, atol=0.01)


def test_pixels_have_the_colours_of_lab():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_allclose(lab_of_pixels(pixels), lab(pixels / 255), atol=1e-3)
