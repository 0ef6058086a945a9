"""Rendering: planned rows through a diffusers pipeline, under Lightning's Trainer.predict."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from skinaug.errors import InputError
from skinaug.generate.plan import Settings

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),  # latents are not bounded by [-1, 1]
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
}
MAX_REDRAWS = 3
BLANK_LEVELS = 2  # a picture whose every channel spans at most this many of 255 levels shows nothing


class Renderer(lightning.LightningModule):
    """predict_step draws a batch of planned rows: uint8 [B, H, W, 3] and how often each was redrawn.

    Every image owns its noise, made on the CPU from its seed, so batch, order and device decide nothing. Text states are
    encoded once a prompt where equal prompts follow each other. Both guidance branches run in one batch.
    """

    def __init__(self, pipeline: DiffusionPipeline, settings: Settings) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.models = torch.nn.ModuleDict(_models(pipeline))  # Lightning moves and casts what is registered
        self.settings = settings
        self.states: dict[str, torch.Tensor] = {}
        self.models["unet"].register_forward_hook(_to_float32)

    def on_predict_start(self) -> None:
        # A CPU normalizes several times slower in this layout, and loses more than its convolutions gain.
        if self.device.type == "cuda":
            for model in (self.models["unet"], self.models["vae"]):
                model.to(memory_format=torch.channels_last)

    def predict_step(self, rows: Sequence[dict[str, Any]], batch_idx: int) -> tuple[np.ndarray, np.ndarray]:
        pictures = self.render([row["prompt"] for row in rows], [row["seed"] for row in rows])
        redraws = np.zeros(len(rows), np.int32)
        for attempt in range(1, MAX_REDRAWS + 1):
            bad = [i for i in range(len(rows)) if is_blank(pictures[i])]
            if not bad:
                break
            again = self.render(
                [rows[i]["prompt"] for i in bad], [next_seed(rows[i]["seed"], attempt) for i in bad]
            )
            pictures[bad], redraws[bad] = again, attempt
        return to_uint8(pictures), redraws

    def render(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Pictures as the decoder gives them, clamped to [0, 1]: float32 [B, H, W, 3]; NaN where it gave NaN."""
        states = self._encode(prompts)
        return self.pipeline(
            prompt_embeds=states[:-1],
            negative_prompt_embeds=states[-1:].expand_as(states[:-1]),
            height=self.settings.image_size,
            width=self.settings.image_size,
            num_inference_steps=self.settings.num_inference_steps,
            guidance_scale=self.settings.guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images

    def _encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text states [B + 1, tokens, width], the last for the empty prompt; only new prompts meet the encoder."""
        wanted = list(dict.fromkeys([*prompts, ""]))
        new = [prompt for prompt in wanted if prompt not in self.states]
        known = {prompt: self.states[prompt] for prompt in wanted if prompt in self.states}
        if new:
            states, _ = self.pipeline.encode_prompt(new, self.device, 1, do_classifier_free_guidance=False)
            known.update(zip(new, states, strict=True))
        self.states = known  # no more than this batch's: rows are sorted by prompt, so none comes back later
        return torch.stack([known[prompt] for prompt in [*prompts, ""]])


def build_scheduler(name: str, pipeline: DiffusionPipeline) -> SchedulerMixin:
    """One of plan.SCHEDULERS over the noise schedule and prediction type that the pipeline was trained with."""
    kind, options = KINDS[name]
    return kind.from_config(pipeline.scheduler.config, **options)


def check_size(pipeline: DiffusionPipeline, size: int) -> None:
    """Raise InputError where the autoencoder cannot divide a picture of `size` pixels."""
    factor = math.lcm(
        8, pipeline.vae_scale_factor
    )  # diffusers asks for multiples of 8 whatever the autoencoder
    if size % factor:
        near = max(factor, round(size / factor) * factor)
        raise InputError(
            f"generate.image_size {size} is no multiple of {factor}, as this base needs. Try {near}."
        )


def check_prompts(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> None:
    """Raise InputError with what would be cut off where a prompt is longer than the text encoder reads."""
    tokenizer = pipeline.tokenizer
    limit = tokenizer.model_max_length
    texts = [pipeline.maybe_convert_prompt(prompt, tokenizer) for prompt in prompts]
    too_long = [
        (prompt, ids)
        for prompt, ids in zip(prompts, tokenizer(texts, verbose=False).input_ids, strict=True)
        if len(ids) > limit
    ]
    if too_long:
        lines = [
            f"  {prompt!r} would lose {tokenizer.decode(ids[limit - 1 : -1])!r}"
            for prompt, ids in too_long[:10]
        ]
        raise InputError(
            f"{len(too_long)} prompts are longer than the {limit} tokens that the text encoder reads. Shorten the "
            "templates, or teach fewer vectors a class:\n" + "\n".join(lines)
        )


def next_seed(seed: int, attempt: int) -> int:
    """The seed of redraw `attempt`, 53 bits: a hash, so that it is no other image's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0redraw\0{attempt}".encode()).digest()[:8], "little") >> 11


def is_blank(picture: np.ndarray) -> bool:
    """Whether a picture [H, W, 3] in [0, 1] has values that are no numbers, or shows one flat colour."""
    return not np.isfinite(picture).all() or bool((np.ptp(picture, axis=(0, 1)) <= BLANK_LEVELS / 255).all())


def to_uint8(pictures: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255 by one fixed scale: never stretched to a picture's own range, which would change skin colour."""
    return (np.nan_to_num(pictures) * 255).round().astype(np.uint8)


def _models(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _to_float32(model: torch.nn.Module, inputs: Any, output: Any) -> Any:
    """Under autocast the sampler's state must stay float32: bf16 would round it at every step."""
    if not torch.is_autocast_enabled(output[0].device.type):
        return output
    return tuple(tensor.float() for tensor in output)
