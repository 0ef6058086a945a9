"""`skinaug <stage> --help`, and what is said to a mistyped word."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from skinaug.__main__ import STAGES, main
from skinaug.cli.help import GROUPS
from skinaug.launch import configs
from skinaug.launch.described import choices, groups, options, read_values, sentence, settings

CONF = configs.folder("conf")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)  # commands have one of their own
    yield
    signal.signal(signal.SIGTERM, before)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main([*arguments]) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_help_names_its_groups_options_and_values(stage: str, capsys: pytest.CaptureFixture[str]):
    text = told(capsys, stage, "--help")
    assert text.startswith(f"skinaug {stage}: {STAGES[stage]}")
    for group in GROUPS[stage]:
        files = [file.stem for file in (CONF / group).glob("[!_]*.yaml")]
        assert all(re.search(rf"^[* ] {name} +\S", text, re.MULTILINE) for name in files), "each with a line"
    assert "scale=" in text
    assert "seed=0" in text
    assert "_target_" not in text


def test_values_are_those_of_what_is_chosen(capsys: pytest.CaptureFixture[str]):
    text = told(capsys, "finetune", "finetune=lora", "finetune.method.rank=32", "-h")
    assert re.search(r"^\* lora ", text, re.MULTILINE)
    assert "  finetune.method.rank=32" in text
    assert re.search(r"finetune\.optimizer\.lr=0\.001 +peak; 1e-4 suits Stable Diffusion", text)
    assert re.search(r"finetune\.seed=0", text), "from the file on which lora.yaml stands"


def test_every_option_and_every_group_says_what_it_is():
    for group, comment in groups().items():
        assert comment, group
        for name, line in options(group).items():
            assert line, f"{group}={name}"
            assert not line.endswith("."), "one sentence"


def test_comments_are_read_where_they_stand():
    text = """\
# @package _global_
# What this is. And more
# of it, by Hu et al. 2021.
a: 1           # first
b: {c: "# no"} # second,
               # which goes on
d:             # of a mapping
  e: [1, 2]
  # of nothing
  f: x#y       # one | two (said of it) | three: third
"""
    assert sentence(text) == "What this is"
    values = read_values(text)
    assert {name: value.comment for name, value in values.items()} == {
        "a": "first", "b": "second, which goes on", "b.c": "", "d": "of a mapping", "d.e": "", "d.f": "one | two (said of it) | three: third",
    }  # fmt: skip
    assert values["d"].written is None
    assert values["d.e"].written == "[1, 2]"
    assert choices(values["d.f"].comment) == ["one", "two", "three"]


def test_a_broken_file_of_ones_own_stops_no_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "conf" / "mix").mkdir(parents=True)
    (tmp_path / "conf" / "mix" / "mine.yaml").write_bytes(b"# Of mine, \xff.\na: [1\n")
    assert "  mine " in told(capsys, "mix", "--help")
    assert "mine.yaml cannot be used" in told(capsys, "mix", "mix=mine", "--help", status=2)


def test_settings_are_those_of_the_composed_configuration():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        cfg = compose("config", ["finetune=lora", "dataset=ham10000"])
    for name in settings(["finetune=lora", "dataset=ham10000"]):
        node = cfg
        for part in name.split("."):
            keys = {str(key): key for key in node}
            assert part in keys, name
            node = node._get_node(keys[part])
            if not OmegaConf.is_config(node) or node._is_interpolation() or node._is_none():
                break


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("clasify", "unknown stage 'clasify'. Nearest: classify."),
        ("why clasify", "Nearest: classify."),
        ("classify mix=hybird", "mix has no option 'hybird'. Nearest: hybrid."),
        ("curate filter=[non_skn]", "filter has no option 'non_skn'. Nearest: non_skin."),
        ("classify experiment=akrout", "Nearest: akrout2023."),
        ("classify mixx=real", "There is no setting 'mixx'. Nearest: mix."),
        ("classify classify.stepss=1", "There is no setting 'classify.stepss'. Nearest: classify.steps,"),
        ("classify -m classify.stepss=1,2", "Nearest: classify.steps,"),
        ("finetune finetune=lora finetune.method.rnk=1", "Nearest: finetune.method.rank"),
        ("classify stepss=1", "classify.steps"),
        ("plan mix.rael_ratio=1", "Nearest: mix.real_ratio."),
        ("classify hydra/launcher=slrm", "Nearest: slurm."),
        (
            "classify -m seed=0,1 hydra/launcher=joblib hydra.launcher.njobs=2",
            "'hydra.launcher.njobs'. Nearest: n_jobs. hydra/launcher=joblib has n_jobs.",
        ),
        (
            "classify -m seed=0,1 hydra.launcher.n_jobs=2",
            "hydra.launcher.n_jobs is a setting of hydra/launcher=joblib: choose it, too.",
        ),
        ("classify hydra.launcher.mem=2", "Nearest: mem_gb."),
        ("classify --cgf job", "unknown option '--cgf'. Nearest: --cfg."),
        ("classify zzz.qqq=1", "There is no setting 'zzz.qqq'. `skinaug <stage> --help` lists them"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
):
    assert message in told(capsys, *words.split(), status=2)
    assert list(Path.cwd().iterdir()) == []


def test_a_reader_that_has_had_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "skinaug", "classify", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_own_code_beside_own_configurations_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("networks_of_ones_own.py").write_text("LAYERS = 3\n")
    assert main(["--version"]) == 0
    assert import_module("networks_of_ones_own").LAYERS == 3


@pytest.mark.parametrize("words", [[], ["--config-dir", "elsewhere"]], ids=["conf", "config-dir"])
@pytest.mark.parametrize(
    ("group", "text"),
    [("backbone", "defaults: [resnet18, _self_]\n"), ("mix", "defaults: [hybrid, _self_]\n")],
    ids=["backbone", "mix"],
)
def test_files_of_ones_own_are_among_the_nearest(
    words: list[str], group: str, text: str, capsys: pytest.CaptureFixture[str]
):
    folder = Path(words[1] if words else "conf") / group
    folder.mkdir(parents=True)
    (folder / "of_the_ward_two.yaml").write_text(text)
    message = told(capsys, "classify", *words, f"{group}=of_the_ward_tow", status=2)
    assert re.search(r"[Nn]ear(est| it): of_the_ward_two[,.]", message)


def test_options_of_launchers_are_listed(capsys: pytest.CaptureFixture[str]):
    text = told(capsys, "classify", "--help")
    assert re.search(
        r"hydra/launcher=joblib +its values are hydra\.launcher\.<key>: n_jobs$", text, re.MULTILINE
    )
    assert re.search(r"hydra/launcher=slurm .*\bslurm_partition\b", text)


def test_lines_are_whole_where_no_terminal_shows_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    piped = told(capsys, "classify", "--help")
    assert " ...\n" not in piped
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = told(capsys, "classify", "--help")
    assert " ...\n" in shown
    assert len(shown) < len(piped)
