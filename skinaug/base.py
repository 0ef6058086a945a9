"""Base models: a complete diffusers pipeline from a local folder, the package itself, or the first hub that has it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from skinaug.backbone import hub_reachable
from skinaug.errors import InputError, listing

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PACKAGE = "package://"
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # of a pipeline's folder: never a pickle


def load_pipeline(
    path: str | None = None,
    hub_ids: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
    licence: str = "",
) -> DiffusionPipeline:
    """A text-to-image pipeline in float32 on the CPU, without a safety checker: those blacken pictures of skin.

    Args:
        path: a folder in diffusers' layout; `package://tiny` is the one that comes with skinaug. Wins over `hub_ids`.
        hub_ids: repositories of the Hugging Face hub with the same weights; the first that loads is taken.
        revision: git revision of those repositories.
        variant: name of the weight files' variant, such as fp16.
        licence: of the weights, for reports.

    Raises:
        InputError: none of them can be loaded; tells what was tried.
    """
    check_base(path, hub_ids)
    folder = local_folder(path)
    if folder is not None:
        return _load(folder, variant)
    tried = []
    for hub_id in hub_ids:
        try:
            return _load(_download(hub_id, revision), variant)
        except (OSError, InputError) as error:
            tried.append(f"{hub_id}: {str(error).splitlines()[0]}")
    raise InputError(
        f"No base model could be loaded. Tried:\n{listing(tried)}\nGive a local copy with base.path=<folder>."
    )


def check_base(path: str | None, hub_ids: Sequence[str]) -> None:
    """Refuse a base that cannot be there, in a second or two and without importing diffusers.

    Raises:
        InputError: no such folder, no pipeline in it, or hub weights that are neither cached nor reachable.
    """
    folder = local_folder(path)
    if folder is not None:
        if not (folder / "model_index.json").is_file():
            raise InputError(f"base.path={path} is no diffusers pipeline: {folder} has no model_index.json.")
        return
    if not any(_cached(hub_id) for hub_id in hub_ids) and not hub_reachable():
        raise InputError(
            f"The base model's weights are not on this machine and the Hugging Face hub cannot be reached. Looked for:\n"
            f"{listing(hub_ids)}\nConnect to the network, give a local copy with base.path=<folder>, or use base=tiny."
        )


def local_folder(path: str | None) -> Path | None:
    """A path of the config as a folder; `package://x` is x among the weights that come with the package."""
    if path and path.startswith(PACKAGE):
        return Path(str(files("skinaug"))) / "weights" / path.removeprefix(PACKAGE)
    return Path(path) if path else None


def _cached(hub_id: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE).glob(f"models--{hub_id.replace('/', '--')}/snapshots/*/model_index.json"))


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            hub_id, revision=revision, allow_patterns=list(FILES), local_files_only=not hub_reachable()
        )
    )


def _load(folder: Path, variant: str | None) -> DiffusionPipeline:
    import diffusers
    import torch
    import transformers
    from safetensors import SafetensorError

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()  # it warns of casts that change nothing
    transformers.utils.logging.disable_progress_bar()
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{folder} cannot be loaded as a diffusers pipeline of safetensors: {error}"
        ) from error
    return pipeline.to(torch.float32)
