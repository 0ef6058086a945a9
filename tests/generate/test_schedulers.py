"""Noise schedules that a scheduler cannot draw along are refused from the folder's JSON files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from skinaug.errors import InputError
from skinaug.generate.families import check_scheduler
from skinaug.generate.settings import FLOW_SCHEDULERS, NOISE_SCHEDULERS, Settings
from skinaug.generate.stage import STAGE
from skinaug.launch import configs
from skinaug.models.base import local_folder

NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


def configured(folder: Path, config: dict[str, Any], denoiser: str = "unet") -> Path:
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    family = {"unet": "StableDiffusionPipeline", "transformer": "StableDiffusion3Pipeline"}[denoiser]
    (folder / "model_index.json").write_text(json.dumps({"_class_name": family}))
    return folder


@pytest.mark.parametrize("steps", [2, 12])
@pytest.mark.parametrize("name", NOISE_SCHEDULERS)
def test_ordinary_schedules_pass(name: str, steps: int, tmp_path: Path):
    check_scheduler(local_folder("package://tiny"), Settings(2, steps, name, 64))
    for number, more in enumerate(
        (
            {},
            {"use_karras_sigmas": True},
            {
                "rescale_betas_zero_snr": True,
                "prediction_type": "v_prediction",
                "timestep_spacing": "trailing",
            },
        )
    ):
        check_scheduler(configured(tmp_path / str(number), NOISE | more), Settings(2, steps, name, 64))


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_flows_pass(name: str, tmp_path: Path):
    for number, more in enumerate(({"shift": 3.0}, {"use_dynamic_shifting": True})):
        folder = configured(tmp_path / str(number), more, "transformer")
        check_scheduler(folder, Settings(2, 4, name, 64))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("euler", {"beta_end": 1.5}, "no finite numbers"),
        ("dpmsolver++", {"beta_start": -0.5, "beta_schedule": "linear"}, "(no finite numbers|do not fall)"),
        ("ddim", {"beta_end": 1.5}, "no finite numbers"),
        ("dpmsolver++", {"use_karras_sigmas": True, "use_exponential_sigmas": True}, "Only one of"),
        ("euler", {"beta_schedule": "squared"}, "squared"),
        ("euler", {"trained_betas": [0.1, 0.2]}, "betas of 2 noise levels"),
        ("ddim", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, "no finite numbers"),
    ],
)
def test_schedules_that_cannot_be_drawn_along_are_refused(
    name: str, changes: dict, said: str, tmp_path: Path
):
    folder = configured(tmp_path / "base", NOISE | changes)
    with pytest.raises(
        InputError, match=rf"scheduler_config\.json does not suit generate\.scheduler=.*{said}"
    ):
        check_scheduler(folder, Settings(2, 4, name, 64))


def test_the_stage_asks_before_anything_is_built(tmp_path: Path):
    base = shutil.copytree(local_folder("package://tiny"), tmp_path / "base")
    file = base / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beta_end": 1.5}))
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", [f"base.path={base}"])
    with pytest.raises(InputError, match=r"does not suit generate\.scheduler"):
        STAGE.check_parts(cfg)
