"""Model cards: what a reader and a model hub need is there, and the code in them runs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import polars as pl
import pytest
import torch
from diffusion_components import WIDTH_G, WIDTH_L, plain_pipeline, save_tiny
from huggingface_hub import ModelCard
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

from skinaug.finetune.card import write_card
from skinaug.manifest import Manifest
from skinaug.models.cards import code as markdown_code
from skinaug.models.cards import data_digest, table

PHRASES = {"acne": "<acne>", "basal cell | carcinoma": "<bcc>"}
HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
SETTINGS = {"steps": 500, "learning rate": 5e-4, "batch size": 4, "image size": 16, "prior": None, "seed": 0}


def rows(*labels: str) -> Manifest:
    """Photographs that need not exist."""
    table = [
        {
            "image_id": f"i{number}",
            "path": f"{number}.png",
            "label": label,
            "split": "train",
            "group_id": f"g{number}",
            "source": "real",
            "width": 16,
            "height": 16,
            "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
        }
        for number, label in enumerate(labels)
    ]
    return Manifest(pl.DataFrame(table), Path("/photos"), tuple(PHRASES), "CC BY 4.0", "Somebody et al. 2020")


def write(out: Path, base_name: str = HUB, licence: str = "CreativeML OpenRAIL-M", phrases=PHRASES) -> str:
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.json").write_text(json.dumps(phrases))
    write_card(
        out,
        manifest=rows("acne", "acne", "basal cell | carcinoma"),
        phrases=phrases,
        method="TextualInversion",
        settings=SETTINGS,
        base_name=base_name,
        licence=licence,
    )
    return (out / "README.md").read_text("utf-8")


def code(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


def save_tokens(folder: Path, family: str) -> None:
    (folder / "textual_inversion").mkdir(parents=True)
    for name in ("acne", "bcc"):
        tensors = {f"<{name}>": torch.ones(2, WIDTH_L)}
        if family == "sdxl":
            tensors = {"clip_l": torch.ones(2, WIDTH_L), "clip_g": torch.ones(2, WIDTH_G)}
        save_file(tensors, folder / "textual_inversion" / f"{name}.safetensors")


def save_lora(folder: Path, base: Path) -> None:
    pipeline = plain_pipeline(base)
    part = "transformer" if hasattr(pipeline, "transformer") else "unet"
    denoiser = getattr(pipeline, part)
    denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    pipeline.save_lora_weights(
        folder / "lora", **{f"{part}_lora_layers": get_peft_model_state_dict(denoiser)}
    )


def test_names_and_citations_show_as_they_are():
    hostile = "<script>alert(1)</script> [x](y) *a* | `b`"
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    page = reader.render(table(("class", "in a prompt"), [(hostile, markdown_code(hostile))]))
    shown = re.findall("<td>(.*?)</td>", page)
    assert unescape(shown[0]) == hostile
    assert unescape(shown[1]) == f"<code>{hostile}</code>"
    assert set(re.findall(r"<(\w+)", page)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_what_a_reader_needs(tmp_path: Path):
    text = write(tmp_path)
    for expected in (
        "| acne | `<acne>` | 2 |",
        r"| basal cell \| carcinoma | `<bcc>` | 1 |",
        data_digest(rows("acne", "acne", "acne")),
        "| images | 3 |",
        "| licence | CC BY 4.0 |",
        "| citation | Somebody et al. 2020 |",
        f"| name | `{HUB}` |",
        "| licence | CreativeML OpenRAIL-M |",
        "| steps | 500 |",
        "| learning rate | 0.0005 |",
        "| prior | none |",
        "Not for diagnosis",
        "synthetic",
        "memorised",
    ):
        assert expected in text, expected
    assert not list(tmp_path.glob("*.part"))


def test_front_matter_as_the_hub_reads_it(tmp_path: Path):
    (tmp_path / "lora").mkdir()
    card = ModelCard(write(tmp_path)).data
    assert (card.license, card.base_model) == ("creativeml-openrail-m", HUB.partition("@")[0])
    assert (card.library_name, card.pipeline_tag) == ("diffusers", "text-to-image")
    assert {"lora", "dermatology", "synthetic-data"} <= set(card.tags)


def test_a_base_that_no_hub_has_and_a_licence_that_it_does_not_know(tmp_path: Path):
    card = ModelCard(write(tmp_path, "package://tiny", "Stability AI Community License")).data
    assert card.base_model is None
    assert (card.license, card.license_name) == ("other", "stability-ai-community-license")


def test_data_digest_knows_the_images_and_nothing_else():
    images = rows("acne", "acne", "acne")
    shuffled = images.with_table(images.table.reverse().with_columns(image_id="path"))
    assert data_digest(shuffled) == data_digest(images)
    assert data_digest(images.where(pl.col("image_id") != "i0")) != data_digest(images)
    digests = sorted(images.table["sha256"])
    assert data_digest(images) == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_samples_are_linked(tmp_path: Path):
    for folder in ("models/acne", "models/bcc"):
        (tmp_path / folder / "samples").mkdir(parents=True)
        (tmp_path / folder / "labels.json").write_text("{}" if "bcc" in folder else '{"acne": "<acne>"}')
        for step in (100, 200):
            Image.new("RGB", (4, 4)).save(tmp_path / folder / "samples" / f"step_{step:06d}.png")
    links = re.findall(r"!\[.*?\]\((.*?)\)", write(tmp_path))
    assert links == [f"models/{name}/samples/step_000200.png" for name in ("acne", "bcc")]
    assert all((tmp_path / link).is_file() for link in links)
    shutil.rmtree(tmp_path / "models")
    assert "## Samples" not in write(tmp_path)


def test_the_code_pins_the_base(tmp_path: Path):
    name, _, revision = HUB.partition("@")
    assert f"from_pretrained('{name}', revision='{revision}')" in code(write(tmp_path))


def shortened(text: str) -> str:
    """The card's code with one step of sampling."""
    return code(text).replace(").images", ", num_inference_steps=1).images")


def taught(kind: str, family: str, folder: Path, base: Path) -> str:
    """Save an artifact of a kind; returns a statement that tells whether a loaded pipeline has it."""
    if kind == "textual_inversion":
        save_tokens(folder, family)
        check = "assert len(pipeline.tokenizer('<acne>_1').input_ids) == 3, 'a token of two vectors'\n"
        second = "assert (pipeline.text_encoder_2.get_input_embeddings().weight[-4:] == 1).all()"
        return check + (second if family == "sdxl" else "")
    if kind == "lora":
        save_lora(folder, base)
        part = "transformer" if family == "sd3" else "unet"
        return f"assert any('.lora_A' in name for name, _ in pipeline.{part}.named_parameters())"
    pipeline = plain_pipeline(base)
    pipeline.vae.decoder.conv_out.bias.data.fill_(0.5)
    for network in (pipeline.vae, pipeline.text_encoder):
        network.half()
    pipeline.save_pretrained(folder / "pipeline")
    return "assert (pipeline.vae.decoder.conv_out.bias == 0.5).all()"


CASES = [
    ("textual_inversion", "sd1", "."),
    ("textual_inversion", "sd2", "models/acne"),
    ("textual_inversion", "sdxl", "."),
    ("lora", "sd1", "."),
    ("lora", "sdxl", "."),
    ("lora", "sd3", "models/acne"),
    ("pipeline", "sd1", "models/acne"),
    ("pipeline", "sd3", "."),
]


def artifact(tmp_path: Path, kind: str, family: str, scope: str) -> tuple[Path, str, str]:
    """A folder with an artifact, its card's code, and a statement that holds after it."""
    base = save_tiny(tmp_path / "base", family)
    model = tmp_path / "artifact" / scope
    check = taught(kind, family, model, base)
    (model / "labels.json").write_text(json.dumps({"acne": "<acne>"}))
    return tmp_path / "artifact", shortened(write(tmp_path / "artifact", str(base))), check


@pytest.mark.parametrize(("kind", "family", "scope"), CASES)
def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, family: str, scope: str):
    folder, lines, check = artifact(tmp_path, kind, family, scope)
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(lines + "\n" + check, names)
    assert names["image"].size == (16, 16)


def test_the_code_finds_the_base_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = shortened(write(tmp_path, "package://tiny"))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(lines, names)
    assert names["image"].size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "family", "scope"), CASES[:1] + CASES[4:5])
def test_the_code_runs_as_a_script(tmp_path: Path, kind: str, family: str, scope: str):
    folder, lines, check = artifact(tmp_path, kind, family, scope)
    alone = "import sys; assert 'skinaug' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", f"{lines}\n{check}\n{alone}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
