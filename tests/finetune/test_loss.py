"""The mathematics against diffusers' schedulers and closed forms."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from skinaug.finetune import loss as losses
from skinaug.finetune.schedule import PREDICTION_TYPES

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TIMESTEPS = torch.tensor([0, 10, 400, 999])
ALPHAS = SCHEDULER.alphas_cumprod[TIMESTEPS]
SIGNAL, DEVIATION = ALPHAS.sqrt(), (1 - ALPHAS).sqrt()


@pytest.fixture
def latents_and_noise() -> torch.Tensor:
    return torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_noise_and_velocity_are_those_of_diffusers(latents_and_noise: torch.Tensor):
    latents, noise = latents_and_noise
    torch.testing.assert_close(
        losses.add_noise(latents, noise, SIGNAL, DEVIATION), SCHEDULER.add_noise(latents, noise, TIMESTEPS)
    )
    velocity = SCHEDULER.get_velocity(latents, noise, TIMESTEPS)
    target = losses.regression_target(latents, noise, SIGNAL, DEVIATION, "v_prediction")
    torch.testing.assert_close(target, velocity)
    assert losses.regression_target(latents, noise, SIGNAL, DEVIATION, "epsilon") is noise


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weights(prediction_type: str):
    snr = compute_snr(SCHEDULER, TIMESTEPS)
    capped = torch.minimum(snr, torch.tensor(5.0))
    expected = capped / snr if prediction_type == "epsilon" else capped / (snr + 1)
    torch.testing.assert_close(losses.min_snr_weights(SIGNAL, DEVIATION, 5.0, prediction_type), expected)
    assert torch.equal(losses.min_snr_weights(SIGNAL, DEVIATION, None, prediction_type), torch.ones(4))


def test_weights_are_finite_where_nothing_but_noise_is_left():
    for prediction_type, weight in (("epsilon", 1.0), ("v_prediction", 0.0)):
        assert losses.min_snr_weights(torch.zeros(1), torch.ones(1), 5.0, prediction_type).item() == weight


def test_weighted_mse_is_a_sum_over_images():
    prediction, target = torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.zeros(2, 2)
    assert losses.weighted_mse(prediction, target, torch.tensor([0.5, 0.25])).item() == 0.5 * 5 + 0.25 * 2


def test_places_weigh_errors_within_an_image():
    prediction, target = torch.tensor([[[[1.0, 3.0]]]]), torch.zeros(1, 1, 1, 2)
    places = torch.tensor([[[[1.5, 0.5]]]])
    assert losses.weighted_mse(prediction, target, torch.ones(1), places).item() == (1.5 + 0.5 * 9) / 2


def test_lesions_of_any_size_weigh_the_same_beside_their_image():
    cover = torch.zeros(3, 1, 8, 8)
    cover[0, 0, :4] = 1.0  # half of the image
    cover[1, 0, 2, 2:6] = 1.0  # a sixteenth
    places = losses.lesion_places(cover, 1.5)
    torch.testing.assert_close(places.mean((1, 2, 3)), torch.ones(3))
    ratio = [
        (place * c).sum() / (place.sum() - (place * c).sum()) for place, c in zip(places, cover, strict=True)
    ]
    assert ratio[0].item() == pytest.approx((0.5 + 1.5) / 0.5)
    assert ratio[1].item() == pytest.approx((1 / 16 + 1.5) / (15 / 16))
    assert torch.equal(places[2], torch.ones(1, 8, 8)), "no lesion: all places alike"
    assert torch.equal(losses.lesion_places(cover, 0.0), torch.ones_like(cover))


def test_a_single_place_does_not_take_over():
    cover = torch.zeros(1, 1, 64, 64)
    cover[..., 0, 0] = 1.0
    assert losses.lesion_places(cover, 1.0).max() <= 1 + losses.MOST_PLACE


def test_a_flow_is_the_slope_of_the_mixture(latents_and_noise: torch.Tensor):
    latents, noise = latents_and_noise
    levels = torch.tensor([0.1, 0.5, 0.9, 0.3])
    mixed = [losses.add_noise(latents, noise, 1 - levels - h, levels + h) for h in (0.0, 0.01)]
    target = losses.regression_target(latents, noise, 1 - levels, levels, "flow")
    torch.testing.assert_close((mixed[1] - mixed[0]) / 0.01, target, rtol=1e-3, atol=1e-3)


def test_offset_noise_shifts_whole_channels():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 4, 8, 8, generator=generator)
    moved = losses.offset(noise, 0.5, generator) - noise
    assert (moved - moved[..., :1, :1]).abs().max() < 1e-5
    assert moved[..., 0, 0].std().item() == pytest.approx(0.5, rel=0.1)


def test_noise_levels_follow_their_density():
    generator = torch.Generator().manual_seed(0)
    uniform = losses.noise_levels(20_000, 1000, "uniform", generator)
    middle = losses.noise_levels(20_000, 1000, "logit_normal", generator)
    assert (uniform.min(), uniform.max()) == (0, 999)
    assert scipy.stats.kstest(uniform.numpy() / 1000, "uniform").pvalue > 1e-3
    logits = torch.logit((middle + 0.5) / 1000).numpy()
    assert scipy.stats.kstest(logits, "norm").statistic < 0.02


def test_learning_rate_rises_and_falls_to_zero():
    factors = [losses.warmup_cosine(step, 4, 12) for step in range(13)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[8] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[12] == pytest.approx(0)
    assert losses.warmup_cosine(0, 0, 12) == 1
