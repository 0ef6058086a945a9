"""Noise and distance fields over the frame: [size, size] float32, coordinates in shares of the side, centre 0."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft

_COARSE = 64  # cycles below 32 a side come from the same draws at any size, so size changes detail only


@cache
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y down, both [size, size] in (-0.5, 0.5)."""
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


@cache
def _amplitude(size: int, low: float, slope: float) -> np.ndarray:
    """Spectral amplitude: flat below `low` cycles a side, then falling as f^-slope; unit variance at 64 px."""
    frequency = fft.fftfreq(size) * size
    f = np.hypot(frequency[:, None], frequency[None, :])
    amplitude = 1.0 / (1.0 + (f / low) ** slope)
    amplitude[0, 0] = 0.0
    coarse = amplitude[(np.abs(frequency) <= _COARSE / 2)][:, np.abs(frequency) <= _COARSE / 2]
    return (amplitude * size**2 / np.sqrt((coarse**2).sum())).astype(np.float32)


def _spectrum(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse = rng.standard_normal((_COARSE, 2 * _COARSE), dtype=np.float32).view(np.complex64)
    detail_seed = rng.integers(2**63)  # drawn at every size, so that later draws agree
    if size == _COARSE:
        return coarse
    if size < _COARSE:
        rows = np.r_[0 : (size + 1) // 2, _COARSE - size // 2 : _COARSE]
        return np.ascontiguousarray(coarse[rows][:, rows])
    spectrum = (
        np.random.default_rng(detail_seed)
        .standard_normal((size, 2 * size), dtype=np.float32)
        .view(np.complex64)
    )
    rows = np.r_[0 : _COARSE // 2, size - _COARSE // 2 : size]
    spectrum[np.ix_(rows, rows)] = coarse
    return spectrum


def noise_pair(
    rng: np.random.Generator, size: int, low: float, slope: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two independent Gaussian fields of unit variance: one complex transform gives both."""
    field = fft.ifft2(_spectrum(rng, size) * _amplitude(size, low, slope), overwrite_x=True)
    return np.ascontiguousarray(field.real), np.ascontiguousarray(field.imag)


def smoothstep(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(value, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def nearest_blob(x: np.ndarray, y: np.ndarray, blobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance [size, size] to the nearest ellipse's edge (negative inside) and that ellipse's index.

    blobs: [n, 5] of centre x, centre y, radius, elongation, angle (radians).
    """
    distance = np.full(x.shape, np.inf, np.float32)
    index = np.zeros(x.shape, np.int16)
    per_block = max(1, 2**19 // x.size)
    for start in range(0, len(blobs), per_block):
        block = blobs[start : start + per_block].astype(np.float32)
        signed = _ellipse_distances(x, y, block)
        nearest = signed.argmin(axis=0)
        closest = np.take_along_axis(signed, nearest[None], axis=0)[0]
        closer = closest < distance
        distance = np.where(closer, closest, distance)
        index = np.where(closer, nearest + start, index).astype(np.int16)
    return distance, index


def _ellipse_distances(x: np.ndarray, y: np.ndarray, blobs: np.ndarray) -> np.ndarray:
    cx, cy, radius, elongation, angle = (column[:, None, None] for column in blobs.T)
    stretch = np.sqrt(elongation) * radius
    squeeze = radius / np.sqrt(elongation)
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = x - cx, y - cy
    along = dx * (cos / stretch) + dy * (sin / stretch)
    across = dy * (cos / squeeze) - dx * (sin / squeeze)
    along *= along
    across *= across
    along += across
    np.sqrt(along, out=along)
    along -= 1.0
    along *= radius
    return along


def slopes(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of a height field, per share of the side: (d/dx, d/dy)."""
    scale = np.float32(height.shape[0] / 2)
    dx, dy = np.zeros_like(height), np.zeros_like(height)
    dx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * scale
    dy[1:-1] = (height[2:] - height[:-2]) * scale
    return dx, dy
