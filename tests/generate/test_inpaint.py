"""Mode inpaint: what may be asked for, pictures against diffusers alone, and pools whose pictures are their parents outside of the masks."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import skinaug
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from diffusion_components import plain_pipeline, save_tiny
from PIL import Image

from skinaug.errors import InputError
from skinaug.finetune.suits import check_method
from skinaug.generate.families import check_pipeline
from skinaug.generate.inpaint import Inpaint, check_folder_of_masks
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings, check_folder, check_settings
from skinaug.generate.writer import PictureWriter
from skinaug.images import open_image, square
from skinaug.manifest import Manifest
from skinaug.models.base import load_folder
from skinaug.models.families.table import family_of

SIZE, SIDE, PLACE = 16, 24, 2  # pixels of pictures, photographs, and of a place of the tiny autoencoder
STARTS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
PROMPTS = ["a photo of acne", "a photo of nevus on the leg", "a photo of acne"]
PLAIN = {"sd1": StableDiffusionInpaintPipeline, "sdxl": StableDiffusionXLInpaintPipeline}
GOOD = {
    "per_class": 1, "guidance_scale": 2.5, "num_inference_steps": 4, "scheduler": "ddim", "image_size": SIZE, "batch_size": 1,
    "mode": "inpaint", "strength": 1.0,
}  # fmt: skip


def disc(row: int, column: int, radius: float, size: int = SIZE) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


AREAS = [disc(6, 6, 3), disc(9, 5, 4.5), disc(8, 8, 6)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """A function that gives the folder of a family's tiny pipeline; with `inpainting`, of one whose UNet has nine channels."""
    root = tmp_path_factory.mktemp("families")

    @cache
    def folder(family: str) -> Path:
        name, _, inpainting = family.partition(" ")
        plain = save_tiny(root / name, name)
        if not inpainting:
            return plain
        pipeline = plain_pipeline(plain)
        torch.manual_seed(1)
        unet = UNet2DConditionModel.from_config({**pipeline.unet.config, "in_channels": 9})
        parts = {**pipeline.components, "unet": unet}
        PLAIN[name](**parts).save_pretrained(root / family)
        return root / family

    return folder


def renderer(folder: Path, strength: float, feather: float = 0.0) -> Renderer:
    settings = check_settings(**(GOOD | {"strength": strength}), inpaint=Inpaint(feather=feather))
    return Renderer(plain_pipeline(folder), settings, max_redraws=0).eval()


def rows() -> list[dict]:
    given = zip(PROMPTS, [0, 2**53 - 1, 7], STARTS, AREAS, strict=True)
    return [{"prompt": p, "seed": seed, "start": start, "area": area} for p, seed, start, area in given]


def drawn(model: Renderer, some: list[dict]) -> np.ndarray:
    with torch.inference_mode():
        return model.predict_step(some, 0).pictures.astype(int)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd1 inpainting", "sdxl inpainting"])
def test_equal_to_one_plain_call_an_image_inside_and_to_the_parent_outside(
    folders, family: str, strength: float
):
    model = renderer(folders(family), strength)
    ours = drawn(model, rows())
    singly = np.concatenate([drawn(model, [row]) for row in rows()])
    parts = plain_pipeline(folders(family)).components
    pipeline = PLAIN[family.partition(" ")[0]](**parts)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    for picture, alone, row in zip(ours, singly, rows(), strict=True):
        area = row["area"]
        blocks = area.reshape(SIZE // PLACE, PLACE, SIZE // PLACE, PLACE).any((1, 3))
        mask = blocks.repeat(PLACE, 0).repeat(PLACE, 1)
        plain = pipeline(
            row["prompt"],
            image=Image.fromarray(row["start"]),
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=SIZE,
            width=SIZE,
            strength=strength,
            num_inference_steps=4,
            guidance_scale=2.5,
            generator=torch.Generator().manual_seed(row["seed"]),
        ).images[0]
        assert np.abs(picture - np.asarray(plain).astype(int))[area].max() <= 1
        assert (picture[~area] == row["start"][~area]).all()
        assert np.abs(picture - row["start"].astype(int))[area].mean() > 5
        assert np.abs(picture - alone).max() <= 1, "the same whatever the batch"


def test_an_autoencoder_of_other_channels_than_four_draws_too(folders):
    """As that of the base which comes with the package. diffusers' pipeline would refuse it."""
    pipeline = plain_pipeline(folders("sd1"))
    torch.manual_seed(2)
    vae = AutoencoderKL.from_config({**pipeline.vae.config, "latent_channels": 8})
    unet = UNet2DConditionModel.from_config({**pipeline.unet.config, "in_channels": 8, "out_channels": 8})
    pipeline.register_modules(vae=vae, unet=unet)
    settings = check_settings(**GOOD)
    check_pipeline(pipeline, settings)
    for _ in range(2):  # models are drawn from again
        pictures = drawn(Renderer(pipeline, settings, max_redraws=0).eval(), rows())
    assert all(
        (picture[~area] == start[~area]).all()
        for picture, area, start in zip(pictures, AREAS, STARTS, strict=True)
    )
    pipeline.register_modules(unet=UNet2DConditionModel.from_config({**unet.config, "in_channels": 9}))
    with pytest.raises(InputError, match="UNet reads 9 channels, and its autoencoder makes 8"):
        check_pipeline(pipeline, settings)


def test_inpainting_models_draw_into_pictures_and_are_taught_nothing(folders):
    folder = folders("sd1 inpainting")
    check_folder(check_settings(**GOOD), folder)
    for mode in ("text", "image"):
        with pytest.raises(
            InputError, match=rf"generate.mode={mode}: .*SD 1, 2 inpainting. Modes that it has: inpaint"
        ):
            check_folder(check_settings(**(GOOD | {"mode": mode})), folder)
    family = family_of(load_folder(folder))
    for method in ("lora", "full", "textual_inversion"):
        with pytest.raises(InputError, match="inpainting cannot be taught"):
            check_method(method, family)


def test_a_family_without_such_a_pipeline_is_refused_by_its_folder(folders):
    with pytest.raises(InputError, match=r"draws into a picture with SD 3. Modes that it has: text, image"):
        check_folder(check_settings(**GOOD), folders("sd3"))


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({"format": "jpeg"}, {}, "outside the mask"),
        ({}, {"parent_classes": "any"}, "an estimate misses parts of lesions"),
        ({}, {"parent_classes": "any", "mask": "drawn"}, "it lies beside the lesion"),
        ({"strength": 0.9}, {"parent_classes": "any", "mask": "column"}, "Use strength=1"),
    ],
)
def test_the_rule_on_labels_and_pixels(changes: dict, asked: dict, message: str):
    with pytest.raises(InputError, match=message):
        check_settings(**(GOOD | changes), inpaint=Inpaint(**asked))


@pytest.mark.parametrize(
    "asked",
    [
        {"mask": ""}, {"mask": 3}, {"parent_classes": "healthy"}, {"parent_classes": []}, {"margin": -0.1}, {"margin": 1},
        {"feather": "soft"}, {"diameter": [0.4, 0.1]}, {"diameter": 0.2}, {"diameter": [0, 1]}, {"on_bad": "skip"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_values(asked: dict):
    with pytest.raises(InputError, match=f"generate.inpaint.{next(iter(asked))}"):
        Inpaint(**asked)


def test_a_folder_that_is_not_there(tmp_path: Path):
    check_folder_of_masks(Inpaint(mask=str(tmp_path)))
    with pytest.raises(InputError, match="there is no such folder, and it is none of found, column, drawn"):
        check_folder_of_masks(Inpaint(mask="fuond"))


def test_parents_by_class():
    classes = ("acne", "healthy", "nevus")
    assert Inpaint().labels("acne", classes) == ["acne"]
    assert Inpaint(parent_classes="any", mask="column").labels("acne", classes) == list(classes)
    assert Inpaint(parent_classes=["healthy"], mask="drawn").labels("acne", classes) == ["healthy"]
    assert check_settings(
        **(GOOD | {"strength": 0.5}), inpaint=Inpaint(parent_classes=["healthy"], mask="drawn")
    )
    assert check_settings(**GOOD).inpaint == Inpaint()
    assert check_settings(**(GOOD | {"mode": "text"}), inpaint=Inpaint()) == Settings(2.5, 4, "ddim", SIZE)


@pytest.fixture
def photographs(make_manifest, tmp_path: Path) -> Manifest:
    """Three, and their masks in tmp_path/given."""
    real = make_manifest([{"label": label} for label in ("acne", "acne", "nevus")], size=SIDE)
    for number in range(3):
        (tmp_path / "given").mkdir(exist_ok=True)
        mask = Image.fromarray(disc(8 + number, 9, 5, SIDE).astype(np.uint8) * 255)
        mask.save(tmp_path / "given" / f"{number}.png")
    return real


def assert_parents_outside(pool: Manifest, real: Manifest) -> None:
    """Every saved picture has its parent's pixels outside of its saved mask, and not inside."""
    files = dict(zip(real.table["image_id"], real.paths(), strict=True))
    for row, path in zip(pool.table.iter_rows(named=True), pool.paths(), strict=True):
        mask = np.asarray(Image.open(pool.root / row["mask"])) > 127
        parent, picture = square(open_image(files[row["parents"][0]]), SIZE), np.asarray(Image.open(path))
        assert 0 < mask.mean() < 1
        assert (picture[~mask] == parent[~mask]).all()
        assert (picture[mask] != parent[mask]).any()


@pytest.fixture
def inpaint(draw, photographs: Manifest, tmp_path: Path):
    """A function that draws a pool into the photographs."""
    asked = Inpaint(mask=str(tmp_path / "given"), feather=0.1)
    return partial(draw, mode="inpaint", strength=1.0, inpaint=asked, real=photographs, per_class=3)


def test_a_pool_has_its_parents_pixels_outside_of_its_masks(inpaint, photographs: Manifest, tmp_path: Path):
    pool = inpaint(tmp_path / "pool", batch_size=4)
    assert_parents_outside(pool, photographs)
    used = pool.table.explode("parents").join(
        photographs.table, left_on="parents", right_on="image_id", how="left"
    )
    assert (used["label"] == used["label_right"]).all()
    assert pool.table.select("mode", "strength", "mask_from", "mask_feather").unique().rows() == [
        ("inpaint", 1.0, "folder", 0.1)
    ]
    other = inpaint(tmp_path / "single", batch_size=1, format="webp")
    assert other.table["image_id"].to_list() == pool.table["image_id"].to_list()
    assert_parents_outside(other, photographs)
    for one, two in zip(pool.paths(), other.paths(), strict=True):
        assert np.abs(np.asarray(open_image(one)).astype(int) - np.asarray(open_image(two))).max() <= 2
    mask = Image.fromarray(disc(12, 12, 4, SIDE).astype(np.uint8) * 255)
    mask.save(tmp_path / "given" / "2.png")
    changed = inpaint(tmp_path / "changed")
    moved = pl.Series(changed.table["image_id"].to_list()).is_in(pool.table["image_id"].to_list())
    assert moved.to_list() == [True] * 3 + [False] * 3, "another mask makes another picture"


def test_a_resumed_pool_is_the_same(inpaint, photographs: Manifest, tmp_path: Path, monkeypatch):
    pool = inpaint(tmp_path / "pool")
    out = tmp_path / "killed"
    monkeypatch.setattr("skinaug.generate.generate.finish", lambda *_: Manifest.write(pool, out))
    inpaint(out)
    monkeypatch.undo()
    (out / "manifest.parquet").unlink()
    table = pool.table
    (out / table["path"][0]).unlink()
    (out / table["mask"][1]).unlink()
    (out / table["mask"][2]).write_bytes(b"")
    (out / "masks" / "0000" / "stranger.png").write_bytes(b"")
    drawn_again = []
    before = PictureWriter.__init__
    monkeypatch.setattr(
        PictureWriter,
        "__init__",
        lambda self, out, format, total: (drawn_again.append(total), before(self, out, format, total))[1],
    )
    resumed = inpaint(out)
    assert drawn_again == [3]
    assert resumed.table.drop("sha256").equals(table.drop("sha256"))
    for one, two in zip(pool.paths(), resumed.paths(), strict=True):
        assert np.abs(np.asarray(open_image(one)).astype(int) - np.asarray(open_image(two))).max() <= 2
    assert_parents_outside(resumed, photographs)
    assert {path.relative_to(out).as_posix() for path in (out / "masks").rglob("*.png")} == set(table["mask"])


def test_ellipses_on_clean_skin_of_the_classes_that_are_named(draw, make_manifest, tmp_path: Path):
    real = make_manifest([{"label": label} for label in ("healthy", "healthy", "acne", "nevus")], size=SIDE)
    for path in real.paths():
        Image.new("RGB", (SIDE, SIDE), (214, 168, 144)).save(path)
    asked = Inpaint(mask="drawn", parent_classes=["healthy"], diameter=(0.2, 0.5))
    pool = draw(tmp_path / "pool", mode="inpaint", strength=1.0, inpaint=asked, real=real, max_redraws=0)
    assert set(pool.table["parents"].explode()) == {"i0", "i1"}
    assert pool.table["label"].to_list() == ["acne"] * 4 + ["nevus"] * 4
    assert len({(pool.root / name).read_bytes() for name in pool.table["mask"]}) > 4
    assert_parents_outside(pool, real)


def test_photographs_of_other_splits_are_refused(inpaint, photographs: Manifest, tmp_path: Path):
    test = photographs.with_table(photographs.table.with_columns(split=pl.lit("test")))
    with pytest.raises(InputError, match="starts from real training images only; 3 of those given are not"):
        inpaint(tmp_path / "pool", real=test)
    with pytest.raises(InputError, match="starts from real images: none were given"):
        inpaint(tmp_path / "pool", real=None)


def test_the_tiny_base_draws_into_phantoms(tmp_path: Path):
    """The command itself: what it refuses before anything is built, and a pool whose parents are training photographs."""
    sizes = [
        "scale.phantom_per_class=14",
        "scale.image_size=32",
        "scale.num_inference_steps=2",
        "scale.generate_per_class=1",
    ]
    asked = ["generate=inpaint", "finetune=none", "prompts=plain", "trainer=cpu", "logger=none", *sizes]
    refused = skinaug("generate", *asked, "generate.inpaint.parent_classes=any", cwd=tmp_path)
    assert refused.returncode == 2
    assert "so the old lesion would stay" in refused.stdout + refused.stderr
    assert not (tmp_path / "store").exists()
    skinaug("generate", *asked, cwd=tmp_path, check=True)
    folders = {
        stage: next(path for path in (tmp_path / "store" / stage).iterdir() if path.suffix == "")
        for stage in ("dataset", "generate")
    }
    pool, data = Manifest.read(folders["generate"]), Manifest.read(folders["dataset"])
    train = data.split("train")
    assert set(pool.table["parents"].explode()) <= set(train.table["image_id"])
    seen = pl.read_parquet(folders["generate"] / "seen.parquet")
    assert set(seen["image_id"]) == set(train.table["image_id"])
    files = dict(zip(data.table["image_id"], data.paths(), strict=True))
    for row, path in zip(pool.table.iter_rows(named=True), pool.paths(), strict=True):
        mask = np.asarray(Image.open(pool.root / row["mask"])) > 127
        parent = square(open_image(files[row["parents"][0]]), 32)
        assert (np.asarray(Image.open(path))[~mask] == parent[~mask]).all()
    record = json.loads((folders["generate"] / "artifact.json").read_text())
    assert record["config"]["inpaint"]["mask"] == "found"
