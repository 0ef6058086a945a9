"""Where the lesions are: masks that a manifest names in its column `mask`, white on black."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from skinaug.errors import InputError
from skinaug.images import open_image, square
from skinaug.manifest import Manifest


def check_masks(manifest: Manifest, setting: str, weight: float) -> None:
    """Refuse to weigh lesions of which nobody knows where they are. setting: the weight's name."""
    if weight and ("mask" not in manifest.table.columns or manifest.table["mask"].null_count()):
        raise InputError(
            f"{setting}={weight} needs the lesions' mask of every image, in a column `mask` of the data: paths of black and "
            "white pictures. Set it to 0 to do without."
        )


def open_mask(manifest: Manifest, row: int) -> Image.Image:
    """The mask of an image, in RGB."""
    return open_image(manifest.root / manifest.table["mask"][row])


def load_masks(manifest: Manifest, size: int) -> np.ndarray:
    """The masks of all images' central squares: uint8 [N, size, size], 255 on lesions."""
    with ThreadPoolExecutor() as pool:
        squares = pool.map(lambda row: square(open_mask(manifest, row), size)[..., 0], range(len(manifest)))
        return np.stack(list(squares))
