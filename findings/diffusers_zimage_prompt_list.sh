#!/usr/bin/env bash
# diffusers 0.42.1: ZImagePipeline.encode_prompt, and so the pipeline's call, writes the chat template into the caller's list of prompts.
# A second call with the same list wraps the template around the template: other text states, another picture, no word.
# Seen: the list holds "<|im_start|>user\n..." afterwards; the second call's states are longer than the first's. With a copy they are equal.
# Usage: findings/diffusers_zimage_prompt_list.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 jinja2==3.1.6 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import ZImagePipeline
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

torch.manual_seed(0)
chat = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
special = {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], chat_template=chat, **special)
size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
encoder = Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), head_dim=8, **size)).eval()
pipeline = ZImagePipeline(scheduler=None, vae=None, text_encoder=encoder, tokenizer=tokenizer, transformer=None)


def lengths(prompts):
    with torch.no_grad():
        return [len(states) for states in pipeline.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)[0]]


prompts = ["a photo of skin"]
assert lengths(list(prompts)) == lengths(list(prompts)), "changed: copies of a list have states of two lengths"
first = lengths(prompts)
assert prompts != ["a photo of skin"], "changed: the caller's list is as it was"
second = lengths(prompts)
assert second[0] > first[0], "changed: the second call's states are as long as the first's"
print(f"diffusers 0.42.1: {first[0]} text states at the first call with a list, {second[0]} at the second; the list is now {prompts}")
CODE
