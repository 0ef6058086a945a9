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
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from skinaug.finetune.latents import Batch, numbered_loader, to_signal
from skinaug.finetune.loss import lesion_places, warmup_cosine
from skinaug.models.trainer import share


def edge_error(difference: Tensor, places: Tensor | float = 1.0) -> Tensor:
    """Mean square of what horizontal and vertical neighbours differ in: keeps scale, hair and borders sharp.

    difference: reconstruction - images, [B, 3, S, S]; places: weights [B, 1, S, S] of mean 1. Squares rather than absolute
    values, whose minimum is a median: specks of scale or pus that cover less than half of their surroundings would vanish.
    """
    weighted = torch.as_tensor(places, device=difference.device).expand_as(difference)
    across = (difference[..., :, 1:] - difference[..., :, :-1]).square()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).square()
    beside = (weighted[..., :, 1:] + weighted[..., :, :-1]) / 2
    above = (weighted[..., 1:, :] + weighted[..., :-1, :]) / 2
    return (across * beside).mean() + (down * above).mean()


def chroma_error(difference: Tensor, places: Tensor | float = 1.0) -> Tensor:
    """Mean square of red against green and of blue against both: redness is what skin disease is told by."""
    red, green, blue = difference.split(1, 1)
    return (((red - green).square() + (blue - (red + green) / 2).square()) / 2 * places).mean()


def pixel_batch(
    number: int, pixels: np.ndarray, masks: np.ndarray | None, batch_size: int, seed: int
) -> Batch:
    """Batch `number` of an endless sequence of random images: float [B, 3, S, S] in [-1, 1], half of them mirrored; where masks
    are given (uint8 [N, S, S]) also the lesions, float [B, 1, S, S] in [0, 1]."""
    rng = np.random.default_rng([seed, number])
    rows = rng.integers(len(pixels), size=batch_size)
    mirrored = torch.from_numpy(rng.random(batch_size) < 0.5)
    batch = {"images": to_signal(torch.from_numpy(pixels[rows]))}
    if masks is not None:
        batch["lesions"] = torch.from_numpy(masks[rows]).float()[:, None] / 255
    for values in batch.values():
        values[mirrored] = values[mirrored].flip(-1)
    return {"number": number, **batch}


class AutoencoderTrainer(LightningModule):
    """Mean squared error of colours, edges and chroma, and a weight on the latents' size.

    The posterior's deviation stays as it is, so the divergence from a unit normal is, up to a constant, half the mean square
    of the latents: `kl_weight` weighs that. A deviation that learned would hide all but the brightest channel at first.
    lesion_weight: as in `module.Objective`, but the same at every step.
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
        lesion_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.vae, self.make_batch, self.optimizer = vae, make_batch, optimizer
        self.num_steps, self.warmup_steps, self.seed = num_steps, warmup_steps, seed
        self.edge_weight, self.chroma_weight, self.kl_weight = edge_weight, chroma_weight, kl_weight
        self.lesion_weight = lesion_weight

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = share(len(batch["images"]), self.trainer)
        images = batch["images"][own]
        posterior = self.vae.encode(images).latent_dist
        generator = torch.Generator().manual_seed((self.seed << 32) + batch["number"])
        shape = (len(batch["images"]), *posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=generator)[own].to(images.device)
        latents = posterior.mean + posterior.std.detach() * noise
        difference = self.vae.decode(latents).sample.float() - images
        places: Tensor | float = 1.0
        if self.lesion_weight:
            places = lesion_places(batch["lesions"][own], self.lesion_weight)
        colours, edges = (difference.square() * places).mean(), edge_error(difference, places)
        chroma, divergence = chroma_error(difference, places), posterior.mean.float().square().mean() / 2
        loss = colours + self.edge_weight * edges + self.chroma_weight * chroma + self.kl_weight * divergence
        self.log_dict(
            {"vae/loss": loss, "vae/mse": colours, "vae/edges": edges, "vae/chroma": chroma}, prog_bar=True
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
