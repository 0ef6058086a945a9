"""One model for all classes, or one for each: which images it is taught, and where it lies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from skinaug.manifest import Manifest

SCOPES = ("all", "class")


def only(manifest: Manifest, label: str) -> Manifest:
    """The images of one class, and that class alone."""
    chosen = manifest.table.filter(manifest.table["label"] == label)
    return Manifest(chosen, manifest.root, (label,), manifest.licence, manifest.citation)


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """A folder's name for each class: its Latin letters and digits; where those are none or another class's, a digest too."""
    names = {label: re.sub("[^a-z0-9]+", "-", label.lower())[:64].strip("-") for label in classes}
    often = Counter(names.values())
    return {
        label: name if name and often[name] == 1 else f"{name}-{sha256(label.encode()).hexdigest()[:8]}"
        for label, name in names.items()
    }
