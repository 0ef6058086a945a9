"""A study in seconds whose pool is rendered: no model is taught or drawn from."""

from __future__ import annotations

from pathlib import Path

from commands import skinaug

SIZES = [
    *(
        "scale.phantom_per_class=14",
        "scale.image_size=32",
        "scale.generate_per_class=6",
        "scale.classifier_size=32",
    ),
    *("scale.real_limit=4", "scale.classifier_steps=6", "scale.classifier_batch_size=12"),
    *("trainer=cpu", "logger=none", "filter=[]", "mix.synthetic_ratio=1", "audit.pool.num_replicates=2"),
]


def rendered_study(folder: Path) -> Path:
    """The folder, with a classifier of real and rendered pictures, and all that led to it, in its store."""
    skinaug("classify", "mix=hybrid", "base=oracle", *SIZES, cwd=folder, check=True)
    return folder


def only(study: Path, stage: str) -> Path:
    """The folder of a stage's one artifact."""
    (found,) = (path for path in (study / "store" / stage).iterdir() if path.suffix == "")
    return found
