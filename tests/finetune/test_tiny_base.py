"""The base model that comes with skinaug: small, complete, and it draws the skin that it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image, ImageCms
from sklearn.metrics import roc_auc_score

import skinaug
from skinaug.dataset.phantom.conditions import CONDITIONS
from skinaug.dataset.phantom.source import PhantomMorphology
from skinaug.launch import configs

TINY = Path(skinaug.__file__).parent / "weights" / "tiny"
TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


@pytest.fixture(scope="module")
def tiny() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, torch_dtype=torch.float32, local_files_only=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(tiny: StableDiffusionPipeline, prompts: list[str]) -> list[Image.Image]:
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with torch.inference_mode():
        return tiny(prompts, 64, 64, 8, guidance_scale=2.5, generator=generators).images


def lab(image: Image.Image) -> np.ndarray:
    """CIE L*, a*, b* of each pixel, float [S * S, 3]."""
    values = np.asarray(ImageCms.applyTransform(image, TO_LAB)).reshape(-1, 3)
    return np.stack([values[:, 0] / 2.55, *values[:, 1:].view(np.int8).T.astype(float)], 1)


def typology_angle(image: Image.Image) -> float:
    """ITA in degrees, of the median colour (Chardon et al. 1991): arctan((L* - 50) / b*)."""
    lightness, _, yellow = np.median(lab(image), 0)
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


def test_it_is_small_and_without_pickles():
    files = [path for path in TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}


def test_plain_diffusers_draws_with_it_as_it_is_loaded():
    """All in float32, though its files are float16: transformers takes the type that the configuration tells."""
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, local_files_only=True)
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
    picture = pipeline("acne", height=64, width=64, num_inference_steps=1, output_type="np").images[0]
    assert np.isfinite(picture).all()


def test_its_training_knows_no_condition():
    """Neither their names, in whatever form the captions could say them, nor a picture of one."""
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", ["experiment=tiny_base"])
    captions = OmegaConf.to_yaml(cfg.finetune.training.captions).lower()
    assert not [name for name in (*CONDITIONS, "naev", "mole", "ringworm", "pimple") if name in captions]
    assert cfg.dataset.source["_target_"].endswith(".PhantomMorphology")
    assert PhantomMorphology.classes == ("skin",)


def test_skin_type_shows(tiny: StableDiffusionPipeline):
    light, dark = (
        draw(
            tiny,
            [
                f"a photo of one red lesion on the arm, skin type {skin_type}"
                for skin_type in pair
                for _ in range(6)
            ],
        )
        for pair in (("I", "II"), ("V", "VI"))
    )
    angles = [typology_angle(image) for image in (*light, *dark)]
    assert roc_auc_score([1] * 12 + [0] * 12, angles) >= 0.9
