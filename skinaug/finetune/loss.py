"""The mathematics of denoising training: pure functions of tensors.

At every noise level a picture is x_t = signal x_0 + deviation eps; signal and deviation are [B] in [0, 1].
"""

from __future__ import annotations

import math

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Tensor

DENSITIES = ("uniform", "logit_normal")
MOST_PLACE = 20.0  # of a lesion's weight at one place, in units of the image's mean: a gradient must not hang on one pixel


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[B] to [B, 1, 1, ...], so that it multiplies a batch."""
    return values.reshape(-1, *[1] * (like.dim() - 1)).to(like.dtype)


def add_noise(latents: Tensor, noise: Tensor, signal: Tensor, deviation: Tensor) -> Tensor:
    """x_t (Ho et al. 2020, equation 4; Lipman et al. 2023, equation 22)."""
    return per_image(signal, latents) * latents + per_image(deviation, latents) * noise


def regression_target(
    latents: Tensor, noise: Tensor, signal: Tensor, deviation: Tensor, prediction_type: str
) -> Tensor:
    """What the denoiser learns to predict.

    epsilon: eps; v_prediction: signal eps - deviation x_0 (Salimans and Ho 2022, appendix D); flow: eps - x_0 (Esser et al. 2024).
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "flow":
        return noise - latents
    return per_image(signal, latents) * noise - per_image(deviation, latents) * latents


def min_snr_weights(signal: Tensor, deviation: Tensor, gamma: float | None, prediction_type: str) -> Tensor:
    """Loss weights [B] that cap the weight of x_0's error at gamma (Hang et al. 2023, section 3.4); None weighs all alike.

    min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v; SNR = (signal / deviation)^2 (Kingma et al. 2021).
    """
    if gamma is None:
        return torch.ones_like(signal)
    snr = (signal / deviation).square()
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (snr + 1)


def offset(noise: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Noise plus one number a channel, strength times a normal one, so that overall brightness can be learned (Guttenberg 2023).

    noise: float [B, C, h, w].
    """
    return noise + strength * torch.randn(*noise.shape[:2], 1, 1, generator=generator).to(noise)


def noise_levels(count: int, levels: int, density: str, generator: torch.Generator) -> Tensor:
    """Noise levels int64 [count] in 0 ... levels - 1: uniform, or most often the middle ones (logit-normal, Esser et al. 2024)."""
    scheme = "logit_normal" if density == "logit_normal" else "none"
    shares = compute_density_for_timestep_sampling(
        scheme, count, logit_mean=0.0, logit_std=1.0, generator=generator
    )
    return (shares * levels).long().clamp(max=levels - 1)


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor, places: Tensor | float = 1.0) -> Tensor:
    """Sum over images of weight [B] x mean squared error, in float32: a scalar.

    places: weights [B, 1, h, w] within each image, of mean 1.
    """
    error = ((prediction.float() - target.float()).square() * places).flatten(1).mean(1)
    return (weights * error).sum()


def lesion_places(cover: Tensor, strength: float) -> Tensor:
    """Weights [B, 1, h, w] of mean 1 with which an image's lesions together count `strength` times as much as the image.

    cover: share of each place that lesions cover, [B, 1, h, w] in [0, 1]. However small the lesions are, they count as much,
    up to MOST_PLACE a place: otherwise a word about them would change too little of the loss to be learned.
    """
    share = cover.mean((1, 2, 3), keepdim=True).clamp(min=1e-6)
    places = 1 + strength * (cover / share).clamp(max=MOST_PLACE)
    return places / places.mean((1, 2, 3), keepdim=True)


def warmup_cosine(step: int, warmup_steps: int, num_steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to 0 at `num_steps` optimizer steps."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
