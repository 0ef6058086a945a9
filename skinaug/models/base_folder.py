"""What a folder in diffusers' layout must hold, told from its file names and headers: no weights are read, diffusers is not imported."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from importlib import util
from math import prod
from pathlib import Path
from typing import Any

from skinaug.errors import InputError, listing
from skinaug.models.families.table import family_in

INDEX = "model_index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
CONVERT = "Pickles are refused, because loading one runs the code in it. Convert them to safetensors"

LIBRARIES = (
    None,
    "diffusers",
    "transformers",
    "stable_diffusion",
)  # the last: of safety checkers, which are not loaded
MODELS = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "unet", "vae")


def check_folder(folder: Path, variant: str | None = None, drop: Sequence[str] = ()) -> None:
    """Refuse a folder that cannot be loaded as a pipeline, in milliseconds.

    Raises:
        InputError: no index, a pipeline of another family, parts or weights that are missing, pickled or truncated: all at
            once. Or a tokenizer without the template that the family's pipeline needs.
    """
    index = read_index(folder)
    names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
    try:
        wanted = pipeline_files(index, names, variant, drop)
    except InputError as error:
        raise InputError(f"{folder} cannot be used as a base: {error}") from error
    torn = [name for name in wanted if name.endswith(".safetensors") and not is_whole(folder / name)]
    if torn:
        raise InputError(
            f"{folder} cannot be used as a base. Truncated or no safetensors:\n{listing(torn)}\nCopy or download them again."
        )
    if family_in(index).chats and not _has_template(folder / "tokenizer"):
        raise InputError(
            f"{folder} cannot be used as a base: its tokenizer has no template of chats, by which a {family_in(index).pipeline} reads texts. "
            "Copy tokenizer/chat_template.jinja, or a tokenizer_config.json with a chat_template, from where the base was published."
        )


def check_configuration(folder: Path) -> None:
    """Refuse a folder that does not describe a pipeline in all its parts; weights are not asked for.

    Raises:
        InputError: no index, a pipeline of another family, or parts that are not described: all at once.
    """
    index = read_index(folder)
    names = {part: [path.name for path in folder.glob(f"{part}/*")] for part in parts(index)}
    problems = [f"{part}: {problem}" for part, own in names.items() if (problem := _undescribed(part, own))]
    if problems:
        raise InputError(f"{folder} does not describe a pipeline:\n{listing(problems)}")


def read_index(folder: Path) -> dict[str, Any]:
    """model_index.json of a pipeline's folder."""
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{folder} is no diffusers pipeline: it has no {INDEX}.{_single_file(folder)}")
    try:
        index = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Copy or download it again.") from error
    if not isinstance(index, dict):
        raise InputError(f"{path} does not describe a pipeline. Copy or download it again.")
    return index


def read_configurations(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json of a pipeline's autoencoder and denoiser; empty where a part has none."""
    parts = ("vae", family_in(read_index(folder)).denoiser)
    vae, denoiser = (_json(folder / part / "config.json") for part in parts)
    return vae, denoiser


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def pipeline_files(
    index: Mapping[str, Any], names: Sequence[str], variant: str | None = None, drop: Sequence[str] = ()
) -> list[str]:
    """The files that loading a pipeline reads, of all that its folder or repository has (`names`, as `unet/config.json`).

    Raises:
        InputError: another family, or parts or weights that are not there.
    """
    kept = parts(index, drop)
    wanted, problems = [INDEX], []
    for part in kept:
        own = [name.partition("/")[2] for name in names if name.startswith(f"{part}/")]
        weights = weight_files(own, variant) if part in MODELS else []
        problem = _undescribed(part, own) or _weightless(part, own, weights)
        if problem:
            problems.append(f"{part}: {problem}")
        small = [name for name in own if name.endswith((".json", ".txt", ".model", ".jinja"))]
        wanted += [f"{part}/{name}" for name in small + weights]
    if problems:
        raise InputError(f"these parts are not as they must be:\n{listing(problems)}")
    return wanted


def parts(index: Mapping[str, Any], drop: Sequence[str] = ()) -> list[str]:
    """Names of the parts to load.

    Raises:
        InputError: another family, a part that is missing, or one that cannot be left out.
    """
    family = family_in(index)
    optional = family.optional
    needed = [part for part in drop if part in family.parts or part not in MODELS + optional]
    if needed:
        able = ", ".join(optional) or "none of its parts"
        raise InputError(
            f"base.drop={list(drop)}, but a {family.pipeline} cannot do without {', '.join(needed)}. Can be left out: {able}."
        )
    foreign = [f"{name}: {value[0]}" for name, value in index.items() if _library(value) not in LIBRARIES]
    if foreign:
        raise InputError(
            f"its {INDEX} names parts of other libraries than {' and '.join(LIBRARIES[1:3])}, whose code would be run:\n"
            f"{listing(foreign)}"
        )
    missing = [part for part in family.parts if not _has(index, part)]
    if missing:
        raise InputError(f"its {INDEX} lacks {', '.join(missing)}, which a {family.pipeline} needs.")
    return [*family.parts, *(part for part in optional if _has(index, part) and part not in drop)]


def absent(index: Mapping[str, Any], drop: Sequence[str] = ()) -> list[str]:
    """Names of the parts that diffusers must be told to do without: safety checkers, and what was dropped."""
    named = [name for name, value in index.items() if isinstance(value, list)]
    return sorted({*named, *family_in(index).optional} - set(parts(index, drop)))


def weight_files(names: Iterable[str], variant: str | None = None) -> list[str]:
    """The safetensors of one part: the variant's where it has them, else the plain ones."""
    names = sorted(names)
    for suffix in ([rf"\.{re.escape(variant)}"] if variant else []) + [""]:
        pattern = re.compile(rf"(diffusion_pytorch_model|model){suffix}(-\d+-of-\d+)?\.safetensors")
        found = [name for name in names if pattern.fullmatch(name)]
        if found:
            return found
    return []


def tensor_sizes(path: Path) -> list[int]:
    """Numbers of elements of a safetensors file's tensors, from its header."""
    return [prod(entry["shape"]) for name, entry in _header(path)[0].items() if name != "__metadata__"]


def tensor_names(path: Path) -> list[str]:
    """Names of a safetensors file's tensors, from its header, in order."""
    return sorted(name for name in _header(path)[0] if name != "__metadata__")


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has a header and is as long as that says."""
    try:
        header, length = _header(path)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == length + max(ends, default=0)
    except (OSError, ValueError, struct.error, AttributeError, LookupError, TypeError):
        return False


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the number of bytes before the tensors. Format: https://github.com/huggingface/safetensors#format"""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("the file is shorter than its header")
        return json.loads(file.read(length)), 8 + length


def _undescribed(part: str, names: Sequence[str]) -> str | None:
    """What is missing of a part besides weights; None for nothing."""
    if not names:
        return "missing"
    if part.startswith("tokenizer"):
        known = ("tokenizer.json", "vocab.json", "spiece.model")
        found = [name for name in known if name in names]
        if found == ["spiece.model"] and util.find_spec("sentencepiece") is None:
            return "only spiece.model, which SentencePiece reads: pip install 'skinaug[sentencepiece]'"
        return None if found else f"none of {', '.join(known)}"
    config = "scheduler_config.json" if part == "scheduler" else "config.json"
    return None if config in names else f"no {config}"


def _has_template(tokenizer: Path) -> bool:
    """Whether a tokenizer's folder tells how a chat is written, in a file of its own or among the settings."""
    config = tokenizer / "tokenizer_config.json"
    told = json.loads(config.read_text()) if config.is_file() else {}
    return (tokenizer / "chat_template.jinja").is_file() or bool(told.get("chat_template"))


def _weightless(part: str, names: Sequence[str], weights: Sequence[str]) -> str | None:
    """What is missing of a part's weights; None for nothing."""
    if part not in MODELS:
        return None
    if not weights:
        pickles = [name for name in names if name.endswith(PICKLES)]
        return f"only {', '.join(pickles)}. {CONVERT}." if pickles else "no safetensors"
    shards = re.search(r"-of-(\d+)\.", weights[0])
    if shards and len(weights) != int(shards[1]):
        return f"{len(weights)} of {int(shards[1])} safetensors"
    return None


def _has(index: Mapping[str, Any], part: str) -> bool:
    value = index.get(part)
    return isinstance(value, list) and bool(value[0])


def _library(value: Any) -> Any:
    """The library that a part of an index comes from; None for a part that is not there, and for settings."""
    return value[0] if isinstance(value, list) and value else None


def _single_file(folder: Path) -> str:
    """A hint for one checkpoint file, or a folder that holds one, instead of a pipeline."""
    if folder.is_file():
        return f" {_ONE_FILE.format(file=folder)}" if folder.suffix == ".safetensors" else f" {CONVERT}."
    found = [path.name for path in folder.glob("*") if path.suffix in (".safetensors", *PICKLES)]
    if not found:
        return ""
    if not any(name.endswith(".safetensors") for name in found):
        return f" It has {found[0]}. {CONVERT}, in diffusers' layout."
    single = next(name for name in found if name.endswith(".safetensors"))
    return f" {_ONE_FILE.format(file=folder / single)}"


_ONE_FILE = (
    "A checkpoint in one file draws as weights that were made elsewhere: finetune=given finetune.path={file}, on the base that it was "
    "trained on, or with finetune.config=<folder that describes it>. To teach it, convert it with diffusers first: "
    "<pipeline class>.from_single_file(...).save_pretrained(<folder>)."
)
