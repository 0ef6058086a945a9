"""Base models: a complete diffusers pipeline from a local folder, the package itself, or the first hub that has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError, listing
from skinaug.models.backbone import hub_reachable
from skinaug.models.base_folder import (
    INDEX,
    MODELS,
    absent,
    check_folder,
    pipeline_files,
    read_index,
    tensor_sizes,
    weight_files,
)
from skinaug.sources.told import tell

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PACKAGE = "package://"
RENDERERS = frozenset(
    {"skinaug.dataset.phantom.oracle.Oracle"}
)  # bases that draw without a model: nothing is taught to them


@dataclass(frozen=True)
class Origin:
    """Where a base model came from, for model cards: a hub id with its revision or a folder, and the weights' licence."""

    name: str
    licence: str


def load_pipeline(
    path: str | None = None,
    hub_ids: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
    licence: str = "",
    drop: Sequence[str] = (),
    commercial: bool = True,
) -> DiffusionPipeline:
    """A text-to-image pipeline in float32 on the CPU, without a safety checker: those blacken pictures of skin.

    Args:
        path: a folder in diffusers' layout; `package://tiny` is the one that comes with skinaug. Wins over `hub_ids`.
        hub_ids: repositories of the Hugging Face hub with the same weights, as `owner/name` or `owner/name@revision`; the
            first that loads is taken.
        revision: git revision of those that name none; None is the newest.
        variant: name of the weight files' variant, such as fp16; parts without such files are read from the plain ones.
        licence: of the weights, for reports.
        drop: parts to leave out: text_encoder_3 and tokenizer_3 of Stable Diffusion 3.
        commercial: whether the licence allows commercial use; what it forbids is told by `check_base_settings`, before anything is
            loaded.

    Raises:
        InputError: none of them can be loaded; tells what was tried and why each failed.
    """
    folder = local_folder(path)
    if folder is not None:
        return _with_origin(load_folder(folder, variant, drop), Origin(str(path), licence))
    check_base(path, hub_ids, revision, variant, drop)
    tried = []
    for hub_id, commit in _repositories(hub_ids, revision):
        name = f"{hub_id}@{commit}" if commit else hub_id
        try:
            pipeline = load_folder(_fetch(hub_id, commit, variant, drop), variant, drop)
            return _with_origin(pipeline, Origin(name, licence))
        except InputError as error:
            tried.append(f"{name}: {' '.join(str(error).split())}")
    raise InputError(
        f"No base model could be loaded. Tried:\n{listing(tried)}\nGive a local copy with base.path=<folder>."
    )


def load_folder(folder: Path, variant: str | None = None, drop: Sequence[str] = ()) -> DiffusionPipeline:
    """A pipeline from a folder in diffusers' layout, in float32 on the CPU, without a safety checker.

    Raises:
        InputError: what the folder lacks, or weights that fill a model only in part.
    """
    check_folder(folder, variant, drop)
    import diffusers
    import torch
    import transformers
    from safetensors import SafetensorError

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()  # it warns of casts that change nothing
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what it would warn of is checked below
    index = read_index(folder)
    without = dict.fromkeys(absent(index, drop))
    unchecked = {"requires_safety_checker": False} if "requires_safety_checker" in index else {}
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder, variant=variant, use_safetensors=True, local_files_only=True, **without, **unchecked
        )
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be loaded as a diffusers pipeline: {error}") from error
    _check_filled(pipeline, folder, variant)
    return pipeline.to(torch.float32)


def check_base(
    path: str | None,
    hub_ids: Sequence[str],
    revision: str | None = None,
    variant: str | None = None,
    drop: Sequence[str] = (),
) -> None:
    """Refuse a base that cannot be there, in a second or two and without importing diffusers.

    Raises:
        InputError: a folder that cannot be loaded, or hub weights that are neither cached nor reachable.
    """
    folder = local_folder(path)
    if folder is not None:
        return check_folder(folder, variant, drop)
    if not hub_ids:
        raise InputError("There is no base: give a local copy with base.path=<folder>, or base.hub_ids.")
    tried = []
    for hub_id, commit in _repositories(hub_ids, revision):
        name = f"{hub_id}@{commit}" if commit else hub_id
        try:
            cached = _cached(hub_id, commit)
            if cached is None:
                tried.append(name)
            else:
                return check_folder(cached, variant, drop)
        except InputError as error:
            tried.append(f"{name}: {' '.join(str(error).split())}")
    if not hub_reachable():
        raise InputError(
            f"The base model's weights are not on this machine and the Hugging Face hub cannot be reached. Looked for:\n"
            f"{listing(tried)}\nConnect to the network, give a local copy with base.path=<folder>, or use base=tiny."
        )


def check_base_settings(base: Mapping[str, Any]) -> None:
    """`check_base` of a base's whole configuration; tells, once, of a licence that forbids commercial use.

    Raises:
        InputError: as `check_base`.
    """
    check_base(**{name: base[name] for name in signature(check_base).parameters if name in base})
    if not base.get("commercial", True):
        _tell_terms(str(base.get("path") or base["hub_ids"][0]), str(base["licence"]))


@cache
def _tell_terms(name: str, licence: str) -> None:
    """Say what may not be done with a base. Cached: several stages check the same base."""
    tell(
        f"{name}: {licence}. It forbids commercial use of the weights and of what is made from them; read what it says of pictures before "
        "you use them."
    )


def local_files(path: str | None) -> dict[str, Path]:
    """{"weights": folder or file} of a path of the config; {} for none."""
    folder = local_folder(path)
    return {"weights": folder} if folder else {}


def local_folder(path: str | None) -> Path | None:
    """A path of the config as a folder; `package://x` is x among the weights that come with the package."""
    if path and path.startswith(PACKAGE):
        return Path(str(files("skinaug"))) / "weights" / path.removeprefix(PACKAGE)
    return Path(path) if path else None


def origin(pipeline: DiffusionPipeline) -> Origin:
    """Where a pipeline that `load_pipeline` made came from."""
    return getattr(pipeline, "origin", Origin("a model without a name", ""))


def _with_origin(pipeline: DiffusionPipeline, origin: Origin) -> DiffusionPipeline:
    pipeline.origin = origin
    return pipeline


def _repositories(hub_ids: Sequence[str], revision: str | None) -> list[tuple[str, str | None]]:
    """(repository, revision) of `owner/name` and `owner/name@revision`."""
    split = [hub_id.partition("@") for hub_id in hub_ids]
    return [(hub_id, commit or revision) for hub_id, _, commit in split]


def folder_at_hand(path: str | None, hub_ids: Sequence[str], revision: str | None = None) -> Path | None:
    """The folder of a base's weights on this machine; None where they would have to be downloaded, or lie nowhere."""
    folder = local_folder(path)
    if folder is not None:
        return folder if (folder / INDEX).is_file() else None
    return next(filter(None, (_cached(*repository) for repository in _repositories(hub_ids, revision))), None)


def _cached(hub_id: str, revision: str | None) -> Path | None:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(hub_id, INDEX, revision=revision)
    return Path(index).parent if isinstance(index, str) else None


def _fetch(hub_id: str, revision: str | None, variant: str | None, drop: Sequence[str]) -> Path:
    """A repository's folder: from the hub's cache where that has the pinned revision, else downloaded.

    Raises InputError where neither can be had.
    """
    cached = _cached(hub_id, revision)
    online = hub_reachable()
    if cached is not None and (revision or not online):
        try:
            check_folder(cached, variant, drop)
            return cached
        except InputError:
            if not online:
                raise
    if not online:
        raise InputError("not on this machine, and the hub cannot be reached")
    try:
        return _download(hub_id, revision, variant, drop)
    except InputError:
        raise
    except Exception as error:  # whatever the network does, the next mirror is tried
        raise InputError(_reason(hub_id, error)) from error


def _download(hub_id: str, revision: str | None, variant: str | None, drop: Sequence[str]) -> Path:
    """Only the files that loading reads, with a progress bar; refuses a repository that lacks some before it downloads."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    index = read_index(Path(hf_hub_download(hub_id, INDEX, revision=revision)).parent)
    wanted = pipeline_files(index, HfApi().list_repo_files(hub_id, revision=revision), variant, drop)
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))


def _reason(hub_id: str, error: Exception) -> str:
    """Why a repository could not be downloaded, in a line."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"its licence has to be accepted: read it at https://huggingface.co/{hub_id}, accept it there, and log in with "
            "`hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository, or one that needs `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    return str(error).partition("\n")[0] or type(error).__name__


def _check_filled(pipeline: DiffusionPipeline, folder: Path, variant: str | None) -> None:
    """Refuse files that lack tensors of their model: diffusers fills them at random. Names may differ, sizes do not."""
    lacking = []
    for part in MODELS:
        model = getattr(pipeline, part, None)
        if model is None:
            continue
        names = weight_files([path.name for path in (folder / part).iterdir()], variant)
        given = Counter(size for name in names for size in tensor_sizes(folder / part / name))
        own = {id(tensor): tensor.numel() for tensor in model.state_dict(keep_vars=True).values()}
        missing = sum((Counter(own.values()) - given).values())
        if missing:
            lacking.append(f"{part}: {missing} of {len(own)} tensors")
    if lacking:
        raise InputError(f"The weights in {folder} are not all there. Missing:\n{listing(lacking)}")
