"""Content-addressed artifacts: key, lock, atomic publish, provenance, and "why would this run?".

An artifact is a folder `<root>/<stage>/<key>/`. Its key is the SHA-256 of everything that decides its content: the stage,
the stage's version, its config subtree and its inputs' digests. It is built in `<root>/<stage>/<key>.partial/`, which
survives a kill so that a stage can go on where it stopped, and published by one rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from skinaug.errors import InputError
from skinaug.store.artifact import (
    COPY_AGAIN,
    KEY,
    RECORD,
    SCHEMA_VERSION,
    Artifact,
    Recipe,
    changes,
    read_record,
)
from skinaug.store.digest import folder_size
from skinaug.store.files import flush, flush_one, telling_full_disk
from skinaug.store.lease import hold, is_busy
from skinaug.store.provenance import provenance


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
            with hold(artifact) as lease:
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
        differences = [changes(other.recipe.flat(), recipe.flat()) for other in others]
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
            InputError: there is none, or it is not whole.
        """
        folder = Path(name)
        if (folder / RECORD).is_file():
            record = read_record(folder)
            artifact = Artifact(record["stage"], record["key"], Path(os.path.abspath(folder)))
            require_whole(artifact)
            return artifact
        match = [artifact for artifact in self.artifacts() if artifact.key == name.rpartition("/")[2]]
        if not match:
            raise InputError(
                f"There is no artifact {name!r} in the store {self.root}. `skinaug store ls` lists them."
            )
        require_whole(match[0])
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
            if path.stat().st_mtime < limit and not is_busy(path)
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

    def _tidy(self, artifact: Artifact) -> None:
        """Remove the folders that a refused build leaves empty."""
        for folder in (artifact.path.parent, self.root):
            try:
                folder.rmdir()
            except OSError:
                return  # not empty

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
        record = {
            "schema_version": SCHEMA_VERSION,
            **asdict(recipe),
            "key": recipe.key,
            **about,
            **provenance(),
            "seconds": round(seconds, 3),
            "bytes": folder_size(work),
        }
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        flush(work)  # so that after a power cut a published artifact is whole
        if artifact.path.exists():  # a removal that was killed half-way left it without its record
            shutil.rmtree(artifact.path)
        os.replace(work, artifact.path)
        flush_one(artifact.path.parent)


def missing_bytes(artifact: Artifact) -> int:
    """How much smaller an artifact's files are than they were when it was published; 0 where its record, of an earlier version,
    does not tell."""
    whole = artifact.record.get("bytes")
    return 0 if whole is None else max(whole - folder_size(artifact.path, but=(RECORD,)), 0)


def require_whole(artifact: Artifact) -> None:
    """Raise an InputError where files of an artifact are missing or cut off."""
    if lacking := missing_bytes(artifact):
        raise InputError(
            f"{artifact.stage}/{artifact.key} lacks {lacking:,} of {artifact.record['bytes']:,} bytes: files below {artifact.path} are "
            f"missing or cut off. Was the store copied in part? {COPY_AGAIN}"
        )


def _seconds(file: Path) -> float:
    """The number in a file; 0 where there is none, or where a machine that lost power left it empty."""
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return 0.0
