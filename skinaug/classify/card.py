"""A trained classifier as model hubs take it: safetensors, timm's config.json and a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from torch import nn

from skinaug.manifest import Manifest
from skinaug.models.backbone import asks_for_size, make_network
from skinaug.models.cards import CARD, code, data_digest, table

SCORES = ("balanced_accuracy", "top1", "macro_f1", "auroc", "ece")
LOADING = """\
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

network = timm.create_model("local-dir:.", pretrained=True).eval()  # in this folder; from the hub: "hf-hub:{repository}"
transform = create_transform(**resolve_data_config({{}}, model=network))
picture = Image.open("picture.png").convert("RGB")
with torch.inference_mode():
    probabilities = network(transform(picture)[None]).softmax(1)[0]
print(dict(zip(network.pretrained_cfg["label_names"], probabilities.tolist())))"""
USE = """\
For research only. **Not for diagnosis**, triage, treatment or advice.

- The scores above hold for test photographs of the same data set. On other cameras, skin types, body sites and conditions they \
may be far lower, and a picture of anything else is still given one of the classes.
- The classes are those of the data; a person may have several, or none.
- The licence of the photographs binds whoever uses what was learned from them."""


def write_classifier(
    folder: Path,
    backbone: Callable[..., nn.Module],
    recipe: Mapping[str, Any],
    *,
    mix: Manifest,
    facts: Iterable[tuple[str, str]],
    repository: str,
    out: Path,
) -> None:
    """Write model.safetensors, metrics.json and README.md to `out`, and config.json for networks of timm.

    Args:
        folder: what `classify` has left.
        backbone: makes the network, without weights.
        recipe: the stage's configuration.
        mix: training images.
        facts: what else the card tells of them.
        repository: where timm will find it, for the card.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = make_network(backbone, len(mix.classes), recipe["image_size"])
    name = type(network).__name__
    for file in ("model.safetensors", "metrics.json"):
        shutil.copyfile(folder / file, out / file)
    of_timm = "architecture" in getattr(network, "pretrained_cfg", {})
    if of_timm:
        name = _write_config(network, mix.classes, recipe["image_size"], out)
        use = f"```python\n{LOADING.format(repository=repository)}\n```"
    else:
        use = (
            f"`model.safetensors` holds the network that `{recipe['backbone']['network']['_target_']}` makes for {len(mix.classes)} "
            f"classes; the names of its tensors begin with `network.`. Pictures are squares of {recipe['image_size']} pixels."
        )
    (out / CARD).write_text(
        _card(
            name, of_timm, use, json.loads((folder / "metrics.json").read_text())["test"], recipe, mix, facts
        ),
        "utf-8",
    )


def _write_config(network: nn.Module, classes: Iterable[str], image_size: int, out: Path) -> str:
    """Write timm's config.json, and return the network's name there."""
    from timm.models._hub import save_config_for_hf

    size = {"input_size": (3, image_size, image_size), "crop_pct": 1.0, "interpolation": "bicubic"}
    network.pretrained_cfg = {**network.pretrained_cfg, **size}  # type: ignore[assignment]
    arguments = {"img_size": image_size} if asks_for_size(network) else {}
    told = {"label_names": list(classes)}
    save_config_for_hf(network, str(out / "config.json"), model_config=told, model_args=arguments)
    return str(network.pretrained_cfg["architecture"])


def _card(
    name: str,
    of_timm: bool,
    use: str,
    scores: Mapping[str, Any],
    recipe: Mapping[str, Any],
    mix: Manifest,
    facts: Iterable[tuple[str, str]],
) -> str:
    counts = {
        (label, source): count
        for label, source, count in mix.table.group_by("label", "source").len().iter_rows()
    }
    classes = [
        (
            label,
            counts.get((label, "real"), 0),
            counts.get((label, "synthetic"), 0),
            f"{scores['per_class'][label]['recall']:.3f}",
            scores["per_class"][label]["support"],
        )
        for label in mix.classes
    ]
    data = {
        "images": len(mix),
        "digest": code(data_digest(mix)),
        "licence of the photographs": mix.licence or "not stated",
        "citation": mix.citation or "not stated",
        **dict(facts),
    }
    settings = {
        key: value for key, value in recipe.items() if isinstance(value, (str, int, float)) and key[0] != "_"
    }
    front = ModelCardData(
        library_name="timm" if of_timm else None,
        pipeline_tag="image-classification",
        tags=["image-classification", "dermatology", "skinaug"],
    ).to_yaml()
    sections = [
        f"# {name} for {len(mix.classes)} skin conditions",
        "A classifier of photographs of skin that was trained with skinaug, on real and synthetic images as counted below. For "
        "research only, not for diagnosis.",
        "## Classes",
        table(("class", "training photographs", "synthetic images", "recall", "test photographs"), classes),
        "## Use",
        use,
        "## Scores on test photographs",
        table(("score", "value"), [(key, f"{scores[key]:.3f}") for key in SCORES]),
        "One training: another seed gives other scores.",
        "## Training data",
        table(("", ""), data.items()),
        "The digest is the SHA-256 of the images' own, sorted and joined by line breaks.",
        "## Recipe",
        table(("", ""), settings.items()),
        "## Intended use and limits",
        USE,
    ]
    return f"---\n{front}\n---\n\n" + "\n\n".join(sections) + "\n"
