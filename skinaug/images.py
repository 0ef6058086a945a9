"""Image files to pixels: one place that opens, orients, resizes and caches them."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from skinaug.errors import InputError, listing
from skinaug.store.blobs import read_blobs, write_blobs
from skinaug.store.digest import sha256_file

if TYPE_CHECKING:
    from skinaug.manifest import Manifest

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
READERS = (  # imported, because Pillow knows only formats whose readers are
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
)
FORMATS = tuple(reader.format for reader in READERS)
MAX_PIXELS = 120_000_000  # more than telephones take; three bytes each
DECODING = 2  # raised when other pixels are made of the same file

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is stricter


def open_image(path: Path | str) -> Image.Image:
    """Read one image as 8 bits RGB, turned upright by its EXIF orientation.

    Of an animation or several pages, the first is taken. CMYK, palettes and grey become RGB, grey of 16 bits is scaled to 8, and
    what is transparent lies on white. Only FORMATS are read, by content and whatever the file's name: Pillow has readers for
    others that start programs.

    Raises:
        OSError: the file is missing, unreadable, truncated, no image of FORMATS, has more than MAX_PIXELS, which is seen before
            anything is decoded, or values without a known range (32 bits).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            return _rgb(ImageOps.exif_transpose(image), str(image.format))
    except OSError:
        raise
    except Image.DecompressionBombError as error:
        raise OSError(f"too large, at most {MAX_PIXELS // 10**6} million pixels are read: {error}") from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise OSError(f"damaged: {error}") from error


def _rgb(image: Image.Image, format: str) -> Image.Image:
    """A decoded image as 8 bits RGB: Pillow's own conversion clips grey of 16 bits and shows what transparency hides."""
    if image.mode.startswith("I;16") or (image.mode == "I" and format == "PNG"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise OSError(
            f"its values have 32 bits (mode {image.mode}), and no range is known: save it with 8 or 16"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> np.ndarray:
    """Short side to `size` pixels with antialiasing, then the central square: uint8 [size, size, 3]."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def load_pixels(manifest: Manifest, size: int, cache: Path | None = None) -> np.ndarray:
    """All pictures of a manifest as squares: uint8 [N, size, size, 3], in the manifest's order.

    With `cache` (a file), each picture is decoded once, however many runs read it: pixels are kept by the picture's
    SHA-256 and the size, so an edited picture is another entry. Safe for several processes at once.

    Raises:
        InputError: files that cannot be read, or that are not those that the manifest lists (told by SHA-256), all named.
    """
    pixels = np.empty((len(manifest), size, size, 3), np.uint8)
    digests = manifest.table["sha256"].to_list()
    kind = f"pixels {DECODING} {size}"
    known = read_blobs(cache, kind, digests)
    missing = [row for row, digest in enumerate(digests) if digest not in known]
    paths = manifest.paths()
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda row: _decode(paths[row], digests[row], size), missing)
        bad = []
        for row, picture in zip(missing, decoded, strict=True):
            if isinstance(picture, str):
                bad.append(f"{paths[row]}: {picture}")
            else:
                pixels[row] = picture
    if bad:
        raise InputError(
            f"{len(bad)} pictures are not those that their manifest lists:\n{listing(bad)}\nPut the files back, or build what "
            "lists them again."
        )
    if cache is not None:
        write_blobs(cache, kind, {digests[row]: pixels[row].tobytes() for row in missing})
    for row, digest in enumerate(digests):
        if digest in known:
            pixels[row] = np.frombuffer(known[digest], np.uint8).reshape(size, size, 3)
    return pixels


def _decode(path: Path, digest: str, size: int) -> np.ndarray | str:
    """A listed picture as a square, or why it cannot be used."""
    try:
        if sha256_file(path) != digest:
            return f"its SHA-256 is not {digest}"
        return square(open_image(path), size)
    except OSError as error:
        return str(error)
