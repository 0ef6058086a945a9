#!/usr/bin/env bash
# bitsandbytes 0.50.2: the gradient of Linear8bitLt keeps the layer's inputs as attributes of its context, not by save_for_backward, so
# torch's gradient checkpointing (use_reentrant=False) cannot let go of them: with frozen weights of 8 bits it saves next to nothing.
# Linear4bit, whose weights are all that its gradient needs, keeps no inputs; neither does a frozen torch.nn.Linear.
# Seen: after a checkpointed call the inputs of Linear and Linear4bit are gone, those of Linear8bitLt are alive.
# Usage: findings/bitsandbytes_8bit_checkpointing.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" bitsandbytes==0.50.2 torch==2.15.0 numpy
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import weakref

import bitsandbytes
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def alive(kind, **options):
    layers = nn.Sequential(*(kind(64, 64, **options) for _ in range(2))).requires_grad_(False).to("cpu")
    given = []
    layers[1].register_forward_pre_hook(lambda _, inputs: given.append(weakref.ref(inputs[0])))
    output = checkpoint(layers, torch.ones(2, 64, requires_grad=True), use_reentrant=False)
    assert output.requires_grad
    return given[0]() is not None


found = {
    "Linear": alive(nn.Linear),
    "Linear4bit": alive(bitsandbytes.nn.Linear4bit, quant_type="nf4"),
    "Linear8bitLt": alive(bitsandbytes.nn.Linear8bitLt, has_fp16_weights=False, threshold=6.0),
}
print(bitsandbytes.__version__, found)
assert found == {"Linear": False, "Linear4bit": False, "Linear8bitLt": True}, "this has changed"
CODE
