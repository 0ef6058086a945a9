"""The pages' instructions for extending skinaug, followed to the letter: their code blocks are what is run."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shlex
from pathlib import Path

import commands
import numpy as np
import polars as pl
import pytest
from diffusion_components import plain_pipeline, save_tiny_pipeline
from hydra import compose, initialize_config_dir
from image_encoders import save_open_clip
from omegaconf import DictConfig
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from rendered import SIZES, only
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from single_files import single_file
from transformers import ViTConfig, ViTForImageClassification

from skinaug import pipeline
from skinaug.cli.plan import plan_of
from skinaug.dataset.phantom.conditions import CONDITIONS
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.manifest import Manifest
from skinaug.models.base import load_pipeline
from skinaug.models.single_file import save_configuration
from skinaug.models.weights import digest
from skinaug.store.digest import folder_digest

PAGES = "".join(
    file.read_text()
    for folder in ("tutorials", "how-to")
    for file in sorted((Path(__file__).parents[1] / "docs" / folder).glob("*.md"))
)
SMALL = [
    "scale.phantom_per_class=20",
    "scale.phantom_test_fraction=0.6",
    "scale.real_limit=4",
    "scale.finetune_steps=1",
    "scale.generate_per_class=3",
    "scale.num_inference_steps=2",
    "scale.classifier_steps=2",
    "scale.classifier_val_every_steps=1",
    "audit.pool.num_replicates=2",
    "prompts=plain",
    "finetune=none",
    "logger=none",
]


def block(after: str, language: str) -> str:
    """The first code block of a language after some words of docs/tutorials or docs/how-to."""
    text = PAGES[PAGES.index(after) :]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"no page has a {language} block after {after!r}"
    return found[1]


def skinaug(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(cwd), "COLUMNS": "160"}
    return commands.skinaug(*arguments, cwd=cwd, env=environment, timeout=600, check=True).stdout


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_networks_of_all_kinds_are_one_yaml_each(tmp_path: Path):
    """The page's sweep: one of timm, one of torchvision, one of transformers and one of open_clip, and one of one's own code."""
    write(
        tmp_path / "networks.py",
        "from torch import nn\n"
        "def small(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n",
    )
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=64
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "weights")
    save_open_clip(tmp_path / "derm")
    yamls = {
        "mine": re.sub(r"weights: .*", "weights: null", block("**A backbone.**", "yaml")),
        "other": block("`conf/backbone/other.yaml`", "yaml"),
        "vit": block("`conf/backbone/vit.yaml`", "yaml").replace("/data/vit", str(tmp_path / "weights")),
        "derm": block("`conf/backbone/derm.yaml`", "yaml").replace("/data/derm", str(tmp_path / "derm")),
        "own": "_target_: networks.small\n_partial_: true\n",
    }
    for name, yaml in yamls.items():
        write(tmp_path / f"conf/backbone/{name}.yaml", yaml.replace("convnext_atto", "test_vit"))
    write(tmp_path / "conf/features/derm.yaml", block("`conf/features/derm.yaml`", "yaml"))
    sweep, probe = block("`conf/features/derm.yaml`", "sh").splitlines()
    words = (
        sweep.replace("derm ", "derm,own ").replace("real_small,", "").replace("seed=0,1", "seed=0").split()
    )
    skinaug(*words[1:], *SMALL, cwd=tmp_path)
    records = [path.read_text() for path in (tmp_path / "store/classify").glob("*/artifact.json")]
    assert len(records) == len(yamls)
    assert sum('"name": "test_vit"' in record for record in records) == 1
    report = next((tmp_path / "outputs/adhoc").glob("*/report/report.md")).read_text()
    assert all(f"backbone={name}" in report for name in yamls)
    words = probe.split()
    # To an encoder without weights all pictures are one: near-copies are told by their hashes alone.
    skinaug(*words[1:], "mix=real", "audit.copies.max_hamming=0", *SMALL, cwd=tmp_path)


RENDERED = [
    *(word for word in SIZES if not word.startswith("mix.")),
    *("base=oracle", "classify.steps=20", "classify.val_every_steps=10", "audit.pool.obedience=null"),
]


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's way up to a file of features: pictures out, and vectors of them by one's own code."""
    folder = tmp_path_factory.mktemp("featured")
    build, *exports = block("# Features of your own", "sh").splitlines()
    skinaug(*shlex.split(build, comments=True)[1:], *RENDERED, cwd=folder)
    for line in exports:
        words = shlex.split(line, comments=True)
        stage = words[2].partition("/")[0]
        skinaug("export", f"{stage}/{only(folder, stage).name}", *words[3:], cwd=folder)
    commands.skinaug(code=block("# Features of your own", "python"), cwd=folder, check=True)
    return folder


def classifiers(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "store/classify").glob("*/metrics.json"))


PROBES = (
    block("Then any probe learns", "sh").replace("seed=0,1", "seed=0").replace("real_small,", "").split()[1:]
)


def test_features_of_ones_own_are_a_file(featured: Path):
    """The page's sweep, with a control that repeats photographs; what was learned gives the predictions of the file's vectors."""
    skinaug(*PROBES, *RENDERED, "controls=[duplicated_real]", cwd=featured)
    assert len(classifiers(featured)) == 3
    vectors = dict(zip(*np.load(featured / "features.npz").values(), strict=True))
    for folder in classifiers(featured):
        learned = load_file(folder / "model.safetensors")
        predicted = pl.read_parquet(folder / "predictions.parquet")
        asked = np.stack([vectors[name] for name in predicted["image_id"]])
        logits = asked @ learned["head.weight"].numpy().T + learned["head.bias"].numpy()
        found = predicted.select("^p:.*$").to_numpy()
        np.testing.assert_allclose(found, softmax(logits, axis=1), atol=1e-4)


def job(folder: Path, *overrides: str) -> DictConfig:
    """A job of the study, in this process."""
    configs.register()
    places = [f"store={folder / 'store'}", f"output={folder / 'outputs'}", "logger=none"]
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        return compose("config", [*RENDERED, *places, *overrides])


def test_features_of_ones_own_measure_fidelity(featured: Path):
    """Of vectors that are all alike but for the pool's, which are far away."""
    pool = Manifest.read(only(featured, "generate")).table["image_id"].to_list()
    photographs = Manifest.read(only(featured, "dataset")).table["image_id"].to_list()
    rng = np.random.default_rng(0)
    files = [str(featured / f"{name}.parquet") for name in ("photographs", "pool")]
    for file, ids, mean in zip(files, (photographs, pool), (0, 100), strict=True):
        vectors = rng.normal(mean, 1, (len(ids), 4))
        columns = {f"f{number}": vectors[:, number] for number in range(4)}
        pl.DataFrame({"image_id": ids, **columns}).write_parquet(file)
    settings = ["audit.pool.neighbours=1"]
    made = pipeline.run(job(featured, *settings, f"audit.pool.features=[{','.join(files)}]"), "audit")
    fidelity = pl.read_csv(made["audit"].path / "fidelity.csv").filter(pl.col("label") == "all")
    fid = dict(fidelity.filter(pl.col("metric") == "fid").select("set", "value").iter_rows())
    assert fid["raw"] > 30_000 > 100 > fid["real, held out"]
    for file, count in zip(files, (len(pool), None), strict=True):
        with pytest.raises(InputError, match=rf"has no features of {count or ''}"):
            pipeline.run(job(featured, *settings, f"audit.pool.features={file}"), "audit")


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ("few.npz", [], r"few\.npz has no features of 3 of \d+ images:\n(.|\n)*`skinaug export` writes"),
        ("features.npz", ["test=[phantom]"], r"has no features of (\d+) of \1 images:\n  phantom/"),
        ("none.npz", [], r"There is no features file .*none\.npz"),
        ("[features.npz,features.npz]", [], "images more than once"),
        ("features.npz", ["classify=default"], "trains a network, which is not there: set classify=probe"),
    ],
)
def test_features_that_do_not_serve_are_refused_before_a_classifier(
    featured: Path, monkeypatch: pytest.MonkeyPatch, files: str, changes: list[str], said: str
):
    """By a run, and by a plan of it."""
    monkeypatch.chdir(featured)
    with np.load("features.npz") as file:
        np.savez("few.npz", image_id=file["image_id"][:-3], features=file["features"][:-3])
    words = [
        "classify=probe",
        "backbone=features",
        f"backbone.file={files}",
        "mix=hybrid",
        "seed=9",
        *changes,
    ]
    before = classifiers(featured)
    with pytest.raises(InputError, match=said):
        pipeline.run(job(featured, *words), "classify")
    assert classifiers(featured) == before
    (refusal,) = plan_of("classify", [*RENDERED, "logger=none", *words]).refused
    assert re.search(said, refusal)


def test_another_content_of_a_features_file_is_another_classifier(featured: Path):
    """And nothing else is."""
    words = ["classify=probe", "backbone=features", f"backbone.file={featured / 'mine.npz'}", "mix=hybrid"]
    keys = []
    for more in (0, 0, 1):
        with np.load(featured / "features.npz") as file:
            np.savez(featured / "mine.npz", image_id=file["image_id"], features=file["features"] + more)
        folder_digest.cache_clear()
        keys.append(
            {name: recipe.key for name, recipe in pipeline.recipes(job(featured, *words), "classify").items()}
        )
    assert keys[0] == keys[1]
    assert {name for name in keys[0] if keys[0][name] != keys[2][name]} == {"classify"}


def test_a_data_set_is_one_yaml(tmp_path: Path):
    yaml = block("**A data set.**", "yaml").replace("/data/mine", str(tmp_path / "mine"))
    write(tmp_path / "conf/dataset/mine.yaml", yaml)
    rng = np.random.default_rng(0)
    rows = [
        {"image": f"{i}.png", "diagnosis": "ab"[i % 2], "patient": f"p{i // 4}", "fitzpatrick": i % 6 + 1}
        for i in range(40)
    ]
    (tmp_path / "mine").mkdir()
    for row in rows:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "mine" / row["image"])
    pl.DataFrame(rows).write_csv(tmp_path / "mine" / "labels.csv")
    skinaug("dataset", "dataset=mine", "dataset.duplicates=null", "logger=none", cwd=tmp_path)
    (manifest,) = (tmp_path / "store" / "dataset").glob("*/manifest.parquet")
    table = pl.read_parquet(manifest)
    assert table.height == 40
    assert set(table["skin_type"]) == {"I", "II", "III", "IV", "V", "VI"}
    assert table.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1


@pytest.mark.slow
def test_a_filter_is_one_class_and_one_yaml(tmp_path: Path):
    write(tmp_path / "mine.py", block("**A filter.**", "python"))
    write(tmp_path / "conf/filter/brightness.yaml", block("`conf/filter/brightness.yaml`", "yaml"))
    base = save_tiny_pipeline(tmp_path / "base", size=64)
    arguments = ["filter=[brightness]", f"base.path={base}", *SMALL]
    output = skinaug(
        "curate", *arguments, "filter.brightness.keep={darkest: 0, brightest: 255}", cwd=tmp_path
    )
    assert "brightness" in output
    scores = list((tmp_path / "store" / "score").glob("*/scores.parquet"))
    output = skinaug(
        "curate", *arguments, "filter.brightness.keep={darkest: 254, brightest: 255}", cwd=tmp_path
    )
    assert list((tmp_path / "store" / "score").glob("*/scores.parquet")) == scores, (
        "a threshold moves at no cost"
    )
    funnels = [pl.read_csv(path) for path in (tmp_path / "store" / "curate").glob("*/funnel.csv")]
    left = (pl.col("step") == "brightness") & pl.col("kept")
    kept = sorted(funnel.filter(left)["images"].sum() for funnel in funnels)
    assert kept == [0, 18]


def test_a_stage_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "census.py", block("**A stage** is one file", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    stage = importlib.import_module("census").STAGE
    monkeypatch.setitem(pipeline.STAGES, stage.name, stage)
    configs.register()
    folders = [f"store={tmp_path / 'store'}", f"output={tmp_path / 'outputs'}"]
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", ["mix=real", *folders, *SMALL])
    made = pipeline.run(cfg, "census")
    assert list(made) == ["dataset", "copies", "mix", "census"]
    counted = dict(pl.read_csv(made["census"].path / "census.csv").iter_rows())
    assert counted == dict.fromkeys(Manifest.read(made["dataset"].path).classes, 4)
    assert [reasons for *_, reasons in pipeline.why(cfg, "census")] == [[]] * 4
    monkeypatch.setitem(pipeline.STAGES, stage.name, dataclasses.replace(stage, version=2))
    assert [reasons for *_, reasons in pipeline.why(cfg, "census")][-1] == ["version: 1 -> 2"]


def test_pools_made_elsewhere_are_one_yaml_each(tmp_path: Path):
    """The page's sweep: a pool of rendered pictures and one of noise, in one report that says who has seen what."""
    rng = np.random.default_rng(0)
    for label in CONDITIONS:
        for name in ("stylegan", "noise"):
            folder = tmp_path / "pools" / name / label
            folder.mkdir(parents=True)
            for number in range(8):
                noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(noise).resize((64, 64)).save(folder / f"{number}.png")
    yaml = block("A YAML a pool", "yaml")
    write(tmp_path / "conf/generate/stylegan.yaml", yaml)
    unknown = re.sub(r"seen: .*", "", yaml).replace("stylegan", "noise")
    write(tmp_path / "conf/generate/noise.yaml", unknown)
    command = block("A YAML a pool", "sh").replace("seed=0,1", "seed=0").split()
    changes = [word for word in SMALL if "finetune" not in word]
    cheap = ["classify=probe", "classify.steps=20", "audit.pool.obedience=null"]
    skinaug(*command[1:], *changes, "filter=[]", "scale.real_limit=4", *cheap, cwd=tmp_path)
    report = next((tmp_path / "outputs/pools").glob("*/report/report.md")).read_text()
    for words in (
        "stylegan, made elsewhere; its maker has seen: train",
        "noise, made elsewhere; its maker has seen: unknown",
        "which photographs the maker of noise has seen: not shown",
    ):
        assert words in report
    assert "generate=stylegan" in report or "stylegan" in report.split("Arms")[1][:2000]


def test_weights_made_elsewhere_draw_the_pool(tmp_path: Path):
    """The page's command, with a LoRA that diffusers saved for the tiny base."""
    pipeline = load_pipeline("package://tiny")
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    layers = get_peft_model_state_dict(pipeline.unet)
    pipeline.save_lora_weights(tmp_path, unet_lora_layers=layers, weight_name="lora.safetensors")
    command = shlex.split(block("# Draw with weights made elsewhere", "sh"))
    skinaug(*command[1:], *(word for word in SMALL if word != "finetune=none"), cwd=tmp_path)
    (pool,) = (path for path in (tmp_path / "store/generate").iterdir() if path.suffix == "")
    prompts = Manifest.read(pool).table.filter(pl.col("label") == "acne")["prompt"]
    assert prompts.str.contains("sks acne").all()


def test_a_checkpoint_in_one_file_draws_the_pool(tmp_path: Path):
    """The page's command, with a folder of JSON files beside the file."""
    theirs = plain_pipeline(save_tiny_pipeline(tmp_path / "theirs", size=64))
    save_file(single_file(theirs), tmp_path / "checkpoint.safetensors")
    save_configuration(theirs, tmp_path / "configuration")
    command = shlex.split(block("## A checkpoint in one file", "sh"))
    skinaug(*command[1:], *(word for word in SMALL if word != "finetune=none"), cwd=tmp_path)
    (pool,) = (path for path in (tmp_path / "store/generate").iterdir() if path.suffix == "")
    assert set(Manifest.read(pool).table["weights"]) == {digest(theirs)}
