"""Artifacts: keys, one builder, atomic publication, kills, provenance."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import commands
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinaug.cli.store import main as list_store
from skinaug.errors import InputError
from skinaug.store import lease as module
from skinaug.store.artifact import Recipe
from skinaug.store.digest import folder_digest
from skinaug.store.store import Store

RECIPE = Recipe("generate", 1, {"steps": 20, "size": {"height": 64}}, {"dataset": "abc"})

BUILDER = """
import fcntl, sys, time
from pathlib import Path
from skinaug.store import lease
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store

def refuse(*_):
    raise OSError(37, "No locks available")  # as on many shared file systems

fcntl.flock = fcntl.lockf = refuse
lease.LEASE = float(sys.argv[4])

def build(out):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    for number in range(20):
        if not (out / str(number)).exists():
            time.sleep(float(sys.argv[3]))
            (out / str(number)).write_text(str(number))
            print(number, flush=True)

Store(Path(sys.argv[1])).get(Recipe("generate", 1, {"a": 1}, {}), build)
"""


def start(store: Path, log: Path, seconds: float, lease: float = 90.0) -> subprocess.Popen:
    """Build twenty files, each of which takes `seconds`, in a process that cannot use the system's locks."""
    arguments = [sys.executable, "-c", BUILDER, str(store), str(log), str(seconds), str(lease)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen, line: str) -> None:
    assert process.stdout is not None
    assert line in (found.strip() for found in process.stdout), "the process ended before"


def test_builds_once_and_keeps(tmp_path: Path):
    calls = []
    store = Store(tmp_path)
    for _ in range(2):
        artifact = store.get(RECIPE, lambda out: calls.append((out / "x").write_text("1")))
    assert len(calls) == 1
    assert sorted(path.name for path in artifact.path.iterdir()) == ["artifact.json", "x"]
    assert sorted(path.name for path in (tmp_path / "generate").iterdir()) == [RECIPE.key]


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "curate"},
        {"version": 2},
        {"config": {"steps": 21, "size": {"height": 64}}},
        {"config": {"steps": 20, "size": {"height": 65}}},
        {"config": {"steps": "20", "size": {"height": 64}}},
        {"inputs": {"dataset": "abd"}},
        {"inputs": {"dataset": "abc", "base": "1"}},
    ],
)
def test_every_part_of_the_recipe_changes_the_key(change: dict):
    assert replace(RECIPE, **change).key != RECIPE.key


@given(st.permutations(["a", "b", "c", "seed"]))
def test_key_ignores_the_order_of_values_and_knows_zero_from_none(order: list[str]):
    config = {"a": 1, "b": [1, 2], "c": None, "seed": 0}
    shuffled = {name: config[name] for name in order}
    assert Recipe("mix", 1, shuffled, {}).key == Recipe("mix", 1, config, {}).key
    assert Recipe("mix", 1, {**config, "seed": None}, {}).key != Recipe("mix", 1, config, {}).key


def test_names_that_are_numbers_have_a_key_too():
    """YAML reads `age: {20: 1, "": 2}` as names of two kinds; beside it, `"20"` is the same name."""
    keys = {replace(RECIPE, config={"age": age}).key for age in ({20: 1, "": 2}, {"": 2, "20": 1})}
    assert len(keys) == 1
    assert RECIPE.key not in keys


def test_record_tells_what_a_rerun_needs(tmp_path: Path):
    record = Store(tmp_path).get(RECIPE, lambda out: time.sleep(0.05)).record
    assert record["config"] == RECIPE.config
    assert record["inputs"] == RECIPE.inputs
    assert record["seconds"] >= 0.05
    assert record["packages"]["numpy"] == __import__("numpy").__version__
    assert {"git_revision", "device", "host", "python", "created"} <= record.keys()


@pytest.mark.parametrize("content", ["", '{"schema_version": 1, "sta', "[]", "\x00" * 40])
def test_a_record_that_was_copied_in_part_is_told_by_whoever_reads_it(tmp_path: Path, content: str):
    store = Store(tmp_path)
    artifact = store.get(RECIPE, lambda out: None)
    (artifact.path / "artifact.json").write_text(content)
    other = replace(RECIPE, version=2)
    for read in (lambda: artifact.record, lambda: store.find(str(artifact.path)), lambda: store.unused(30), lambda: store.why(other)):  # fmt: skip
        with pytest.raises(InputError, match=r"artifact\.json cannot be read .* copied in part\?"):
            read()


def test_an_artifact_that_was_copied_in_part_is_listed_as_such_and_not_used(tmp_path: Path, capsys):
    store = Store(tmp_path)
    whole = store.get(RECIPE, lambda out: (out / "model").write_bytes(b"1" * 1000))
    cut = store.get(replace(RECIPE, version=2), lambda out: (out / "model").write_bytes(b"1" * 1000))
    older = store.get(replace(RECIPE, version=3), lambda out: (out / "model").write_bytes(b"1" * 1000))
    record = {name: value for name, value in older.record.items() if name != "bytes"}
    (older.path / "artifact.json").write_text(
        json.dumps(record)
    )  # as earlier versions wrote it: nobody knows
    assert list_store(["ls", "--store", str(tmp_path)]) == 0
    for artifact in (cut, older):
        os.truncate(artifact.path / "model", 400)
    assert [store.find(artifact.key) for artifact in (whole, older)] == [whole, older]
    with pytest.raises(
        InputError, match=rf"generate/{cut.key} lacks 600 of 1,000 bytes: .* copied in part\?"
    ):
        store.find(cut.key)
    capsys.readouterr()
    assert list_store(["ls", "--store", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "1 artifact is not whole:" in told
    assert "lacks 600 of 1,000 bytes" in told


def test_a_line_of_the_list_names_few_of_many_inputs(tmp_path: Path, capsys):
    inputs = {f"real/{seed}": f"{seed:016x}" for seed in range(40)}
    Store(tmp_path).get(replace(RECIPE, inputs=inputs), lambda out: None)
    list_store(["ls", "--store", str(tmp_path)])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "and 34 more" in told
    assert "real/5" in told
    assert "real/6" not in told


def test_a_record_without_a_schema_is_of_the_first_and_a_later_one_is_told(tmp_path: Path):
    store = Store(tmp_path)
    artifact = store.get(RECIPE, lambda out: None)
    written = artifact.record
    assert written["schema_version"] == 1
    file = artifact.path / "artifact.json"
    older = {name: value for name, value in written.items() if name != "schema_version"}
    file.write_text(json.dumps(older))
    assert store.find(RECIPE.key) == artifact
    assert artifact.record == older
    assert store.why(replace(RECIPE, version=2)) == ["version: 1 -> 2"]
    file.write_text(json.dumps(written | {"schema_version": 2, "packages": {"skinaug": "9.1"}}))
    for read in (lambda: artifact.record, lambda: store.find(str(artifact.path)), lambda: store.unused(30)):
        with pytest.raises(InputError, match=r"written by skinaug 9\.1 in form 2; this version reads form 1"):
            read()


def test_failed_build_publishes_nothing_and_its_work_is_there_for_the_next(tmp_path: Path):
    store = Store(tmp_path)

    def fail(out: Path) -> None:
        (out / "half").write_text("1")
        raise RuntimeError("no more memory")

    with pytest.raises(RuntimeError, match="memory"):
        store.get(RECIPE, fail)
    assert not store.has(RECIPE)
    seen = []
    store.get(RECIPE, lambda out: seen.extend(path.name for path in out.iterdir()))
    assert "half" in seen


def test_bad_input_leaves_nothing_behind(tmp_path: Path):
    def refuse(out: Path) -> None:
        (out / "half").write_text("1")
        raise InputError("no such class")

    with pytest.raises(InputError):
        Store(tmp_path / "store").get(RECIPE, refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="store=<folder>"):
        Store(tmp_path / "file").get(RECIPE, lambda out: None)


def test_two_processes_build_once(tmp_path: Path):
    processes = [start(tmp_path / "store", tmp_path / "log", 0.02) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_who_waits_is_told_for_whom(tmp_path: Path):
    first = start(tmp_path / "store", tmp_path / "log", 0.2)
    wait_for_line(first, "0")
    second = start(tmp_path / "store", tmp_path / "log", 0)
    output, _ = second.communicate(timeout=60)
    assert f"is being built by process {first.pid} on {socket.gethostname()}: waiting for it." in output
    assert first.wait(60) == 0


def test_a_killed_builder_is_replaced_and_its_work_goes_on(tmp_path: Path):
    first = start(tmp_path / "store", tmp_path / "log", 0.2)
    wait_for_line(first, "5")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not list((tmp_path / "store").glob("*/*/artifact.json"))
    second = start(tmp_path / "store", tmp_path / "log", 0)
    output, _ = second.communicate(
        timeout=60
    )  # sooner than a lease of 90 s ends: the dead one was on this machine
    assert second.returncode == 0
    assert "5" not in output.split()  # done before the kill, not done again
    (record,) = (tmp_path / "store").glob("*/*/artifact.json")
    assert sorted(path.name for path in record.parent.iterdir()) == sorted(
        ["artifact.json", *map(str, range(20))]
    )
    assert not list((tmp_path / "store").rglob("*.lock"))


def test_a_builder_that_sleeps_is_replaced_and_stopped_when_it_wakes(tmp_path: Path):
    """As one on another machine that died, it shows no sign of life."""
    first = start(tmp_path / "store", tmp_path / "log", 0.2, lease=2)
    wait_for_line(first, "5")
    os.kill(first.pid, signal.SIGSTOP)
    second = start(tmp_path / "store", tmp_path / "log", 0.5, lease=2)
    wait_for_line(second, "7")
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(60) == -signal.SIGTERM
    assert second.wait(60) == 0
    (record,) = (tmp_path / "store").glob("*/*/artifact.json")
    assert {path.name for path in record.parent.iterdir()} == {"artifact.json", *map(str, range(20))}
    assert (tmp_path / "log").read_text() == "built\n" * 2


def test_an_empty_lock_file_belongs_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A kill just after its creation, or a power cut, leaves one."""
    monkeypatch.setattr(module, "POLL", 0.2)
    lock = Store(tmp_path).artifact(RECIPE).path.with_suffix(".lock")
    lock.parent.mkdir()
    lock.touch()
    assert Store(tmp_path).get(RECIPE, lambda out: None).path.exists()
    assert not lock.exists()


def test_gc_leaves_work_in_progress(tmp_path: Path):
    process = start(tmp_path / "store", tmp_path / "log", 0.2)
    wait_for_line(process, "1")
    assert Store(tmp_path / "store").unused(days=0) == []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.suffix for path in Store(tmp_path / "store").unused(days=0)] == [".partial"]


def test_a_full_disk_is_told_and_loses_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fill(out: Path) -> None:
        (out / "half").write_text("1")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(InputError, match=r"is full .PytorchStreamWriter.*goes on where it stopped"):
        Store(tmp_path).get(RECIPE, fill)
    assert (Store(tmp_path).artifact(RECIPE).path.with_suffix(".partial") / "half").exists()


def test_why_names_the_value_that_changed(tmp_path: Path):
    store = Store(tmp_path)
    assert store.why(RECIPE) == ["no generate artifact has been built yet"]
    store.get(RECIPE, lambda out: None)
    assert store.why(RECIPE) == []
    store.get(replace(RECIPE, config={"steps": 1, "size": {"height": 1}}, inputs={}), lambda out: None)
    edited = replace(RECIPE, config={"steps": 25, "size": {"height": 64}})
    assert store.why(edited) == ["config.steps: 20 -> 25"]


def test_gc_keeps_what_a_used_artifact_is_made_from(tmp_path: Path):
    store = Store(tmp_path)
    pool = store.get(RECIPE, lambda out: None)
    mix = store.get(Recipe("mix", 1, {}, {"generate": pool.key}), lambda out: None)
    other = store.get(Recipe("mix", 1, {"ratio": 2}, {}), lambda out: None)
    assert store.unused(days=1) == []
    for artifact in (pool, other):
        os.utime(artifact.path / "artifact.json", (0, 0))
    assert store.unused(days=1) == [other.path]
    os.utime(mix.path / "artifact.json", (0, 0))
    assert {path.name for path in store.unused(days=1)} == {pool.key, mix.key, other.key}
    store.remove(other.path)
    assert not store.has(Recipe("mix", 1, {"ratio": 2}, {}))


def test_gc_command(tmp_path: Path):
    store = Store(tmp_path)
    artifact = store.get(RECIPE, lambda out: None)
    os.utime(artifact.path / "artifact.json", (0, 0))
    listed = commands.skinaug("store", "ls", "--store", str(tmp_path), check=True)
    assert "1 artifact" in listed.stdout
    dry = commands.skinaug("store", "gc", "--store", str(tmp_path), check=True)
    assert "would delete" in dry.stdout
    assert artifact.path.exists()
    commands.skinaug("store", "gc", "--yes", "--store", str(tmp_path), check=True)
    assert not artifact.path.exists()


def test_folder_digest_follows_content_and_names(tmp_path: Path):
    def digest() -> str:
        folder_digest.cache_clear()
        return folder_digest(tmp_path)

    (tmp_path / "a").write_text("1")
    first = digest()
    os.utime(tmp_path / "a", (1, 1))
    assert digest() == first
    (tmp_path / "a").write_text("2")
    second = digest()
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest()}) == 3


def test_digest_of_one_file_follows_its_content(tmp_path: Path):
    weights = tmp_path / "weights.safetensors"
    weights.write_text("1")
    first = folder_digest(weights)
    weights.write_text("2")
    folder_digest.cache_clear()
    assert folder_digest(weights) != first


def test_record_is_json(tmp_path: Path):
    artifact = Store(tmp_path).get(RECIPE, lambda out: None)
    assert json.loads((artifact.path / "artifact.json").read_text())["key"] == RECIPE.key
