"""The autoencoder's starting weights keep colours, and its measures are what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skinaug.finetune.autoencoder import chroma_error, edge_error, pixel_batch, unit_scaling
from skinaug.finetune.colour_start import start_from_colours
from skinaug.finetune.components import new_autoencoder


@pytest.mark.parametrize(("channels", "latents"), [([16, 32, 64], 4), ([16, 32, 48, 64], 16)])
def test_starting_weights_keep_the_mean_colour_of_each_patch(channels: list[int], latents: int):
    torch.manual_seed(0)
    blocks = torch.rand(8, 3, 4, 4) * torch.tensor([1.5, 1.0, 0.7])[:, None, None] - 0.6
    images = F.interpolate(blocks, scale_factor=2 ** (len(channels) - 1))
    vae = new_autoencoder(channels, latents, images.shape[-1]).eval()
    start_from_colours(vae, images, deviation=0.1)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        restored = vae.decode(posterior.mean).sample
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.1))
    torch.testing.assert_close(posterior.mean[:, :3].std((0, 2, 3)), torch.ones(3), rtol=0.15, atol=0)
    assert (restored - images).abs().mean() < (0.06 if latents == 4 else 0.12), (
        "further channels start at random"
    )
    spread = (images - images.mean((0, 2, 3), keepdim=True)).abs().mean()
    assert (restored - images).abs().mean() < (0.2 if latents == 4 else 0.4) * spread


def test_errors_in_closed_form():
    nothing = torch.zeros(1, 3, 2, 2)
    grey, red, stripe = nothing + 0.5, nothing.clone(), nothing.clone()
    red[:, 0] = 0.5
    stripe[..., 1] = 0.5
    assert edge_error(grey).item() == 0
    assert chroma_error(grey).item() == 0
    assert chroma_error(red).item() == pytest.approx((0.5**2 + 0.25**2) / 2)
    assert edge_error(stripe).item() == 0.25
    left = torch.tensor([2.0, 0.0]).expand(1, 1, 2, 2)
    red[..., 1] = 0
    assert chroma_error(red, left).item() == pytest.approx((0.5**2 + 0.25**2) / 2), (
        "half the places, twice the weight"
    )
    assert edge_error(stripe, left).item() == 0.25, "a difference weighs as the mean of its two places"
    assert edge_error(stripe, 2 * left).item() == 0.5


def test_scaling_gives_samples_a_deviation_of_one():
    generator = torch.Generator().manual_seed(0)
    means = 3 * torch.randn(2000, 4, 2, 2, generator=generator) + 1
    moments = torch.stack([means, torch.full_like(means, 4.0)], 1)
    assert unit_scaling(moments) == pytest.approx(1 / 5, rel=0.02)


def test_batches_are_functions_of_their_number():
    pixels = torch.randint(256, (9, 4, 4, 3), dtype=torch.uint8).numpy()
    first, again, other = (pixel_batch(number, pixels, None, 32, 0)["images"] for number in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= -1
    assert first.max() <= 1


def test_lesions_are_mirrored_with_their_images():
    masks = torch.randint(2, (9, 4, 4), dtype=torch.uint8).numpy() * 255
    batch = pixel_batch(0, np.repeat(masks[..., None], 3, -1), masks, 32, 0)
    assert torch.equal(batch["images"][:, :1], 2 * batch["lesions"] - 1)
    assert len({row.numpy().tobytes() for row in batch["lesions"]}) > 9, "some are mirrored"
