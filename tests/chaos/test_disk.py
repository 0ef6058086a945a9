"""Disks that are full, and disks that cannot be written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chaos.conftest import Tally, finish
from chaos.harness import Study, published

pytestmark = pytest.mark.chaos

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """A function that puts a disk in memory at a folder, or changes the one that is there: mount(folder, options)."""
    mounted: list[Path] = []

    def make(folder: Path, options: str) -> None:
        there = folder in mounted
        folder.mkdir(parents=True, exist_ok=True)
        options = f"remount,{options}" if there else options
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "chaos", folder], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"this machine lets nobody mount a disk here: {made.stderr.strip()}")
        mounted.extend([] if there else [folder])

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=False)


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize(
    "case",
    [
        "dataset",
        "finetune by words",
        "finetune all",
        "generate",
        "score",
        "audit",
        "classify by network",
        "report",
    ],
)
def test_a_full_disk_is_told_and_costs_nothing(
    case: str, share: float, study: Study, tally: Tally, mount: Mount
):
    arena = study.arena(case)
    arena.reset()
    start = used(arena.folder)
    arena.play()
    need = used(arena.folder) - start
    arena.clear()
    mount(arena.folder, f"size={int(start + share * need)}")
    arena.reset()
    ended = arena.play()
    if ended.status == 0:
        pytest.skip("it had room: the stage keeps less at once than it writes")
    assert ended.status == 2, ended.output[-3000:]
    assert "is full" in ended.output
    left = {name: digest for name, digest in published(arena.store).items() if ".partial/" not in name}
    assert left.items() <= arena.expected.items(), "what is published is whole"
    mount(arena.folder, "size=1g")
    finish(arena, 1, tally)


def test_a_read_only_store_serves_all_that_is_there_and_refuses_the_rest(
    study: Study, tally: Tally, mount: Mount
):
    arena = study.arena("classify by network")
    arena.clear()
    mount(arena.store, "size=1g")
    arena.reset()
    finish(arena, 0, tally)
    mount(arena.store, "ro")
    finish(arena, 0, tally)
    looked = replace(arena, target="look").play()
    assert looked.status == 0, looked.output
    other = study.compose(arena.folder, "classify.label_smoothing=0.2")
    refused = replace(arena, cfg=other).play()
    assert refused.status == 2, refused.output
    assert "cannot be written" in refused.output
    assert arena.differences() == []


def used(folder: Path) -> int:
    """Bytes that a disk in memory takes for a folder: whole pages."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))
