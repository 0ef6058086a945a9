"""Everything that defines a phantom photograph, and the words that describe it."""

from __future__ import annotations

from dataclasses import dataclass

SKIN_TYPES = ("I", "II", "III", "IV", "V", "VI")
BODY_SITES = ("face", "scalp", "neck", "chest", "back", "arm", "hand", "abdomen", "leg", "foot")


@dataclass(frozen=True)
class Skin:
    """A person's skin. ita_deg: typology angle of clean skin; haemoglobin and mottling: relative units."""

    skin_type: str
    ita_deg: float
    haemoglobin: float = 0.12
    mottling: float = 0.10
    texture: float = 0.5
    freckles: int = 0


@dataclass(frozen=True)
class Site:
    """What of the body is in the frame; lengths are shares of the frame's side, angles radians."""

    body_site: str
    curvature: float = 0.3
    limb_half_width: float = 0.0  # 0: skin fills the frame
    limb_angle: float = 0.0
    fingers: bool = False
    background: tuple[float, float, float] = (0.1, 0.1, 0.1)
    hairs: int = 0
    hair_length: float = 0.1
    hair_darkness: float = 0.7
    creases: int = 0


@dataclass(frozen=True)
class Lesion:
    """Morphology of the lesions in one picture; lengths are shares of the frame's side.

    pigment adds melanin units; pigment_loss in [0, 1] takes that share of the skin's own melanin away;
    erythema, violet and yellow add their chromophores; ring is the share of the centre that clears;
    softness the border's width over the radius; scale, crust, pus: shares in [0, 1].
    """

    count: int = 0
    radius: float = 0.1
    radius_spread: float = 0.2
    cluster: float = 0.3
    elongation: float = 1.2
    irregularity: float = 0.3
    patchiness: float = 0.0
    softness: float = 0.2
    ring: float = 0.0
    rim_width: float = 0.3
    erythema: float = 0.0
    pigment: float = 0.0
    pigment_loss: float = 0.0
    violet: float = 0.0
    yellow: float = 0.0
    elevation: float = 0.0
    scale: float = 0.0
    scale_at_rim: float = 0.0
    scale_coarseness: float = 0.5
    crust: float = 0.0
    pus: float = 0.0
    shine: float = 0.0


@dataclass(frozen=True)
class Photo:
    """Light and camera. exposure, warmth and tint in stops; blur in shares of the frame's side; noise a deviation."""

    light_angle: float = 0.0
    light_slope: float = 0.15
    exposure: float = 0.0
    warmth: float = 0.0
    tint: float = 0.0
    vignette: float = 0.1
    blur: float = 0.0
    noise: float = 0.01
    flash: float = 0.0


@dataclass(frozen=True)
class Picture:
    """All parameters of one picture. pen: count of pen marks on the skin."""

    skin: Skin
    site: Site
    lesion: Lesion
    photo: Photo
    pen: int = 0


def count_word(count: int) -> str:
    """no, one, two, a few (3 to 6) or many."""
    return ("no", "one", "two")[count] if count < 3 else "a few" if count < 7 else "many"


def size_word(radius: float) -> str:
    """Word for a mean radius in shares of the frame's side."""
    limits = ((0.032, "tiny"), (0.075, "small"), (0.17, "medium-sized"))
    return next((word for limit, word in limits if radius < limit), "large")


def colour_word(lesion: Lesion) -> str:
    """The chromophore that dominates."""
    if lesion.pigment_loss > 0.35:
        return "white"
    if lesion.yellow > 0.45:
        return "yellowish"
    if lesion.violet > 0.4:
        return "violet"
    if lesion.pigment > max(0.35, 0.8 * lesion.erythema):
        return "black" if lesion.pigment > 2.6 else "dark brown" if lesion.pigment > 1.2 else "brown"
    return "red" if lesion.erythema > 0.5 else "pink"


def border_word(lesion: Lesion) -> str:
    """ring-shaped before blurred before irregular before sharp."""
    if lesion.ring > 0.45:
        return "ring-shaped"
    if lesion.softness > 0.45:
        return "blurred"
    return "irregular" if lesion.irregularity > 0.6 else "sharp"


def surface_word(lesion: Lesion) -> str:
    """The most conspicuous property of the surface."""
    if lesion.pus > 0.35:
        return "pus-filled"
    if lesion.crust > 0.3:
        return "crusted"
    if lesion.scale > 0.3:
        return "scaly"
    return "raised" if lesion.elevation > 0.4 else "smooth"


def describe(picture: Picture) -> dict[str, str | None]:
    """Attributes in words; those of the lesions are None where there is none."""
    lesion = picture.lesion
    words: dict[str, str | None] = {
        "skin_type": picture.skin.skin_type,
        "body_site": picture.site.body_site,
        "lesion_count": count_word(lesion.count),
    }
    present = lesion.count > 0
    words["lesion_size"] = size_word(lesion.radius) if present else None
    words["lesion_colour"] = colour_word(lesion) if present else None
    words["border"] = border_word(lesion) if present else None
    words["surface"] = surface_word(lesion) if present else None
    return words
