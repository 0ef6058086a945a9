"""Image files to pixels: one place that opens, orients, resizes and caches them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from skinaug.blobs import read_blobs, write_blobs

if TYPE_CHECKING:
    from skinaug.manifest import Manifest

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def open_image(path: Path | str) -> Image.Image:
    """Read one image as RGB, turned upright by its EXIF orientation.

    Raises:
        OSError: the file is missing, unreadable, truncated or no image.
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def square(image: Image.Image, size: int) -> np.ndarray:
    """Short side to `size` pixels with antialiasing, then the central square: uint8 [size, size, 3]."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def load_pixels(manifest: Manifest, size: int, cache: Path | None = None) -> np.ndarray:
    """All pictures of a manifest as squares: uint8 [N, size, size, 3], in the manifest's order.

    With `cache` (a file), each picture is decoded once, however many runs read it: pixels are kept by the picture's
    SHA-256 and the size, so an edited picture is another entry. Safe for several processes at once.
    """
    pixels = np.empty((len(manifest), size, size, 3), np.uint8)
    digests = manifest.table["sha256"].to_list()
    kind = f"pixels {size}"
    known = read_blobs(cache, kind, digests)
    missing = [row for row, digest in enumerate(digests) if digest not in known]
    paths = manifest.paths()
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda row: square(open_image(paths[row]), size), missing)
        for row, picture in zip(missing, decoded, strict=True):
            pixels[row] = picture
    if cache is not None:
        write_blobs(cache, kind, {digests[row]: pixels[row].tobytes() for row in missing})
    for row, digest in enumerate(digests):
        if digest in known:
            pixels[row] = np.frombuffer(known[digest], np.uint8).reshape(size, size, 3)
    return pixels
