"""The stage: one pool, whatever the batch size, the kills and the redraws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.errors import InputError
from skinaug.generate.writer import PictureWriter, is_whole, save_picture
from skinaug.images import load_pixels, open_image, sha256_file
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.prompts import PromptSet


def pictures(manifest: Manifest) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(open_image(path)).astype(int) for path in manifest.paths()}


def same(one: Manifest, other: Manifest, levels: int = 2) -> bool:
    a, b = pictures(one), pictures(other)
    return a.keys() == b.keys() and all(np.abs(a[name] - b[name]).max() <= levels for name in a)


@pytest.fixture
def pool(draw, tmp_path: Path) -> Manifest:
    return draw(tmp_path / "pool")


def test_manifest_tells_how_each_picture_was_made(pool: Manifest):
    table = pool.table
    assert table.group_by("label").len().sort("label").rows() == [("acne", 4), ("nevus", 4)]
    assert table.select(SYNTHETIC).null_count().sum_horizontal().item() == 0
    assert table.select(
        "split", "source", "prompt_set", "guidance_scale", "num_inference_steps", "scheduler"
    ).unique().rows() == [("train", "synthetic", "sites", 2.5, 4, "dpmsolver++")]
    assert (table["group_id"] == table["image_id"]).all()
    assert table["sha256"].to_list() == [sha256_file(path) for path in pool.paths()]
    assert load_pixels(pool, 16).shape == (8, 16, 16, 3)
    assert all(row["body_site"] in row["prompt"] for row in table.iter_rows(named=True))
    assert set(os.listdir(pool.root)) == {"images", "manifest.parquet"}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_change_the_pool(draw, pool: Manifest, tmp_path: Path, batch_size: int):
    assert same(pool, draw(tmp_path / "other", batch_size=batch_size))


def test_a_larger_pool_contains_the_smaller(draw, pool: Manifest, tmp_path: Path):
    larger = draw(tmp_path / "larger", per_class=6)
    assert len(larger) == 12
    assert same(pool, larger.where(pl.col("image_id").is_in(pool.table["image_id"].to_list())))


def test_a_resumed_pool_is_the_same_and_draws_only_what_lacks(
    draw, pool: Manifest, tmp_path: Path, monkeypatch
):
    before = pictures(pool)
    kept, *lost = pool.paths()[:4]
    lost[0].unlink()
    lost[1].write_bytes(lost[1].read_bytes()[:-20])
    lost[2].write_bytes(b"")
    (pool.root / "images" / "half.123.partial").write_bytes(b"x")
    (pool.root / "images" / "stranger.png").write_bytes(kept.read_bytes())
    (pool.root / "manifest.parquet").unlink()
    stamp, drawn = kept.stat().st_mtime_ns, []
    write = PictureWriter.on_predict_batch_end
    monkeypatch.setattr(
        PictureWriter,
        "on_predict_batch_end",
        lambda *a: drawn.extend(row["image_id"] for row in a[4]) or write(*a),
    )
    again = draw(pool.root)
    assert sorted(drawn) == sorted(path.stem for path in lost)
    assert kept.stat().st_mtime_ns == stamp
    assert again.table.equals(pool.table)
    assert all(np.array_equal(picture, before[name]) for name, picture in pictures(again).items())
    assert sorted(os.listdir(pool.root / "images")) == sorted(f"{name}.png" for name in before)


KILLED = """
import sys; sys.path.insert(0, {tests!r})
from functools import partial
from pathlib import Path
import lightning
from diffusers import StableDiffusionPipeline
from skinaug.generate.generate import generate
from skinaug.prompts import PromptSet
generate(per_class=100, guidance_scale=2.5, num_inference_steps=4, scheduler="dpmsolver++", image_size=16, batch_size=2, seed=0,
    classes=("acne", "nevus"), weights=Path({weights!r}), base=partial(StableDiffusionPipeline.from_pretrained, {tiny!r}),
    prompts=PromptSet("sites", ["a photo of {{label}}[ on the {{body_site}}]"], {{"body_site": {{"arm": 1, "leg": 1}}}}),
    trainer=partial(lightning.Trainer, accelerator="cpu"), logger=False, out=Path({out!r}))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(draw, tiny: Path, weights: Path, tmp_path: Path):
    out = tmp_path / "killed"
    script = KILLED.format(
        tests=str(Path(__file__).parents[1]), weights=str(weights), tiny=str(tiny), out=str(out)
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(list(out.glob("images/*.png"))) < 10:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = list(out.glob("images/*.png"))
    assert len(there) < 200
    assert all(is_whole(path) for path in there)
    assert not (out / "manifest.parquet").exists()
    assert same(
        draw(out, per_class=100, batch_size=64), draw(tmp_path / "whole", per_class=100, batch_size=64)
    )


def test_redraws_are_told(draw, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("skinaug.generate.predict.is_blank", lambda picture: bool(picture[0, 0, 0] < 0.5))
    manifest = draw(tmp_path / "pool", per_class=8)
    redraws = manifest.table["redraws"]
    assert redraws.max() > 0
    other = draw(tmp_path / "other", per_class=8, batch_size=3)
    # Another batch size may round a pixel to the next level, so the files' digests may differ; the draws may not.
    assert manifest.table.drop("sha256").equals(other.table.drop("sha256"))


def test_the_base_decides_the_ids_not_its_folder(draw, pool: Manifest, tiny: Path, tmp_path: Path):
    from diffusers import StableDiffusionPipeline

    def changed():
        pipeline = StableDiffusionPipeline.from_pretrained(tiny)
        pipeline.unet.conv_in.weight.data[0, 0, 0, 0] += 1e-3
        return pipeline

    other = draw(tmp_path / "other", base=changed)
    assert not set(other.table["image_id"]) & set(pool.table["image_id"])
    assert other.table["seed"].equals(pool.table["seed"])


def test_logger_gets_the_rate_and_pictures(draw, tmp_path: Path):
    class Spy(lightning.pytorch.loggers.Logger):
        name = version = "spy"
        metrics, images = {}, []

        def log_hyperparams(self, *_):
            pass

        def log_metrics(self, metrics, step=None):
            self.metrics |= metrics

        def log_image(self, key, images, caption):
            self.images += [(image, text) for image, text in zip(images, caption, strict=True)]

    spy = Spy()
    draw(tmp_path / "pool", logger=spy)
    assert spy.metrics["generate/images_per_second"] > 0
    assert len(spy.images) == 8
    assert all(Image.open(path).text["prompt"] == text for path, text in spy.images)


def test_saved_pixels_are_exact(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    save_picture(tmp_path / "a.png", pixels, {"seed": "1"})
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "plms"}, "plms"),
        ({"per_class": 0, "batch_size": -1}, "per_class.*\n.*batch_size"),
        ({"classes": ("acne", "tinea")}, "not taught these classes: tinea"),
        ({"prompts": PromptSet("p", ["{label}"], labels={"rosacea": "rosacea"})}, "rosacea"),
        ({"weights": Path("nowhere")}, "labels.json"),
    ],
)
def test_bad_input_is_refused_before_the_base_is_loaded(draw, tmp_path: Path, changes: dict, message: str):
    def base():
        raise AssertionError("the base was loaded")

    with pytest.raises(InputError, match=message):
        draw(tmp_path / "pool", base=base, **changes)
    assert not (tmp_path / "pool").exists()


def test_labels_json_is_not_a_table(draw, weights: Path, tmp_path: Path):
    (weights / "labels.json").write_text(json.dumps({"acne": "acne", "nevus": "mole"}))
    prompts = draw(tmp_path / "pool").table["prompt"].to_list()
    assert sum("mole" in prompt for prompt in prompts) == 4


def test_trainer_of_the_package_draws_the_same(draw, pool: Manifest, tmp_path: Path):
    from skinaug.trainer import make_trainer

    assert same(pool, draw(tmp_path / "other", trainer=partial(make_trainer, accelerator="cpu")), levels=0)
