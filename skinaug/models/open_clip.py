"""Image encoders of open_clip networks, the form in which foundation models of dermatology are often published.

Nothing heavy is imported before a network is made, so that a mistyped name costs milliseconds.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError
from skinaug.models.backbone import (
    HUB,
    LOCAL,
    check_hub,
    check_weights_file,
    load_tensors,
    read_weights,
    weights_folder,
)

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "open_clip"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"  # of a folder that open_clip saved
PREFIX = "visual."  # of the image encoder's tensors in a whole network's
# Half a network is made and let go, as open_clip has it: of texts as little as there can be.
TEXT = {"context_length": 8, "vocab_size": 16, "width": 64, "heads": 1, "layers": 1}


def create_image_encoder(
    name: str,
    num_classes: int,
    pretrained: bool = True,
    weights: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """The image encoder of an open_clip network with a new linear head; 0 classes give its image vectors [N, D].

    Pictures are scaled to the size that the network was made for.

    Args:
        name: an architecture of open_clip's, such as ViT-B-16; or `local-dir:<folder>` or `hf-hub:<repository>` with
            open_clip_config.json and open_clip_model.safetensors.
        num_classes: width of the head, which starts untrained.
        pretrained: whether weights are read; without, the encoder starts untrained too.
        weights: safetensors of the network or of its image encoder alone, or a folder with open_clip_model.safetensors; None:
            those of the folder or repository that `name` tells.
        mean, std: of each channel of the images that it was trained on, in [0, 1]; None: what the folder's configuration says,
            else what open_clip says of its own weights for this architecture.

    Raises:
        InputError: as `check_image_encoder`, or weights that do not fit.
    """
    check_image_encoder(name, pretrained, weights)
    import open_clip
    import torch

    from skinaug.models.logits import EncoderLogits

    folder = weights_folder(name, (CONFIG, WEIGHTS))
    known = name if folder is None else f"{LOCAL}{folder}"
    with _quiet():
        clip = open_clip.create_model(
            known, load_weights=False, pretrained_text=False, text_cfg=TEXT, device=torch.get_default_device()
        )
    config = open_clip.get_model_config(known)
    encoder = clip.visual
    if pretrained:
        file = _weights_file(Path(weights or folder or name))
        given = read_weights(file)
        own = {key.removeprefix(PREFIX): tensor for key, tensor in given.items() if key.startswith(PREFIX)}
        load_tensors(encoder, list(encoder.state_dict()), own or given, file)
    homes = [Path(place) for place in (folder, weights) if place is not None]
    told = next(filter(None, map(_told, homes)), None) or _of_own_weights(name)
    size = encoder.image_size if isinstance(encoder.image_size, int) else encoder.image_size[0]
    statistics = {
        "architecture": name,
        "mean": tuple(mean or told.get("mean") or encoder.image_mean),
        "std": tuple(std or told.get("std") or encoder.image_std),
        "input_size": (3, size, size),
    }
    about = {"vision_cfg": config["vision_cfg"], "quick_gelu": config.get("quick_gelu", False)}
    return EncoderLogits(encoder, config["embed_dim"], num_classes, size, statistics, about)


def check_image_encoder(name: str, pretrained: bool = True, weights: str | None = None, **_: Any) -> None:
    """Refuse an encoder that cannot be made, without importing torch or open_clip.

    Raises:
        InputError: open_clip is not installed, an unknown name (near names are told), no weights or no such file, no such folder,
            or no way to the hub.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError("backbone=open_clip needs open_clip: pip install 'skinaug[open-clip]'.")
    if name.startswith(HUB):
        check_hub(name, CONFIG)
    elif name.startswith(LOCAL):
        _check_folder(Path(name.removeprefix(LOCAL)))
        if pretrained and weights is None:
            _weights_file(Path(name.removeprefix(LOCAL)))
    else:
        known = [file.stem for file in Path(spec.origin).parent.glob("model_configs/*.json")]
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.5)) or "nothing"
            raise InputError(
                f"open_clip has no architecture {name!r}. Near it: {near}. Give another with backbone.name, or "
                "local-dir:<folder> or hf-hub:<repository>."
            )
        if pretrained and weights is None:
            raise InputError(
                f"{name} has no weights here: give backbone.weights=<file.safetensors or folder>, or backbone.pretrained=false for an "
                "encoder that starts untrained."
            )
    if pretrained and weights is not None:
        _weights_file(Path(weights))


def _check_folder(folder: Path) -> None:
    """Refuse a folder that does not tell a network."""
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(f"{folder} lacks {CONFIG}: give a folder that open_clip's save_for_hf wrote.")
    try:
        about = json.loads(file.read_text("utf-8"))["model_cfg"]
        lacking = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in about]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} does not hold open_clip's `model_cfg`: {error}.") from error
    if lacking:
        raise InputError(
            f"The `model_cfg` of {file} lacks {', '.join(lacking)}: it is no network of open_clip."
        )


def _weights_file(place: Path) -> Path:
    """The safetensors file of a path: itself, or a folder's.

    Raises:
        InputError: there is none.
    """
    if place.is_dir():
        if not (place / WEIGHTS).is_file():
            raise InputError(
                f"{place} lacks {WEIGHTS}: give a folder that has it, or backbone.weights=<file.safetensors>."
            )
        return place / WEIGHTS
    check_weights_file(place)
    return place


def _told(folder: Path) -> Mapping[str, Any]:
    """What a folder says of how its network's pictures are prepared; {} where it says nothing."""
    file = folder / CONFIG
    return json.loads(file.read_text("utf-8")).get("preprocess_cfg") or {} if file.is_file() else {}


def _of_own_weights(name: str) -> Mapping[str, Any]:
    """What open_clip says of its own weights for an architecture, where it says the same of all; else {}."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    found = {
        tuple(tuple(cfg.get(key) or ()) for key in ("mean", "std"))
        for cfg in (get_pretrained_cfg(name, tag) for tag in tags)
    }
    return dict(zip(("mean", "std"), found.pop(), strict=True)) if len(found) == 1 else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of weights that were not read, which here are read afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
