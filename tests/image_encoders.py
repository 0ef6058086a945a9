"""A tiny network of open_clip."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from skinaug.models.open_clip import CONFIG, WEIGHTS

TINY = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def save_open_clip(folder: Path, config: dict = TINY) -> Path:
    """A tiny network as open_clip publishes one."""
    import open_clip

    folder.mkdir()
    about = {"model_cfg": config, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    (folder / CONFIG).write_text(json.dumps(about))
    torch.manual_seed(0)
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(network.state_dict(), folder / WEIGHTS)
    return folder
