"""What stages share: functions that have moved, and files that settings name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from skinaug import pipeline
from skinaug.launch import configs
from skinaug.stage import MOVED, build, keyed, named_files


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_functions_that_have_moved_are_where_the_table_says(old: str, new: str):
    assert get_object(new).__name__ == old.rpartition(".")[2]
    assert not (configs.PACKAGE.parent / old.rpartition(".")[0].replace(".", "/")).with_suffix(".py").exists()


def test_a_configuration_of_before_the_move_is_the_same_artifact():
    old = "skinaug.backbone.create_backbone"
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        now, then = compose("config"), compose("config", [f"backbone._target_={old}"])
    assert now.backbone["_target_"] == MOVED[old] != then.backbone["_target_"]
    assert pipeline.recipes(now, "classify") == pipeline.recipes(then, "classify")
    made = build(then.backbone)
    assert made.func is get_object(MOVED[old])
    assert made.keywords == build(now.backbone).keywords


def test_names_within_lists_and_dictionaries_are_those_of_before():
    new, old = "skinaug.models.base.load_pipeline", "skinaug.base.load_pipeline"
    config = {"filters": [{"_target_": new, "name": new}], "prior": {"base": {"_target_": new}}}
    assert keyed(config) == {
        "filters": [{"_target_": old, "name": new}],
        "prior": {"base": {"_target_": old}},
    }
    assert config["prior"]["base"]["_target_"] == new, "the configuration itself stays"


def test_what_lacks_a_value_is_told_with_its_place():
    cfg = OmegaConf.create({"dataset": {"source": {"_target_": "pathlib.Path", "_args_": "???"}}})
    with pytest.raises(Exception, match=r"dataset\.source\._args_"):
        build(cfg.dataset.source)


def test_files_are_values_with_a_slash():
    settings = {
        "features": "/a/b.parquet",
        "backbone": {"weights": "c/d", "name": "e"},
        "sizes": ["f/g"],
        "encoder": {"name": "local-dir:/e/clip"},
        "none": None,
    }
    assert named_files(settings) == {
        "config.features": Path("/a/b.parquet"),
        "config.backbone.weights": Path("c/d"),
        "config.encoder.name": Path("/e/clip"),
    }
