#!/usr/bin/env bash
# diffusers 0.42.1, StableDiffusion3Pipeline.from_single_file: the text projection of CLIP-L that the file holds is replaced by the
# identity, without a word. Published files of Stable Diffusion 3 leave it out, and the identity is right for those; one whose text
# encoder was taught, and which therefore holds its own, draws other pictures than the pipeline that it was saved from.
# Seen: of an encoder's tensors all arrive but text_projection.weight, which is the identity.
# Usage: findings/diffusers_sd3_text_projection.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

torch.manual_seed(0)
config = CLIPTextConfig(
    vocab_size=100, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, projection_dim=32
)
encoder = CLIPTextModelWithProjection(config)
others = dict.fromkeys(
    ["transformer", "vae", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"]
)
pipeline = StableDiffusion3Pipeline(text_encoder=encoder, scheduler=FlowMatchEulerDiscreteScheduler(), **others)
pipeline.save_pretrained("pipeline")
own = encoder.state_dict()
save_file({f"text_encoders.clip_l.transformer.{name}": value.clone() for name, value in own.items()}, "one.safetensors")
loaded = StableDiffusion3Pipeline.from_single_file(
    "one.safetensors", config="pipeline", local_files_only=True, **others
).text_encoder
other = [name for name, value in loaded.state_dict().items() if not torch.equal(value, own[name])]
assert other == ["text_projection.weight"], f"changed: {other} are not those of the file"
assert torch.equal(loaded.text_projection.weight, torch.eye(32)), "changed: it is no identity"
print(f"diffusers 0.42.1: {len(own) - 1} of {len(own)} tensors arrive; {other[0]} is the identity, not the file's")
CODE
