"""The mathematics against diffusers' schedulers and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from skinaug.finetune import loss as losses

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TIMESTEPS = torch.tensor([0, 10, 400, 999])
ALPHAS = SCHEDULER.alphas_cumprod[TIMESTEPS]


@pytest.fixture
def latents_and_noise() -> torch.Tensor:
    return torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_noise_and_velocity_are_those_of_diffusers(latents_and_noise: torch.Tensor):
    latents, noise = latents_and_noise
    torch.testing.assert_close(
        losses.add_noise(latents, noise, ALPHAS), SCHEDULER.add_noise(latents, noise, TIMESTEPS)
    )
    velocity = SCHEDULER.get_velocity(latents, noise, TIMESTEPS)
    torch.testing.assert_close(losses.regression_target(latents, noise, ALPHAS, "v_prediction"), velocity)
    assert losses.regression_target(latents, noise, ALPHAS, "epsilon") is noise


@pytest.mark.parametrize("prediction_type", losses.PREDICTION_TYPES)
def test_min_snr_weights(prediction_type: str):
    snr = compute_snr(SCHEDULER, TIMESTEPS)
    capped = torch.minimum(snr, torch.tensor(5.0))
    expected = capped / snr if prediction_type == "epsilon" else capped / (snr + 1)
    torch.testing.assert_close(losses.min_snr_weights(ALPHAS, 5.0, prediction_type), expected)
    assert torch.equal(losses.min_snr_weights(ALPHAS, None, prediction_type), torch.ones(4))


def test_weights_are_finite_where_nothing_but_noise_is_left():
    for prediction_type, weight in (("epsilon", 1.0), ("v_prediction", 0.0)):
        assert losses.min_snr_weights(torch.zeros(1), 5.0, prediction_type).item() == weight


def test_weighted_mse_is_a_mean_of_images():
    prediction, target = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2)
    assert losses.weighted_mse(prediction, target, torch.tensor([0.5, 7.0])).item() == 0.5 * 5 / 2


def test_learning_rate_rises_and_falls_to_zero():
    factors = [losses.warmup_cosine(step, 4, 12) for step in range(13)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[8] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[12] == pytest.approx(0)
    assert losses.warmup_cosine(0, 0, 12) == 1
