"""`skinaug push <artifact> <repository>`: pictures, weights or a classifier of the store to a repository of the Hugging Face hub."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from skinaug.cli.export import PICTURES, data_card, export, facts
from skinaug.errors import InputError, listing, plural
from skinaug.manifest import Manifest
from skinaug.models.cards import CARD, licence_fields
from skinaug.store.artifact import Artifact
from skinaug.store.store import Store

# What a repository gets of weights; the rest of such an artifact tells of patients or of the training.
WEIGHTS = (CARD, "labels.json", "lora", "textual_inversion", "pipeline", "models", "samples")


def main(arguments: list[str]) -> int:
    """Prepare, and upload unless told not to; returns the exit status."""
    parser = argparse.ArgumentParser(prog="skinaug push", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    parser.add_argument("artifact", help="<stage>/<key> or a key, as `skinaug store ls` lists them")
    parser.add_argument(
        "repository", metavar="owner/name", help="made where it is not there: private, unless --public"
    )
    parser.add_argument("--public", action="store_true", help="for everybody to see")
    parser.add_argument(
        "--with-photographs", action="store_true", help="real photographs too; their licence must allow it"
    )
    parser.add_argument(
        "--prepare-only",
        type=Path,
        metavar="FOLDER",
        help="write to an empty or new folder what would be sent",
    )
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    options = parser.parse_args(arguments)
    _check_name(options.repository)
    store = Store(options.store)
    artifact = store.find(options.artifact)
    _check_artifact(artifact, options.with_photographs)
    if options.prepare_only is not None:
        _prepare_whole(store, artifact, options.repository, options.prepare_only)
        _say(f"{artifact.stage}/{artifact.key} is prepared in {options.prepare_only}. Nothing was sent.")
        return 0
    _check_account()
    with TemporaryDirectory(prefix="skinaug-push-") as scratch:
        folder = prepare(store, artifact, options.repository, Path(scratch) / "repository")
        _say(
            upload(
                folder,
                options.repository,
                kind_of(artifact),
                options.public,
                f"{artifact.stage} {artifact.key}",
            )
        )
    return 0


def kind_of(artifact: Artifact) -> str:
    """The hub's kind of repository: dataset or model."""
    return "dataset" if artifact.stage in PICTURES else "model"


def prepare(store: Store, artifact: Artifact, repository: str, folder: Path) -> Path:
    """Write what a repository is to hold into a new folder, and return it."""
    if artifact.stage in PICTURES:
        export(store, artifact, folder, "imagefolder")
        manifest = Manifest.read(artifact.path)
        card = (
            f"---\n{_data_fields(store, artifact, manifest)}\n---\n\n{data_card(store, artifact, manifest)}"
        )
        (folder / CARD).write_text(card, "utf-8")
    elif artifact.stage == "finetune":
        folder.mkdir(parents=True)
        for name in WEIGHTS:
            source = artifact.path / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            elif source.is_file():
                shutil.copyfile(source, folder / name)
        base = artifact.record.get("config", {}).get("base", {}).get("path")
        if base and Path(base).is_absolute():  # where it lies here helps nobody there
            card = (folder / CARD).read_text("utf-8").replace(base, Path(base).name)
            (folder / CARD).write_text(card, "utf-8")
    else:
        _prepare_classifier(store, artifact, repository, folder)
    return folder


def upload(folder: Path, repository: str, kind: str, public: bool, what: str) -> str:
    """Send a folder to a repository, which is made where it is not there; returns what was done, in words.

    Raises:
        InputError: the hub refuses, or the repository is there and is not as it must be: nothing is sent then.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi

    api, sending = HfApi(), False
    try:
        api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        found: Any = api.repo_info(repository, repo_type=kind)
        if bool(found.private) == public:
            raise InputError(
                f"{repository} is {'private' if found.private else 'public'} already, and a repository's settings alone change "
                f"that. {'Leave --public away' if public else 'Give --public'}, or another name."
            )
        own = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} | {".gitattributes"}
        others = sorted({file.rfilename for file in found.siblings or ()} - own)
        if others:
            raise InputError(
                f"{repository} holds {plural(len(others), 'file')} that {what} has not. Give a new name, or empty it first:\n{listing(others, 5)}"
            )
        sending = True
        commit = api.upload_folder(
            repo_id=repository, repo_type=kind, folder_path=folder, commit_message=f"{what}, by skinaug"
        )
    except InputError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        again = " The same command goes on: what has arrived is not sent again." if sending else ""
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{repository} could not be {'filled' if sending else 'made'}: {reason}.{again}"
        ) from error
    files = sum(path.is_file() for path in folder.rglob("*"))
    return f"{plural(files, 'file')} of {what} {'is' if files == 1 else 'are'} in {'public' if public else 'private'} {kind} {repository}: {commit.commit_url}"


def _check_name(repository: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
        if "/" not in repository:
            raise HFValidationError("it names no owner")
    except HFValidationError as error:
        raise InputError(f"{repository!r} is no owner/name of a repository: {error}") from error


def _check_artifact(artifact: Artifact, with_photographs: bool) -> None:
    """Refuse what no repository is made of, and photographs that nobody has asked for or that have no licence."""
    name = f"{artifact.stage}/{artifact.key}"
    if artifact.stage in PICTURES:
        manifest = Manifest.read(artifact.path)
        if (held := _photographs(manifest)) and not with_photographs:
            raise InputError(
                f"{name} holds {held}. Patients and licence may forbid that anybody else has them: add --with-photographs if you may "
                "pass them on, or push a pool that is drawn from noise (curate/<key>)."
            )
        if held and not manifest.licence:
            raise InputError(
                f"{name} holds {held}, whose licence is not told, and their card must tell it. Set dataset.licence, and "
                "dataset.citation, and make it again."
            )
    elif artifact.stage == "finetune":
        if not (artifact.path / CARD).is_file():
            raise InputError(
                f"{name} was not taught here: it holds no weights, or those of somebody else, which are pushed from where they were made."
            )
    elif artifact.stage != "classify":
        raise InputError(
            f"{name} cannot be pushed. Pictures ({', '.join(PICTURES)}), weights (finetune) and classifiers (classify) can."
        )


def _photographs(manifest: Manifest) -> str:
    """How many pictures are photographs, or were made from some, in words; "" for none."""
    table, told = manifest.table, []
    if real := int((table["source"] == "real").sum()):
        told.append(plural(real, "real photograph"))
    if "parents" in table.columns and (made := int((table["parents"].list.len() > 0).sum())):
        told.append(f"{plural(made, 'picture')} made from photographs")
    return " and ".join(told)


def _check_account() -> None:
    """Refuse to begin where nothing can be sent."""
    from huggingface_hub import get_token

    from skinaug.models.backbone import hub_reachable, hub_switched_off

    lacking = []
    if hub_switched_off():
        lacking.append("HF_HUB_OFFLINE is set: unset it")
    elif not hub_reachable():
        lacking.append("the Hugging Face hub cannot be reached: connect to the network")
    if not get_token():
        lacking.append("there is no token: run `hf auth login`, or set HF_TOKEN")
    if lacking:
        raise InputError(
            f"Nothing can be sent.\n{listing(lacking)}\n`--prepare-only <folder>` writes what would be sent, without either."
        )


def _prepare_whole(store: Store, artifact: Artifact, repository: str, folder: Path) -> None:
    """`prepare`, all or nothing."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: give --prepare-only an empty or a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
        os.replace(prepare(store, artifact, repository, Path(scratch) / "repository"), folder)


def _prepare_classifier(store: Store, artifact: Artifact, repository: str, folder: Path) -> None:
    from omegaconf import OmegaConf

    from skinaug.classify.card import write_classifier
    from skinaug.models.backbone import untrained
    from skinaug.stage import build

    lineage = store.lineage({artifact.stage: artifact.key})
    mix, recipe = Manifest.read(lineage["mix"].path), artifact.record["config"]
    write_classifier(
        artifact.path,
        untrained(build(OmegaConf.create(recipe["backbone"]))),
        recipe,
        mix=mix,
        facts=facts(lineage, mix.table),
        repository=repository,
        out=folder,
    )


def _data_fields(store: Store, artifact: Artifact, manifest: Manifest) -> str:
    """The card's YAML, by which hubs file it. The licence is the photographs', or that of the base that drew what has none."""
    from huggingface_hub import DatasetCardData

    sources = set(manifest.table["source"])
    told = dict(facts(store.lineage({artifact.stage: artifact.key}), manifest.table))
    licence = manifest.licence if "real" in sources else told.get("licence of the base", "")
    return DatasetCardData(
        **licence_fields(licence),
        pretty_name=f"skinaug {artifact.stage} {artifact.key}",
        task_categories=["image-classification"],
        tags=["dermatology", "skinaug", *(["synthetic-data"] if "synthetic" in sources else [])],
    ).to_yaml()


def _say(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
