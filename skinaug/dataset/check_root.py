"""Looks at the data's folder before anything else is done, so that a typing error shows at once."""

from __future__ import annotations

import os
from pathlib import Path

from skinaug.dataset.files import list_images
from skinaug.errors import InputError

ADVICE = "Set dataset.root=<folder> to the folder that holds the images."


def check_root(root: str | None, required: bool) -> Path | None:
    """The absolute root folder; None where there is none and none is required.

    Raises:
        InputError: the root is required and not given, does not exist, is no folder, cannot be read, or holds no images.
    """
    if root is None and not required:
        return None
    if not root:
        raise InputError(f"This data set is read from a folder, and none is given. {ADVICE}")
    path = Path(os.path.abspath(os.path.expanduser(root)))
    if not path.exists():
        raise InputError(f"The folder {path} does not exist. {ADVICE}")
    if not path.is_dir():
        raise InputError(f"{path} is a file, not a folder. {ADVICE}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(
            f"The folder {path} cannot be read. Change its permissions, or choose another. {ADVICE}"
        )
    if not list_images(path):
        raise InputError(f"The folder {path} holds no images (linked folders are not followed). {ADVICE}")
    return path
