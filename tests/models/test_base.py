"""Base models: the first that loads wins, nothing that needs a pickle loads, and what is missing is told quickly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusion_components import FAMILIES, plain_pipeline, save_tiny
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import load_file, save_file

from skinaug.errors import InputError
from skinaug.models import base
from skinaug.models.base import Origin, check_base, load_pipeline, origin
from skinaug.models.base_folder import pipeline_files

MIRRORS = ["nobody/no-such-model", "nobody/nor-this-one@0123abc"]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random pipelines by family."""
    root = tmp_path_factory.mktemp("base")
    return {family: save_tiny(root / family, family) for family in FAMILIES}


@pytest.fixture
def folder(families: dict[str, Path]) -> Path:
    return families["sd2"]


def picture(pipeline) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.as_tensor(
        pipeline("a photo of acne", num_inference_steps=2, generator=generator, output_type="np").images
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_what_diffusers_draws(families: dict[str, Path], family: str):
    pipeline = load_pipeline(str(families[family]), licence="CC0")
    pipeline.set_progress_bar_config(disable=True)
    assert torch.equal(picture(pipeline), picture(plain_pipeline(families[family])))
    assert origin(pipeline) == Origin(str(families[family]), "CC0")


def test_a_folder_loads_in_float32_without_a_safety_checker(folder: Path, tmp_path: Path):
    half = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    pipeline = load_pipeline(str(tmp_path / "half"))
    assert pipeline.safety_checker is None
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    expected = half.unet.state_dict()
    assert all(torch.equal(value, expected[key].float()) for key, value in pipeline.unet.state_dict().items())


def test_a_variant_of_the_weights(folder: Path, tmp_path: Path):
    half = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    half.unet.conv_out.bias.data.fill_(0.5)
    shutil.copytree(folder, tmp_path / "both")
    half.unet.save_pretrained(tmp_path / "both" / "unet", variant="fp16")  # the other parts have none
    assert (load_pipeline(str(tmp_path / "both"), variant="fp16").unet.conv_out.bias == 0.5).all()
    assert (load_pipeline(str(tmp_path / "both")).unet.conv_out.bias != 0.5).all()


def test_the_t5_encoder_can_be_left_out(families: dict[str, Path], tmp_path: Path):
    shutil.copytree(families["sd3"], tmp_path / "sd3")
    index = json.loads((tmp_path / "sd3/model_index.json").read_text())
    t5 = {
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
    }
    (tmp_path / "sd3/model_index.json").write_text(json.dumps(index | t5))
    with pytest.raises(InputError, match=r"text_encoder_3: missing\n  tokenizer_3: missing"):
        load_pipeline(str(tmp_path / "sd3"))
    pipeline = load_pipeline(str(tmp_path / "sd3"), drop=list(t5))
    assert pipeline.text_encoder_3 is None
    for path, dropped in ((tmp_path / "sd3", "vae"), (families["sdxl"], "text_encoder_2")):
        with pytest.raises(InputError, match=f"cannot do without {dropped}"):
            load_pipeline(str(path), drop=[dropped])


def test_a_folder_wins_over_the_hub(folder: Path):
    assert isinstance(load_pipeline(str(folder), MIRRORS), StableDiffusionPipeline)


def hub_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)  # their constructors want a whole response
    error.args = ("401 Client Error",)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("disk is full\nand more"), "disk is full$"),
        (TimeoutError(), "TimeoutError"),
        (InputError("its model_index.json lacks vae"), "lacks vae"),
        (
            hub_error(GatedRepoError),
            "licence has to be accepted.*huggingface.co/nobody/no-such-model.*hf auth login",
        ),
        (hub_error(RepositoryNotFoundError), "no such repository"),
        (hub_error(RevisionNotFoundError), "no such revision"),
    ],
    ids=["disk", "timeout", "incomplete", "gated", "unknown", "revision"],
)
def test_the_first_mirror_that_loads_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
):
    tried = []

    def download(hub_id: str, revision: str | None, variant: str | None, drop: list[str]) -> Path:
        tried.append((hub_id, revision))
        if hub_id == MIRRORS[0]:
            raise error
        return folder

    monkeypatch.setattr(base, "check_base", lambda *_: None)
    monkeypatch.setattr(base, "hub_reachable", lambda: True)
    monkeypatch.setattr(base, "_download", download)
    pipeline = load_pipeline(hub_ids=MIRRORS, licence="CC0")
    assert tried == [("nobody/no-such-model", None), ("nobody/nor-this-one", "0123abc")]
    assert origin(pipeline) == Origin(MIRRORS[1], "CC0")
    with pytest.raises(InputError, match=rf"(?m)nobody/no-such-model: .*{reason}(.|\n)*base\.path="):
        load_pipeline(hub_ids=MIRRORS[:1])


def test_only_what_is_read_is_downloaded(families: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    index = families["sdxl"] / "model_index.json"
    there = [path.relative_to(families["sdxl"]).as_posix() for path in families["sdxl"].rglob("*.*")]
    others = [
        "sd_xl_base_1.0.safetensors",
        "vae_1_0/config.json",
        "unet/model.onnx",
        "unet/openvino_model.bin",
    ]
    others += ["unet/diffusion_pytorch_model.fp16.safetensors", "README.md", "sd_xl.png"]
    asked = {}

    def download(hub_id: str, revision: str, allow_patterns: list[str]) -> str:
        asked.update(hub_id=hub_id, revision=revision, patterns=allow_patterns)
        return str(families["sdxl"])

    monkeypatch.setattr(base, "hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(index))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: there + others)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_pipeline(hub_ids=["nobody/sdxl@abc"]).text_encoder_2 is not None
    assert asked["hub_id"] == "nobody/sdxl"
    assert asked["revision"] == "abc"
    assert sorted(asked["patterns"]) == sorted(there)


def test_a_pinned_revision_in_the_cache_needs_no_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(base, "hub_reachable", lambda: False)
    snapshots = tmp_path / "models--nobody--cached" / "snapshots"
    shutil.copytree(folder, snapshots / "abc")
    monkeypatch.setattr(
        base, "_cached", lambda hub_id, revision: snapshots / "abc" if revision == "abc" else None
    )
    assert load_pipeline(hub_ids=["nobody/cached"], revision="abc") is not None
    with pytest.raises(InputError, match="nobody/cached@def"):
        check_base(None, ["nobody/cached@def"])
    (snapshots / "abc" / UNET).unlink()
    with pytest.raises(InputError, match=r"nobody/cached@abc: .* unet: no safetensors"):
        check_base(None, ["nobody/cached@abc"])


def test_no_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    start = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached(.|\n)*nor-this-one(.|\n)*base\.path="):
        check_base(None, MIRRORS)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("path", ["no/such/folder", "package://enormous"])
def test_a_folder_without_a_pipeline_is_refused(path: str):
    with pytest.raises(InputError, match="no diffusers pipeline"):
        load_pipeline(path)


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def pickled(folder: Path) -> None:
    torch.save({}, (folder / UNET).with_suffix(".bin"))
    (folder / UNET).unlink()


def two_shards_of_three(folder: Path) -> None:
    for number in (1, 3):
        shutil.copy(folder / UNET, folder / f"unet/diffusion_pytorch_model-0000{number}-of-00003.safetensors")
    (folder / UNET).unlink()


def one_file(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_bytes(b"")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_file("model.ckpt"), r"no model_index.json. It has model.ckpt. Pickles are refused.*safetensors"),
        (
            one_file("model.safetensors"),
            r"no model_index.json. A checkpoint in one file .*finetune.path=\S+model.safetensors.*from_single_file",
        ),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json is not JSON"),
        (lambda folder: (folder / "model_index.json").write_text("[]"), "does not describe a pipeline"),
        (
            lambda folder: rewrite(
                folder / "model_index.json", lambda index: index.update(_class_name="ChromaPipeline")
            ),
            "a ChromaPipeline. Those that can be used: StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiff",
        ),
        (
            lambda folder: rewrite(
                folder / "model_index.json", lambda index: index.update(vae=["subprocess", "Popen"])
            ),
            "other libraries than diffusers and transformers(.|\n)*vae: subprocess",
        ),
        (lambda folder: rewrite(folder / "model_index.json", lambda index: index.pop("vae")), "lacks vae"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae: missing"),
        (
            lambda folder: (folder / "tokenizer/tokenizer.json").unlink(),
            "tokenizer: none of tokenizer.json, vocab",
        ),
        (lambda folder: (folder / "unet/config.json").unlink(), "unet: no config.json"),
        (lambda folder: (folder / "scheduler/scheduler_config.json").unlink(), "scheduler: "),
        (pickled, "only diffusion_pytorch_model.bin. Pickles are refused.*safetensors"),
        (two_shards_of_three, "unet: 2 of 3 safetensors"),
        (lambda folder: (folder / UNET).unlink(), "unet: no safetensors"),
        (
            lambda folder: (folder / UNET).write_bytes(b"half a file"),
            rf"Truncated or no safetensors:\n  {UNET}",
        ),
        (
            lambda folder: (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1]),
            rf"Truncated.*\n  {UNET}",
        ),
    ],
    ids=[
        *(
            "ckpt",
            "one file",
            "no JSON",
            "no object",
            "another family",
            "another library",
            "no vae in index",
            "no vae",
            "no tokenizer",
        ),
        *("no config", "no scheduler", "pickle", "a shard lost", "no weights", "no header", "truncated"),
    ],
)
def test_a_folder_that_is_not_as_it_must_be(families: dict[str, Path], tmp_path: Path, spoil, message: str):
    folder = tmp_path / "spoilt"
    shutil.copytree(families["sd1"], folder)
    spoil(folder)
    with pytest.raises(InputError, match=rf"spoilt(.|\n)*{message}"):
        check_base(str(folder), [])
    with pytest.raises(InputError, match=rf"spoilt(.|\n)*{message}"):
        load_pipeline(str(folder))


@pytest.mark.parametrize("part", ["unet", "text_encoder_2"])
def test_weights_that_lack_a_tensor(families: dict[str, Path], tmp_path: Path, part: str):
    folder = tmp_path / "partial"
    shutil.copytree(families["sdxl"], folder)
    (path,) = (folder / part).glob("*.safetensors")
    save_file(dict(list(load_file(path).items())[1:]), path, {"format": "pt"})
    with pytest.raises(InputError, match=f"not all there. Missing:\n  {part}: 1 of"):
        load_pipeline(str(folder))


def test_weights_of_another_size(families: dict[str, Path], tmp_path: Path):
    folder = tmp_path / "mixed"
    shutil.copytree(families["sd1"], folder)
    shutil.copy(families["sdxl"] / UNET, folder / UNET)
    with pytest.raises(InputError, match="mixed cannot be loaded"):
        load_pipeline(str(folder))


def test_everything_that_is_missing_is_told_at_once(folder: Path):
    index = json.loads((folder / "model_index.json").read_text())
    with pytest.raises(InputError, match=r"scheduler: missing\n  text_encoder: missing\n  tokenizer"):
        pipeline_files(index, ["unet/config.json"])


def test_the_check_imports_nothing_heavy(folder: Path):
    code = (
        "import sys; from skinaug.models.base import check_base; check_base(sys.argv[1], [])\n"
        "assert not {'torch', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_a_licence_that_forbids_commercial_use_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    settings = {"path": str(folder), "hub_ids": [], "licence": "Some Non-Commercial License"}
    base.check_base_settings(settings | {"commercial": True})
    base.check_base_settings(settings)
    assert capsys.readouterr().out == ""
    for _ in range(2):  # as finetune and generate do
        base.check_base_settings(settings | {"commercial": False})
    told = capsys.readouterr().out
    assert told.count("Some Non-Commercial License. It forbids commercial use") == 1
