"""What lies over or beside the skin: hairs, pen marks, freckles, creases, the limb's outline."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from skinaug.dataset.phantom.fields import grid
from skinaug.dataset.phantom.parameters import Site


def _canvas(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """An empty mask with at least 192 pixels a side, so that thin strokes are antialiased."""
    side = size * max(1, -(-192 // size))
    canvas = Image.new("L", (side, side))
    return canvas, ImageDraw.Draw(canvas), side


def _opacity(canvas: Image.Image, size: int) -> np.ndarray:
    reduced = canvas if canvas.width == size else canvas.reduce(canvas.width // size)
    return np.asarray(reduced, np.float32) / 255


def hair_mask(rng: np.random.Generator, size: int, count: int, length: float) -> np.ndarray:
    """Opacity [size, size] of `count` curved hairs that share a direction."""
    canvas, draw, side = _canvas(size)
    t = np.linspace(-0.5, 0.5, 7)
    lengths = length * rng.lognormal(0, 0.35, count)
    angles = rng.uniform(0, np.pi) + rng.normal(0, 0.35, count)
    centres = rng.uniform(-0.05, 1.05, (count, 2))
    bends = rng.normal(0, 0.13, count)
    along = lengths[:, None] * t
    across = lengths[:, None] * bends[:, None] * (4 * t**2 - 0.5)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x = centres[:, :1] + along * cos - across * sin
    y = centres[:, 1:] + along * sin + across * cos
    width = max(1, round(0.005 * side))
    for points in (np.stack([x, y], axis=-1) * side).reshape(count, -1).tolist():
        draw.line(points, fill=255, width=width)
    return _opacity(canvas, size)


def pen_mask(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Opacity [size, size] of strokes, crosses and arcs of a skin marker near the frame's border."""
    canvas, draw, side = _canvas(size)
    for _ in range(count):
        angle = rng.uniform(0, 2 * np.pi)
        x, y = (0.5 + 0.36 * np.array([np.cos(angle), np.sin(angle)])) * side
        reach, width = rng.uniform(0.04, 0.1) * side, max(1, round(rng.uniform(0.01, 0.018) * side))
        if rng.random() < 0.5:
            start = rng.uniform(0, 360)
            draw.arc((x - reach, y - reach, x + reach, y + reach), start, start + 200, fill=200, width=width)
        else:
            turn = rng.uniform(0, np.pi)
            dx, dy = reach * np.cos(turn), reach * np.sin(turn)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=200, width=width)
            draw.line((x + dy, y - dx, x - dy, y + dx), fill=200, width=width)
    return _opacity(canvas, size)


def freckle_field(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Pigment [size, size] of freckles: about 1 at the centre of the darkest."""
    field = np.zeros((size, size), np.float32)
    rows, columns = (rng.random((2, count)) * size).astype(int)
    np.add.at(field, (rows, columns), (0.1 + 0.9 * rng.random(count) ** 2).astype(np.float32))
    sigma = max(0.007 * size, 0.5)
    return ndimage.gaussian_filter(field, sigma, truncate=2.5) * (2 * np.pi * sigma**2)


def crease_field(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Depth [size, size] in [0, 1] of skin folds: roughly parallel curved lines."""
    x, y = grid(size)
    if not count:
        return np.zeros_like(x)
    angle = rng.uniform(0, np.pi)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    depth = np.zeros_like(x)
    for offset in rng.uniform(-0.4, 0.4, count):
        bend, tilt, width = rng.normal(0, 0.25), rng.normal(0, 0.15), rng.uniform(0.006, 0.016)
        line = across - np.float32(offset) - along * np.float32(tilt) - along**2 * np.float32(bend)
        sharpness = np.float32(1 / max(width, 0.6 / size))
        np.maximum(depth, np.float32(rng.uniform(0.4, 1.0)) * np.exp(-((line * sharpness) ** 2)), out=depth)
    return depth


def limb_outline(site: Site, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage by skin in [0, 1], and the surface normal's slope over x and y (0 where it faces the camera)."""
    x, y = grid(size)
    if site.limb_half_width <= 0:
        return np.ones_like(x), x * np.float32(2 * site.curvature), y * np.float32(2 * site.curvature)
    cos, sin = np.float32(np.cos(site.limb_angle)), np.float32(np.sin(site.limb_angle))
    across = (y * cos - x * sin) / np.float32(site.limb_half_width)
    if site.fingers:  # parallel cylinders: the same outline repeated
        across = np.mod(across + 1, 2) - 1
    edge = np.float32(site.limb_half_width * size) * (1 - np.abs(across))
    coverage = np.clip(edge + np.float32(0.5), 0, 1)
    inside = np.clip(across, -0.96, 0.96)
    slope = inside / np.sqrt(1 - inside**2) * np.float32(0.35 + 0.4 * site.curvature)
    return coverage, -slope * sin, slope * cos
