"""`skinaug audit`: what the pool is like; `skinaug audit audit=real_labels`: which photographs' labels are in doubt; `skinaug audit real=<folder> synthetic=<folder>`: the same of any two folders;
`skinaug audit <artifact> ...`: the leak certificate of anything in the store, from what its stages noted."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from skinaug.cli.next_step import tell_next
from skinaug.errors import InputError
from skinaug.leaks.certificate import print_certificate
from skinaug.leaks.lineage import audit_artifact
from skinaug.pipeline import check_writable, run
from skinaug.report.collect import EVALUATED, RUN_FILE
from skinaug.report.readers import STAGE as READINGS
from skinaug.sources.layout import source_of
from skinaug.sources.root import check_folder, root_digest
from skinaug.sources.walk import leave_out
from skinaug.stage import build, keyed, named_files, picture_cache, plain
from skinaug.store.artifact import Artifact, Recipe
from skinaug.store.digest import folder_digest
from skinaug.store.files import telling_full_disk
from skinaug.store.store import Store, require_whole

FOLDERS, FOLDERS_VERSION = "folders", 1  # the stage of audits of two folders, in the store


def main(arguments: list[str]) -> int:
    """Print certificates; returns the exit status: 0 all hold, 2 one does not or cannot be made."""
    parser = argparse.ArgumentParser(prog="skinaug audit", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    parser.add_argument(
        "artifact", nargs="+", help="<stage>/<key>, a key, or the folder of an artifact, run or sweep"
    )
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    options = parser.parse_args(arguments)
    artifacts = [found for name in options.artifact for found in artifacts_of(name, Store(options.store))]
    certificates = []
    for artifact in dict.fromkeys(artifacts):
        store = Store(artifact.path.parent.parent)
        for led in store.lineage({artifact.stage: artifact.key}).values():
            require_whole(led)
        certificate = audit_artifact(store, artifact)
        print_certificate(certificate, f"{artifact.stage} {artifact.key}")
        certificates.append(certificate)
    return 0 if all(certificate["holds"] for certificate in certificates) else 2


def command(cfg: DictConfig, stage: str) -> None:
    """What the audit found of the pool, and the certificate of what made it; or what it finds of two folders."""
    if cfg.real is not None or cfg.synthetic is not None:
        audit_of_folders(cfg)
        return
    if cfg.audit.real_labels is not None:
        from skinaug.audit.real_labels import print_labels

        print_labels(run(cfg, "real_labels")["real_labels"].path)
        return
    from skinaug.audit.pool import print_audit

    made = run(cfg, "audit")
    print_audit(made["audit"].path)
    print_certificate(audit_artifact(Store(Path(cfg.store)), made["curate"]), "the curated pool")
    tell_next("audit", made)


def audit_of_folders(cfg: DictConfig) -> None:
    """Audit two folders, or find it in the store, print it, and copy it with its page below the folder of outputs.

    Raises:
        InputError: a folder is missing or holds no images, both are one, or as `audit.folders.audit_folders`. Nothing is
            written then.
    """
    folders = two_folders(cfg)
    out = Path(cfg.output) / cfg.name / f"audit-{folders['real'].name}-{folders['synthetic'].name}"
    check_writable("output", out)
    artifact = make_folders(cfg, folders)
    from skinaug.audit.folders import print_folders
    from skinaug.report.folders import PAGE

    print_folders(artifact.path)
    out.mkdir(parents=True, exist_ok=True)
    with telling_full_disk(out):
        shutil.copytree(artifact.path, out, dirs_exist_ok=True)
    Console().print(f"Audit: {out / PAGE}", soft_wrap=True, highlight=False, markup=False)


def two_folders(cfg: DictConfig) -> dict[str, Path]:
    """The folders `real` and `synthetic`. Raises InputError where they cannot be held against each other."""
    advice = "Audit two folders with skinaug audit real=<folder> synthetic=<folder>."
    given = {kind: cfg[kind] for kind in ("real", "synthetic")}
    leave_out(cfg.store, cfg.output)
    if missing := [kind for kind, folder in given.items() if folder is None]:
        raise InputError(f"{missing[0]}=<folder> is not given. {advice}")
    found = {
        kind: check_folder(str(folder), f"{kind}=<folder> holds images. {advice}")
        for kind, folder in given.items()
    }
    one, other = (folder.resolve() for folder in found.values())
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise InputError(
            f"real={given['real']} and synthetic={given['synthetic']} are one folder, or one lies in the other, so that images "
            f"would be held against themselves. {advice}"
        )
    for folder in found.values():
        source_of(folder)  # refuses a table that it cannot read, before images are opened
    return found


def make_folders(cfg: DictConfig, folders: Mapping[str, Path]) -> Artifact:
    """The audit of two folders: found, or made."""
    settings = plain(cfg.audit.folders)
    files = {name: folder_digest(path) for name, path in named_files(settings).items() if path.exists()}
    places = {kind: str(folder) for kind, folder in folders.items()}
    contents = {kind: root_digest(folder, source_of(folder)) for kind, folder in folders.items()}
    recipe = Recipe(FOLDERS, FOLDERS_VERSION, {**keyed(settings), **places}, {**contents, **files})

    def make(out: Path) -> None:
        from skinaug.audit.folders import sentences
        from skinaug.report.folders import write_page

        build(cfg.audit.folders)(
            **folders,
            cache=picture_cache(cfg),
            device=lambda: build(cfg.trainer)().strategy.root_device,
            out=out,
        )
        write_page(out, sentences(json.loads((out / "summary.json").read_text())))

    return Store(Path(cfg.store)).get(recipe, make, about={"name": FOLDERS})


def artifacts_of(name: str, store: Store) -> list[Artifact]:
    """The artifact that a key or folder names, or the classifiers of a report or of the runs below a folder, and their
    predictions on further test sets.

    Raises:
        InputError: neither.
    """
    runs = sorted(Path(name).rglob(RUN_FILE)) if Path(name).is_dir() else []
    if not runs:
        found = store.find(name)
        if found.stage != "report":
            return [found]
        judged = {
            name: key for name, key in found.record["inputs"].items() if not name.endswith(f"/{READINGS}")
        }
        return [Store(found.path.parent.parent).find(key) for key in judged.values()]
    made = [json.loads(run.read_text())["artifacts"] for run in runs]
    if not all("classify" in artifacts for artifacts in made):
        raise InputError(f"{name} holds runs without a classifier: name one of their artifacts.")
    classifiers = [
        folder
        for artifacts in made
        for step, folder in artifacts.items()
        if step == "classify" or step.startswith(EVALUATED)
    ]
    return [store.find(folder) for folder in classifiers]
