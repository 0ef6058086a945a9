"""`skinaug audit`: what the pool is like; `skinaug audit <artifact> ...`: the leak certificate of anything in the store, from
what its stages noted."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.certificate import print_certificate
from skinaug.leaks.lineage import audit_artifact
from skinaug.pipeline import run
from skinaug.report.collect import EVALUATED, RUN_FILE
from skinaug.store.artifact import Artifact
from skinaug.store.store import Store


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
        certificate = audit_artifact(Store(artifact.path.parent.parent), artifact)
        print_certificate(certificate, f"{artifact.stage} {artifact.key}")
        certificates.append(certificate)
    return 0 if all(certificate["holds"] for certificate in certificates) else 2


def command(cfg: DictConfig, stage: str) -> None:
    """What the audit found of the pool, and the certificate of what made it."""
    from skinaug.audit.pool import print_audit

    made = run(cfg, "audit")
    print_audit(made["audit"].path)
    print_certificate(audit_artifact(Store(Path(cfg.store)), made["curate"]), "the curated pool")


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
        return [Store(found.path.parent.parent).find(key) for key in found.record["inputs"].values()]
    made = [json.loads(run.read_text())["artifacts"] for run in runs]
    if not all("classify" in artifacts for artifacts in made):
        raise InputError(f"{name} holds runs without a classifier: name one of their artifacts.")
    judged = [
        folder
        for artifacts in made
        for step, folder in artifacts.items()
        if step == "classify" or step.startswith(EVALUATED)
    ]
    return [store.find(folder) for folder in judged]
