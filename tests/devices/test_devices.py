"""Stages on several devices, here two processes on the CPU: nothing hangs, and nothing differs from one device but by rounding."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command
from diffusion_components import save_tiny_pipeline
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import load_file

from skinaug import pipeline
from skinaug.devices.spread import command, devices, for_step, is_spread
from skinaug.images import open_image
from skinaug.launch import configs
from skinaug.manifest import Manifest
from skinaug.stage import Step

SMALL = [
    "scale.phantom_per_class=24",
    "scale.real_limit=6",
    "scale.finetune_steps=4",
    "scale.finetune_batch_size=5",
    "scale.generate_per_class=4",
    "scale.num_inference_steps=2",
    "scale.classifier_steps=4",
    "scale.classifier_val_every_steps=2",
    "scale.classifier_batch_size=9",
    "prompts=plain",
    "curate=none",
    "mix=hybrid",
    "finetune.captions.templates=['a photo of {label}']",
    "classify.augmentation=null",
    "name=study",
]
TEXTUAL_INVERSION = ["finetune=textual_inversion", "finetune.method.num_vectors=1", "trainer=cpu"]


def config(devices: object, accelerator: str = "cpu", **trainer: object) -> DictConfig:
    return OmegaConf.create({"trainer": {"devices": devices, "accelerator": accelerator, **trainer}})


def several(cfg: DictConfig, stage: str) -> bool:
    return is_spread(cfg, step(stage))


def for_stage(cfg: DictConfig, stage: str) -> DictConfig:
    return for_step(cfg, step(stage))


def step(stage: str, *overrides: str) -> Step:
    """The step of a stage, as it declares it."""
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", list(overrides))
    return {made.name: made for made in pipeline.STAGES[stage].steps(cfg)}[stage]


def test_which_stages_are_spread():
    assert several(config(2), "classify")
    assert several(config([0, 3]), "finetune")
    assert several(config(1, num_nodes=2), "generate")
    assert not several(config(1), "classify")
    assert not several(config("auto"), "classify"), "a CPU is one device"
    assert not several(config(2), "curate")
    assert not is_spread(config(2), step("classify", "classify=probe"))
    assert devices(config([4, 5, 6])) == 3


def test_the_others_get_one_device():
    one = for_stage(config(2, num_nodes=3, precision="32-true"), "curate")
    assert (one.trainer.devices, one.trainer.num_nodes, one.trainer.strategy) == (1, 1, "auto")
    assert one.trainer.precision == "32-true"
    asked = config([1])
    assert for_stage(asked, "curate") is asked, "the GPU that was named"


def test_weights_are_kept_in_pieces_for_fine_tuning_alone():
    asked = config(2, strategy="pieces")
    assert for_stage(asked, "finetune") is asked
    assert for_stage(asked, "generate").trainer == {**asked.trainer, "strategy": "auto"}


def test_several_machines_are_reached_through_slurm(tmp_path: Path):
    words = command(config(4, num_nodes=2), tmp_path)
    assert words[0] == "srun"
    assert {"--nodes=2", "--ntasks-per-node=4"} <= set(words)
    assert words[-3:] == ["-m", "skinaug.devices.process", str(tmp_path)]


def start(folder: Path, *overrides: str, how: Sequence[str] = TEXTUAL_INVERSION) -> Command:
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKINAUG_")}
    words = [*overrides, *SMALL, *how, f"base.path={folder.parent / 'base'}"]
    return Command(*words, cwd=folder, env=environment, piped=True)


def skinaug(folder: Path, *overrides: str, how: Sequence[str] = TEXTUAL_INVERSION) -> str:
    process = start(folder, *overrides, how=how)
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output[-4000:]
    return output


def stage(folder: Path, name: str) -> list[Path]:
    return sorted(path.parent for path in (folder / "store" / name).glob("*/artifact.json"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two jobs, both on two devices."""
    root = tmp_path_factory.mktemp("devices")
    save_tiny_pipeline(root / "base", size=64)
    skinaug(root / "two", "classify", "-m", "seed=0,1", "trainer.devices=2", "logger=csv")
    return root / "two"


@pytest.fixture(scope="module")
def one(two: Path) -> Path:
    """The same on one device, with the same fine-tuned weights: an image's identity holds their digest."""
    folder = two.parent / "one"
    skinaug(folder, "finetune", "logger=none")
    (learned,) = stage(folder, "finetune")
    learned.rename(folder / "learned")
    shutil.copytree(two / "store/finetune", folder / "store/finetune", dirs_exist_ok=True)
    skinaug(folder, "classify", "-m", "seed=0,1", "logger=none")
    return folder


@pytest.mark.slow
def test_two_devices_learn_what_one_does(one: Path, two: Path):
    (learned,) = stage(two, "finetune")
    for file in sorted(learned.rglob("*.safetensors")):
        expected = load_file(one / "learned" / file.relative_to(learned))
        for name, values in load_file(file).items():
            np.testing.assert_allclose(values, expected[name], atol=1e-6)


@pytest.mark.slow
def test_two_devices_draw_the_same_pictures(one: Path, two: Path):
    (ours,), (other,) = stage(two, "generate"), stage(one, "generate")
    assert ours.name == other.name
    drawn, expected = Manifest.read(ours), Manifest.read(other)
    assert drawn.table.drop("sha256").equals(expected.table.drop("sha256"))
    for path, same in zip(drawn.paths(), expected.paths(), strict=True):
        assert np.abs(np.asarray(open_image(path)).astype(int) - np.asarray(open_image(same))).max() <= 2


@pytest.mark.slow
def test_two_devices_train_the_same_classifier_job_after_job(one: Path, two: Path):
    folders = stage(two, "classify")
    assert [path.name for path in folders] == [path.name for path in stage(one, "classify")]
    assert len(folders) == 2
    for folder in folders:
        ours, expected = (
            # Which pictures of the pool are asked about goes by their bytes, and those may differ in last bits.
            pl.read_parquet(place / "predictions.parquet").filter(pl.col("split") != "synthetic")
            for place in (folder, one / "store/classify" / folder.name)
        )
        chances = pl.selectors.starts_with("p:")
        assert ours.drop(chances, "prediction").equals(expected.drop(chances, "prediction"))
        apart = np.abs(ours.select(chances).to_numpy() - expected.select(chances).to_numpy())
        assert apart.mean() < 0.01, "another seed's are 0.07 away"
        assert apart.max() < 0.1
        curves, others = (
            pl.read_csv(place / "curves.csv") for place in (folder, one / "store/classify" / folder.name)
        )
        np.testing.assert_allclose(curves["val/loss"], others["val/loss"], rtol=0.01)
        assert curves["step"].to_list() == others["step"].to_list() == [2, 4]


@pytest.mark.slow
def test_it_leaves_one_folder_and_tells_the_dashboard(two: Path):
    assert len(list((two / "outputs/study").iterdir())) == 1, "not one a process"
    assert not list(two.rglob("processes"))
    files = sorted((two / "outputs").rglob("classify-*/metrics.csv"))
    assert len(files) == 2
    logged = pl.read_csv(files[0])
    assert {"val/balanced_accuracy", "test/top1"} <= set(logged.columns)
    assert logged["val/loss"].drop_nulls().len() == 2, "once, not once a process"


@pytest.mark.slow
def test_processes_end_with_the_command_and_it_goes_on(two: Path):
    folder = two.parent / "killed"
    shutil.copytree(two / "store", folder / "store", ignore=shutil.ignore_patterns("classify"))
    overrides = ["classify", "seed=5", "trainer.devices=2", "logger=none"]
    process = start(folder, *overrides)
    running = lambda: [  # noqa: E731
        line for line in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout.splitlines()
        if "skinaug.devices.process" in line and str(folder) in line
    ]  # fmt: skip
    end = time.monotonic() + 300
    while len(running()) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 60
    while running():
        assert time.monotonic() < end, "nobody is left to wait for"
        time.sleep(0.2)
    assert "on real test images" in skinaug(folder, *overrides)


@pytest.mark.slow
def test_bad_input_of_a_process_is_told_once(two: Path):
    folder = two.parent / "refused"
    shutil.copytree(two / "store", folder / "store", ignore=shutil.ignore_patterns("classify"))
    process = start(folder, "classify", "trainer.devices=2", "logger=none", "classify.batch_size=1")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2
    assert output.count("A batch of 1 cannot be shared by 2 devices") == 1
    assert "Traceback" not in output
    assert json.loads((stage(folder, "mix")[0] / "artifact.json").read_text())["stage"] == "mix"
    assert not list((folder / "store/classify").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_in_pieces_learn_what_whole_ones_do(two: Path, method: str):
    how = [f"finetune={method}", "finetune.ema_decay=null", "logger=none", "trainer.precision=32-true"]
    for name, trainer in {"whole": "cpu", "pieces": "fsdp"}.items():
        folder = two.parent / f"{name}-{method}"
        skinaug(folder, "finetune", f"trainer={trainer}", "trainer.accelerator=cpu", how=how)
    (whole,), (pieces,) = (stage(two.parent / f"{name}-{method}", "finetune") for name in ("whole", "pieces"))
    assert whole.name == pieces.name
    files = sorted(whole.rglob("*.safetensors"))
    assert files
    for file in files:
        found, expected = load_file(pieces / file.relative_to(whole)), load_file(file)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=2e-3 if method == "full" else 1e-5)
