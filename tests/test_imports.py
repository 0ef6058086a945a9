"""Who may import whom: each floor of the house knows only those below it, and stages never each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skinaug"
STAGES = {"dataset", "finetune", "generate", "curate", "audit", "mix", "test", "classify", "report"}
FLOORS: tuple[set[str], ...] = (  # rooms and modules of the root, from the ground up
    {"errors", "labels", "termination", "colour_profiles", "progress"},
    {"targets"},
    {"store"},
    {"manifest", "prompts"},
    {"images", "pools"},
    {"sources"},
    {"models"},
    {"metrics", "leaks"},
    {"stage"},
    STAGES,
    {"devices"},
    {"pipeline"},
    {"launch"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
KNOW_HYDRA = {"stage", "devices", "pipeline", "launch", "cli", "__main__"}  # and the `stage.py` of each stage
KNOW_WANDB = {"models/tracking.py", "cli/dashboard.py"}
LIGHT = {"errors", "labels", "termination", "colour_profiles", "progress", "store", "manifest", "images", "prompts", "pools", "sources", "targets", "stage", "pipeline", "launch", "__main__"}  # fmt: skip
HEAVY = {"torch", "torchvision", "lightning", "diffusers", "transformers", "timm", "peft"}


def nodes(file: Path, top: bool) -> list[ast.stmt]:
    """The statements of a file: all of them, or those that run when it is imported."""
    tree = ast.parse(file.read_text())
    return tree.body if top else [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def imports(file: Path, top: bool = False) -> set[str]:
    names = set()
    for node in nodes(file, top):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(file: Path) -> str:
    """The room, or module of the root, that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_each_floor_knows_only_those_below_it(file: Path):
    here, name, names = room(file), str(file.relative_to(PACKAGE)), imports(file)
    ours = {other.split(".")[1] for other in names if other.startswith("skinaug.")} - {here}
    assert [other for other in sorted(ours) if FLOOR[other] >= FLOOR[here]] == []
    declares = here in STAGES and file.name == "stage.py"
    assert declares or here not in STAGES or "stage" not in ours, "only its stage.py knows how a stage is run"
    outside = {other.partition(".")[0] for other in names}
    assert here in KNOW_HYDRA or declares or not outside & {"hydra", "omegaconf"}
    assert name in KNOW_WANDB or "wandb" not in outside
    assert (here not in LIGHT and not declares) or not outside_at_import(file) & HEAVY, (
        "a light module that imports a heavy one makes every command slow"
    )


def outside_at_import(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(file, top=True)}


def test_a_room_is_no_circle():
    """Files of one room may know each other, in one direction."""
    known = {
        name: {other for other in imports(file) if other.startswith("skinaug.")}
        for file in FILES
        for name in [".".join(("skinaug", *file.relative_to(PACKAGE).with_suffix("").parts))]
    }
    graph = {name: others & known.keys() for name, others in known.items()}
    while free := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in free:
            del graph[name]
    assert graph == {}, "these import each other"


def test_every_stage_says_all_of_itself_in_one_place():
    for stage in STAGES:
        assert (PACKAGE / stage / "stage.py").is_file()
    assert FLOOR.keys() == {room(file) for file in FILES}


def test_package_inits_are_empty():
    assert [str(file) for file in PACKAGE.rglob("__init__.py") if file.read_text().strip()] == []
