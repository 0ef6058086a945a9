"""Bad input, told before any model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusion_components import save_tiny

from skinaug.errors import InputError
from skinaug.generate.families import KINDS
from skinaug.generate.settings import (
    FLOW_SCHEDULERS,
    NOISE_SCHEDULERS,
    SCHEDULERS,
    Settings,
    check_folder,
    check_settings,
)

GOOD = {
    "per_class": 1,
    "guidance_scale": 2.5,
    "num_inference_steps": 12,
    "scheduler": "dpmsolver++",
    "image_size": 64,
    "batch_size": 1,
}


def test_bad_settings_are_told_at_once():
    with pytest.raises(InputError) as caught:
        check_settings(0, 0.5, 0, "plms", 0, 0, "video", 0.0, [0.5, 0.2], "gif", -1)
    names = (
        "per_class",
        "guidance_scale",
        "num_inference_steps",
        "scheduler",
        "image_size",
        "batch_size",
        "mode",
    )
    for name in (*names, "strength", "guidance_interval", "format", "max_redraws"):
        assert f"generate.{name}" in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"strength": 0},
        {"strength": 1.01},
        {"strength": float("nan")},
        {"strength": "half"},
        {"guidance_interval": [0, 0]},
        {"guidance_interval": [-0.1, 1]},
        {"guidance_interval": [0, 1.1]},
        {"guidance_interval": [0.2]},
        {"guidance_interval": 0.5},
        {"guidance_interval": ["a", "b"]},
        {"batch_size": "many"},
        {"batch_size": 2.5},
        {"num_inference_steps": 2.5},
        {"guidance_scale": float("inf")},
        {"max_redraws": True},
    ],
    ids=str,
)
def test_bad_values(bad: dict):
    with pytest.raises(InputError, match=f"generate.{next(iter(bad))}"):
        check_settings(**(GOOD | bad))


def test_settings_hold_what_decides_a_picture():
    assert check_settings(**GOOD) == Settings(2.5, 12, "dpmsolver++", 64)
    assert check_settings(**GOOD, batch_size_of_others=1, strength=0.25).strength is None
    image = check_settings(**(GOOD | {"mode": "image", "batch_size": "auto"}), strength=0.25)
    assert (image.mode, image.strength) == ("image", 0.25)


def test_every_scheduler_name_has_a_sampler():
    assert set(SCHEDULERS) == set(KINDS)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3"])
def test_a_scheduler_suits_some_families(family: str, tmp_path: Path):
    folder = save_tiny(tmp_path / family, family)
    for mode in ("text", "image"):
        fitting = FLOW_SCHEDULERS if family == "sd3" else NOISE_SCHEDULERS
        if mode == "image" and family == "sd3":
            fitting = ("flow",)
        for scheduler in SCHEDULERS:
            settings = Settings(2.5, 4, scheduler, 16, mode=mode)
            if scheduler in fitting:
                check_folder(settings, folder)
            else:
                with pytest.raises(InputError, match=rf"does not suit.*Those that do: .*{fitting[0]}"):
                    check_folder(settings, folder)
    with pytest.raises(InputError, match="Try 24"):
        check_folder(Settings(2.5, 4, fitting[0], 21), folder)


def test_a_folder_that_tells_nothing_is_not_judged(tmp_path: Path):
    check_folder(Settings(2.5, 4, "flow", 21), tmp_path)
