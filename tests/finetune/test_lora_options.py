"""Options of a LoRA: those that its file can hold draw the same picture in another process, by diffusers alone; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from diffusion_components import plain_pipeline, save_tiny

from skinaug.errors import InputError
from skinaug.finetune.methods.lora import OPTIONS, STARTS, Lora

ALLOWED: list[dict[str, Any]] = [
    {"lora_dropout": 0.5},
    {"lora_dropout": 0.5, "use_dora": True},
    {"use_rslora": True, "rank_pattern": {"to_k": 4}, "alpha_pattern": {"to_v": 2}},
    {"exclude_modules": ["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]},
    {"layers_to_transform": [0], "layers_pattern": "transformer_blocks"},
    *({"init_lora_weights": start} for start in STARTS),
]
FRESH = """
import sys
import numpy as np
import torch
from pathlib import Path
from diffusers import DiffusionPipeline

base, *folders = sys.argv[1:]
pipeline = DiffusionPipeline.from_pretrained(base, local_files_only=True)
pipeline.set_progress_bar_config(disable=True)
for folder in folders:
    pipeline.load_lora_weights(folder + "/lora")
    for name in ("first", "second"):
        size = {"height": 16, "width": 16, "num_inference_steps": 2, "generator": torch.Generator().manual_seed(7)}
        np.save(Path(folder, name), pipeline("a photo of red", **size, guidance_scale=2.0, output_type="np").images)
    pipeline.unload_lora_weights()
"""


def taught(base: Path, options: dict[str, Any], out: Path) -> np.ndarray:
    """A picture of what was taught, which is saved below `out`; random changes stand for what training makes."""
    method = Lora(rank=2, alpha=8, text_encoder="lora_dropout" in options, options=options)
    pipeline = plain_pipeline(base)
    learned = method.prepare(pipeline, ("red",), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learned:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    pipeline.unet.eval()
    pipeline.text_encoder.eval()
    method.save(pipeline, ("red",), out)
    size = {
        "height": 16,
        "width": 16,
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(7),
    }
    return pipeline("a photo of red", **size, guidance_scale=2.0, output_type="np").images


def test_every_allowed_option_draws_the_same_in_a_fresh_process(tmp_path: Path):
    assert set().union(*ALLOWED) == set(OPTIONS), "every option is tried"
    base = save_tiny(tmp_path / "base", "sd1")
    folders = [tmp_path / str(number) for number in range(len(ALLOWED))]
    ours = [taught(base, options, folder) for options, folder in zip(ALLOWED, folders, strict=True)]
    commands.skinaug(*map(str, [base, *folders]), code=FRESH, cwd=tmp_path, check=True)
    for options, folder, picture in zip(ALLOWED, folders, ours, strict=True):
        for name in ("first", "second"):
            np.testing.assert_allclose(
                np.load(folder / f"{name}.npy"), picture, atol=1e-4, err_msg=f"{options}"
            )
    assert len({picture.tobytes() for picture in ours}) > 3, "options change what is drawn"


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"init_lora_weights": start}
            for start in ("pissa", "pissa_niter_4", "olora", "eva", "loftq", "corda")
        ),
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["conv_out"]},
        {"lora_bias": True, "init_lora_weights": True},
        {"trainable_token_indices": [1]},
        {"target_parameters": ["weight"]},
        {"layer_replication": [[0, 1]]},
        {"use_drora": True},
        {"r": 4},
    ],
    ids=str,
)
def test_what_a_file_cannot_hold_is_refused_before_training(options: dict[str, Any]):
    with pytest.raises(InputError, match=r"finetune\.method\.options.*Those that"):
        Lora(options=options)
