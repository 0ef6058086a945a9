"""A Stable Diffusion that comes in one file, as a diffusers pipeline: its configuration is another's, its tensors all its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib import import_module
from math import prod
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import safe_open
from torch import Tensor

from skinaug.errors import InputError, listing
from skinaug.models.base_folder import read_index, tensor_names
from skinaug.models.layouts import DRAWS_NOTHING, Layout, layout_of, part_of, pieces
from skinaug.models.weights import content


def save_configuration(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """Write what a pipeline's folder holds besides weights: the index, each part's settings, and the tokenizers."""
    pipeline.save_config(folder)
    for name, part in pipeline.components.items():
        if isinstance(part, transformers.PreTrainedModel):
            part.config.save_pretrained(folder / name)
        elif part is not None:
            (part.save_config if hasattr(part, "save_config") else part.save_pretrained)(folder / name)
    return folder


def load_single_file(path: Path, configuration: Path) -> DiffusionPipeline:
    """The pipeline of a checkpoint in one file (`layouts.LAYOUTS`), in float32 on the CPU, without a safety checker.

    Args:
        path: a safetensors file.
        configuration: a folder in diffusers' layout; its weights, if it has any, are not read.

    Raises:
        InputError: a layout of another family than the configuration's, or tensors that have no place in its models, or that
            those need and the file lacks: counted, and the first ones named.
    """
    layout = layout_of(path, tensor_names(path))
    family = read_index(configuration).get("_class_name")
    if family != layout.pipeline:
        raise InputError(
            f"{path} is {layout.name} in one file, which a {layout.pipeline} can hold, and the configuration is a {family}'s. "
            "Use the base that it was trained on, or set finetune.config to a folder of its configuration."
        )
    given = _tensors(path)
    try:
        _check_match(path, _sizes(given, layout), _sizes_needed(configuration, layout))
        diffusers.utils.logging.disable_progress_bar()
        pipeline = getattr(diffusers, layout.pipeline).from_single_file(
            str(path),
            config=str(configuration),
            local_files_only=True,
            safety_checker=None,
            low_cpu_mem_usage=False,  # else a tensor that is named wrongly ends in words about meta tensors
        )
    except InputError:
        raise
    except Exception as error:  # of many kinds: diffusers and transformers check little themselves
        raise InputError(
            f"{path} cannot be loaded with the configuration of {configuration}: {error}"
        ) from error
    _check_match(path, _contents(path, given), _contents_held(pipeline, layout))
    return pipeline.to(torch.float32)


def _tensors(path: Path) -> dict[str, int]:
    """Numbers of elements of the file's tensors that draw something, by name."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if not DRAWS_NOTHING.fullmatch(name)]  # noqa: SIM118
        return {name: prod(file.get_slice(name).get_shape()) for name in names}


def _sizes(given: Mapping[str, int], layout: Layout) -> dict[str, list[Hashable]]:
    """Part and number of elements of what each tensor becomes."""
    return {
        name: [(part_of(name, layout), size // pieces(name))] * pieces(name) for name, size in given.items()
    }


def _sizes_needed(configuration: Path, layout: Layout) -> dict[str, Hashable]:
    """Part and number of elements of each tensor of the models that a configuration describes; no memory is taken for them."""
    index = read_index(configuration)
    needed: dict[str, Hashable] = {}
    for part in layout.prefixes:
        library, name = index[part]
        kind = getattr(import_module(library), name)
        with torch.device("meta"):
            if library == "diffusers":
                model = kind.from_config(kind.load_config(configuration, subfolder=part))
            else:
                model = kind(kind.config_class.from_pretrained(configuration / part))
        needed |= {f"{part}.{key}": (part, tensor.numel()) for key, tensor in model.state_dict().items()}
    return needed


def _contents(path: Path, given: Iterable[str]) -> dict[str, list[Hashable]]:
    """Digests of what each tensor becomes."""
    with safe_open(path, framework="pt") as file:
        return {name: [content(piece) for piece in _as_held(name, file.get_tensor(name))] for name in given}


def _contents_held(pipeline: DiffusionPipeline, layout: Layout) -> dict[str, Hashable]:
    """Digest of each tensor of a pipeline's models."""
    return {
        f"{part}.{key}": content(tensor)
        for part in layout.prefixes
        for key, tensor in getattr(pipeline, part).state_dict().items()
    }


def _as_held(name: str, tensor: Tensor) -> Iterable[Tensor]:
    """A tensor of the file as a pipeline holds it, but for its shape."""
    return (tensor.T if name.endswith(".text_projection") else tensor).chunk(pieces(name))


def _check_match(path: Path, given: Mapping[str, Sequence[Hashable]], held: Mapping[str, Hashable]) -> None:
    """Refuse a file unless each of its tensors, in all its pieces, has one of a pipeline's to itself, and none of those is left."""
    free = Counter(held.values())
    homeless, unfilled = [], []
    for name, wanted in given.items():
        if Counter(wanted) <= free:
            free -= Counter(wanted)
        else:
            homeless.append(name)
    for name, value in held.items():
        if free[value]:
            free[value] -= 1
            unfilled.append(name)
    if homeless or unfilled:
        raise InputError(
            f"{path} does not fit this configuration: {len(given) - len(homeless)} of its {len(given)} tensors found a place, and "
            f"{len(unfilled)} of {len(held)} that are needed are not in it. Use the base that it was trained on, or set "
            "finetune.config to a folder of its configuration."
            + (f"\nWithout a place:\n{listing(homeless, 5)}" if homeless else "")
            + (f"\nNot in it:\n{listing(unfilled, 5)}" if unfilled else "")
        )
