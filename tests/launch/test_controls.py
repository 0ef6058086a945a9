"""Controls of a sweep, through Hydra's own command line with a job that writes down its configuration."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest

JOB = """
import json
import hydra
from skinaug.launch import configs

configs.register()

def task(cfg):
    about = {"mix": cfg.mix.name, "control": cfg.mix.control, "seed": cfg.seed, "base": "gap" in cfg.base}
    about |= {"per_class": cfg.generate.per_class}
    about |= {"filters": list(cfg.filter), "augmentation": "auto_augment" in cfg.augmentation}
    with open("jobs.jsonl", "a") as file:
        print(json.dumps(about), file=file)

hydra.main(version_base="1.3", config_path=str(configs.folder("conf").resolve()), config_name="config")(task)()
"""


def jobs(folder: Path, *overrides: str) -> list[dict]:
    quiet = "hydra.callbacks.report._target_=hydra.experimental.callback.Callback"
    # Hydra's own launcher checks nothing.
    plain = ("logger=none", quiet, "hydra/launcher=basic")
    commands.skinaug("-m", *plain, *overrides, code=JOB, cwd=folder, check=True)
    return [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]


def test_every_job_with_synthetic_images_gets_its_controls(tmp_path: Path):
    names = "controls=[real_alone,duplicated_real,tone_shift,label_permuted,standard_augmentation,oracle]"
    found = jobs(tmp_path, "mix=real,hybrid,synthetic", "seed=1", names)
    own, controls = found[:3], found[3:]
    assert [(job["mix"], job["control"]) for job in own] == [
        (mix, None) for mix in ("real", "hybrid", "synthetic")
    ]
    assert {job["seed"] for job in found} == {1}, "controls have the seed of what they control"
    assert not [job for job in controls if job["mix"] == "real"], "there is nothing to control"
    of_hybrid = [job for job in controls if job["mix"] == "hybrid"]
    assert [job["control"] for job in of_hybrid] == [
        "real_alone",
        "duplicated_real",
        "tone_shift",
        "label_permuted",
        "real_alone",
        None,
    ]
    assert [job["augmentation"] for job in of_hybrid] == [False, False, False, False, True, False]
    assert [(job["base"], job["filters"]) for job in of_hybrid] == [(False, ["non_skin", "ensemble"])] * 5 + [
        (True, [])
    ]
    of_synthetic = [job["control"] for job in controls if job["mix"] == "synthetic"]
    assert of_synthetic == ["label_permuted", None], (
        "without real images there is nothing to repeat or to augment"
    )


def test_photographs_stand_in_where_nothing_can_be_rendered(tmp_path: Path):
    (tmp_path / "photographs").mkdir()
    found = jobs(
        tmp_path, "mix=hybrid", "dataset=folder", "dataset.root=photographs", "controls=[oracle]", "seed=0"
    )
    assert [(job["control"], job["base"]) for job in found] == [(None, False), ("fresh_real", False)]


def test_a_swept_value_gives_way_to_the_control_and_equal_jobs_are_one(tmp_path: Path):
    found = jobs(tmp_path, "mix=hybrid", "filter=[],[non_skin]", "controls=[oracle]")
    assert [(job["base"], job["filters"]) for job in found] == [
        (False, []),
        (False, ["non_skin"]),
        (True, []),
    ]


def test_the_ceiling_stands_beside_settings_of_the_pool_that_it_replaces(tmp_path: Path):
    """Of filters and of the base, on the command line and in an experiment's file; how many pictures there are stays."""
    (tmp_path / "experiments").mkdir()
    file = "# @package _global_\nname: own\nfilter: {non_skin: {keep: {real_pass_rate: 0.9}}}\n"
    (tmp_path / "experiments" / "own.yaml").write_text(file)
    settings = ["filter.ensemble.keep.agreement=0.4,0.6", "base.path=somewhere", "generate.guidance_scale=1"]
    found = jobs(
        tmp_path, "experiment=own", "mix=hybrid", "controls=[oracle]", "generate.per_class=7", *settings
    )
    assert [(job["base"], job["filters"], job["per_class"]) for job in found] == [
        (False, ["non_skin", "ensemble"], 7),
        (False, ["non_skin", "ensemble"], 7),
        (True, [], 7),
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["-m", "seed=0,1", "controls=[oracle,placebo]"],
            "there is no placebo. Controls: real_alone, duplicated_real",
        ),
        (["controls=[oracle]"], "controls are jobs of a sweep, and this is a single job: add -m"),
    ],
)
def test_controls_that_cannot_be_are_refused(tmp_path: Path, overrides: list[str], said: str):
    done = commands.skinaug("classify", *overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
