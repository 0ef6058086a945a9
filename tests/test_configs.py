"""Every configuration composes, and every value in it is one that its target takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.pipeline import check_values, recipes, steps

CONF = configs.folder("conf")
GROUPS = (
    "dataset",
    "base",
    "finetune",
    "prompts",
    "generate",
    "features",
    "filter",
    "curate",
    "audit",
    "review",
    "mix",
    "backbone",
    "augmentation",
    "classify",
    "test",
    "report",
)
SELECTS = ("filter", "test")  # groups of which several options are chosen
OPTIONS = [
    f"{group}=[{file.stem}]" if group in SELECTS else f"{group}={file.stem}"
    for group in (*GROUPS, "trainer", "logger", "scale")
    for file in sorted((CONF / group).glob("[!_]*.yaml"))
]
EXPERIMENTS = sorted(file.stem for file in configs.folder("experiments").glob("*.yaml"))


@pytest.fixture(autouse=True)
def sources() -> None:
    configs.register()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        return compose("config", list(overrides))


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every config node with a `_target_`."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def check(cfg: DictConfig) -> None:
    settings = {
        group: OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=False)
        for group in (*GROUPS, "trainer", "logger")
    }
    for group in settings:
        for node in targets(settings[group]):
            parameters = inspect.signature(get_object(node["_target_"])).parameters
            if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
                continue
            unknown = [name for name in node if not name.startswith("_") and name not in parameters]
            assert not unknown, f"{node['_target_']} takes no {unknown}"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_fits_its_target(option: str):
    check(composed(option))


def needs_a_folder(option: str) -> bool:
    """Whether it reads files of the user's, which have no default."""
    if option.startswith("test=["):
        return not option.startswith("test=[phantom")
    return option.startswith("dataset=") or option in (
        "backbone=features",
        "backbone=open_clip",
        "finetune=given",
        "generate=csv",
        "generate=folder",
        "generate=imagefolder",
    )


@pytest.mark.parametrize("option", [option for option in OPTIONS if not needs_a_folder(option)])
def test_every_option_has_keys(option: str):
    plan = recipes(composed(option), "classify")
    assert all(recipe.key for recipe in plan.values())
    assert len({recipe.key for recipe in plan.values()}) == len(plan)


@pytest.mark.parametrize("name", ["backbone=open_clip", "backbone=features classify=probe"])
def test_a_backbone_that_must_be_told_more_says_so(name: str):
    cfg = composed(*name.split())
    with pytest.raises(MissingMandatoryValue, match=r"backbone\.(name|file)"):
        check_values(cfg, steps(cfg, "classify"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_every_experiment_composes_at_every_scale(experiment: str, scale: str):
    cfg = composed(f"experiment={experiment}", f"scale={scale}")
    check(cfg)
    assert cfg.name == experiment, "an experiment's runs are grouped under its name"
    assert (configs.folder("experiments") / f"{experiment}.md").is_file(), "every study has its write-up"


def test_filters_are_those_that_are_named_in_their_order():
    assert list(composed("filter=[ensemble,non_skin]").curate.filters) == ["ensemble", "non_skin"]
    assert dict(composed("filter=[]").curate.filters) == {}, "the raw pool"


def test_any_timm_name_is_a_backbone():
    assert composed("backbone=convnext_atto.d2_in1k").backbone.name == "convnext_atto.d2_in1k"


def test_filters_keep_their_order():
    assert list(composed("filter=[ensemble,non_skin]").curate.filters) == ["ensemble", "non_skin"]
    assert list(composed("curate=none").curate.filters) == []


def test_one_seed_moves_the_mix_and_the_classifier_only():
    before, after = composed(), composed("seed=7")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"seed", "mix", "classify"}


def test_a_users_own_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "conf" / "prompts").mkdir(parents=True)
    (tmp_path / "conf" / "prompts" / "mine.yaml").write_text(
        "_target_: skinaug.prompts.PromptSet\nname: mine\ntemplates: [x]\n"
    )
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "own.yaml").write_text("# @package _global_\nname: own\nseed: 5\n")
    monkeypatch.chdir(tmp_path)
    cfg = composed("prompts=mine", "experiment=own")
    assert (cfg.prompts.name, cfg.name, cfg.seed) == ("mine", "own", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: !!python/object/apply:os.mkdir [owned]", "tag"),
        ("templates: *nothing", "undefined alias"),
        ("templates: [a\n", "not YAML"),
        ("templates: [a]\ntemplates: [b]", "duplicate key"),
        ("name: !!int nine", "invalid literal"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_its_name(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "conf" / "prompts").mkdir(parents=True)
    (tmp_path / "conf" / "prompts" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"mine\.yaml cannot be used(.|\n)*{message}"):
        composed("prompts=mine")
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]
