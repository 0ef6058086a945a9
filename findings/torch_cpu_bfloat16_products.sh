#!/usr/bin/env bash
# torch 2.15.0 on a processor without bfloat16 units (here AVX2 alone): a product of two bfloat16 matrices is computed by a loop that takes over a hundred
# times as long as for the same product in float32, and nothing is told. `torch.cpu.get_capabilities` says beforehand what a processor has.
# It decides whether a search for neighbours, or a model in bfloat16, ends at all where it was chosen because another processor gained from it.
# Seen on two cores of an AMD EPYC with AVX2 alone: 3.9 ms in float32, 554.0 ms in bfloat16, 142 times. Fails where bfloat16 takes less than five times as long as float32 there; on
# processors with such units it only tells the times.
# Usage: findings/torch_cpu_bfloat16_products.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" torch==2.15.0 numpy
"$folder/env/bin/python" - <<'CODE'
import time

import torch


def seconds(dtype: torch.dtype) -> float:
    torch.manual_seed(0)
    left, right = torch.randn(512, 1024).to(dtype), torch.randn(1024, 512).to(dtype)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - start)
    return min(taken)


able = torch.cpu.get_capabilities()
units = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if able.get(name)]
whole, half = seconds(torch.float32), seconds(torch.bfloat16)
print(f"torch {torch.__version__}, units {units or 'none'}: {1000 * whole:.1f} ms in float32, {1000 * half:.1f} ms in bfloat16: {half / whole:.0f} times")
if not units and half < 5 * whole:
    raise SystemExit("changed: bfloat16 is no longer much slower without units for it")
CODE
