"""Embedded colour profiles: what a picture's numbers mean, and the same colours in sRGB."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

# The colours as they were measured, relative to the white of the picture. `perceptual` is the same for the matrix profiles of
# cameras and editing programs, and for profiles with tables it is what their maker finds pleasing: an angle of colours would move.
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC's colour space to Pillow's
LIKE_SRGB = 1  # units of 8 bits by which a profile may move colours and still be taken for sRGB


class BrokenProfile(ValueError):
    """A profile that cannot be read, or is of other colours than the picture that it lies in."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The same colours in sRGB, by LittleCMS: 8 bits, RGB, or RGBA where the picture has transparency, which stays.

    A profile that moves no colour of a lattice by more than `LIKE_SRGB` is sRGB, whatever it is called: the picture itself is
    returned. Each profile is looked at once, so that further pictures with the same cost nothing.

    Args:
        image: 8 bits, grey, RGB, CMYK or a palette, with transparency or without.
        profile: ICC, as it lies in the file.

    Raises:
        BrokenProfile: see there.
    """
    mode, transform = _transform(profile)
    if mode == "L" and image.mode not in ("1", "L", "LA"):
        raise BrokenProfile(f"a profile of grey in a picture of mode {image.mode}")
    if (mode == "CMYK") != (image.mode == "CMYK"):
        raise BrokenProfile(f"a profile of {mode} in a picture of mode {image.mode}")
    if transform is None:
        return image
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    image = image.convert("RGBA").convert(mode) if alpha else image.convert(mode)
    image = transform.apply(image)
    if alpha:
        image.putalpha(alpha)
    return image


@lru_cache(maxsize=64)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile speaks of, and its way to sRGB; None where it is sRGB already."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.ImageCmsTransform(source, SRGB, mode, "RGB", INTENT)
    except (OSError, ValueError, KeyError, ImageCms.PyCMSError) as error:
        raise BrokenProfile(f"a profile that cannot be read: {error}") from error
    return mode, None if mode != "CMYK" and _is_srgb(transform, mode) else transform


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether colours stay as they are: 9 x 9 x 9 of them, or all greys."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    lattice = Image.fromarray(colours if mode == "RGB" else np.arange(256, dtype=np.uint8).reshape(16, 16))
    moved = np.asarray(transform.apply(lattice), np.int16) - np.asarray(lattice.convert("RGB"), np.int16)
    return bool(np.abs(moved).max() <= LIKE_SRGB)
