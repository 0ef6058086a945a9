"""Rendering: planned rows through a diffusers pipeline, under Lightning's Trainer.predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skinaug.generate.batches import images_at_once
from skinaug.generate.denoiser import adapted, replaced, without_autocast
from skinaug.generate.families import (
    drawing_pipeline,
    picture_arguments,
)
from skinaug.generate.guards import flaw
from skinaug.generate.plan import next_seed
from skinaug.generate.settings import AUTO, Settings
from skinaug.images import open_image, square
from skinaug.models.families.family import TWO_PREDICTIONS, States, guidance_of, stacked
from skinaug.models.families.table import denoiser, family_of

Row = Mapping[str, Any]  # of the plan: prompt, seed and, in image mode, `start`, uint8 [H, W, 3]


class Drawn(NamedTuple):
    """A batch of pictures: uint8 [B, H, W, 3], how often each was drawn again, and what is still wrong with it."""

    pictures: np.ndarray
    redraws: list[int]
    flaws: list[str | None]


class Renderer(lightning.LightningModule):
    """predict_step draws a batch of planned rows.

    Every image owns its noise, made on the CPU from its seed, so batch, order and device decide nothing. Text states are
    encoded once a prompt where equal prompts follow each other. Both guidance branches run in one batch. Each device draws
    one stretch of the rows.

    rows: of the plan. parents: files of the real images by id, in image mode. max_redraws: how often a flawed picture is
    drawn again, with the next seed. compile: whether the denoiser runs through torch.compile.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        settings: Settings,
        rows: Sequence[Row] = (),
        parents: Mapping[str, Path] | None = None,
        batch_size: int | str = AUTO,
        max_redraws: int = 3,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # few rows are left after a kill
        self.family, self.network = family_of(pipeline), denoiser(pipeline)
        self.guidance = guidance_of(self.family, pipeline)
        self.pipeline = drawing_pipeline(pipeline, settings)
        self.models = torch.nn.ModuleDict(_models(pipeline))  # Lightning moves and casts what is registered
        self.settings, self.max_redraws = settings, max_redraws
        self.rows, self.parents, self.batch_size = rows, parents or {}, batch_size
        self.states: dict[str, States] = {}
        self.nothing: States = {}  # what it is guided away from
        self.compile_denoiser = compile
        self.denoise = self.network.forward

    def predict_dataloader(self) -> DataLoader:
        count, rank, devices = len(self.rows), self.trainer.global_rank, self.trainer.world_size
        own = self.rows[count * rank // devices : count * (rank + 1) // devices]
        rows = _Starts(own, self.parents, self.settings.image_size)
        count = images_at_once(  # the weights lie on the device by now
            self.batch_size,
            self.family.widths(self.models["vae"].config),
            self.settings.image_size,
            self.device,
        )
        return DataLoader(rows, batch_size=count, collate_fn=list)

    def on_predict_start(self) -> None:
        # A CPU normalizes several times slower in this layout, and loses more than its convolutions gain.
        if self.device.type == "cuda":
            for model in (self.network, self.models["vae"]):
                if all(
                    weight.ndim < 5 for weight in model.parameters()
                ):  # those of videos have no such layout
                    model.to(memory_format=torch.channels_last)
        if self.compile_denoiser:
            self.denoise = torch.compile(self.denoise)

    def predict_step(self, rows: Sequence[Row], batch_idx: int) -> Drawn:
        pictures = self.render(rows, [row["seed"] for row in rows])
        flaws, redraws = [flaw(picture) for picture in pictures], [0] * len(rows)
        for attempt in range(1, self.max_redraws + 1):
            bad = [i for i, found in enumerate(flaws) if found]
            if not bad:
                break
            again = self.render([rows[i] for i in bad], [next_seed(rows[i]["seed"], attempt) for i in bad])
            for i, picture in zip(bad, again, strict=True):
                pictures[i], flaws[i], redraws[i] = picture, flaw(picture), attempt
        return Drawn(to_uint8(pictures), redraws, flaws)

    def render(self, rows: Sequence[Row], seeds: Sequence[int]) -> np.ndarray:
        """Pictures as the decoder gives them, clamped to [0, 1]: float32 [B, H, W, 3]; NaN where it gave NaN."""
        with self._adapted():
            return self.pipeline(
                **self._texts([row["prompt"] for row in rows]),
                **picture_arguments(self.pipeline, self.family, self.settings, self._starts(rows)),
                **self.family.guidance_arguments(self.settings.guidance_scale),
                **self.family.call,
                num_inference_steps=self.settings.num_inference_steps,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images

    def _adapted(self) -> ExitStack:
        guided = self.guidance == TWO_PREDICTIONS and self.settings.guidance_scale > 1
        interval = self.settings.guidance_interval if guided else (0.0, 1.0)
        num_train_timesteps = self.pipeline.scheduler.config.num_train_timesteps
        stack, vae = ExitStack(), self.models["vae"]
        call = adapted(self.denoise, interval, num_train_timesteps, self.family)
        stack.enter_context(replaced(self.network, "forward", call))
        if vae.config.get("force_upcast", True) and _autocast_to_half(self.device.type):
            for name in ("encode", "decode"):
                exact = without_autocast(getattr(vae, name), self.device.type)
                stack.enter_context(replaced(vae, name, exact))
        return stack

    def _starts(self, rows: Sequence[Row]) -> Tensor | None:
        if self.settings.mode == "text":
            return None
        starts = torch.from_numpy(np.stack([row["start"] for row in rows]))
        return starts.permute(0, 3, 1, 2).float().to(self.device) / 255

    def _texts(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The pipeline's arguments for the prompts, and for no prompt where it is guided away from that."""
        if self.guidance == TWO_PREDICTIONS and not self.nothing:
            self.nothing = self.family.encode(self.pipeline, [""], self.device)
        untold = {name: value.expand(len(prompts), *value.shape[1:]) for name, value in self.nothing.items()}
        return self.family.text_arguments(stacked(self._encode(prompts)), untold)

    def _encode(self, prompts: Sequence[str]) -> list[States]:
        """Text states of each prompt; only new prompts meet the encoders."""
        wanted = list(dict.fromkeys(prompts))
        known = {prompt: self.states[prompt] for prompt in wanted if prompt in self.states}
        new = [prompt for prompt in wanted if prompt not in known]
        if new:
            states = self.family.encode(self.pipeline, new, self.device)
            known |= {
                prompt: {name: value[row] for name, value in states.items()} for row, prompt in enumerate(new)
            }
            self.states = (
                known  # no more than this batch's: rows are sorted by prompt, so none comes back later
            )
        return [known[prompt] for prompt in prompts]


class _Starts(Dataset):
    """Rows, each with the square of the real image that it starts from where it has one."""

    def __init__(self, rows: Sequence[Row], parents: Mapping[str, Path], size: int) -> None:
        self.rows, self.parents, self.size = rows, parents, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        if not self.parents:
            return row
        return {**row, "start": square(open_image(self.parents[row["parents"][0]]), self.size)}


def to_uint8(pictures: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255 by one fixed scale: never stretched to a picture's own range, which would change skin colour."""
    return (np.nan_to_num(pictures) * 255).round().astype(np.uint8)


def _models(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _autocast_to_half(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
