"""Who may import whom: the base layer, then metrics, then the stages, then the pipeline, then the command line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skinaug"
STAGES = {"dataset", "finetune", "generate", "curate", "audit", "mix", "classify", "report"}
TOP = {
    "devices", "device_process", "launchers", "recipes", "checks", "pipeline", "commands", "configs", "sweeper", "__main__", "store_command", "audit_command", "rerun_command", "plan_command", "search"
}  # fmt: skip
KNOW_HYDRA = TOP - {"store_command", "audit_command", "dashboard_command"}
LIGHT = {"errors", "manifest", "store", "prompts", "images", "configs", "__main__"}
HEAVY = {"torch", "torchvision", "lightning", "diffusers", "transformers", "timm", "peft"}


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def home(file: Path) -> str:
    """The stage package or flat module that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_layers(file: Path):
    here, names = home(file), imports(file)
    ours = {name.split(".")[1] for name in names if name.startswith("skinaug.")}
    outside = {name.partition(".")[0] for name in names}
    if here in STAGES:
        assert not ours & (STAGES - {here}), "stages meet through artifacts, not imports"
        assert not ours & TOP
    elif here not in TOP:
        assert not ours & (STAGES | TOP), "the base layer knows no stage"
        assert here == "metrics" or "metrics" not in ours
    assert here in KNOW_HYDRA or not outside & {"hydra", "omegaconf"}, (
        "only the pipeline and the command line know Hydra"
    )
    assert here in ("tracking", "dashboard_command") or "wandb" not in outside, "only these know W&B"
    assert here not in LIGHT or not outside & HEAVY, (
        "a light module that imports a heavy one makes every command slow"
    )


def test_package_inits_are_empty():
    assert [str(file) for file in PACKAGE.rglob("__init__.py") if file.read_text().strip()] == []
