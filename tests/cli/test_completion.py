"""The Tab key: what may follow on a command line, told without loading anything heavy, and read by the shells' own scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skinaug.__main__ import STAGES, TOOLS, WITHOUT_CONFIGURATION, main
from skinaug.cli import completion
from skinaug.cli.completion import SCRIPTS, Commands


def answers(line: str) -> dict[str, str]:
    return dict(completion.answers(line, Commands(STAGES, TOOLS, WITHOUT_CONFIGURATION)))


def names(line: str) -> list[str]:
    return list(answers(line))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKINAUG_STORE", raising=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("skinaug fine", ["finetune"]),
        ("skinaug why aud", ["audit"]),
        ("skinaug store ", ["ls", "gc"]),
        ("skinaug mix mix=real", ["mix=real", "mix=real_small"]),
        ("skinaug classify -m mix=real,syn", ["mix=real,synthetic"]),
        ("skinaug curate filter=[non_skin,n", ["filter=[non_skin,near_duplicate"]),
        ("skinaug plan classify experiment=ratio", ["experiment=ratio_sweep"]),
        ("skinaug mix mix.real_r", ["mix.real_ratio="]),
        ("skinaug mix mix.entry=", [f"mix.entry={word}" for word in ("add", "replace", "sample", "weight", "pretrain")]),
        ("skinaug classify logger.offline=", ["logger.offline=true", "logger.offline=false"]),
        ("skinaug finetune finetune=lora finetune.method.r", ["finetune.method.rank="]),
        ("skinaug finetune finetune.method.r", []),
        ("skinaug test test=[phantom] test.", ["test.phantom."]),
        ("skinaug classify mix=mistyped mix.real_r", ["mix.real_ratio="]),
        ("skinaug classify --mu", ["--multirun"]),
        ("skinaug classify see", ["seed="]),
    ],
)  # fmt: skip
def test_what_may_follow(line: str, expected: list[str]):
    assert names(line) == expected


def test_a_first_word_is_a_command():
    assert {*STAGES, *TOOLS} <= set(names("skinaug "))
    assert answers("skinaug cura") == {"curate": STAGES["curate"]}


def test_options_of_ones_own_and_artifacts_are_offered(tmp_path: Path):
    (tmp_path / "conf" / "mix").mkdir(parents=True)
    (tmp_path / "conf" / "mix" / "mine.yaml").write_text(
        "# A mix of mine. It is small.\ndefaults: [real]\nname: mine\n"
    )
    assert answers("skinaug mix mix=mi") == {"mix=mine": "A mix of mine"}
    (tmp_path / "store" / "curate" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "store" / "curate" / "0123456789abcdef" / "artifact.json").write_text("{}")
    (tmp_path / "store" / "curate" / "fedcba9876543210.partial").mkdir()
    assert names("skinaug export cur") == ["curate/0123456789abcdef"]


def test_an_answer_loads_nothing_heavy():
    probe = (
        "import sys; from skinaug.__main__ import main; main(['--complete', 'skinaug classify mix.sel']); print([m for m in sys.modules if m in "
        "('torch', 'polars', 'timm', 'pyarrow', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mix.selection=\tof the pool: random | best")
    assert lines[-1] == "[]"


BASH = """
eval "$(skinaug --show-completion bash)"
compopt() { :; }  # there is no completion going on
try() {
    COMP_LINE="$1" COMP_POINT=${#1} COMPREPLY=(); shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _skinaug; echo "${COMPREPLY[*]}"
}
try "skinaug classi" skinaug classi
try "skinaug classify mix=hy" skinaug classify mix = hy
try "skinaug curate filter=[non_skin,ens" skinaug curate filter = "[non_skin,ens"
try "skinaug classify mix=hy" skinaug classify mix=hy
"""


def test_bash_takes_what_comes_after_its_own_break_of_words():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", BASH], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["classify", "hybrid", "[non_skin,ensemble", "mix=hybrid"], done.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_installed_once(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    start = tmp_path / f".{shell}rc"
    start.write_text("alias ll='ls -l'")
    assert main(["--install-completion"]) == 0
    places = [Path(line.removeprefix("written: ")) for line in capsys.readouterr().out.splitlines()[:-1]]
    script = places[0].read_text()
    assert "skinaug --complete" in script or '--complete "' in script
    if shell == "fish":
        assert places == [tmp_path / ".config/fish/completions/skinaug.fish"]
    else:
        assert places[1] == start
        assert start.read_text() == f"alias ll='ls -l'\nsource \"{places[0]}\"\n"
    assert main(["--install-completion", shell]) == 0
    assert "written" not in capsys.readouterr().out


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["--install-completion", "fsh"]) == 2
    assert "Nearest: fish" in capsys.readouterr().err
