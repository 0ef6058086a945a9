"""Counts what `needs` calculates with, of architectures that hold no weights: `python -m skinaug.models.memory.count` writes counts.json."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from skinaug.models.families.table import family_named
from skinaug.models.memory.activations import activation_bytes
from skinaug.models.memory.architectures import ARCHITECTURES, Architecture, Part
from skinaug.models.quantize import replaceable

FILE = Path(__file__).with_name("counts.json")
RANK = 16  # of the LoRA, on the attention's layers as in conf/finetune/lora.yaml
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def build(part: Part) -> nn.Module:
    """A network without weights, on the meta device."""
    name, config = part
    with torch.device("meta"):
        if hasattr(diffusers, name):
            return getattr(diffusers, name)(**config)
        kind = getattr(transformers, name)
        return kind(kind.config_class(**config))


def sizes(network: nn.Module) -> dict[str, int]:
    """How many parameters a network has; how many of them in layers that can be quantised, the rows of these, and the largest."""
    layers = [layer.weight for _, layer in replaceable(network)]
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "linear": sum(weight.numel() for weight in layers),
        "rows": sum(len(weight) for weight in layers),
        "largest": max((weight.numel() for weight in layers), default=0),
    }


def step(base: Architecture, image_size: int | None = None) -> dict[str, int]:
    """What one picture's step of training keeps in bfloat16, as it is and with gradient checkpointing, and how many numbers the LoRA
    has. Bytes."""
    family, network = family_named(base.pipeline), build(base.denoiser)
    network.to(torch.bfloat16).requires_grad_(False)
    layers = [name for kind in TARGETS for name in (kind, *family.lora_layers.get(kind, ()))]
    inject_adapter_in_model(LoraConfig(r=RANK, target_modules=layers), network)
    network.to(torch.bfloat16).train()  # autocast computes the LoRA's products so too
    size, vae = image_size or base.image_size, build(base.vae).config
    side = size // 2 ** (len(family.widths(vae)) - 1)
    half = {"dtype": torch.bfloat16, "device": "meta"}
    channels = vae["z_dim"] if "z_dim" in vae else vae["latent_channels"]
    noisy = torch.empty(1, channels, side, side, **half)
    # How many words there are is read from the mask, which the meta device could not tell.
    states = {
        name: torch.ones(1, *shape, dtype=torch.bool) if name == "mask" else torch.empty(1, *shape, **half)
        for name, shape in base.states.items()
    }
    told = torch.empty(1, **half), states, torch.full((1, 3), size, device="meta")
    taken = activation_bytes(network, lambda: family.denoise(network, noisy, *told))
    lora = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return {"training": taken[0], "checkpointed": taken[1], "lora": lora}


def counted(base: Architecture) -> dict[str, Any]:
    """All of a base that `needs` calculates with."""
    vae = build(base.vae)
    return {
        "image_size": base.image_size,
        "denoiser": sizes(build(base.denoiser)),
        "vae": sizes(vae),
        "vae_width": family_named(base.pipeline).widths(vae.config)[1],
        "encoders": {name: sizes(build(part)) for name, part in base.encoders.items()},
        "left_out": list(base.left_out),
        **step(base),
    }


def main(names: Sequence[str]) -> None:
    """Count the bases of these names, or all, anew."""
    logging.disable(logging.WARNING)
    found = json.loads(FILE.read_text()) if FILE.is_file() else {}
    found |= {name: counted(ARCHITECTURES[name]) for name in names or ARCHITECTURES}
    FILE.write_text(
        json.dumps({name: found[name] for name in ARCHITECTURES if name in found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
