"""The stage: one pool, whatever the batch size, the kills and the redraws."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import polars as pl
import pytest
from diffusion_components import plain_pipeline
from PIL import Image

from skinaug.errors import InputError
from skinaug.generate import writer
from skinaug.generate.guards import flaw
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings
from skinaug.generate.writer import OPTIONS, PictureWriter, read_picture, save_picture
from skinaug.images import load_pixels, open_image
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.prompts import PromptSet
from skinaug.store.digest import sha256_file


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
    assert table.select("mode", "strength", "redraws").unique().rows() == [("text", None, 0)]
    assert table["flaw"].to_list() == [flaw(np.asarray(open_image(path)) / 255) for path in pool.paths()]
    assert table["guidance_interval"].to_list() == [[0.0, 1.0]] * 8
    assert table["parents"].to_list() == [[]] * 8
    assert set(os.listdir(pool.root)) == {"images", "manifest.parquet"}
    assert os.listdir(pool.root / "images") == ["0000"]


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
    (pool.root / "images" / "0000" / "half.123.partial").write_bytes(b"x")
    (pool.root / "images" / "0007").mkdir()
    (pool.root / "images" / "0007" / "stranger.png").write_bytes(kept.read_bytes())
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
    assert os.listdir(pool.root / "images") == ["0000"]
    assert sorted(os.listdir(pool.root / "images" / "0000")) == sorted(f"{name}.png" for name in before)


def test_redraws_and_flaws_are_told(draw, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        "skinaug.generate.predict.flaw", lambda picture: "cast" if picture[0, 0, 0] < 0.5 else None
    )
    manifest = draw(tmp_path / "pool", per_class=16, max_redraws=2)
    table = manifest.table
    assert set(table["redraws"]) == {0, 1, 2}
    assert set(table["flaw"]) == {None, "cast"}
    assert set(table.filter(pl.col("flaw") == "cast")["redraws"]) == {2}, (
        "only the last redraw is kept as it is"
    )
    other = draw(tmp_path / "other", per_class=16, max_redraws=2, batch_size=3)
    # Another batch size may round a pixel to the next level, so the files' digests may differ; the draws may not.
    assert table.drop("sha256").equals(other.table.drop("sha256"))


def test_the_base_decides_the_ids_not_its_folder(draw, pool: Manifest, tiny: Path, tmp_path: Path):
    def changed():
        pipeline = plain_pipeline(tiny)
        pipeline.unet.conv_in.weight.data[0, 0, 0, 0] += 1e-3
        return pipeline

    other = draw(tmp_path / "other", base=changed)
    assert not set(other.table["image_id"]) & set(pool.table["image_id"])
    assert other.table["seed"].equals(pool.table["seed"])


def test_logger_gets_the_rate(draw, tmp_path: Path):
    class Spy(lightning.pytorch.loggers.Logger):
        name = version = "spy"

        def log_hyperparams(self, *_):
            pass

        def log_metrics(self, metrics, step=None):
            logged.update(metrics)

    logged: dict[str, float] = {}
    draw(tmp_path / "pool", logger=Spy())
    assert logged["generate/images_per_second"] > 0


ROW = {"image_id": "a", "path": "images/0000/a.png", "prompt": "a photo", "seed": 2**53 - 1, "image_size": 9}


@pytest.mark.parametrize("format", OPTIONS)
def test_saved_files_tell_what_made_them(tmp_path: Path, format: str):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    record = save_picture(tmp_path, format, ROW, pixels, 2, "cast")
    path = tmp_path / ROW["path"]
    assert os.listdir(path.parent) == ["a.png"]
    saved = np.asarray(open_image(path)).astype(int)
    assert np.abs(saved - pixels).max() == 0 if format != "jpeg" else np.abs(saved - pixels).mean() < 8
    about = json.loads(Image.open(path).getexif()[0x010E])
    assert about == {"prompt": "a photo", "seed": 2**53 - 1, "redraws": 2, "flaw": "cast"}
    assert record["sha256"] == sha256_file(path)
    assert record["bytes"] == path.stat().st_size
    assert read_picture(tmp_path, ROW) == record
    assert Image.open(path).format.lower() == format


def test_files_that_are_not_the_rows_picture(tmp_path: Path):
    save_picture(tmp_path, "png", ROW, np.zeros((9, 9, 3), np.uint8), 0, None)
    for other in ({"seed": 1}, {"prompt": "b"}, {"image_size": 8}, {"path": "images/0000/b.png"}):
        assert read_picture(tmp_path, ROW | other) is None
    path = tmp_path / ROW["path"]
    content = path.read_bytes()
    for broken in (content[:-20], content[:40], b"", content[:30] + b"xxxx" + content[34:]):
        path.write_bytes(broken)
        assert read_picture(tmp_path, ROW) is None
    Image.new("RGB", (9, 9)).save(path)
    assert read_picture(tmp_path, ROW) is None, "not one of ours"


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats(draw, pool: Manifest, tmp_path: Path, format: str):
    other = draw(tmp_path / "other", format=format)
    assert {path.suffix for path in other.paths()} == {f".{format}"}
    assert other.table["image_id"].equals(pool.table["image_id"])
    assert same(pool, other, levels=0 if format == "webp" else 40)


def test_parts_are_written_as_pictures_are(draw, pool: Manifest, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("skinaug.generate.writer.PART_ROWS", 2)
    parts, whole = [], []
    write = writer.write_part

    def spy(out, records):
        write(out, records)
        parts.append(len(records))
        whole.append(all((out / record["path"]).is_file() for record in records))

    monkeypatch.setattr(writer, "write_part", spy)
    again = draw(tmp_path / "other", batch_size=2)
    assert parts == [2, 2, 2, 2]
    assert all(whole), "a part names files that are there"
    assert again.table.equals(pool.table)


def test_what_a_part_names_is_not_decoded_again(draw, pool: Manifest, tmp_path: Path, monkeypatch):
    out = tmp_path / "killed"
    monkeypatch.setattr("skinaug.generate.generate.finish", lambda *_: Manifest.write(pool, out))
    draw(out)
    monkeypatch.undo()
    (out / "manifest.parquet").unlink()
    assert len(list((out / "parts").iterdir())) == 1
    monkeypatch.setattr("skinaug.generate.pool.read_picture", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(PictureWriter, "on_predict_start", lambda *_: pytest.fail("drawn"))
    assert draw(out).table.equals(pool.table)


@pytest.mark.parametrize("count", [0, 1, 7, 8])
@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_devices_share_the_rows_without_overlap(tiny: Path, count: int, devices: int):
    rows = [{"prompt": "a", "seed": number} for number in range(count)]
    settings = Settings(2.5, 4, "dpmsolver++", 16)
    renderer = Renderer(plain_pipeline(tiny), settings, rows, batch_size=2)
    shares = []
    for rank in range(devices):
        renderer.trainer = SimpleNamespace(global_rank=rank, world_size=devices)
        shares.append([row["seed"] for batch in renderer.predict_dataloader() for row in batch])
    assert [seed for share in shares for seed in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_image_mode_starts_from_its_parents(draw, make_manifest, tmp_path: Path):
    real = make_manifest([{"label": label} for label in ("acne", "acne", "nevus")], size=24)
    pool = draw(tmp_path / "pool", mode="image", strength=0.5, real=real, batch_size="auto")
    table = pool.table
    used = table.explode("parents").join(real.table, left_on="parents", right_on="image_id", how="left")
    assert (used["label"] == used["label_right"]).all()
    assert set(used["split_right"]) == {"train"}
    assert table.select("mode", "strength").unique().rows() == [("image", 0.5)]
    assert same(pool, draw(tmp_path / "single", mode="image", strength=0.5, real=real, batch_size=1))
    other = draw(tmp_path / "far", mode="image", strength=1.0, real=real)
    assert not set(other.table["image_id"]) & set(table["image_id"])


def test_each_class_is_drawn_by_its_own_model(
    draw, tiny: Path, weights: Path, pool: Manifest, tmp_path: Path
):
    for label in ("acne", "nevus"):
        folder = weights / "models" / label
        folder.mkdir(parents=True)
        (folder / "labels.json").write_text(json.dumps({label: label}))
    pipeline = plain_pipeline(tiny)
    pipeline.unet.conv_in.weight.data += 0.1
    pipeline.save_pretrained(weights / "models" / "nevus" / "pipeline")
    mixed = draw(tmp_path / "mixed")
    assert mixed.table["weights"].n_unique() == 2
    alike = [m.table.filter(pl.col("label") == "acne") for m in (mixed, pool)]
    assert alike[0]["sha256"].equals(alike[1]["sha256"])
    assert alike[0]["image_id"].equals(alike[1]["image_id"])
    nevi = [set(m.table.filter(pl.col("label") == "nevus")["sha256"]) for m in (mixed, pool)]
    assert not nevi[0] & nevi[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "plms"}, "plms"),
        ({"per_class": 0, "batch_size": -1}, "per_class.*\n.*batch_size"),
        ({"classes": ("acne", "tinea")}, "not taught these classes: tinea"),
        ({"prompts": PromptSet("p", ["{label}"], labels={"rosacea": "rosacea"})}, "rosacea"),
        ({"weights": Path("nowhere")}, "labels.json"),
        ({"mode": "image"}, "real images: none were given"),
        ({"strength": 1.5, "mode": "image"}, "generate.strength"),
        ({"format": "gif"}, "png, webp, jpeg"),
        ({"guidance_interval": [0.8, 0.2]}, "guidance_interval"),
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
    from skinaug.models.trainer import make_trainer

    assert same(pool, draw(tmp_path / "other", trainer=partial(make_trainer, accelerator="cpu")), levels=0)
