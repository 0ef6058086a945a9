"""Image files to pixels: one place that opens, orients, resizes and caches them."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from skinaug.colour_profiles import BrokenProfile, to_srgb
from skinaug.errors import InputError, listing, plural
from skinaug.progress import shown
from skinaug.store.blobs import read_blobs, write_blobs
from skinaug.store.digest import sha256_file

if TYPE_CHECKING:
    from skinaug.manifest import Manifest

SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".hif"),
    }
)
READERS = (  # imported, because Pillow knows only formats whose readers are
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
)
FORMATS = tuple(reader.format for reader in READERS)
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO 23008-12
NO_HEIC = "HEIC, as telephones save it, needs a reader: pip install 'skinaug[heic]'"
HEADER = 32  # bytes, by which a format is told
MAX_PIXELS = 120_000_000  # more than telephones take; three bytes each
DECODING = 3  # raised when other pixels are made of the same file

# What reading a picture may notice.
BROKEN_PROFILE = "broken_profile"  # its colour profile cannot be used: its values are taken for sRGB
BITS_12 = "12_bits"  # its 16 bits hold 12, which are scaled to 8
BITS_10 = "10_bits"  # its 16 bits hold 10 or fewer, which are scaled as if they were 12

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is stricter


def open_image(path: Path | str) -> Image.Image:
    """Read one image as 8 bits sRGB, turned upright by its orientation.

    Of an animation or several pages, the first is taken. An embedded colour profile is applied; without one, or with one that
    cannot be used, values are taken for sRGB. CMYK, palettes and grey become RGB, grey of 16 bits is scaled to 8, and what is
    transparent lies on white. Only FORMATS and HEIC are read, by content and whatever the file's name: Pillow has readers for
    others that start programs.

    Grey of 16 bits of which no value reaches 4,096 holds 12 bits: such files of one camera are all scaled by the same factor,
    whatever the brightest value of each is, so that a dark picture stays darker than a bright one.

    Raises:
        OSError: the file is missing, unreadable, truncated, none of FORMATS, HEIC without its reader, has more than MAX_PIXELS,
            which is seen before anything is decoded, or values without a known range (32 bits; colours of 16 bits that hold 12).
    """
    return read_image(path)[0]


def read_image(path: Path | str) -> tuple[Image.Image, tuple[str, ...]]:
    """As `open_image`, and what was noticed: any of BROKEN_PROFILE, BITS_12, BITS_10."""
    try:
        with _open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            sixteen = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
            return _srgb(ImageOps.exif_transpose(image), str(image.format), sixteen)
    except OSError:
        raise
    except Image.DecompressionBombError as error:
        raise OSError(f"too large, at most {MAX_PIXELS // 10**6} million pixels are read: {error}") from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise OSError(f"damaged: {error}") from error


def is_picture(path: Path | str) -> bool:
    """Whether a file begins as one of FORMATS or HEIC does. What cannot be read is none."""
    try:
        header = _header(path)
    except OSError:
        return False
    accept = (Image.OPEN[name][1] for name in FORMATS)
    return _is_heic(header) or any(begins is not None and begins(header) is True for begins in accept)


def _open(path: Path | str) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        if not _is_heic(_header(path)):
            raise
        return Image.open(path, formats=_heic_reader())


def _header(path: Path | str) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER)


def _is_heic(header: bytes) -> bool:
    return header[4:8] == b"ftyp" and header[8:12] in HEIC


@once
def _heic_reader() -> tuple[str, ...]:
    """Pillow's name for HEIC, once its reader is there. It turns pictures upright itself, and says so in their EXIF."""
    try:
        import pillow_heif
    except ImportError as error:
        raise OSError(NO_HEIC) from error
    pillow_heif.register_heif_opener()
    return (pillow_heif.HeifImageFile.format,)


def _srgb(image: Image.Image, format: str, sixteen: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """A decoded image as 8 bits sRGB, and what was noticed: Pillow's own conversion clips grey of 16 bits, shows what transparency
    hides and leaves profiles alone. sixteen: whether the file has 16 bits a value."""
    noticed = []
    profile = image.info.pop("icc_profile", b"")  # None, where Pillow could not put it together
    if image.mode.startswith("I;16") or (image.mode == "I" and format == "PNG"):
        values = np.asarray(image)
        brightest = values.max()
        noticed += [BITS_10] if brightest < 2**10 else [BITS_12] if brightest < 2**12 else []
        image = Image.fromarray((values >> (4 if brightest < 2**12 else 8)).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise OSError(
            f"its values have 32 bits (mode {image.mode}), and no range is known: save it with 8 or 16"
        )
    elif sixteen and image.mode in ("RGB", "RGBA") and _brightest(image) < 2**4:
        raise OSError(
            "its colours have 16 bits and hold 12 or fewer, of which Pillow keeps 4: save it with its full range, or with 8 bits"
        )
    if profile or profile is None:
        try:
            image = to_srgb(image, profile or b"")
        except BrokenProfile:
            noticed.append(BROKEN_PROFILE)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.pop("icc_profile", None)  # of sRGB: who saves the picture would embed it
    return image, tuple(noticed)


def _brightest(image: Image.Image) -> int:
    """The largest value of a picture's colours, uint8."""
    return int(np.asarray(image.convert("RGB")).max())


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
        for row, picture in shown(zip(missing, decoded, strict=True), "reading pictures", len(missing)):
            if isinstance(picture, str):
                bad.append(f"{paths[row]}: {picture}")
            else:
                pixels[row] = picture
    if bad:
        raise InputError(
            f"{plural(len(bad), 'picture is not the one that its manifest lists', 'pictures are not those that their manifest lists')}:\n{listing(bad)}\nPut the files back, or build what "
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
