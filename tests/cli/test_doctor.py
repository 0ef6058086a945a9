"""`skinaug doctor` against machines and installations that it is not on."""

from __future__ import annotations

from importlib.metadata import requires, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from safetensors.torch import load_file

from skinaug.__main__ import main
from skinaug.cli import doctor
from skinaug.cli.doctor import NOTE, OK, WRONG, Finding
from skinaug.models.base import local_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_tells_what_is_here_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    seconds: dict[str, float | None] = {"a": 200.0, "b": 160.0}
    monkeypatch.setattr(doctor, "plan_of", lambda *_: SimpleNamespace(seconds=seconds))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for package in ("torch", "diffusers", "polars"):
        assert f"{package} {version(package)}" in out
    assert "HF_HUB_OFFLINE" in out, "which these tests set"
    assert "W&B          does not answer: runs are written to files" in out
    assert "base=tiny: its weights are here" in out
    assert "about 6 minutes as earlier artifacts" in out
    assert out.endswith("Nothing is wrong.\n")
    assert list(tmp_path.iterdir()) == []
    seconds["c"] = None
    assert "no earlier run" in doctor.demo(Path("store")).told
    seconds.clear()
    assert "all in this store" in doctor.demo(Path("store")).told


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ({"torch": "2.10.0"}, "torch is 2.10.0 (asked for: <2.16,>=2.11)"),
        ({"timm": None}, "timm is not installed"),
        ({"torchvision": "0.20.0"}, "torchvision is 0.20.0"),
    ],
)
def test_what_is_not_as_asked_for_is_wrong(
    versions: dict[str, str | None], told: str, monkeypatch: pytest.MonkeyPatch
):
    own = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: versions[name] if name in versions else own(name))
    assert any(told in finding.told for finding in doctor.installed() if finding.verdict == WRONG)


def test_a_torchvision_of_another_torch_is_wrong(monkeypatch: pytest.MonkeyPatch):
    assert doctor.torchvision_fits().verdict == OK
    (asked,) = (line for line in map(Requirement, requires("torchvision") or ()) if line.name == "torch")
    own = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: "2.11.0" if name == "torch" else own(name))
    found = doctor.torchvision_fits()
    assert found.verdict == (OK if asked.specifier.contains("2.11.0") else WRONG)


def test_an_extra_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch):
    own = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "optuna" else own(name))
    found = list(doctor.installed())
    assert (
        Finding(NOTE, "extra", "search lacks optuna: pip install 'skinaug[search]' where it is wanted")
        in found
    )
    assert not any(finding.verdict == WRONG for finding in found)
    assert "search" not in next(finding.told for finding in found if finding.about == "extras")


def test_a_gpu_is_told_with_its_memory_and_a_driver_without_one_is_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (int(10e9), int(24e9)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "A GPU")
    assert Finding(OK, "GPU", "A GPU: 10.0 of 24.0 GB free") in list(doctor.memory_and_devices())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    if not torch.backends.mps.is_available():
        assert [finding.verdict for finding in doctor.memory_and_devices() if finding.about == "GPU"] == [
            WRONG
        ]


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "CGROUP", limit)
    whole, _ = doctor.memory()
    limit.write_text("max\n")
    assert doctor.memory()[0] == whole
    limit.write_text("1000000\n")
    assert doctor.memory() == (1_000_000, 1_000_000)


def test_weights_are_counted_by_their_files(monkeypatch: pytest.MonkeyPatch):
    folder = local_folder("package://tiny")
    assert folder is not None
    counted = sum(
        tensor.numel() for file in folder.glob("*/*.safetensors") for tensor in load_file(file).values()
    )
    assert doctor.parameters(folder, None, []) == counted
    monkeypatch.setattr(doctor, "memory", lambda: (1_000_000, 1_000_000))
    monkeypatch.setattr(doctor, "demo", lambda store: Finding(OK, "demo", ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = next(finding for finding in doctor.fits(Path("store")) if "base=tiny" in finding.told)
    assert (found.verdict, found.told.endswith("do not fit memory: trainer=fsdp, or a smaller base")) == (
        NOTE,
        True,
    )


def test_a_store_that_cannot_be_written_is_wrong(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert doctor.disk(tmp_path / "file" / "store").verdict == WRONG
    assert doctor.disk(tmp_path / "store").verdict in (OK, NOTE)
