"""Files that other programs read while we write them."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all: a reader finds the old content or the new, never a part.

    Args:
        path: in a folder that exists; what is there is replaced. `<name>.partial` beside it must be free.
        text: the whole content.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
