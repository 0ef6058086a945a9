"""The LightningModule that teaches a Stable Diffusion pipeline, whichever of its parameters learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from skinaug.errors import InputError
from skinaug.finetune import loss as losses
from skinaug.finetune.latents import Batch, numbered_loader


class DiffusionFinetuner(LightningModule):
    """Denoising training of a UNet and a text encoder on cached VAE moments.

    parameters: those that learn; all others are frozen. alphas_cumprod: float [T]. scaling_factor: of the VAE.
    make_batch: the batch of a number. num_steps, warmup_steps: optimizer steps. Every random number of a step comes from
    (seed, the batch's number), so a run that was interrupted ends as an uninterrupted one.
    """

    def __init__(
        self,
        unet: nn.Module,
        text_encoder: nn.Module,
        parameters: Sequence[nn.Parameter],
        alphas_cumprod: Tensor,
        prediction_type: str,
        scaling_factor: float,
        make_batch: Callable[[int], Batch],
        optimizer: Callable[[Sequence[nn.Parameter]], Optimizer],
        num_steps: int,
        warmup_steps: int,
        min_snr_gamma: float | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold no frozen weights
        self.unet, self.text_encoder = unet, text_encoder
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        self.prediction_type, self.scaling_factor = prediction_type, scaling_factor
        self.make_batch, self.optimizer, self.seed = make_batch, optimizer, seed
        self.num_steps, self.warmup_steps, self.min_snr_gamma = num_steps, warmup_steps, min_snr_gamma
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        self.text_learns = any(parameter.requires_grad for parameter in text_encoder.parameters())

    @classmethod
    def of(
        cls, pipeline: StableDiffusionPipeline, parameters: Sequence[nn.Parameter], **settings: Any
    ) -> DiffusionFinetuner:
        """For a pipeline's networks and noise schedule; `settings` are the constructor's others.

        Raises InputError where the UNet predicts neither noise nor velocity.
        """
        schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        if schedule.config.prediction_type not in losses.PREDICTION_TYPES:
            raise InputError(
                f"This base predicts {schedule.config.prediction_type!r}; bases that predict "
                f"{' or '.join(losses.PREDICTION_TYPES)} can be fine-tuned."
            )
        return cls(
            pipeline.unet,
            pipeline.text_encoder,
            parameters,
            alphas_cumprod=schedule.alphas_cumprod,
            prediction_type=schedule.config.prediction_type,
            scaling_factor=pipeline.vae.config.scaling_factor,
            **settings,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        latents, noise, timesteps = self.draw(batch["moments"], batch["number"])
        alphas = self.alphas_cumprod[timesteps]
        with nullcontext() if self.text_learns else torch.no_grad():
            text = self.text_encoder(batch["input_ids"])[0]
        noisy = losses.add_noise(latents, noise, alphas)
        prediction = self.unet(noisy, timesteps, text).sample
        target = losses.regression_target(latents, noise, alphas, self.prediction_type)
        weights = losses.min_snr_weights(alphas, self.min_snr_gamma, self.prediction_type)
        loss = losses.weighted_mse(prediction, target, weights)
        if not torch.isfinite(loss):
            raise InputError(
                f"The fine-tuning loss became {loss.item()} at step {self.global_step}. "
                "Lower finetune.optimizer.lr, or train with trainer.precision=32-true."
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(latents))
        return loss

    def draw(self, moments: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents resampled from their moments, noise (both [B, C, h, w]) and timesteps [B]: a function of the number."""
        generator = torch.Generator().manual_seed((self.seed << 32) + number)
        normal = partial(torch.randn, moments[:, 0].shape, generator=generator)
        latents = moments[:, 0] + moments[:, 1] * normal().to(moments)
        timesteps = torch.randint(len(self.alphas_cumprod), (len(moments),), generator=generator)
        return latents * self.scaling_factor, normal().to(moments), timesteps.to(moments.device)

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
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name not in frozen}
