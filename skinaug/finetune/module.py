"""The LightningModule that teaches a text-to-image pipeline of any family, whichever of its parameters learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from skinaug.errors import InputError
from skinaug.finetune import loss as losses
from skinaug.finetune.latents import Batch, numbered_loader
from skinaug.finetune.schedule import NoiseSchedule
from skinaug.finetune.sharding import shard
from skinaug.models.families.family import States
from skinaug.models.families.table import denoiser, family_of
from skinaug.models.text_length import text_encoders
from skinaug.models.trainer import share

MOST_PLACES = 1024  # of latents, whose attention a CPU computes without the fused kernel in bfloat16
EncodeTexts = Callable[[Sequence[str]], States]


@dataclass(frozen=True)
class Objective:
    """What is minimized.

    Attributes:
        min_snr_gamma: cap of the loss weights (Hang et al. 2023), above 0; None weighs all noise levels alike.
        offset_noise: strength of a number a channel that is added to the noise, 0 is none (Guttenberg 2023).
        input_perturbation: deviation of further noise in what the denoiser sees, not in what it predicts (Ning et al. 2023).
        density: of noise levels: uniform, logit_normal (Esser et al. 2024), or auto: logit_normal for flow.
        lesion_weight: how much an image's lesions together count beside the whole image at first, by the manifest's column
            `mask`; falls evenly to 0 at the last step, so that what is learned in the end is the pictures' own distribution.
    """

    min_snr_gamma: float | None = None
    offset_noise: float = 0.0
    input_perturbation: float = 0.0
    density: str = "auto"
    lesion_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise InputError(
                f"finetune.objective.min_snr_gamma={self.min_snr_gamma}: it is above 0, or null."
            )
        for name in ("offset_noise", "input_perturbation", "lesion_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"finetune.objective.{name}={getattr(self, name)}: it is at least 0.")
        if self.density not in ("auto", *losses.DENSITIES):
            raise InputError(
                f"finetune.objective.density={self.density!r}: choose auto, {', '.join(losses.DENSITIES)}."
            )


def attention_for(network: Any, latents: Tensor) -> AbstractContextManager[None]:
    """How torch computes attention in a denoiser: on a CPU in bfloat16, the gradient of the fused kernel takes two to three times as
    long as that of plain products, where the score matrices are small enough to be kept. With gradient checkpointing they are not
    kept. In float32 the fused kernel is the faster one."""
    half = torch.is_autocast_enabled("cpu") or network.dtype == torch.bfloat16
    few = latents.shape[-2] * latents.shape[-1] <= MOST_PLACES and not network.is_gradient_checkpointing
    plain = latents.device.type == "cpu" and half and few
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


class DiffusionFinetuner(LightningModule):
    """Denoising training on cached VAE moments.

    parameters: those that learn; all others are frozen. make_batch: the batch of a number (`latents.Batch`). frozen_text:
    text states where no text encoder learns; else None. num_steps, warmup_steps: optimizer steps. Every random number of a
    step comes from (seed, the batch's number), so a run that was interrupted ends as an uninterrupted one.

    Raises InputError where the base predicts what cannot be learned, or the objective does not suit it.
    """

    def __init__(
        self,
        pipeline: Any,
        parameters: Sequence[nn.Parameter],
        make_batch: Callable[[int], Batch],
        frozen_text: EncodeTexts | None,
        objective: Objective,
        optimizer: Callable[[Sequence[nn.Parameter]], Optimizer],
        num_steps: int,
        warmup_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold no frozen weights
        self.pipeline, self.make_batch, self.frozen_text = pipeline, make_batch, frozen_text
        self.objective, self.optimizer, self.seed = objective, optimizer, seed
        self.num_steps, self.warmup_steps = num_steps, warmup_steps
        self.family, self.denoiser = family_of(pipeline), denoiser(pipeline)
        read_now = text_encoders(pipeline) if frozen_text is None else ()  # others stay where they are
        self.text_encoders = nn.ModuleDict({name: net for name, net, _ in read_now})
        schedule = NoiseSchedule.of(pipeline.scheduler)
        self.prediction_type = schedule.prediction_type
        if self.prediction_type == "flow" and objective.min_snr_gamma is not None:
            raise InputError(
                "finetune.objective.min_snr_gamma is for noise and velocity; this base learns a flow: set null."
            )
        for name in ("signal", "noise", "timesteps"):
            self.register_buffer(name, getattr(schedule, name), persistent=False)
        self.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)

    def configure_model(self) -> None:
        """Spread what learns over the devices, where the trainer's strategy asks for that."""
        if self.device_mesh is not None:
            for network in (self.denoiser, *self.text_encoders.values()):
                if any(parameter.requires_grad for parameter in network.parameters()):
                    shard(network, self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = share(len(batch["captions"]), self.trainer)
        drawn = self.draw(batch["moments"], batch["number"])
        latents, noise, seen, levels = (values[own] for values in drawn)
        signal, deviation = self.signal[levels], self.noise[levels]
        noisy = losses.add_noise(latents, seen, signal, deviation)
        sizes = batch["sizes"][own]
        with attention_for(self.denoiser, noisy):
            states = self.states(batch["captions"][own])
            prediction = self.family.denoise(self.denoiser, noisy, self.timesteps[levels], states, sizes)
        target = losses.regression_target(latents, noise, signal, deviation, self.prediction_type)
        weights = losses.min_snr_weights(
            signal, deviation, self.objective.min_snr_gamma, self.prediction_type
        )
        places: Tensor | float = 1.0
        if self.objective.lesion_weight:
            left = max(0.0, 1 - self.global_step / self.num_steps)
            places = losses.lesion_places(batch["lesions"][own], self.objective.lesion_weight * left)
        loss = losses.weighted_mse(prediction, target, weights * batch["weights"][own], places)
        loss = loss * self.trainer.world_size  # the mean over devices is the batch's loss
        if not torch.isfinite(loss):
            raise self.diverged(f"loss became {loss.item()}")
        self.log("train/loss", loss, prog_bar=True, batch_size=len(latents), sync_dist=True)
        return loss

    def states(self, captions: Sequence[str]) -> States:
        """Text states of a batch, on its device."""
        if self.frozen_text is not None:
            return {name: value.to(self.device) for name, value in self.frozen_text(captions).items()}
        return self.family.encode(self.pipeline, captions, self.device)

    def draw(self, moments: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents resampled from their moments, noise to predict and noise to see, all [B, C, h, w], and noise levels [B]: a
        function of the number."""
        seed = (self.seed << 32) + number
        torch.manual_seed(seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)
        normal = partial(torch.randn, moments[:, 0].shape, generator=generator)
        sample = moments[:, 0] + moments[:, 1] * normal().to(moments)
        latents = self.family.normalise(self.pipeline.vae, sample)
        noise = normal()
        if self.objective.offset_noise:
            noise = losses.offset(noise, self.objective.offset_noise, generator)
        seen = noise
        if self.objective.input_perturbation:
            seen = noise + self.objective.input_perturbation * normal()
        levels = losses.noise_levels(len(moments), len(self.signal), self.density, generator)
        return latents, noise.to(moments), seen.to(moments), levels.to(moments.device)

    @property
    def density(self) -> str:
        """Of noise levels."""
        if self.objective.density != "auto":
            return self.objective.density
        return "logit_normal" if self.prediction_type == "flow" else "uniform"

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before weights that are no numbers can be saved. float16 training scales its loss by trying: it may overflow."""
        if self.trainer.precision == "16-mixed":
            return
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm):
            raise self.diverged("gradient is no number")

    def diverged(self, what: str) -> InputError:
        """The error that tells where to go on."""
        callback = self.trainer.checkpoint_callback
        saved = getattr(callback, "best_model_path", "") or "none yet"
        return InputError(
            f"Fine-tuning diverged: the {what} at step {self.global_step}. Lower finetune.optimizer.lr, or train with "
            f"trainer.precision=32-true. The last good checkpoint: {saved}."
        )

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        factor = partial(losses.warmup_cosine, warmup_steps=self.warmup_steps, num_steps=self.num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader:
        return numbered_loader(self, self.make_batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        learning = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        learning |= {name for name, _ in self.named_buffers()}
        for state in {
            "state_dict",
            "current_model_state",
        } & checkpoint.keys():  # the second where weights are averaged
            checkpoint[state] = {name: value for name, value in checkpoint[state].items() if name in learning}

    def __deepcopy__(self, memo: dict[int, Any]) -> DiffusionFinetuner:
        """For averaged weights: the networks are copied, what feeds them is shared."""
        memo |= {id(shared): shared for shared in (self.pipeline, self.make_batch, self.frozen_text)}
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        state: dict[str, Any] = deepcopy(self.__getstate__(), memo)  # type: ignore[arg-type]
        copy.__dict__.update(state)
        return copy
