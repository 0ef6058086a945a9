"""Content-addressed artifacts: key, lock, atomic publish, provenance, and "why would this run?".

An artifact is a folder `<root>/<stage>/<key>/`. Its key is the SHA-256 of everything that decides its content: the stage,
the stage's version, its config subtree and its inputs' digests. It is built in `<root>/<stage>/<key>.partial/`, which
survives a kill so that a stage can go on where it stopped, and published by one rename.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from skinaug.errors import InputError
from skinaug.files import flush, flush_one, telling_full_disk
from skinaug.images import sha256_file

RECORD = "artifact.json"
LEASE = 90.0  # seconds without a sign of life after which a builder on another machine counts as dead
POLL = 1.0  # seconds between looks at somebody else's lease
KEY_LENGTH = 16  # hexadecimal digits: 64 bits, no collision in any study
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")
PACKAGES = (
    "skinaug", "torch", "torchvision", "lightning", "diffusers", "transformers", "peft", "timm", "torchmetrics",
    "numpy", "scipy", "scikit-learn", "polars", "pillow", "safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """All that decides an artifact's content.

    Attributes:
        stage: the stage's name, also its folder in the store.
        version: raised by hand when the stage's code changes what it makes from the same config and inputs.
        config: the stage's config subtree, of JSON values.
        inputs: digest (or key) of each input, by name.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of the recipe, shortened."""
        content = json.dumps([self.stage, self.version, self.config, self.inputs], allow_nan=False)
        # Read back, all names are text: YAML's 20 and "" beside each other cannot be sorted.
        text = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def flat(self) -> dict[str, Any]:
        """The recipe as dotted names and leaf values, for comparing two recipes."""
        return {"version": self.version, **_flatten("config", self.config), **_flatten("inputs", self.inputs)}


@dataclass(frozen=True)
class Artifact:
    """A finished, published folder. `key` identifies its content, `path` is where it lies."""

    stage: str
    key: str
    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """What `artifact.json` tells: config, inputs, packages, git revision, device, seconds, created."""
        return json.loads((self.path / RECORD).read_text())


@dataclass(frozen=True)
class Store:
    """A folder of artifacts, shared by any number of processes."""

    root: Path

    def get(
        self, recipe: Recipe, build: Callable[[Path], None], *, about: Mapping[str, Any] = {}
    ) -> Artifact:
        """The artifact of a recipe: found, or built once by `build(work_folder)` and published whole.

        `about` goes into the record of what is built, as JSON, and not into the key: what a rerun needs to know.

        Of several processes that want it, one builds and the others wait. What `build` leaves in the work folder
        when it fails or is killed is there for its next try.

        Raises:
            InputError: the store's folder cannot be written, or its disk is full.
        """
        artifact = self.artifact(recipe)
        if self.has(recipe):
            self._touch(artifact)
            return artifact
        self._make_folder(artifact.path.parent)
        try:
            with self._lease(artifact) as lease:
                if not self.has(recipe):
                    with telling_full_disk(self.root):
                        self._build(recipe, artifact, build, about, lease)
        except InputError:
            self._tidy(artifact)
            raise
        return artifact

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact is there and complete."""
        return (self.artifact(recipe).path / RECORD).is_file()

    def why(self, recipe: Recipe) -> list[str]:
        """Why the recipe would be built: the values that differ from its nearest artifact; empty when it is there."""
        if self.has(recipe):
            return []
        others = [other for other in self.artifacts() if other.stage == recipe.stage]
        if not others:
            return [f"no {recipe.stage} artifact has been built yet"]
        differences = [changes(_recipe(other).flat(), recipe.flat()) for other in others]
        return min(differences, key=len)

    def artifacts(self) -> Iterator[Artifact]:
        """Every finished artifact, by stage and key."""
        for record in sorted(self.root.glob(f"*/*/{RECORD}")):
            if record.parent.suffix != ".partial":
                yield Artifact(record.parent.parent.name, record.parent.name, record.parent)

    def lineage(self, inputs: Mapping[str, str]) -> dict[str, Artifact]:
        """Every artifact that led to something made of `inputs` (name -> key), itself an artifact's, by name; where one name
        stands for several artifacts, the later ones have their key behind it.

        Raises:
            InputError: one of them has been deleted: what is not there can prove nothing.
        """
        found: dict[str, Artifact] = {}
        frontier = list(inputs.items())
        while frontier:
            name, key = frontier.pop(0)
            artifact = Artifact(
                name.partition(".")[0], key, Path(os.path.abspath(self.root)) / name.partition(".")[0] / key
            )
            if not KEY.fullmatch(key) or artifact in found.values():
                continue  # a digest of something outside the store, or met before
            if not (artifact.path / RECORD).is_file():
                raise InputError(
                    f"{artifact.stage} {key} is no longer in the store {self.root}, so its part cannot be audited. Run the "
                    "command that made it again."
                )
            found[f"{name} {key}" if name in found else name] = artifact
            frontier += artifact.record["inputs"].items()
        return found

    def find(self, name: str) -> Artifact:
        """An artifact by its folder, `<stage>/<key>`, or key.

        Raises:
            InputError: there is none.
        """
        folder = Path(name)
        if (folder / RECORD).is_file():
            record = json.loads((folder / RECORD).read_text())
            return Artifact(record["stage"], record["key"], Path(os.path.abspath(folder)))
        match = [artifact for artifact in self.artifacts() if artifact.key == name.rpartition("/")[2]]
        if not match:
            raise InputError(
                f"There is no artifact {name!r} in the store {self.root}. `skinaug store ls` lists them."
            )
        return match[0]

    def unused(self, days: float) -> list[Path]:
        """Folders that `gc` may delete: artifacts that no run has asked for in `days`, unless one that was asked for
        is made from them, and abandoned work folders as old."""
        limit = time.time() - days * 86400
        artifacts = {artifact.key: artifact for artifact in self.artifacts()}
        wanted: set[str] = set()
        frontier = [a.key for a in artifacts.values() if (a.path / RECORD).stat().st_mtime >= limit]
        while frontier:
            key = frontier.pop()
            if key in artifacts and key not in wanted:
                wanted.add(key)
                frontier.extend(artifacts[key].record["inputs"].values())
        stale = [
            path
            for path in self.root.glob("*/*.partial")
            if path.stat().st_mtime < limit and not self._busy(path)
        ]
        return [artifact.path for key, artifact in artifacts.items() if key not in wanted] + stale

    def remove(self, path: Path) -> None:
        """Delete an artifact or a work folder; what a kill leaves of it half-way looks like neither, and goes with the next gc."""
        key = path.name.partition(".")[0]
        doomed = path.with_name(f"{key}.removed.partial")
        if path != doomed:
            shutil.rmtree(doomed, ignore_errors=True)
            os.replace(path, doomed)
        shutil.rmtree(doomed)

    def artifact(self, recipe: Recipe) -> Artifact:
        """Where the artifact of a recipe lies, built or not."""
        return Artifact(
            recipe.stage, recipe.key, Path(os.path.abspath(self.root)) / recipe.stage / recipe.key
        )

    def _touch(self, artifact: Artifact) -> None:
        with contextlib.suppress(OSError):  # a store that is read-only here can still be used
            os.utime(artifact.path / RECORD)  # gc keeps what was asked for lately

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(f"no permission to write {folder}")
        except OSError as error:
            raise InputError(
                f"The store {self.root} cannot be written ({error}). Choose another folder with store=<folder>."
            ) from error

    @contextlib.contextmanager
    def _lease(self, artifact: Artifact) -> Iterator[SoftFileLease]:
        """Held by the builder, as a file that it refreshes: that works where `flock` does not, as on many shared file systems. A
        builder that died is replaced, at once on its own machine and after LEASE seconds on another. One that slept so long
        that others took its place is stopped.

        Whoever gets the lease has just changed the folder, so a network file system shows what was published there before.
        """
        lease = SoftFileLease(
            artifact.path.with_suffix(".lock"),
            lease_duration=LEASE,
            poll_interval=POLL,
            on_compromise=lambda _: os.kill(os.getpid(), signal.SIGTERM),
        )
        try:
            lease.acquire(timeout=0)
        except Timeout:
            owner = lease.owner
            who = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
            print(f"{artifact.stage} {artifact.key} is being built by {who}: waiting for it.", flush=True)
            _wait_for(lease)
        try:
            yield lease
        finally:
            lease.release()

    def _tidy(self, artifact: Artifact) -> None:
        """Remove the folders that a refused build leaves empty."""
        for folder in (artifact.path.parent, self.root):
            try:
                folder.rmdir()
            except OSError:
                return  # not empty

    def _busy(self, work: Path) -> bool:
        """Whether somebody builds in a work folder: showed a sign of life lately, and is not known to be dead."""
        lease = SoftFileLease(work.with_suffix(".lock"), lease_duration=LEASE)
        try:
            if time.time() - os.stat(lease.lock_file).st_mtime > 10 * LEASE:  # clocks of machines differ
                return False
            with lease.acquire(timeout=0):
                return False
        except FileNotFoundError:
            return False
        except Timeout:
            return True

    def _build(
        self,
        recipe: Recipe,
        artifact: Artifact,
        build: Callable[[Path], None],
        about: Mapping[str, Any],
        lease: SoftFileLease,
    ) -> None:
        work = artifact.path.with_suffix(".partial")
        fresh = not work.exists()
        work.mkdir(exist_ok=True)
        spent = work / "seconds"  # in tries that were killed: a resumed build costs what all its tries cost
        earlier = _seconds(spent)
        started = time.monotonic()
        try:
            build(work)
        except InputError:
            if fresh:
                shutil.rmtree(work)  # bad input leaves nothing behind
            raise
        finally:
            seconds = time.monotonic() - started + earlier
            with contextlib.suppress(OSError):  # the folder is gone, or the disk is full
                spent.write_text(f"{seconds:.3f}")
        if lease.compromise:
            raise RuntimeError(f"{artifact.stage} {artifact.key} was taken over by another process.")
        spent.unlink()
        record = {**_recipe_record(recipe), **about, **provenance(), "seconds": round(seconds, 3)}
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        flush(work)  # so that after a power cut a published artifact is whole
        if artifact.path.exists():  # a removal that was killed half-way left it without its record
            shutil.rmtree(artifact.path)
        os.replace(work, artifact.path)
        flush_one(artifact.path.parent)


def _wait_for(lease: SoftFileLease) -> None:
    """Acquire a lease that somebody else holds, or nobody: a kill between two calls of the system, or a power cut, leaves an empty
    file, which filelock takes for that of an earlier version of its own, and never removes."""
    file = Path(lease.lock_file)
    while not lease.is_locked:
        with contextlib.suppress(FileNotFoundError):
            before = file.stat()
            if before.st_size == 0:
                time.sleep(POLL)  # its writer needs less
                after = file.stat()
                if (after.st_size, after.st_ino) == (0, before.st_ino):
                    file.unlink()
        with contextlib.suppress(Timeout):
            lease.acquire(timeout=10 * POLL)


def _seconds(file: Path) -> float:
    """The number in a file; 0 where there is none, or where a machine that lost power left it empty."""
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return 0.0


def provenance() -> dict[str, Any]:
    """Package versions, git revision, device, threads, host, Python and time: what a rerun must match."""
    return {
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
        "device": _device(),
        "threads": threads(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.lru_cache(maxsize=64)
def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of all files below a folder (or of one file), and over its own place.

    Half-written files, which end in .partial, do not count.
    """
    folder = Path(os.path.abspath(folder))
    whole = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    files = [folder] if folder.is_file() else sorted(whole)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(sha256_file, files)
        lines = [f"{digest} {path.relative_to(folder)}" for digest, path in zip(digests, files, strict=True)]
    return hashlib.sha256("\n".join([str(folder), *lines]).encode()).hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _recipe_record(recipe: Recipe) -> dict[str, Any]:
    return {
        "stage": recipe.stage,
        "key": recipe.key,
        "version": recipe.version,
        "config": dict(recipe.config),
        "inputs": dict(recipe.inputs),
    }


def _recipe(artifact: Artifact) -> Recipe:
    record = artifact.record
    return Recipe(record["stage"], record["version"], record["config"], record["inputs"])


def _flatten(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {name: leaf for key in value for name, leaf in _flatten(f"{prefix}.{key}", value[key]).items()}
    return {prefix: value}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`name: old -> new` of every value that is not the same in both, by name."""
    absent = "(absent)"
    names = [name for name in sorted({*old, *new}) if old.get(name, absent) != new.get(name, absent)]
    return [f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}" for name in names]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def threads() -> dict[str, int]:
    """How many threads torch and the BLAS of numpy compute with, where loaded: sums over another number round otherwise."""
    from threadpoolctl import threadpool_info

    torch = sys.modules.get("torch")
    found = {} if torch is None else {"torch": torch.get_num_threads()}
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return found | ({"blas": max(blas)} if blas else {})


def _device() -> str:
    """The GPU's name where one is visible to torch, else the processor's."""
    torch = sys.modules.get("torch")  # a stage that never loaded torch did not use a GPU
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"
