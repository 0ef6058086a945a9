#!/usr/bin/env bash
# diffusers 0.42.1: QwenImagePipeline.encode_prompt orders text states and masks differently where it repeats them for several pictures a
# prompt: states a, a, b, b, masks a, b, a, b. With prompts of two lengths, a picture is drawn with another prompt's mask, without a word:
# the long prompt loses its end, and the short one's padding counts as text.
# Seen: of four rows the masks of two are not those of their states. With one picture a prompt they are right.
# Usage: findings/diffusers_qwenimage_mask_order.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import QwenImagePipeline
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

torch.manual_seed(0)
letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], additional_special_tokens=["<|im_start|>", "<|im_end|>"])
size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
rope = {"rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}}
seeing = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
text = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, **size, **rope}
encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=seeing)).eval()
pipeline = QwenImagePipeline(scheduler=None, vae=None, text_encoder=encoder, tokenizer=tokenizer, transformer=None)


def wrong(num_images_per_prompt):
    """Rows whose mask is not where their own states are; padding is zeros."""
    with torch.no_grad():
        states, mask = pipeline.encode_prompt(
            ["a close up of eczema on the forearm", "a nevus"], device="cpu", num_images_per_prompt=num_images_per_prompt
        )
    return int((states.abs().sum(-1).gt(0) != mask.bool()).any(1).sum()), len(states)


assert wrong(1) == (0, 2), f"changed: with one picture a prompt {wrong(1)} rows are wrong"
found, rows = wrong(2)
assert (found, rows) == (2, 4), f"changed: {found} of {rows} rows have another prompt's mask"
print(f"diffusers 0.42.1: with two pictures a prompt, {found} of {rows} rows have another prompt's mask")
CODE
