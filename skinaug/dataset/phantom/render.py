"""Picture parameters to pixels: chromophores, relief, light, camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from skinaug.dataset.phantom import colour, overlays
from skinaug.dataset.phantom.fields import grid, nearest_blob, noise_pair, slopes, smoothstep
from skinaug.dataset.phantom.parameters import Lesion, Photo, Picture, Site

_SCALE_RGB = np.array([0.72, 0.69, 0.65], np.float32)
_CRUST_RGB = np.array([0.36, 0.20, 0.07], np.float32)
_PUS_RGB = np.array([0.78, 0.66, 0.36], np.float32)
_HAIR_RGB = np.array([0.035, 0.022, 0.015], np.float32)
_PEN_RGB = np.array([0.07, 0.05, 0.22], np.float32)


class Rendered(NamedTuple):
    """A picture and the truth about it.

    pixels: uint8 sRGB [size, size, 3]. lesion_mask: bool [size, size], skin that lesions cover by more than half; a ring's
    cleared centre is outside. ita_deg: of the clean skin under a neutral light, degrees. lesion_area_share: lesion over
    skin in view, [0, 1]. redness: mean CIE a* of the lesions minus that of clean skin under a neutral light; 0 without.
    """

    pixels: np.ndarray
    lesion_mask: np.ndarray
    ita_deg: float
    lesion_area_share: float
    redness: float


class _Texture(NamedTuple):
    """Two noise fields [size, size] of unit variance: relief of the skin, and where it flakes."""

    relief: np.ndarray
    flakes: np.ndarray


class _Shape(NamedTuple):
    """Where the lesions are, all [size, size]; rim is 1 at a border and 0 inside, height in shares of the side."""

    amount: np.ndarray  # coverage in [0, 1], with soft borders and cleared centres
    inside: np.ndarray  # coverage without clearing
    rim: np.ndarray
    height: np.ndarray
    heads: np.ndarray  # coverage by pustule heads


def render(picture: Picture, size: int, rng: np.random.Generator) -> Rendered:
    """Draw one picture of `size` pixels a side; everything random comes from `rng`.

    The same generator state gives the same scene at any size: coarse structure does not depend on it, only detail does.
    """
    lesion, skin, site = picture.lesion, picture.skin, picture.site
    coverage, *body_slopes = overlays.limb_outline(site, size)
    texture = _Texture(*noise_pair(rng, size, 16.0 - 9.0 * lesion.scale_coarseness, 2.0))
    shape = _lesion_shape(lesion, site, size, rng, texture.relief) if lesion.count else None
    clean = colour.skin_rgb(colour.melanin_of_ita(skin.ita_deg), skin.haemoglobin)
    albedo = _albedo(picture, size, rng, shape, texture.flakes)
    if shape is not None:
        _cover_surface(albedo, clean, lesion, shape, texture)
    creases = overlays.crease_field(rng, size, site.creases)
    height = _height(picture, shape, texture, creases)
    shade = _shading(picture, height, body_slopes, shape) * (1 - np.float32(0.22) * creases)
    lit = albedo * shade[..., None]
    _clutter(lit, picture, size, rng, coverage)
    pixels = _photograph(lit * _auto_exposure(clean), picture.photo, size, rng)
    mask = (shape.amount * coverage > 0.5) if shape is not None else np.zeros((size, size), bool)
    area = float(mask.sum() / max(coverage.sum(), 1.0))
    return Rendered(pixels, mask, float(colour.ita_deg(clean)), area, _redness(albedo, clean, mask))


def _redness(albedo: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> float:
    if not mask.any():
        return 0.0
    return float(colour.lab(albedo[mask].mean(axis=0))[1] - colour.lab(clean)[1])


def _blobs(lesion: Lesion, site: Site, rng: np.random.Generator) -> np.ndarray:
    """[count, 5] centre x, centre y, radius, elongation, angle; on the limb where there is one."""
    count = lesion.count
    radius = lesion.radius * rng.lognormal(0, lesion.radius_spread, count)
    # the tighter the cluster, the nearer the frame's centre; single lesions are what a photographer aims at
    spread = 0.40 * (1 - lesion.cluster) + 0.05 if count > 1 else 0.12 * (1 - lesion.cluster)
    centre = rng.normal(0, 0.07, 2)
    reach = 0.47 - 0.6 * np.minimum(radius, 0.3)[:, None]  # most of each lesion lies in the frame
    xy = np.clip(centre + rng.uniform(-1, 1, (count, 2)) * spread * 1.15, -reach, reach)
    if site.limb_half_width > 0:
        axis = np.array([np.cos(site.limb_angle), np.sin(site.limb_angle)])
        across = np.array([-axis[1], axis[0]])
        on_axis, off_axis = xy @ axis, xy @ across
        off_axis = np.clip(off_axis, -0.75 * site.limb_half_width, 0.75 * site.limb_half_width)
        xy = on_axis[:, None] * axis + off_axis[:, None] * across
    elongation = 1 + (lesion.elongation - 1) * rng.uniform(0.4, 1.4, count)
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.5, count)
    return np.column_stack([xy, radius, elongation, angle])


def _lesion_shape(
    lesion: Lesion, site: Site, size: int, rng: np.random.Generator, relief: np.ndarray
) -> _Shape:
    x, y = grid(size)
    low = float(np.clip(0.45 / lesion.radius, 1.5, 9.0))
    warp_x, warp_y = noise_pair(rng, size, low, 3.0)
    patches = warp_x * np.float32(0.8) + relief * np.float32(0.3)
    reach = np.float32(0.38 * lesion.irregularity * lesion.radius)
    blobs = _blobs(lesion, site, rng)
    distance, index = nearest_blob(x + reach * warp_x, y + reach * warp_y, blobs)
    if lesion.patchiness > 0:
        distance = distance + np.float32(0.5 * lesion.patchiness * lesion.radius) * patches
    radius = blobs[:, 2].astype(np.float32)[index]
    border = np.maximum(np.float32(lesion.softness) * radius, np.float32(1.0 / size))
    inside = smoothstep(0.5 - distance / border)
    depth = np.clip(-distance / radius, 0, 1)
    rim = 1 - smoothstep(depth / np.float32(max(lesion.rim_width, 0.05)) - np.float32(0.35))
    amount = inside * (1 - np.float32(lesion.ring) * (1 - rim)) if lesion.ring > 0 else inside
    # a papule is a dome; a plaque as wide as a hand is no higher, and flat on top
    thickness = np.minimum(radius, np.float32(0.05))
    dome = np.clip(-distance / thickness, 0, 1)
    height = np.float32(0.45 * lesion.elevation) * thickness * dome * (2 - dome)
    if lesion.ring > 0:
        height = height * (1 - np.float32(0.9 * lesion.ring) * (1 - rim))
    has_head = (rng.random(lesion.count) < lesion.pus).astype(np.float32)[index]
    heads = _pustules(lesion, radius, distance, relief) * has_head
    return _Shape(amount, inside, rim, height, heads)


def _pustules(lesion: Lesion, radius: np.ndarray, distance: np.ndarray, relief: np.ndarray) -> np.ndarray:
    """Coverage by heads: one in the middle of a papule, several strewn over anything larger."""
    if lesion.pus == 0:
        return np.zeros_like(distance)
    head = np.minimum(np.float32(0.6) * radius, np.float32(0.03))
    middle = smoothstep(np.float32(1.2) - (distance + radius) / head)
    strewn = smoothstep((relief - np.float32(1.5)) * 3) * (distance < -0.01) * (radius > 0.07)
    return np.maximum(middle, strewn)


def _albedo(
    picture: Picture, size: int, rng: np.random.Generator, shape: _Shape | None, flakes: np.ndarray
) -> np.ndarray:
    """Linear reflectance [size, size, 3] of the skin below scale, crusts and pus."""
    skin, lesion = picture.skin, picture.lesion
    base_melanin = colour.melanin_of_ita(skin.ita_deg)
    mottle_m, mottle_h = noise_pair(rng, size, 2.5, 1.5)
    melanin = np.float32(base_melanin) * (1 + np.float32(0.35 * skin.mottling) * mottle_m) + np.float32(0.03)
    haemoglobin = skin.haemoglobin * np.exp(np.float32(2.2 * skin.mottling) * mottle_h)
    if skin.freckles:
        melanin = melanin + np.float32(0.9) * overlays.freckle_field(rng, size, skin.freckles)
    absorbance = np.zeros((size, size, 3), np.float32)
    if shape is not None:
        uneven = 1 + np.float32(0.16) * mottle_h + np.float32(0.10) * flakes
        amount = shape.amount * uneven
        melanin = melanin * (1 - np.float32(lesion.pigment_loss) * np.minimum(shape.amount, 1))
        if lesion.pigment:
            melanin = melanin + np.float32(lesion.pigment) * amount
        if lesion.erythema:
            haemoglobin = haemoglobin + np.float32(lesion.erythema) * amount
        for strength, vector in ((lesion.violet, colour.VIOLET), (lesion.yellow, colour.YELLOW)):
            if strength:
                absorbance += (np.float32(strength) * amount)[..., None] * vector
    haemoglobin_rgb = colour.haemoglobin_absorbance(base_melanin).astype(np.float32)
    absorbance += np.maximum(melanin, 0)[..., None] * colour.MELANIN
    absorbance += haemoglobin[..., None] * haemoglobin_rgb
    return colour.BASE * np.exp(-absorbance) + np.float32(colour.SURFACE)


def _blend(albedo: np.ndarray, rgb: np.ndarray, share: np.ndarray) -> None:
    albedo += share[..., None] * (rgb - albedo)


def _cover_surface(
    albedo: np.ndarray, clean: np.ndarray, lesion: Lesion, shape: _Shape, texture: _Texture
) -> None:
    """Scale, crust and pustule heads hide the skin below them."""
    if lesion.scale > 0:
        where = shape.inside * (1 - np.float32(lesion.scale_at_rim) * (1 - shape.rim))
        share = smoothstep((texture.flakes + np.float32(3.2 * lesion.scale - 1.0)) * np.float32(0.36)) * where
        # thin scale lets the skin through: silvery on fair skin, grey on dark skin
        rgb = _SCALE_RGB * np.float32(0.35 + 0.65 * min(2.2 * clean.mean(), 1.0))
        _blend(albedo, rgb, share * np.float32(0.25 + 0.45 * lesion.scale))
    if lesion.crust > 0:
        share = (
            smoothstep((texture.relief + np.float32(2.6 * lesion.crust - 1.6)) * np.float32(1.2))
            * shape.amount
        )
        _blend(albedo, _CRUST_RGB, share * np.float32(0.85))
    if lesion.pus > 0:
        _blend(albedo, _PUS_RGB, shape.heads * np.float32(0.7))


def _height(picture: Picture, shape: _Shape | None, texture: _Texture, creases: np.ndarray) -> np.ndarray:
    """Relief of skin, lesions and folds [size, size] in shares of the frame's side."""
    lesion = picture.lesion
    height = np.float32(0.0010 * picture.skin.texture) * texture.relief - np.float32(0.006) * creases
    if shape is None:
        return height
    rough = np.float32(0.003 * max(lesion.scale, lesion.crust, 0.3 * lesion.elevation)) * texture.flakes
    return height + shape.height + rough * shape.inside


def _shading(
    picture: Picture, height: np.ndarray, body_slopes: list[np.ndarray], shape: _Shape | None
) -> np.ndarray:
    """Light that each pixel returns [size, size]: Lambert's law on body shape plus relief, and a gloss."""
    photo = picture.photo
    nx, ny = (fine + body for fine, body in zip(slopes(height), body_slopes, strict=True))
    light_x = np.float32(np.cos(photo.light_angle) * (0.25 + photo.light_slope))
    light_y = np.float32(np.sin(photo.light_angle) * (0.25 + photo.light_slope))
    lambert = (1 + nx * light_x + ny * light_y) / np.sqrt(1 + nx * nx + ny * ny)
    # light from all around softens the shadows
    shade = np.float32(0.3) + np.float32(0.7) * np.clip(lambert, 0, 2)
    gloss = np.full_like(shade, 0.25 * photo.flash)
    if shape is not None:
        gloss += np.float32(0.9 * picture.lesion.shine) * shape.inside
    tilt = (nx - light_x * np.float32(0.9)) ** 2 + (ny - light_y * np.float32(0.9)) ** 2
    return shade + gloss * np.exp(-tilt * np.float32(14))


def _clutter(
    lit: np.ndarray, picture: Picture, size: int, rng: np.random.Generator, coverage: np.ndarray
) -> None:
    """Draw pen marks and hairs over the lit skin, and the backdrop beside it, in place."""
    site = picture.site
    if picture.pen:
        _blend(lit, _PEN_RGB, overlays.pen_mask(rng, size, picture.pen) * np.float32(0.75))
    if site.hairs:
        hairs = overlays.hair_mask(rng, size, site.hairs, site.hair_length) * np.float32(site.hair_darkness)
        _blend(lit, _HAIR_RGB, hairs)
    if site.limb_half_width > 0:
        cloth = 1 + np.float32(0.05) * rng.standard_normal((size, size), dtype=np.float32)
        backdrop = np.asarray(site.background, np.float32) * cloth[..., None]
        lit *= coverage[..., None]
        lit += (1 - coverage)[..., None] * backdrop


def _auto_exposure(clean: np.ndarray) -> np.float32:
    """Gain of a camera that makes up for a fifth of the skin's darkness, in stops."""
    return np.float32((0.35 / clean.mean()) ** 0.2)


def _photograph(lit: np.ndarray, photo: Photo, size: int, rng: np.random.Generator) -> np.ndarray:
    """Exposure, white balance, vignette, blur, sensor noise and sRGB encoding: uint8 [size, size, 3]."""
    x, y = grid(size)
    gain = 2.0 ** (photo.exposure + np.array([photo.warmth, photo.tint, -photo.warmth]))
    falloff = 1 - np.float32(2 * photo.vignette) * (x * x + y * y)
    image = lit * (falloff[..., None] * gain.astype(np.float32))
    if photo.blur * size > 0.25:
        sigma = photo.blur * size
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=2.0)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += noise * (np.float32(photo.noise) * np.sqrt(np.clip(image, 0.01, 1)))
    codes = np.clip(image * np.float32(4095 / colour.TONE_RANGE) + np.float32(0.5), 0, 4095).astype(np.int16)
    return colour.tone_table()[codes]
