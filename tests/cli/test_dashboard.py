"""The W&B workspace and report as objects, without a network: what they plot, and that it is what tracked runs hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from skinaug import pipeline
from skinaug.__main__ import main
from skinaug.cli.dashboard import SCORES, SETTINGS, judged_classes, make_report, make_workspace, sections
from skinaug.launch import configs

CLASSES = ["acne", "basal cell carcinoma"]
TITLES = {
    "Score against ratio",
    "What the runs differ in",
    "Recall of each class",
    "Learning curves",
    "Generated images",
    "Predictions",
    "Cost",
}


def model(panel: Any) -> dict[str, Any]:
    """A panel as W&B gets it."""
    return json.loads(panel._to_model().model_dump_json(by_alias=True, exclude_none=True))


def test_the_workspace_is_what_wandb_takes():
    workspace = make_workspace("team", "skin", CLASSES, "ratio_sweep")
    view = workspace._to_model()
    spec = json.loads(view.spec.model_dump_json(by_alias=True))
    bank = spec["section"]["panelBankConfig"]["sections"]
    assert {section["name"] for section in bank if section["panels"]} == TITLES
    assert (view.entity, view.project, view.display_name) == ("team", "skin", "skinaug: ratio_sweep")
    (runset,) = spec["section"]["runSets"]
    assert "ratio_sweep" in json.dumps(runset["filters"])
    everything = make_workspace("team", "skin", CLASSES)._to_model().spec.model_dump_json(by_alias=True)
    assert "ratio_sweep" not in everything


def test_panels_plot_scores_settings_and_curves():
    made = sections(CLASSES)
    ratios = [model(panel)["config"] for panel in made["Score against ratio"]]
    assert [(plot["xAxis"], plot["yAxis"]) for plot in ratios] == [
        ("config:mix_synthetic_ratio.value", f"summary:{score}") for score in SCORES
    ]
    parallel = model(made["What the runs differ in"][0])["config"]["columns"]
    assert [column["accessor"] for column in parallel] == [f"config:{name}.value" for name in SETTINGS] + [
        f"summary:{name}" for name in SCORES
    ]
    recalls = [model(panel)["config"]["metrics"] for panel in made["Recall of each class"]]
    assert recalls == [["test/recall/acne"], ["test/recall/basal cell carcinoma"]]
    curves = [model(panel)["config"] for panel in made["Learning curves"]]
    assert {plot["xAxis"] for plot in curves} == {"trainer/global_step"}
    assert {plot["groupBy"] for plot in curves} == {"mix_name.value", "mix_synthetic_ratio.value"}
    assert model(made["Cost"][0])["config"]["groupBy"] == "jobType"


def test_settings_are_keys_that_runs_are_tracked_by():
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        keys = pipeline.tags(compose("config"))
    assert {name.replace(".", "_") for name in keys} >= set(SETTINGS)


def test_the_report_has_the_workspaces_sections_and_says_where_the_verdict_is():
    report = make_report("team", "skin", CLASSES, "ratio_sweep")
    headings = [block.text for block in report.blocks if type(block).__name__ == "H2"]
    assert set(headings) == TITLES
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    assert len(grids) == len(TITLES)
    for grid in grids:
        assert grid.panels
        assert [(runs.entity, runs.project) for runs in grid.runsets] == [("team", "skin")]
        assert "ratio_sweep" in grid.runsets[0].filters
    assert "report.html" in report.blocks[0].text


def test_classes_come_from_a_run():
    run = SimpleNamespace(summary={"test/top1": 0.5, "test/recall/acne": 0.1, "test/recall/nevus": 0.2})
    assert judged_classes([run, SimpleNamespace(summary={})]) == ["acne", "nevus"]
    assert judged_classes([]) == []


@pytest.mark.parametrize(
    ("place", "hidden", "expected"),
    [
        ("skin", None, "is not entity/project"),
        ("a/b/c", None, "is not entity/project"),
        ("team/skin", "wandb_workspaces", "pip install 'skinaug[dashboards]'"),
        ("team/skin", None, "wandb login"),
    ],
)
def test_what_is_missing_is_told_in_one_message(
    place: str,
    hidden: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    if hidden:
        monkeypatch.setitem(sys.modules, hidden, None)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no.netrc"))
    assert main(["dashboard", place]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
