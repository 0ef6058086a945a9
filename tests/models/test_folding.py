"""Folded normalisations compute what PyTorch's own layers compute, forwards and backwards."""

from contextlib import suppress
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

from skinaug.models.folding import Clamp, DepthwiseConvolution, fold_norms, settled


def frozen(network: nn.Module) -> nn.Module:
    """A network in training whose normalisations have statistics and keep them, in float64: roundings hide nothing."""
    torch.manual_seed(0)
    for layer in network.train().modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight, 1, 0.1)
            nn.init.normal_(layer.bias, 0, 0.1)
    return network.double()


def folded(network: nn.Module) -> tuple[nn.Module, int]:
    other = deepcopy(network).float()
    count = fold_norms(other, 32)
    return other.double(), count


def gradients(network: nn.Module) -> Tensor:
    torch.manual_seed(1)
    network.zero_grad()
    pictures = torch.randn(2, 3, 32, 32, dtype=torch.float64).to(memory_format=torch.channels_last)
    F.cross_entropy(network(pictures), torch.tensor([0, 2])).backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        (
            "test_efficientnet",
            {"act_layer": nn.ReLU6, "pad_type": "same"},
            13,
        ),  # as EfficientNet-Lite0's layers
        ("test_resnet", {}, 15),
        ("mobilenetv3_small_050", {}, 34),
    ],
)
def test_a_folded_network_learns_as_the_network_does(name: str, options: dict[str, Any], count: int):
    network = frozen(timm.create_model(name, num_classes=3, drop_rate=0.2, **options))
    other, done = folded(network)
    assert done == count
    assert list(other.state_dict()) == list(network.state_dict())
    expected = gradients(network)
    for learner in (other, deepcopy(other)):  # as averages of weights and checks of a hub copy it
        assert torch.allclose(
            gradients(learner), expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max())
        )
    with torch.no_grad():  # a copy has weights of its own
        next(learner.parameters()).add_(1.0)
    assert torch.equal(gradients(other), gradients(other))


def test_a_norm_that_learns_its_statistics_is_left_alone():
    network = frozen(timm.create_model("test_resnet", num_classes=3)).train()
    other, done = folded(network)
    assert not done
    assert torch.equal(gradients(other), gradients(network))


def test_a_norm_put_into_training_mode_later_works_as_before():
    network = frozen(timm.create_model("test_resnet", num_classes=3))
    other, done = folded(network)
    assert done
    assert torch.allclose(gradients(other.train()), gradients(network.train()), rtol=1e-9, atol=1e-12)
    assert torch.equal(other.bn1.running_mean, network.bn1.running_mean)


def test_a_settled_network_is_folded_once_and_goes_on_learning():
    network, done = folded(frozen(timm.create_model("test_efficientnet", num_classes=3)))
    assert done
    network.eval()
    pictures = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    weight = network.conv_stem.weight
    with torch.no_grad():
        before = network(pictures)
        with settled(network):
            assert torch.equal(network(pictures), before)
            weight.mul_(2)
            assert torch.equal(network(pictures), before)
        assert not torch.equal(network(pictures), before)
    network(pictures).sum().backward()
    assert weight.grad is not None
    with suppress(KeyboardInterrupt), settled(network):
        raise KeyboardInterrupt
    with torch.no_grad():
        weight.mul_(0.5)
        assert torch.equal(network(pictures), before)


class ReadTwice(nn.Module):
    """A convolution whose output not only its normalisation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Linear(4, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.convolution(pictures)
        return self.head((maps + self.norm(maps)).mean((2, 3)))


class Shared(ReadTwice):
    """A convolution that is used twice, once without a normalisation."""

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.norm(self.convolution(pictures)).mean((2, 3))
        return self.head(maps) + self.head(self.convolution(pictures).mean((2, 3)))


@pytest.mark.parametrize("kind", [ReadTwice, Shared])
def test_what_others_read_is_not_folded(kind: type[nn.Module]):
    network = frozen(kind())
    other, done = folded(network)
    assert not done
    assert torch.equal(gradients(other), gradients(network))


def test_a_depthwise_convolution_has_pytorchs_gradients():
    generator = torch.Generator().manual_seed(0)
    for size, kernel, stride, padding in product((1, 2, 3, 4, 9, 20), (1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 3)):
        if size + 2 * padding < kernel:
            continue
        parts = [
            torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
            for shape in ((2, 3, size, size), (3, 1, kernel, kernel), (3,))
        ]
        made = DepthwiseConvolution.apply(*parts, stride, padding)
        expected = F.conv2d(*parts, stride, padding, groups=3)
        assert torch.equal(made, expected)
        told = torch.randn(made.shape, generator=generator, dtype=torch.float64)
        ways = (torch.autograd.grad(way, parts, told) for way in (made, expected))
        for own, theirs in zip(*ways, strict=True):
            assert torch.allclose(own, theirs, rtol=1e-9, atol=1e-12), (size, kernel, stride, padding)


def test_a_clamp_in_place_has_relu6s_gradient():
    given = torch.tensor([-1.0, 0.0, 1e-6, 3.0, 6.0, 7.0], requires_grad=True)
    made, expected = Clamp.apply(given * 1), F.relu6(given)
    assert torch.equal(made, expected)
    assert torch.equal(*(torch.autograd.grad(y.sum(), given)[0] for y in (made, expected)))
