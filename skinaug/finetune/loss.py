"""The mathematics of denoising training: pure functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction")


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[B] to [B, 1, 1, ...], so that it multiplies a batch."""
    return values.reshape(-1, *[1] * (like.dim() - 1)).to(like.dtype)


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps, with a_t [B] in [0, 1] (Ho et al. 2020, equation 4)."""
    alphas = per_image(alphas_cumprod, latents)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise


def regression_target(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, prediction_type: str) -> Tensor:
    """What the UNet learns to predict: eps, or v = sqrt(a_t) eps - sqrt(1 - a_t) x_0 (Salimans and Ho 2022, appendix D)."""
    if prediction_type == "epsilon":
        return noise
    alphas = per_image(alphas_cumprod, latents)
    return alphas.sqrt() * noise - (1 - alphas).sqrt() * latents


def signal_to_noise(alphas_cumprod: Tensor) -> Tensor:
    """SNR(t) = a_t / (1 - a_t) (Kingma et al. 2021, equation 2)."""
    return alphas_cumprod / (1 - alphas_cumprod)


def min_snr_weights(alphas_cumprod: Tensor, gamma: float | None, prediction_type: str) -> Tensor:
    """Loss weights [B] that cap the weight of x_0's error at gamma (Hang et al. 2023, section 3.4); None weighs all alike.

    min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v.
    """
    if gamma is None:
        return torch.ones_like(alphas_cumprod)
    snr = signal_to_noise(alphas_cumprod)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (snr + 1)


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over images of weight x mean squared error, in float32: a scalar."""
    error = (prediction.float() - target.float()).square().flatten(1).mean(1)
    return (weights * error).mean()


def warmup_cosine(step: int, warmup_steps: int, num_steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to 0 at `num_steps` optimizer steps."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
