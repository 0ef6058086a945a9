"""The command line as a user meets it: quick answers, and one clear message for each bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from skinaug import pipeline
from skinaug.__main__ import STAGES


def skinaug(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    environment.pop("SKINAUG_STORE", None)
    return commands.skinaug(*arguments, cwd=cwd, env=environment, timeout=300)


def test_help_lists_the_stages_and_imports_nothing_heavy(tmp_path: Path):
    result = skinaug("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert all(stage in result.stdout for stage in STAGES)
    probe = "import sys; from skinaug.__main__ import main; main(['--help']); print([m for m in sys.modules if m in "
    probe += "('torch', 'hydra', 'polars', 'numpy')])"
    heavy = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert heavy.stdout.strip().endswith("[]")


def test_a_stage_shows_its_configuration_without_importing_torch(tmp_path: Path):
    probe = "import sys; from skinaug.__main__ import main; main(['classify', '--cfg', 'job']); "
    probe += "print([m for m in sys.modules if m in ('torch', 'lightning', 'diffusers', 'timm', 'polars')])"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "synthetic_ratio" in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_the_help_lists_what_the_pipeline_has():
    assert set(STAGES) == {*pipeline.STAGES, "report"} - {
        "copies",
        "score",
        "certify",
        "evaluate",
        "exposed",
        "real_labels",
        "tones",
    }, "those come with others"


def test_a_wrong_stage_lists_the_stages(tmp_path: Path):
    result = skinaug("clasify", cwd=tmp_path)
    assert result.returncode == 2
    assert all(stage in result.stderr for stage in STAGES)


FOLDER = ["dataset=folder", "dataset.root=photos"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["classify", "dataset=folder"], ["dataset.root"]),
        (
            ["classify", "dataset=folder", "dataset.root=nowhere"],
            ["nowhere", "does not exist", "dataset.root"],
        ),
        (["classify", "dataset=folder", "dataset.root=empty"], ["empty", "no images", "dataset.root"]),
        (["classify", "dataset=pad_ufes_20", "dataset.root=photos"], ["metadata.csv"]),
        (["classify", "classify.learns=body"], ["classify.learns=body", "network, head"]),
        (["classify", "classify=probe", "classify.mixup=0.2"], ["classify.mixup", "a probe"]),
        (
            ["dataset", "dataset=csv", "dataset.root=table", "dataset.source.columns.label=diagnosis"],
            ["diagnosis", "path", "kind"],
        ),
        (["classify", "backbone=resnt18"], ["resnt18", "resnet18"]),
        (["classify", "backbone=resnet18"], ["resnet18", "hub", "backbone.pretrained=false"]),
        (["classify", "base=sd15"], ["base.path"]),
        (
            ["classify", "base.path=one.safetensors"],
            ["finetune=given finetune.path=one.safetensors", "from_single_file"],
        ),
        (["classify", "trainer.devices=two"], ["trainer.devices=two", "[0,1]"]),
        (["classify", "mix.synthetic_ratio=-1"], ["mix.synthetic_ratio=-1", "at least 0"]),
        (["classify", "mix.real_ratio=1.5"], ["mix.real_ratio=1.5", "0 to 1"]),
        (["classify", "mix.sythetic_ratio=1"], ["sythetic_ratio"]),
        (["classify", "prompts=fancy"], ["fancy", "clinical"]),
        (["classify", "store=file/store"], ["store=<folder>"]),
        (["classify", "output=file/outputs"], ["output=<folder>"]),
        (["classify", "-m", "seed=0,1", "output=file/outputs"], ["output"]),
        (["classify", "-m", "mix.synthetic_ratio=-1,-2"], ["mix.synthetic_ratio=-1"]),
        (["classify", "finetune=textual_inversion", "finetune.method.num_vectors=0"], ["num_vectors"]),
        (["curate", "filter.ensemble.keep.agreement=2"], ["filter.ensemble.keep.agreement=2", "[0, 1]"]),
        (["compare", "nowhere"], ["needs two folders"]),
        (["compare", "empty", "photos"], ["No run.json below empty"]),
        (["audit", "nowhere/0123"], ["nowhere/0123", "skinaug store ls"]),
        (["audit", "real=photos"], ["synthetic=<folder> is not given"]),
        (["audit", "real=photos", "synthetic=photos/acne"], ["one lies in the other"]),
        (["audit", "real=photos", "synthetic=empty"], ["empty holds no images", "synthetic=<folder>"]),
        (["audit", "real=photos", "synthetic=table"], ["metadata.csv has the columns path, kind"]),
        (["classify", "report.subgroups=[hair]"], ["report.subgroups names hair", "skin_type, body_site"]),
        (["classify", "real=photos"], ["real=photos is for `skinaug audit` alone"]),
        (["review", "review.reviewer=../x"], ["cannot name a reviewer"]),
        (["review", "review.task=guess"], ["keep_or_reject or real_or_fake"]),
        (["review", "review.task=real_or_fake", "review.split=test"], ["shown to nobody"]),
        (["mix", "mix.control=tone_shift", "mix.tone_shift_ita=[50,-10]"], ["degrees, such as [-50, 10]"]),
        (["report", "report.runs=nowhere"], ["nowhere"]),
        (["report"], ["report.runs"]),
        (["report", "predictions=nowhere"], ["nowhere does not exist", "predictions=<folder>"]),
        (["report", "predictions=photos"], ["neither CSV nor Parquet", "acne/a.png"]),
        (["report", "report.margin=-3"], ["report.margin=-3", "above 0"]),
        (["classify", "-m", "seed=0,1", "report.margin=100"], ["report.margin=100", "below 100"]),
        (["why"], ["why <stage>"]),
    ],
    ids=lambda value: " ".join(value) if value and "=" in " ".join(value) else None,
)
def test_bad_input_is_one_message_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], expected: list[str]
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos" / "acne").mkdir(parents=True)
    (tmp_path / "photos" / "acne" / "a.png").write_bytes(b"not a picture")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "metadata.csv").write_text("path,kind\na.png,acne\n")
    (tmp_path / "table" / "a.png").write_bytes(b"x")
    (tmp_path / "file").write_text("")
    (tmp_path / "one.safetensors").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    result = commands.here(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert all(text in result.stderr for text in expected), result.stderr
    assert result.stderr.startswith("skinaug: ")
    assert sorted(tmp_path.rglob("*")) == before
