"""Every command line of README, docs and experiments is one that can be given: its options and values exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from skinaug.__main__ import STAGES, TOOLS, WITHOUT_CONFIGURATION
from skinaug.launch import configs
from skinaug.launch.repeats import spelled_out
from skinaug.launch.selections import spread_sets

ROOT = Path(__file__).parents[1]
TEXTS = [
    ROOT / "README.md",
    *sorted(set((ROOT / "docs").rglob("*.md")) - set((ROOT / "docs/studies").glob("*.md"))),
    *sorted((ROOT / "experiments").glob("*.md")),
]
# What the texts have their reader write, and which settings their sentences speak of.
OPTIONS = {
    "generate": ("stylegan", "noise", "rendered"),
    "backbone": ("mine", "other", "vit", "derm"),
    "features": ("derm",),
    "base": ("ours",),
    "filter": ("brightness",),
}
SPEAKS_OF = {
    "finetune.path": "finetune=given",
    "generate.labels": "generate=folder",
    "generate.on_bad": "generate=folder",
    "generate.inpaint.on_bad": "generate=inpaint",
    "backbone.file": "backbone=features",
    "dataset.source.group_pattern": "dataset=folder",
    "dataset.source.scales": "dataset=csv",
    "dataset.source.told_by": "dataset=csv",
    "dataset.duplicates.across_splits": "dataset=folder",
    "dataset.duplicates.min_cosine": "dataset=folder",
    "base.gap": "base=oracle",
    "test.hospital_b.on_shared": "test=[hospital_b]",
    "test.hospital_b.patients": "test=[hospital_b]",
    "finetune.method.options": "finetune=lora",
    "finetune.training.objective.lesion_weight": "finetune=pretrain",
    "hydra.launcher.slurm_setup": "hydra/launcher=slurm",
    "hydra.launcher.n_jobs": "hydra/launcher=joblib",
}
WHOLE = {
    "method.options": "finetune.method.options",
    "slurm_setup": "hydra.launcher.slurm_setup",
    **{
        name: f"dataset.source.{name}" for name in ("label", "own_splits", "on_missing", "reject")
    },  # in a set's page
    **{
        name: f"report.{name}"
        for name in ("subgroups", "groups", "ordered", "prevalence", "decision_curves", "temperature")
    },
    "source.scales": "dataset.source.scales",
    "source.told_by": "dataset.source.told_by",
}


def filled(text: str) -> str:
    """Without placeholders: <key> and the like are words, and what "..." stands for is left out."""
    text = re.sub(r"<([^<>]*)>", lambda found: re.sub(r"\W", "_", found[1]), text)
    return re.sub(r"(?<==)\.\.\.$", "x", re.sub(r"\[\.\.\.,?", "[", re.sub(r",? ?\.\.\.(?=[\]}])", "", text)))


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `skinaug ...`, in blocks and in sentences."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in spans(text)]
    for line in lines:
        if line.startswith("skinaug "):
            yield shlex.split(filled(line), comments=True)[1:]


def spans(text: str) -> list[str]:
    """Code in sentences."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def settings(text: str) -> Iterator[list[str]]:
    """Overrides in sentences, such as `mix.selection=best`."""
    for code in spans(text):
        code = filled(" ".join(code.split()))
        if re.match(r"[a-z_]+(\.\w+)*=[^=]", code):
            words = shlex.split(code) if "{" not in code and "[" not in code else [code]
            key, _, value = words[0].partition("=")
            whole = f"{WHOLE.get(key, key)}={value}"
            yield [*filter(None, [SPEAKS_OF.get(WHOLE.get(key, key))]), whole, *words[1:]]


STAGE_COMMANDS = sorted(
    {
        tuple(words)
        for text in TEXTS
        for words in commands(text.read_text())
        if words and words[0] not in WITHOUT_CONFIGURATION and any("=" in word for word in words)
    }
)


@pytest.fixture(scope="module", autouse=True)
def readers_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("reader")
    for group, names in OPTIONS.items():
        (folder / "conf" / group).mkdir(parents=True)
        for name in names:
            defaults = "defaults: [default]\n" if group in ("generate", "features") else ""
            body = f"{name}: {{scorer: {{}}}}\n" if group == "filter" else ""
            (folder / "conf" / group / f"{name}.yaml").write_text(defaults + body or "_target_: x\n")
    (folder / "conf" / "test").mkdir()
    (folder / "conf" / "test" / "hospital_b.yaml").write_text(
        "defaults: [folder@hospital_b]\nhospital_b: {root: x}\n"
    )
    configs.register()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
            yield


def check(overrides: list[str]) -> None:
    """Compose a job of each value that is swept."""
    loader = GlobalHydra.instance().config_loader()
    words = [word for word in overrides if word not in ("-m", "--multirun", "--help")]
    if "--cfg" in words:  # prints the job that is composed here
        start = words.index("--cfg")
        del words[start : start + 2]
    own = spread_sets(spelled_out(words))
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(own)
    swept = {o.get_key_element(): list(o.sweep_string_iterator()) for o in parsed if o.is_sweep_override()}
    fixed = [word for word, o in zip(own, parsed, strict=True) if not o.is_sweep_override()]
    # Numbers differ in nothing that a composition could refuse.
    counts = {
        key: 1 if values[-1].replace(".", "").isdigit() else len(values) for key, values in swept.items()
    }
    for number in range(max(counts.values(), default=1)):
        job = [f"{key}={values[number % counts[key]]}" for key, values in swept.items()]
        loader.load_configuration("config", [*fixed, *job], RunMode.RUN)


def test_commands_are_found():
    assert len(STAGE_COMMANDS) > 30
    assert all(
        words[0] in {**STAGES, **TOOLS}
        for text in TEXTS
        for words in commands(text.read_text())
        if words[0][0] != "-"
    )


@pytest.mark.parametrize("words", STAGE_COMMANDS, ids=" ".join)
def test_every_command_line_can_be_given(words: tuple[str, ...]):
    own = list(words[2:] if words[0] == "why" else words[1:])
    if all(word.partition("=")[0] in ("experiment", "scale") for word in own):
        pytest.skip("composed by test_configs")
    check(own)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_every_setting_in_a_sentence_can_be_given(text: Path):
    """Options of groups exist, and keys do: those that stand alone are composed together, the last of each key."""
    loader = GlobalHydra.instance().config_loader()
    wanted = [words for words in settings(text.read_text()) if "backbone=name" not in words]
    keys = {"dataset": f"dataset={text.stem}"} if text.parent.name == "datasets" else {}
    for words in wanted:
        key, _, value = words[0].partition("=")
        if len(words) > 1:
            check(words)
        elif "." in key or key not in loader.list_groups(""):
            keys[key] = words[0]
        elif key != "backbone":  # which any timm name is
            given = value.strip("[]").split(",") if value.strip("[]") else []
            assert set(given) <= set(loader.get_group_options(key)), words
    check(list(keys.values()))
