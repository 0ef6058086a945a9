#!/usr/bin/env bash
# diffusers 0.42.1 with peft 0.21.2: a LoRA whose metadata tell a lora_dropout above 0 draws another picture each time. load_lora_weights
# adds the dropout layers to networks that were put into evaluation mode before, and leaves the new layers in training mode.
# Seen: two calls with one seed differ; after pipeline.unet.eval(), or with lora_dropout 0 in the metadata, they are equal.
# Usage: findings/diffusers_lora_dropout.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

torch.manual_seed(0)
sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 8}
blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}


def network():
    torch.manual_seed(0)
    return UNet2DConditionModel(sample_size=8, attention_head_dim=4, **sizes, **blocks).eval()


def save(dropout, told):
    """A LoRA that was trained with a dropout, and a file whose metadata tell of another."""
    unet = network()
    unet.add_adapter(LoraConfig(r=4, lora_dropout=dropout, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]))
    settings = unet.peft_config["default"].to_dict() | {"lora_dropout": told, "target_modules": ["to_q", "to_k", "to_v"]}
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(f"lora-{told}", unet_lora_layers=layers, unet_lora_adapter_metadata=settings)


def differs(told, evaluate=False):
    """How far two calls of the loaded network with equal input are apart."""
    unet = network()
    unet.load_lora_adapter(f"lora-{told}", prefix="unet", use_safetensors=True)
    if evaluate:
        unet.eval()
    torch.manual_seed(1)
    sample, states = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 8)
    with torch.no_grad():
        first, second = (unet(sample, 10, states).sample for _ in range(2))
    return (first - second).abs().max().item()


save(0.5, 0.5)
save(0.5, 0.0)
found = differs(0.5)
assert found > 1e-3, f"changed: two calls differ by {found}"
assert differs(0.5, evaluate=True) == 0, "changed: in evaluation mode two calls differ"
assert differs(0.0) == 0, "changed: without dropout in the metadata two calls differ"
print(f"diffusers 0.42.1, peft 0.21.2: two calls with equal input differ by {found:.3f}; in evaluation mode they are equal")
CODE
