"""A pipeline from a base model and a fine-tuning artifact, checked tensor by tensor, and its digest."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open
from torch import Tensor

from skinaug.errors import InputError, listing
from skinaug.models.base import load_folder
from skinaug.models.base_folder import CONVERT, PICKLES
from skinaug.models.families.family import TEXTUAL_INVERSION
from skinaug.models.families.table import FAMILIES, family_of
from skinaug.models.layouts import ENCODERS, LORA_FILE
from skinaug.models.phrases import all_phrases, read_phrases


def model_folders(weights: Path, classes: Sequence[str]) -> list[tuple[Path, list[str]]]:
    """The folders to load, each with the classes that it draws: the artifact itself, or one a class (finetune.scope=class).

    Raises InputError where a class has no model.
    """
    if not (weights / "models").is_dir():
        read_phrases(weights, classes)
        return [(weights, list(classes))]
    home = {label: path for path in sorted(weights.glob("models/*")) for label in all_phrases(path)}
    missing = [label for label in classes if label not in home]
    if missing:
        raise InputError(
            f"The artifact {weights} has a model for each class, but none for {', '.join(missing)}. It has: "
            f"{', '.join(home) or 'none'}. Fine-tune on the data set that you generate for."
        )
    folders = dict.fromkeys(home[label] for label in classes)
    return [(folder, [label for label in classes if home[label] == folder]) for folder in folders]


def load(base: Callable[[], DiffusionPipeline], folder: Path) -> tuple[DiffusionPipeline, str]:
    """The base model with what the artifact adds, and the digest of it all.

    pipeline/ replaces the base; textual_inversion/ and lora/ extend it. LoRA weights are merged into the layers that
    they change, so that they cost no time in sampling.

    Raises InputError where a file is broken or a pickle, belongs to another model, or matches it only in part.
    """
    _refuse_pickles(folder)
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()  # what they would warn of is checked here, and is an error
    pipeline = load_folder(folder / "pipeline") if (folder / "pipeline").is_dir() else base()
    if (folder / "textual_inversion").is_dir():
        _add_tokens(pipeline, folder)
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
    tokens that were added, templates of chats and the noise schedule. 16 hexadecimal digits; the same whatever the folder,
    device or name."""
    total = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                total.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        elif hasattr(component, "get_added_vocab"):
            total.update(json.dumps(component.get_added_vocab(), sort_keys=True).encode())
            total.update((component.chat_template or "").encode())
    schedule = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    total.update(json.dumps(schedule, sort_keys=True, default=str).encode())
    return total.hexdigest()[:16]


def _refuse_pickles(folder: Path) -> None:
    found = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.suffix in PICKLES]
    if found:
        raise InputError(
            f"The artifact {folder} holds pickles:\n{listing(found)}\n{CONVERT}, or remove them."
        )


def _add_tokens(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Load all textual inversion files; afterwards each phrase of labels.json is a token with vectors of its own."""
    if TEXTUAL_INVERSION not in family_of(pipeline).methods:
        raise InputError(
            f"{folder} holds textual inversions, which diffusers cannot load into a {type(pipeline).__name__}. Use the base "
            "that they were trained on."
        )
    phrases = set(all_phrases(folder).values())
    taught = set()
    for path in sorted((folder / "textual_inversion").glob("*.safetensors")):
        for token, part, vectors in _vectors(pipeline, path, phrases):
            _add_token(pipeline, path, token, part, vectors)
            taught.add(token)
    if phrases - taught:
        raise InputError(
            f"{folder / 'textual_inversion'} has no vectors for {', '.join(sorted(phrases - taught))}, which labels.json "
            f"names; it has them for {', '.join(sorted(taught)) or 'none'}. The artifact is not whole: fine-tune again."
        )


def _vectors(
    pipeline: DiffusionPipeline, path: Path, phrases: Iterable[str]
) -> list[tuple[str, tuple[str, str], Tensor]]:
    """(token, its encoder's and tokenizer's names, vectors [V, D]) of a file for one or for two text encoders."""
    tensors = _read(path)
    double = hasattr(pipeline, "text_encoder_2")
    if not tensors or (set(tensors) != set(ENCODERS) if double else set(tensors) & set(ENCODERS)):
        needed = " and ".join(ENCODERS) if double else "a token"
        raise InputError(
            f"The token in {path} does not fit this base model: it holds {', '.join(sorted(tensors)) or 'nothing'}, and a "
            f"{type(pipeline).__name__} needs {needed}. Use the base that it was trained on."
        )
    if not double:
        return [(token, ENCODERS["clip_l"], torch.atleast_2d(vectors)) for token, vectors in tensors.items()]
    tokens = [phrase for phrase in phrases if phrase.strip("<>") == path.stem]
    if not tokens:
        raise InputError(f"labels.json names no token <{path.stem}>, for which {path} has vectors.")
    return [(tokens[0], ENCODERS[key], torch.atleast_2d(vectors)) for key, vectors in tensors.items()]


def _add_token(
    pipeline: DiffusionPipeline, path: Path, token: str, part: tuple[str, str], vectors: Tensor
) -> None:
    """Give a text encoder a token's vectors, as diffusers does, and check that its rows hold them."""
    encoder, tokenizer = (getattr(pipeline, name) for name in part)
    try:
        pipeline.load_textual_inversion(vectors, token=token, text_encoder=encoder, tokenizer=tokenizer)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"The token in {path} does not fit this base model: {error}") from error
    names = [token] + [f"{token}_{number}" for number in range(1, len(vectors))]
    rows = encoder.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(names)].detach().cpu()
    if not torch.equal(rows, vectors.to(rows.dtype)):
        raise InputError(f"{path} was loaded, but the base model does not hold its vectors for {names}.")


def _add_lora(pipeline: DiffusionPipeline, path: Path) -> None:
    """Load LoRA weights, and check that every tensor arrived: diffusers and transformers drop what they do not know."""
    taught = _read(path)
    own = family_of(pipeline).denoiser
    (other,) = {family.denoiser for family in FAMILIES.values()} - {own}
    if any(name.startswith(f"{other}.") for name in taught):
        raise InputError(
            f"The LoRA in {path} does not fit this base model: it changes a {other}, and a {type(pipeline).__name__} has a "
            f"{own}. Use the base that it was trained on."
        )
    try:
        with warnings.catch_warnings():
            # Layers of one name in two families can be as wide: then the LoRA's own settings name more than it has weights for.
            warnings.filterwarnings("error", "While injecting the PEFT adapters", RuntimeWarning)
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    except RuntimeWarning as error:
        raise InputError(
            f"The LoRA in {path} does not fit this base model: it has weights for other layers than its settings name here. Use the "
            "base that it was trained on."
        ) from error
    except (ValueError, RuntimeError, LookupError, AttributeError) as error:  # diffusers checks little itself
        raise InputError(f"The LoRA in {path} does not fit this base model: {error}") from error
    models = [model for model in pipeline.components.values() if isinstance(model, torch.nn.Module)]
    loaded = _contents(
        tensor for model in models for name, tensor in model.named_parameters() if ".lora_" in name
    )
    wanted = _contents(tensor for name, tensor in taught.items() if not name.endswith(".alpha"))
    found, total = (loaded & wanted).total(), wanted.total()
    if not total or found != total or loaded != wanted:
        lost = [
            name
            for name, tensor in taught.items()
            if _contents([tensor]) - loaded and not name.endswith(".alpha")
        ]
        raise InputError(
            f"The LoRA in {path} does not fit this base model: {found} of its {total} tensors found a layer, and "
            f"{(loaded - wanted).total()} that the layers need are not in it. Use the base that it was trained on."
            + (f"\nWithout a layer:\n{listing(lost)}" if lost else "")
        )


def content(tensor: Tensor) -> bytes:
    """A digest of a tensor's values as float32, whatever its shape: libraries rename and reshape on loading. Empty for one that was
    not filled."""
    if tensor.is_meta:
        return b""
    return hashlib.sha256(tensor.detach().float().cpu().contiguous().numpy().tobytes()).digest()


def _contents(tensors: Iterable[Tensor]) -> Counter[bytes]:
    """How often each content occurs."""
    return Counter(map(content, tensors))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing from the fine-tuning artifact.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error
