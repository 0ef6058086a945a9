"""Checkpoints that an interrupted training left behind."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile


def is_whole(checkpoint: Path) -> bool:
    """Whether a file that `torch.save` wrote is there with all its content, which a power cut or a full disk may have cut."""
    try:
        with ZipFile(checkpoint) as parts:
            return parts.testzip() is None  # their checksums
    except (OSError, BadZipFile):
        return False


def newest(folder: Path) -> Path | None:
    """The whole checkpoint of the latest step among `step=<number>.ckpt`; None: there is none, and training starts anew.

    Of several, a kill left the older ones behind. Times of files do not tell: clocks are set back.
    """
    steps = {int(path.stem.partition("=")[2]): path for path in folder.glob("step=*.ckpt")}
    return next((steps[step] for step in sorted(steps, reverse=True) if is_whole(steps[step])), None)


def resumable(last: Path) -> bool:
    """Whether a training can go on from a checkpoint: it is whole, and so are the best ones that it names."""
    if not is_whole(last):
        return False
    import torch  # a test's process does without

    states = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["callbacks"].values()
    best = [Path(state["best_model_path"]) for state in states if state.get("best_model_path")]
    return all(is_whole(path) for path in best)
