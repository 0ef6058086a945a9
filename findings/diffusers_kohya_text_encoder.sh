#!/usr/bin/env bash
# diffusers 0.42.1 loads the text encoder's part of a LoRA in kohya's names only where out_proj is among its layers: it tells the kind
# of names by the layer to_out_lora alone. One that changes q_proj, k_proj and v_proj is converted, and then refused.
# Seen: ValueError: Could not automatically infer state dict type. The same matrices with out_proj's beside them load.
# Usage: findings/diffusers_kohya_text_encoder.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 torch==2.15.0
"$folder/env/bin/python" - <<'CODE'
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from transformers import CLIPTextConfig, CLIPTextModel


def lora(layers):
    """A LoRA of rank 2 as kohya's trainer names it."""
    tensors = {}
    for layer in layers:
        name = f"lora_te_text_model_encoder_layers_0_self_attn_{layer}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, 32)
        tensors[f"{name}.lora_up.weight"] = torch.randn(32, 2)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    return tensors


def load(layers):
    config = CLIPTextConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4)
    encoder = CLIPTextModel(config)
    loader = StableDiffusionLoraLoaderMixin
    state, alphas = loader.lora_state_dict(lora(layers))
    loader.load_lora_into_text_encoder(state, alphas, encoder)
    return sum("lora_A" in name for name, _ in encoder.named_parameters())


whole = load(["q_proj", "k_proj", "v_proj", "out_proj"])
assert whole == 4, f"changed: {whole} of 4 layers were loaded"
try:
    part = load(["q_proj", "k_proj", "v_proj"])
except ValueError as error:
    assert "infer state dict type" in str(error), error
    print(f"diffusers 0.42.1: with out_proj {whole} of 4 layers load; without it: ValueError: {error}")
else:
    raise SystemExit(f"changed: without out_proj {part} of 3 layers load")
CODE
