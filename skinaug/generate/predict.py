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
from rich import get_console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skinaug.generate.batches import images_at_once
from skinaug.generate.denoiser import adapted
from skinaug.generate.families import (
    drawing_pipeline,
    picture_arguments,
)
from skinaug.generate.guards import flaw
from skinaug.generate.masks import Areas, composed
from skinaug.generate.offload import offload_pipeline
from skinaug.generate.plan import next_seed
from skinaug.generate.settings import AUTO, Settings
from skinaug.images import open_image, square
from skinaug.models.aside import replaced, without_encoders
from skinaug.models.families.family import TWO_PREDICTIONS, States, frozen_states, guidance_of, stacked
from skinaug.models.families.table import denoiser, family_of
from skinaug.models.precision import exact_autoencoder
from skinaug.models.text_length import text_encoders

STATES_BYTES = 2 * 2**30  # of text states that wait for their pictures

# Of the plan: prompt, seed, with a parent its `start`, uint8 [H, W, 3], and in mode inpaint its `area`, bool [H, W].
Row = Mapping[str, Any]


class Drawn(NamedTuple):
    """A batch of pictures: uint8 [B, H, W, 3], how often each was drawn again, and what is still wrong with it."""

    pictures: np.ndarray
    redraws: list[int]
    flaws: list[str | None]


class Renderer(lightning.LightningModule):
    """predict_step draws a batch of planned rows.

    Every image owns its noise, made on the CPU from its seed, so batch, order and device decide nothing. All prompts are read
    before anything is drawn (where their states would take more than STATES_BYTES, before each stretch of them), and the text
    encoders are never on a device together with the denoiser. Both guidance branches run in one batch. Each device draws one
    stretch of the rows.

    rows: of the plan. parents: files of the real images by id, where pictures start from some. areas: where on them mode inpaint
    draws; outside, a picture has its parent's pixels. max_redraws: how often a flawed picture is drawn again, with the next
    seed. compile: whether the denoiser runs through torch.compile. offload: one of `settings.OFFLOADS`, on other devices than
    CPUs; None keeps the networks that draw on the device.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        settings: Settings,
        rows: Sequence[Row] = (),
        parents: Mapping[str, Path] | None = None,
        areas: Areas | None = None,
        batch_size: int | str = AUTO,
        max_redraws: int = 3,
        compile: bool = False,
        offload: str | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # few rows are left after a kill
        self.family, self.network = family_of(pipeline), denoiser(pipeline)
        self.guidance = guidance_of(self.family, pipeline)
        self.pipeline = drawing_pipeline(pipeline, settings)
        self.models = _networks(pipeline)
        self.on_device = torch.nn.ModuleDict(self.models)  # Lightning moves and casts what is registered
        self.settings, self.max_redraws = settings, max_redraws
        self.rows, self.parents, self.areas, self.batch_size = rows, parents or {}, areas, batch_size
        self.states: dict[str, States] = {}
        self.nothing: States = {}  # what it is guided away from
        self.compile_denoiser, self.offload = compile, offload
        self.denoise = self.network.forward

    def setup(self, stage: str) -> None:
        """Read the prompts while nothing else is on the device."""
        device = self.trainer.strategy.root_device
        if self.offload and device.type == "cpu":
            if self.trainer.is_global_zero:
                get_console().print(
                    f"generate.offload={self.offload}: a CPU draws, there is nothing to offload.",
                    highlight=False,
                )
            self.offload = None
        self._read([row["prompt"] for row in self._own_rows()[:1]], device)
        if self.offload:
            del self.on_device  # diffusers moves them

    def _own_rows(self) -> Sequence[Row]:
        """Those that this device draws."""
        if self._trainer is None:
            return self.rows
        count, rank, devices = len(self.rows), self.trainer.global_rank, self.trainer.world_size
        return self.rows[count * rank // devices : count * (rank + 1) // devices]

    def predict_dataloader(self) -> DataLoader:
        rows = _Starts(self._own_rows(), self.parents, self.settings.image_size, self.areas)
        count = images_at_once(  # the weights lie on the device by now
            self.batch_size,
            self.family.widths(self.models["vae"].config),
            self.settings.image_size,
            self.device,
        )
        return DataLoader(rows, batch_size=count, collate_fn=list)

    def on_predict_start(self) -> None:
        if self.device.type in ("cpu", "cuda"):  # convolutions are faster in this layout
            for model in (self.network, self.models["vae"]):
                if all(
                    weight.ndim < 5 for weight in model.parameters()
                ):  # those of videos have no such layout
                    model.to(memory_format=torch.channels_last)
        if self.offload:
            self.trainer.precision_plugin.convert_module(torch.nn.ModuleDict(self.models))
            with without_encoders(self.pipeline):
                offload_pipeline(self.pipeline, self.offload, self.device)
            self.denoise = self.network.forward  # which fetches the weights
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
        return Drawn(self._composed(rows, to_uint8(pictures)), redraws, flaws)

    def render(self, rows: Sequence[Row], seeds: Sequence[int]) -> np.ndarray:
        """Pictures as the decoder gives them, clamped to [0, 1]: float32 [B, H, W, 3]; NaN where it gave NaN."""
        texts = self._texts([row["prompt"] for row in rows])
        with self._adapted():
            return self.pipeline(
                **texts,
                **picture_arguments(self.pipeline, self.family, self.settings, *self._starts(rows)),
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
        stack = ExitStack()
        stack.enter_context(without_encoders(self.pipeline))
        stack.enter_context(exact_autoencoder(self.models["vae"], self.device.type))
        call = adapted(self.denoise, interval, num_train_timesteps, self.family)
        stack.enter_context(replaced(self.network, "forward", call))
        return stack

    def _starts(self, rows: Sequence[Row]) -> tuple[Tensor | None, Tensor | None]:
        """Parents and areas, as `picture_arguments` takes them."""
        if not self.settings.from_parents:
            return None, None
        starts = torch.from_numpy(np.stack([row["start"] for row in rows]))
        parents = starts.permute(0, 3, 1, 2).float().to(self.device) / 255
        if not self.settings.inpaint:
            return parents, None
        areas = torch.from_numpy(np.stack([row["area"] for row in rows]))
        return parents, areas[:, None].float().to(self.device)

    def _composed(self, rows: Sequence[Row], pictures: np.ndarray) -> np.ndarray:
        """The pictures, in mode inpaint with the parents' own pixels outside of the areas."""
        if not (inpaint := self.settings.inpaint):
            return pictures
        return np.stack(
            [
                composed(row["start"], picture, row["area"], inpaint.feather)
                for row, picture in zip(rows, pictures, strict=True)
            ]
        )

    def _texts(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The pipeline's arguments for the prompts, and for no prompt where it is guided away from that."""
        if not self.states.keys() >= set(prompts):
            self._read(prompts, self.device)
        told = stacked([self.states[prompt] for prompt in prompts])
        untold = {name: value.expand(len(prompts), *value.shape) for name, value in self.nothing.items()}
        return self.family.text_arguments(self._moved(told), self._moved(untold))

    def _moved(self, states: States) -> States:
        """On the device; where its weights are of half precision, so are they."""
        real = self.network.dtype
        return {
            name: value.to(self.device, real if value.is_floating_point() else value.dtype)
            for name, value in states.items()
        }

    def _read(self, prompts: Sequence[str], device: torch.device) -> None:
        """Keep the states of the prompts, and of those that come after them, as many as STATES_BYTES hold; the denoiser leaves the device
        for as long.

        Each text is read alone: what stands beside it decides the last bits of some kernels.
        """
        encoders = [network for _, network, _ in text_encoders(self.pipeline)]
        place = self.network.device
        if not self.offload:
            self.network.to("cpu")
        for network in encoders:
            network.to(device)
        if self.guidance == TWO_PREDICTIONS and not self.nothing:
            self.nothing = self._state("", device)
        known, self.states, size = self.states, {}, 0
        planned = [row["prompt"] for row in self._own_rows()]
        later = planned[planned.index(prompts[0]) :] if prompts and prompts[0] in planned else []
        for prompt in dict.fromkeys([*prompts, *later]):
            if size > STATES_BYTES and prompt not in prompts:
                break
            self.states[prompt] = state = known.get(prompt) or self._state(prompt, device)
            size += sum(value.nbytes for value in state.values())
        for network in encoders:
            network.to("cpu")
        if not self.offload:
            self.network.to(place)

    def _state(self, text: str, device: torch.device) -> States:
        """A text's states on the CPU, without a batch's dimension."""
        states = frozen_states(self.family, self.pipeline, [text], device)
        return {name: value[0].cpu() for name, value in states.items()}


class _Starts(Dataset):
    """Rows, each with the square of the real image that it starts from where it has one, and where on it is drawn."""

    def __init__(
        self, rows: Sequence[Row], parents: Mapping[str, Path], size: int, areas: Areas | None
    ) -> None:
        self.rows, self.parents, self.size, self.areas = rows, parents, size, areas

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        if not self.parents:
            return row
        parent = row["parents"][0]
        start = square(open_image(self.parents[parent]), self.size)
        area = {"area": self.areas.area(parent, start, row["seed"])} if self.areas else {}
        return {**row, "start": start, **area}


def to_uint8(pictures: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255 by one fixed scale: never stretched to a picture's own range, which would change skin colour."""
    return (np.nan_to_num(pictures) * 255).round().astype(np.uint8)


def _networks(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """Those that draw, without those that read."""
    readers = {name for name, *_ in text_encoders(pipeline)}
    parts = pipeline.components.items()
    return {name: part for name, part in parts if isinstance(part, torch.nn.Module) and name not in readers}
