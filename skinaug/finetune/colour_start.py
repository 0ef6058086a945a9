"""Starting weights with which an autoencoder keeps the mean colour of each patch.

Group normalisation hides absolute brightness and colour, and an autoencoder that starts from random weights spends most of a
short training on finding them again. These weights pass colours through the normalisations: a signal x travels as the pair
(x, -x) beside constants +M and -M, so its group has mean 0 and a deviation that M sets, and SiLU(y) - SiLU(-y) = y undoes the
nonlinearity. All residual branches start at zero and learn what the colours lack. Further latent channels start at random: were
they zero on both sides, neither side would ever learn to use them.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

PEDESTAL = 3.0  # M, in units of the signals' deviations
SIGNALS = 4  # three whitened colours and one difference between left and right


@torch.no_grad()
def start_from_colours(vae: AutoencoderKL, images: Tensor, deviation: float) -> None:
    """Set the weights of an autoencoder of 4 or more latent channels, 4 normalisation groups and levels that widen, in place.

    images: float [N, 3, S, S] in [-1, 1], whose colours are whitened. deviation: of the posterior, > 0, wherever.
    """
    encoder, decoder, latents = vae.encoder, vae.decoder, vae.config.latent_channels
    further = (
        encoder.conv_out.weight[SIGNALS:latents].clone(),
        decoder.conv_in.weight[SIGNALS:, SIGNALS:].clone(),
    )
    mean, whiten, restore = whitening(images, 2 ** (len(vae.config.block_out_channels) - 1))
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                route(module.conv_shortcut, torch.eye(SIGNALS))
    route(encoder.conv_in, whiten, bias=-whiten @ mean)
    for block in encoder.down_blocks[:-1]:
        halve(block.downsamplers[0].conv)
    block.downsamplers[0].conv.weight[3, 0, :2, :2] = torch.tensor([3.0, -3.0])  # the fourth signal
    widen(encoder.down_blocks[-1].resnets[0], encoder.mid_block.resnets[-1], encoder.conv_norm_out)
    narrow(encoder.conv_out, torch.eye(SIGNALS), encoder.conv_norm_out)
    encoder.conv_out.weight[SIGNALS:latents] = further[0]
    route(vae.quant_conv, torch.eye(latents))
    vae.quant_conv.bias[latents:] = 2 * torch.tensor(deviation).log()
    route(vae.post_quant_conv, torch.eye(latents))
    route(decoder.conv_in, torch.eye(SIGNALS))
    decoder.conv_in.weight[SIGNALS:, SIGNALS:] = further[1]
    for block in decoder.up_blocks[:-1]:
        route(block.upsamplers[0].conv, torch.eye(SIGNALS))
    widen(decoder.up_blocks[-1].resnets[0], decoder.up_blocks[-1].resnets[-1], decoder.conv_norm_out)
    narrow(decoder.conv_out, nn.functional.pad(restore, (0, SIGNALS - 3)), decoder.conv_norm_out, bias=mean)


def whitening(images: Tensor, factor: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [3] of the patches' colours, the matrix [3, 3] that gives them unit covariance, and its inverse."""
    colours = nn.functional.avg_pool2d(images, factor).movedim(1, -1).reshape(-1, 3)
    variances, axes = torch.linalg.eigh(torch.cov(colours.T))
    whiten, restore = (axes / variances.sqrt()).T, axes * variances.sqrt()
    return colours.mean(0), whiten.flip(0), restore.flip(1)  # largest variance first: brightness


def route(convolution: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Channels at each place through a matrix, neighbours and other channels at zero."""
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    middle = convolution.weight.shape[-1] // 2
    convolution.weight[: len(matrix), : matrix.shape[1], middle, middle] = matrix
    if bias is not None:
        convolution.bias[: len(bias)] = bias


def halve(convolution: nn.Conv2d) -> None:
    """Mean of 2 x 2 in each signal's channel."""
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    for signal in range(SIGNALS):
        convolution.weight[signal, signal, :2, :2] = 0.25


def widen(first: ResnetBlock2D, last: ResnetBlock2D, norm: nn.GroupNorm) -> None:
    """Give each signal a normalisation group: x, -x, and constants that alternate between M and -M."""
    size = norm.num_channels // norm.num_groups
    matrix = torch.zeros(norm.num_channels, SIGNALS)
    constants = torch.zeros(SIGNALS, size)
    constants[:, 2::2], constants[:, 3::2] = PEDESTAL, -PEDESTAL
    for signal in range(SIGNALS):
        matrix[signal * size, signal], matrix[signal * size + 1, signal] = 1, -1
    route(first.conv_shortcut, matrix)
    last.conv2.bias[:] = constants.flatten()


def narrow(convolution: nn.Conv2d, matrix: Tensor, norm: nn.GroupNorm, bias: Tensor | None = None) -> None:
    """Undo the normalisation's scale and its SiLU, then a matrix over signals."""
    size = norm.num_channels // norm.num_groups
    scale = PEDESTAL * ((size - 2) / size) ** 0.5
    pairs = torch.zeros(len(matrix), norm.num_channels)
    pairs[:, 0::size], pairs[:, 1::size] = scale * matrix, -scale * matrix
    route(convolution, pairs, bias)
