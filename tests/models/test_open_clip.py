"""Image encoders of open_clip: their weights, their size and statistics, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from image_encoders import TINY, save_open_clip
from safetensors.torch import load_file, save_file

from skinaug.errors import InputError
from skinaug.metrics.features import embed, features_kind
from skinaug.models import backbone
from skinaug.models import open_clip as ours
from skinaug.models.backbone import check_runs, make_network
from skinaug.models.open_clip import CONFIG, WEIGHTS, check_image_encoder, create_image_encoder

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("clip") / "derm")


def test_its_vectors_are_those_of_open_clip(saved: Path):
    """Of pictures of its own size, and of others as open_clip's library of transforms scales them."""
    theirs = open_clip.create_model(f"local-dir:{saved}").eval()
    own = create_image_encoder(f"local-dir:{saved}", 0).eval()
    pictures = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(own(pictures), theirs.encode_image(pictures), atol=1e-5)
        large = torch.nn.functional.interpolate(pictures, (64, 64), mode="nearest")
        scaled = torch.nn.functional.interpolate(large, (32, 32), mode="bicubic", antialias=True)
        assert torch.allclose(own(large), theirs.encode_image(scaled), atol=1e-5)


def test_what_the_network_says_of_itself(saved: Path):
    make = partial(create_image_encoder, name=f"local-dir:{saved}")
    network = make_network(make, 5, 64)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert network.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)
    assert network.pretrained_cfg["std"] == (0.4, 0.5, 0.6)
    assert network.pretrained_cfg["input_size"] == (3, 32, 32)
    told = make(num_classes=0, mean=[0.5, 0.5, 0.5])
    assert told.pretrained_cfg["mean"] == (0.5, 0.5, 0.5), "the YAML's wins"
    assert told.pretrained_cfg["std"] == (0.4, 0.5, 0.6)
    check_runs(make, 64)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("ViT-B-16-SigLIP", (0.5, 0.5, 0.5)),
        ("ViT-B-32", open_clip.OPENAI_DATASET_MEAN),
        ("ViT-L-14", open_clip.OPENAI_DATASET_MEAN),
    ],
)
def test_an_architecture_by_name_has_the_statistics_of_its_weights(name: str, mean: tuple[float, ...]):
    """Those of which there are several take open_clip's default."""
    with torch.device("meta"):
        network = create_image_encoder(name, 0, pretrained=False)
    assert network.pretrained_cfg["mean"] == mean
    check_runs(partial(create_image_encoder, name=name), 64)


def test_weights_of_the_network_or_of_its_encoder_alone(saved: Path, tmp_path: Path):
    whole = load_file(saved / WEIGHTS)
    encoder = {n.removeprefix("visual."): t for n, t in whole.items() if n.startswith("visual.")}
    save_file(encoder, tmp_path / "encoder.safetensors")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / CONFIG).write_bytes((saved / CONFIG).read_bytes())
    name = f"local-dir:{tmp_path / 'config'}"
    for weights in (saved, saved / WEIGHTS, tmp_path / "encoder.safetensors"):
        made = create_image_encoder(name, 2, weights=str(weights))
        assert torch.equal(made.encoder.proj, whole["visual.proj"])
    assert not torch.equal(create_image_encoder(name, 2, pretrained=False).encoder.proj, whole["visual.proj"])
    with pytest.raises(InputError, match=rf"{tmp_path / 'config'} lacks {WEIGHTS}"):
        create_image_encoder(name, 2)
    del encoder["proj"]
    save_file(encoder, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=r"does not fit the backbone; (.|\n)*  proj \(32, 12\)"):
        create_image_encoder(name, 2, weights=str(tmp_path / "less.safetensors"))


def test_a_repository_that_the_cache_holds(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Laid out as the hub's client keeps it, without a network."""
    monkeypatch.setattr(backbone, "hub_reachable", lambda: False)
    home = tmp_path / "hub/models--lab--derm/"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("a" * 40)
    shutil.copytree(saved, home / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    network = create_image_encoder("hf-hub:lab/derm", 2)
    assert torch.equal(network.encoder.proj, load_file(saved / WEIGHTS)["visual.proj"])
    assert network.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)


def test_features_are_kept_apart_by_what_decides_them(tmp_path: Path, make_manifest):
    """Another activation and another size, at equal tensors."""
    images = make_manifest([{"label": "a"}, {"label": "b"}])
    plain = save_open_clip(tmp_path / "plain")
    other = tmp_path / "quick"
    other.mkdir()
    (other / CONFIG).write_text(json.dumps({"model_cfg": {**TINY, "quick_gelu": True}}))
    save_file(load_file(plain / WEIGHTS), other / WEIGHTS)
    cache, makes = tmp_path / "pictures.sqlite", {}
    for folder in (plain, other):
        makes[folder] = partial(
            create_image_encoder, name=f"local-dir:{folder}", mean=[0.5] * 3, std=[0.5] * 3
        )
    one, two = (embed(images, make, 32, cache=cache) for make in makes.values())
    assert one.shape == (2, 12)
    assert abs(one - two).max() > 1e-5
    assert (embed(images, makes[plain], 32, cache=cache) == one).all()
    kinds = {features_kind(make(num_classes=0), size) for make in makes.values() for size in (32, 64)}
    assert len(kinds) == 4


def test_checking_a_name_imports_no_framework():
    code = (
        "import sys; from skinaug.models.open_clip import check_image_encoder as check; check('ViT-B-16', False);"
        "assert not {'torch', 'timm', 'numpy', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_made_is_refused(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(name: str, said: str, **options: str | bool) -> None:
        with pytest.raises(InputError, match=said):
            check_image_encoder(name, **options)

    refused("ViT-B-61", r"open_clip has no architecture 'ViT-B-61'\. Near it: .*ViT-B-16")
    refused("ViT-B-16", r"ViT-B-16 has no weights here: give backbone\.weights")
    refused("ViT-B-16", "is no safetensors file", weights=str(saved / CONFIG))
    refused("ViT-B-16", f"lacks {WEIGHTS}", weights=str(tmp_path))
    refused(f"local-dir:{tmp_path}", f"lacks {CONFIG}")
    (tmp_path / CONFIG).write_text('{"model_cfg": {"embed_dim": 3}}')
    refused(f"local-dir:{tmp_path}", "lacks vision_cfg, text_cfg")
    (tmp_path / CONFIG).write_text("[]")
    refused(f"local-dir:{tmp_path}", "does not hold open_clip's `model_cfg`")
    monkeypatch.setattr(backbone, "hub_reachable", lambda: False)
    refused("hf-hub:lab/derm", r"hf-hub:lab/derm lies on the Hugging Face hub, which cannot be reached")
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    refused("ViT-B-16", r"needs open_clip: pip install 'skinaug\[open-clip\]'")


def test_a_configuration_that_open_clip_does_not_know_is_no_matter_of_size(tmp_path: Path):
    odd = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "colour": 1}}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": odd}))
    with pytest.raises(InputError, match=r"cannot be made: TypeError: .*'colour'.*Change its options"):
        check_runs(partial(create_image_encoder, name=f"local-dir:{tmp_path}"), 64)


@pytest.mark.slow
def test_every_architecture_of_open_clip_runs():
    for name in open_clip.list_models():
        check_runs(partial(create_image_encoder, name=name), 64)
