"""Every configuration composes, and every value in it is one that its target takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.launch.free_names import FREE
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


@cache
def with_option(option: str) -> DictConfig:
    """For tests that only read it."""
    return composed(option)


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
    check(with_option(option))


# Mappings whose names the code chooses, or that are groups of options.
CLOSED = {"filters", "published", "pretrained_cfg", "sets", "sheets", "pairs", "pictures"}


def mappings(target: Any) -> set[str]:
    """Names of a target's parameters, and of what a filter's thresholds are given to, that are mappings."""
    takes = [target, getattr(target, "keep", None)]
    return {
        name
        for function in filter(callable, takes)
        for name, parameter in inspect.signature(function).parameters.items()
        if "Mapping[" in str(parameter.annotation)
    }


def test_mappings_of_free_names_are_those_that_signatures_take():
    """Each parameter of a target in conf/ that is a mapping is one that overrides may add names to."""
    nodes = [
        node
        for file in CONF.rglob("*.yaml")
        for node in targets(OmegaConf.to_container(OmegaConf.load(file)))
    ]
    taken = set().union(*(mappings(get_object(name)) for name in {node["_target_"] for node in nodes}))
    configured = {
        str(key)
        for file in CONF.rglob("*.yaml")
        for key in names(OmegaConf.to_container(OmegaConf.load(file)))
    }
    assert {"options", "columns", "labels", "augmentation", "size"} <= taken
    assert (taken & configured) - CLOSED <= FREE


def names(node: Any) -> Iterator[Any]:
    """Every key of a configuration."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from names(value)
    yield from node if isinstance(node, dict) else ()


ADDED = {
    "finetune.method.options={use_dora: true}": ("finetune=lora", "use_dora", True),
    "finetune.method.options.use_dora=true": ("finetune=dreambooth", "use_dora", True),
    "dataset.source.columns={path: f, label: y, skin_type: t}": ("dataset=csv", "skin_type", "t"),
    "test.csv.source.columns.skin_type=t": ("test=[csv]", "skin_type", "t"),
    "augmentation.re_count=2": ("augmentation=strong", "re_count", 2),
    "prompts.attributes.body_site.scalp=2": ("prompts=clinical", "scalp", 2),
    "finetune.captions.labels={acne: pimples}": ("finetune=lora", "acne", "pimples"),
    "filter.prompt_agreement.keep.redness={purple: [-1, null]}": (
        "filter=[prompt_agreement]",
        "purple",
        [-1, None],
    ),
    "hydra.sweeper.params={base.gap: 'interval(0,1)'}": ("experiment=search", "base.gap", "interval(0,1)"),
}


@pytest.mark.parametrize("override", ADDED)
def test_overrides_add_names_to_mappings_of_free_names(override: str):
    option, name, value = ADDED[override]
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        cfg = compose("config", [option, override], return_hydra_config=True)
    key = override.partition("=")[0].removesuffix(f".{name}")
    assert OmegaConf.select(cfg, key)[name] == value


@pytest.mark.parametrize(
    "override",
    [
        "finetune.method.optoins={use_dora: true}",
        "dataset.sauce.columns={path: f}",
        "filter.ensemble.keep.agreemnt=1",
        "filter.ensemble.keep={agreemnt: 1}",
        "test.elsewhere.root=x",
        "classify.augmentatoin.re_prob=1",
    ],
)
def test_a_mistyped_name_is_refused_elsewhere(override: str):
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        composed("dataset=csv", "finetune=lora", override)


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
    plan = recipes(with_option(option), "classify")
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


def test_a_file_that_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And what one composition was given, another finds as it was."""
    file = tmp_path / "conf" / "prompts" / "mine.yaml"
    file.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for template in ("a photo", "a drawing"):
        file.write_text(f"_target_: skinaug.prompts.PromptSet\nname: mine\ntemplates: [{template}]\n")
        composed("prompts=mine", "prompts.templates=[overridden]")
        assert composed("prompts=mine").prompts.templates == [template]


def test_another_projects_configuration_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its config.yaml is not read, and an option of its own in the place of ours is told."""
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("lr: 0.1\nepochs: 3\n")
    (tmp_path / "conf" / "logger" / "csv.yaml").write_text("_target_: theirs.Csv\n")
    monkeypatch.chdir(tmp_path)
    cfg = composed("logger=none")
    assert "lr" not in cfg
    assert cfg.seed == 0
    assert capsys.readouterr().err == ""
    assert composed("logger=csv").logger["_target_"] == "theirs.Csv"
    assert (
        "conf/logger/csv.yaml of this folder stands in the place of skinaug's own" in capsys.readouterr().err
    )


def test_what_options_share_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that `-m mix=glob(*)` takes what `mix=` does."""
    (tmp_path / "conf" / "mix").mkdir(parents=True)
    (tmp_path / "conf" / "mix" / "_shared.yaml").write_text("seed: 1\n")
    (tmp_path / "conf" / "mix" / "mine.yaml").write_text("defaults: [real]\nname: mine\n")
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        options = GlobalHydra.instance().config_loader().get_group_options("mix")
        experiments = GlobalHydra.instance().config_loader().get_group_options("experiment")
    assert set(options) == {"mine", *(file.stem for file in (CONF / "mix").glob("[!_]*.yaml"))}
    assert experiments == EXPERIMENTS


def test_an_option_that_a_file_names_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "experiments").mkdir()
    file = "# @package _global_\ndefaults: [{override /test: [phantom_dark, phantom_dark]}]\nname: twice\n"
    (tmp_path / "experiments" / "twice.yaml").write_text(file)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"twice\.yaml names an option twice in test: \[phantom_dark, phantom_dark\]"
    ):
        composed("experiment=twice")


def test_a_mistyped_network_of_features_is_refused_by_its_name():
    cfg = composed("features.backbone.name=resnt18", "mix=real")
    with pytest.raises(InputError, match=r"features\.backbone: .*resnt18(.|\n)*resnet18"):
        check_values(cfg, steps(cfg, "classify"))


def test_settings_of_a_filter_that_is_not_chosen_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "experiments").mkdir()
    file = "# @package _global_\nname: own\nfilter: {ensemble: {keep: {agreement: 0.4}}}\n"
    (tmp_path / "experiments" / "own.yaml").write_text(file)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"filter\.ensemble has settings, and ensemble is no filter"):
        steps(composed("experiment=own", "filter=[]"), "curate")
    assert "score.ensemble" not in steps(
        composed("experiment=own", "filter=[]", "~filter.ensemble"), "curate"
    )


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
