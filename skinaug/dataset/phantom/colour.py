"""Skin colour from chromophores: linear RGB = base * exp(-absorbance) + surface reflection."""

from __future__ import annotations

from functools import cache

import numpy as np

# Absorbance a unit of chromophore in the red, green and blue band (relative; melanin falls with wavelength,
# haemoglobin absorbs green most, after Jacques, "Optical properties of biological tissues", 2013, eq. 13-15).
BASE = np.array([0.91, 0.70, 0.58], np.float32)
SURFACE = 0.008
MELANIN = np.array([0.57, 0.81, 1.02], np.float32)
HAEMOGLOBIN_FAIR = np.array([0.10, 1.00, 0.78], np.float32)
# Through much melanin little green returns anyway: erythema shows as a darker, violaceous patch.
HAEMOGLOBIN_DARK = np.array([0.42, 0.95, 0.48], np.float32)
VIOLET = np.array([0.62, 1.05, 0.36], np.float32)
YELLOW = np.array([0.06, 0.22, 1.25], np.float32)
# Individual typology angle, degrees: Chardon et al. 1991; the boundaries that are usual for the six types.
ITA_RANGE_DEG = {
    "I": (55, 68),
    "II": (41, 55),
    "III": (28, 41),
    "IV": (10, 28),
    "V": (-30, 10),
    "VI": (-58, -30),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])


def haemoglobin_absorbance(melanin: float) -> np.ndarray:
    """Absorbance [3] of a unit of haemoglobin under `melanin` units of melanin."""
    dark = min(melanin / 3.0, 1.0)
    return (1 - dark) * HAEMOGLOBIN_FAIR + dark * HAEMOGLOBIN_DARK


def skin_rgb(melanin: float, haemoglobin: float) -> np.ndarray:
    """Linear RGB [3] of clean skin under a neutral light of intensity 1."""
    absorbance = melanin * MELANIN + haemoglobin * haemoglobin_absorbance(melanin)
    return BASE * np.exp(-absorbance) + SURFACE


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 decoding; values in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


TONE_RANGE = 2.0  # linear intensity that the last entry of the tone table stands for


@cache
def tone_table() -> np.ndarray:
    """uint8 sRGB value (IEC 61966-2-1) of linear intensities 0 .. TONE_RANGE in 4096 steps.

    Linear to 0.6; above it a shoulder towards 1, as in a camera, so that pale patches are not burnt out.
    """
    linear = np.linspace(0, TONE_RANGE, 4096)
    linear = np.where(linear < 0.6, linear, 1 - 0.4 * np.exp(-(linear - 0.6) / 0.4))
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB [..., 3]."""
    ratio = linear @ _TO_XYZ.T / _WHITE_D65
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


def ita_deg(linear: np.ndarray) -> np.ndarray:
    """Individual typology angle in degrees of linear RGB [..., 3]: atan((L* - 50) / b*), Chardon et al. 1991."""
    values = lab(linear)
    return np.degrees(np.arctan2(values[..., 0] - 50, values[..., 2]))


@cache
def _melanin_path() -> tuple[np.ndarray, np.ndarray]:
    melanin = np.linspace(0.0, 6.0, 400)
    ita = np.array([float(ita_deg(skin_rgb(value, 0.12))) for value in melanin])
    return ita[::-1], melanin[::-1]


def melanin_of_ita(angle_deg: float) -> float:
    """Melanin units whose clean skin (haemoglobin 0.12) has this ITA; clipped at the ends of the path."""
    ita, melanin = _melanin_path()
    return float(np.interp(angle_deg, ita, melanin))
