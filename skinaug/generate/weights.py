"""A pipeline from a base model and a fine-tuning artifact, checked key by key, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open

from skinaug.errors import InputError

LORA_FILE = "pytorch_lora_weights.safetensors"


def read_phrases(folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """What stands for each class in a prompt, from the artifact's labels.json.

    Raises InputError where the file is missing, or lacks a class.
    """
    path = folder / "labels.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a fine-tuning artifact: it has no labels.json with a phrase for each class."
        )
    phrases = json.loads(path.read_text())
    missing = [label for label in classes if label not in phrases]
    if missing:
        raise InputError(
            f"The weights in {folder} were not taught these classes: {', '.join(missing)}. They know "
            f"{', '.join(phrases)}. Fine-tune on the data set that you generate for."
        )
    return {label: phrases[label] for label in classes}


def load(base: Callable[[], DiffusionPipeline], folder: Path) -> tuple[DiffusionPipeline, str]:
    """The base model with what the artifact adds, and the digest of it all.

    pipeline/ replaces the base; textual_inversion/ and lora/ extend it. LoRA weights are merged into the layers that
    they change, so that they cost no time in sampling.

    Raises InputError where a file is broken, belongs to another model, or matches it only in part.
    """
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()  # what they would warn of is checked here, and is an error
    pipeline = _load_whole(folder / "pipeline") if (folder / "pipeline").is_dir() else base()
    for path in sorted((folder / "textual_inversion").glob("*.safetensors")):
        _add_tokens(pipeline, path)
    if (folder / "lora").is_dir():
        _add_lora(pipeline, folder / "lora" / LORA_FILE)
    identity = digest(pipeline)
    if (folder / "lora").is_dir():
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, identity


def digest(pipeline: DiffusionPipeline) -> str:
    """SHA-256 of all that makes the pictures besides prompt, seed and settings: every parameter of every model, the
    tokens that were added and the noise schedule. 16 hexadecimal digits; the same whatever the folder, device or name."""
    total = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                total.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        elif hasattr(component, "get_added_vocab"):
            total.update(json.dumps(component.get_added_vocab(), sort_keys=True).encode())
    schedule = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    total.update(json.dumps(schedule, sort_keys=True, default=str).encode())
    return total.hexdigest()[:16]


def _load_whole(folder: Path) -> DiffusionPipeline:
    try:
        return DiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, safety_checker=None
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be loaded as a diffusers pipeline: {error}") from error


def _add_tokens(pipeline: DiffusionPipeline, path: Path) -> None:
    """Load one textual inversion file; afterwards its rows stand in the text encoder under its tokens."""
    taught = _read(path)
    try:
        pipeline.load_textual_inversion(str(path))
    except ValueError as error:
        raise InputError(f"The token in {path} does not fit this base model: {error}") from error
    rows = pipeline.text_encoder.get_input_embeddings().weight
    for token, vectors in taught.items():
        names = [token] + [f"{token}_{i}" for i in range(1, len(torch.atleast_2d(vectors)))]
        found = rows[pipeline.tokenizer.convert_tokens_to_ids(names)].detach().cpu()
        if not torch.equal(found, torch.atleast_2d(vectors).to(found.dtype)):
            raise InputError(f"{path} was loaded, but the base model does not hold its vectors for {names}.")


def _add_lora(pipeline: DiffusionPipeline, path: Path) -> None:
    """Load LoRA weights, and check that every tensor found a layer."""
    taught = _read(path)
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    except (ValueError, RuntimeError, LookupError, AttributeError) as error:  # diffusers checks little itself
        raise InputError(f"The LoRA in {path} does not fit this base model: {error}") from error
    models = [model for model in pipeline.components.values() if isinstance(model, torch.nn.Module)]
    loaded = sum(".lora_" in name for model in models for name, _ in model.named_parameters())
    wanted = sum(not name.endswith(".alpha") for name in taught)
    if not wanted or loaded != wanted:
        raise InputError(
            f"The LoRA in {path} does not fit this base model: {loaded} of its {wanted} tensors found a layer. "
            "Use the base that it was trained on."
        )


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing from the fine-tuning artifact.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error
