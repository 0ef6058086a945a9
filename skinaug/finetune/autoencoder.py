"""The small autoencoder of a base model that is trained from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from skinaug.finetune.latents import Batch, numbered_loader, to_signal
from skinaug.finetune.loss import warmup_cosine
from skinaug.models.trainer import share


def edge_error(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of horizontal and vertical differences: keeps scale, hair and borders sharp."""
    difference = reconstruction - images
    across = difference[..., :, 1:] - difference[..., :, :-1]
    down = difference[..., 1:, :] - difference[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


def pixel_batch(number: int, pixels: np.ndarray, batch_size: int, seed: int) -> Batch:
    """Batch `number` of an endless sequence of random images: float [B, 3, S, S] in [-1, 1], half of them mirrored."""
    rng = np.random.default_rng([seed, number])
    images = to_signal(torch.from_numpy(pixels[rng.integers(len(pixels), size=batch_size)]))
    mirrored = torch.from_numpy(rng.random(batch_size) < 0.5)
    images[mirrored] = images[mirrored].flip(-1)
    return {"number": number, "images": images}


def chroma_error(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of red against green and of blue against both: redness is what skin disease is told by."""
    red, green, blue = (reconstruction - images).unbind(1)
    return ((red - green).abs().mean() + (blue - (red + green) / 2).abs().mean()) / 2


class AutoencoderTrainer(LightningModule):
    """Mean absolute error of colours, edges and chroma, and a weight on the latents' size.

    The posterior's deviation stays as it is, so the divergence from a unit normal is, up to a constant, half the mean square
    of the latents: `kl_weight` weighs that. A deviation that learned would hide all but the brightest channel at first.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        make_batch: Callable[[int], Batch],
        optimizer: Callable[[Sequence[nn.Parameter]], Optimizer],
        num_steps: int,
        warmup_steps: int,
        edge_weight: float,
        chroma_weight: float,
        kl_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.vae, self.make_batch, self.optimizer = vae, make_batch, optimizer
        self.num_steps, self.warmup_steps, self.seed = num_steps, warmup_steps, seed
        self.edge_weight, self.chroma_weight, self.kl_weight = edge_weight, chroma_weight, kl_weight

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = share(len(batch["images"]), self.trainer)
        images = batch["images"][own]
        posterior = self.vae.encode(images).latent_dist
        generator = torch.Generator().manual_seed((self.seed << 32) + batch["number"])
        shape = (len(batch["images"]), *posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=generator)[own].to(images.device)
        latents = posterior.mean + posterior.std.detach() * noise
        reconstruction = self.vae.decode(latents).sample.float()
        colours, edges = F.l1_loss(reconstruction, images), edge_error(reconstruction, images)
        chroma, divergence = chroma_error(reconstruction, images), posterior.mean.float().square().mean() / 2
        loss = colours + self.edge_weight * edges + self.chroma_weight * chroma + self.kl_weight * divergence
        self.log_dict(
            {"vae/loss": loss, "vae/l1": colours, "vae/edges": edges, "vae/chroma": chroma}, prog_bar=True
        )
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(list(self.parameters()))
        factor = partial(warmup_cosine, warmup_steps=self.warmup_steps, num_steps=self.num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader:
        return numbered_loader(self, self.make_batch)


def unit_scaling(moments: Tensor) -> float:
    """The factor that gives latents a deviation of 1 (Rombach et al. 2022, appendix G). moments: [N, 2, C, h, w]."""
    means, deviations = moments.unbind(1)
    return float(1 / (means.var() + deviations.square().mean()).sqrt())
