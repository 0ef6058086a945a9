#!/usr/bin/env bash
# torch 2.15.0 on a CPU: the gradient of scaled_dot_product_attention takes several times as long by the fused kernel, which is the
# default, as by plain products (SDPBackend.MATH), for the short sequences of small latents: 64 positions, 24 numbers a head, batch 64, bfloat16.
# It decides the pace of training a small diffusion model, whose attention diffusers computes with this function.
# Seen on two cores of an Intel Xeon with AMX: 32.3 ms fused, 7.6 ms by products, 4.3 times. Fails where the fused kernel has become the faster one.
# Usage: findings/torch_cpu_attention_backward.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" torch==2.15.0 numpy
"$folder/env/bin/python" - <<'CODE'
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as attention


def seconds(backend: SDPBackend) -> float:
    torch.manual_seed(0)
    query, key, value = (torch.randn(64, 4, 64, 24, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    taken = []
    for _ in range(12):
        with sdpa_kernel(backend):
            loss = attention(query, key, value).float().square().mean()
        start = time.perf_counter()
        loss.backward()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


fused, plain = (seconds(backend) for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH))
print(f"torch {torch.__version__}: backward {1000 * fused:.1f} ms fused, {1000 * plain:.1f} ms by products: {fused / plain:.1f} times")
if fused < 1.3 * plain:
    raise SystemExit("changed: the fused kernel's backward pass is no longer much slower")
CODE
