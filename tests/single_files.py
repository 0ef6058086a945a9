"""Stable Diffusion in one file, as its authors publish it: a pipeline's tensors under the names of the original layouts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def single_file(pipeline: Any) -> dict[str, Tensor]:
    """SDXL's layout for an SDXL pipeline; for others that of Stable Diffusion 1, or of 2 where the noise schedule predicts v."""
    tensors = {f"model.diffusion_model.{name}": value for name, value in _unet(pipeline.unet)}
    tensors |= {f"first_stage_model.{name}": value for name, value in _vae(pipeline.vae)}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= _clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        tensors |= _open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    elif pipeline.scheduler.config.prediction_type == "v_prediction":
        tensors |= _open_clip(pipeline.text_encoder, "cond_stage_model.model.")
    else:
        tensors |= _clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    layers = unet.config.layers_per_block
    attends = {
        name.partition(".attentions")[0]
        for name in unet.state_dict()
        if "_blocks" in name and ".attentions" in name
    }
    for name, value in unet.state_dict().items():
        block, number, kind, layer, rest = _parts(name)
        if block == "":
            head, _, leaf = name.rpartition(".")
            yield f"{ENDS[head]}.{leaf}", value
        elif block == "mid_block":
            at = 2 * layer + (kind == "attentions")
            yield f"middle_block.{at}.{_resnet(rest) if kind == 'resnets' else rest}", value
        elif kind == "downsamplers":
            yield f"input_blocks.{(number + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}", value
        elif kind == "upsamplers":
            attends_here = f"up_blocks.{number}" in attends
            yield f"output_blocks.{(number + 1) * (layers + 1) - 1}.{1 + attends_here}.{rest}", value
        else:
            at = number * (layers + 1) + layer
            place = f"input_blocks.{at + 1}" if block == "down_blocks" else f"output_blocks.{at}"
            yield f"{place}.{'0.' + _resnet(rest) if kind == 'resnets' else '1.' + rest}", value


def _parts(name: str) -> tuple[str, int, str, int, str]:
    """(block, its number, kind of layer, its number, the rest) of a name in a UNet; no block for its ends."""
    found = re.fullmatch(r"(mid_block|down_blocks|up_blocks)(?:\.(\d+))?\.([a-z]+)\.(\d+)\.(.*)", name)
    return (
        (found[1], int(found[2] or 0), found[3], int(found[4]), found[5]) if found else ("", 0, "", 0, name)
    )


def _resnet(name: str) -> str:
    head, _, leaf = name.rpartition(".")
    return f"{RESNET[head]}.{leaf}"


def _vae(vae: Any) -> Iterator[tuple[str, Tensor]]:
    last = len(vae.config.block_out_channels) - 1
    for name, value in vae.state_dict().items():
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda at: f"up.{last - int(at[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda at: f"up.{last - int(at[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda at: f"mid.block_{int(at[1]) + 1}", name)
        if ".mid_block.attentions.0." in name:
            for new, old in VAE_ATTENTION.items():
                name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
            value = value[:, :, None, None] if value.ndim == 2 else value  # these were convolutions
        yield name, value


def _clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    """As transformers named them when these files were made."""
    return {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": value
        for name, value in encoder.state_dict().items()
    }


def _open_clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    found = {
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"),
        "ln_final.bias": state.pop("final_layer_norm.bias"),
    }
    if (projection := state.pop("text_projection.weight", None)) is not None:
        found["text_projection"] = projection.T
    for number in range(encoder.config.num_hidden_layers):
        for leaf in ("weight", "bias"):
            thirds = [state.pop(f"encoder.layers.{number}.self_attn.{part}_proj.{leaf}") for part in "qkv"]
            found[f"transformer.resblocks.{number}.attn.in_proj_{leaf}"] = torch.cat(thirds)
    for name, value in state.items():
        for new, old in OPEN_CLIP.items():
            name = name.replace(new, old)
        found[name.replace("encoder.layers", "transformer.resblocks")] = value
    return {f"{prefix}{name}": value for name, value in found.items()}
