"""Weights that were made elsewhere, brought into the form that fine-tuning leaves. Nothing is trained."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from skinaug.errors import InputError, listing
from skinaug.finetune.scope import folder_names
from skinaug.labels import by_class
from skinaug.leaks.lineage import check_given
from skinaug.manifest import Manifest
from skinaug.models.base_folder import CONVERT, INDEX, PICKLES, check_configuration, is_whole, tensor_names
from skinaug.models.families.table import family_of
from skinaug.models.layouts import (
    DRAWS_NOTHING,
    ENCODERS,
    LORA_FILE,
    PEFT_CONFIG,
    PEFT_FILE,
    is_single_file,
    layout_of,
)
from skinaug.models.phrases import write_phrases
from skinaug.prompts import PromptSet

PIPELINE, CHECKPOINT, LORA = "pipeline", "checkpoint in one file", "LoRA"
PEFT, TOKEN = "LoRA in peft's layout", "textual inversion"
A1111 = "emb_params"  # what that program calls a token's vectors, whatever the token
Paths = str | Mapping[str, str]


def take_weights(
    path: Paths,
    phrases: Mapping[str, str] | None,
    captions: PromptSet,
    name: str,
    seen: str,
    config: str | None = None,
    *,
    manifest: Manifest,
    base: Callable[[], Any],
    out: Path,
    **_: Any,
) -> None:
    """Leave what `finetune` leaves: lora/, textual_inversion/ or pipeline/ with labels.json; where classes have a model each, in
    models/<class>/.

    Args:
        path: a LoRA (diffusers, kohya, peft), a textual inversion (diffusers, A1111, SDXL's clip_l and clip_g), a pipeline's
            folder or a checkpoint in one file (`layouts.LAYOUTS`); or one a class, by its label.
        phrases: what stands for each class in prompts: a LoRA's trigger words, a textual inversion's token. None, and for
            classes that it lacks: the captions' word, the token in the file, or <file name>.
        name, seen: of the weights, for certificate and report (`check_weights`).
        config: a folder in diffusers' layout that describes a checkpoint in one file; None: the base does.

    Raises:
        InputError: as `check_weights`; classes without weights, or weights of classes that the data lack; a file that does
            not fit the base, or fits in part.
    """
    from skinaug.models.weights import load, model_folders

    given = by_class(phrases, manifest.classes)
    files = (
        {label: Path(file) for label, file in by_class(path, manifest.classes).items()}
        if isinstance(path, Mapping)
        else None
    )
    _check_labels(files or {}, given, manifest.classes, one=files is None)
    words = {label: given.get(label, captions.phrase(label)) for label in manifest.classes}
    pipeline, configuration = base(), Path(config) if config else None
    if files is None:
        _take(Path(str(path)), out, pipeline, configuration)
        write_phrases(words, out)
    elif all(kind_of(file) == TOKEN for file in files.values()):
        write_phrases({label: _take_token(file, given.get(label), out) for label, file in files.items()}, out)
    else:
        for label, folder_name in folder_names(list(files)).items():
            home, file = out / "models" / folder_name, files[label]
            home.mkdir(parents=True)
            token = _take_token(file, given.get(label), home) if kind_of(file) == TOKEN else None
            if token is None:
                _take(file, home, pipeline, configuration)
            write_phrases({label: token or words[label]}, home)
        write_phrases(words, out)
    for model, _labels in model_folders(out, manifest.classes):
        load(base, model)


def check_weights(path: Paths, name: Any, seen: str, config: str | None = None, **_: Any) -> None:
    """Refuse what no weights can be taken from, by names and headers alone.

    Raises:
        InputError: no such file, a pickle, a file cut off, tensors of no known kind, or a configuration that is not whole or that
            no file needs.
    """
    check_given("finetune", "weights", name, seen)
    kinds = {file: kind_of(Path(file)) for file in (path.values() if isinstance(path, Mapping) else [path])}
    if not isinstance(path, Mapping) and kinds[path] == TOKEN:
        raise InputError(
            f"{path} is a textual inversion, which is one class's: give one a class with finetune.path={{<class>: <file>, ...}}."
        )
    if config and CHECKPOINT not in kinds.values():
        raise InputError(
            f"finetune.config={config} describes a checkpoint in one file, and finetune.path has none."
        )
    if config:
        check_configuration(Path(config))


def kind_of(path: Path) -> str:
    """PIPELINE, CHECKPOINT, LORA, PEFT or TOKEN. Raises InputError as `check_weights`."""
    if not path.exists():
        raise InputError(f"There are no weights at {path}: set finetune.path to a file or folder.")
    if path.is_dir():
        if (path / INDEX).is_file():
            return PIPELINE
        if (path / PEFT_CONFIG).is_file() and (path / PEFT_FILE).is_file():
            return PEFT
        raise InputError(
            f"{path} is neither a pipeline, which has {INDEX}, nor a LoRA of peft, which has {PEFT_CONFIG} and {PEFT_FILE}."
        )
    if path.suffix in PICKLES:
        inner = '["state_dict"]' if path.suffix == ".ckpt" else ""
        raise InputError(
            f"{path} is a pickle. {CONVERT}: safetensors.torch.save_file(torch.load(<file>, weights_only=True){inner}, <new file>)."
        )
    if not is_whole(path):
        raise InputError(f"{path} is not a whole safetensors file. Copy or download it again.")
    names = tensor_names(path)
    if any(".lora" in name or name.startswith("lora_") for name in names):
        return LORA
    if {*names} == {*ENCODERS} or len(names) == 1:
        return TOKEN
    if is_single_file(names):
        layout_of(path, names)
        return CHECKPOINT
    raise InputError(
        f"{path} holds {len(names)} tensors that are neither a LoRA's, a textual inversion's nor a checkpoint's:\n{listing(names)}"
    )


def _check_labels(
    files: Mapping[str, Path], phrases: Mapping[str, str], classes: tuple[str, ...], one: bool
) -> None:
    foreign = sorted({*files, *phrases} - {*classes})
    missing = [] if one else [label for label in classes if label not in files]
    if foreign or missing:
        raise InputError(
            f"finetune.path and finetune.phrases speak of the data's classes, {', '.join(classes)}."
            + (f" No class: {', '.join(foreign)}." if foreign else "")
            + (f" Without weights: {', '.join(missing)}." if missing else "")
        )


def _take(path: Path, out: Path, pipeline: Any, configuration: Path | None) -> None:
    """A pipeline or a LoRA into a folder of weights."""
    kind = kind_of(path)
    if kind == PIPELINE:
        shutil.copytree(path, out / "pipeline")
        return
    if kind == CHECKPOINT:
        _from_single_file(path, out / "pipeline", pipeline, configuration)
        return
    (out / "lora").mkdir(parents=True)
    if kind == LORA:
        shutil.copyfile(path, out / "lora" / LORA_FILE)
    elif family_of(pipeline).lora_by_pipeline:
        _from_peft(path, out / "lora" / LORA_FILE, pipeline)
    else:
        for name in (PEFT_CONFIG, PEFT_FILE):
            shutil.copyfile(path / name, out / "lora" / name)


def _from_single_file(path: Path, folder: Path, base: Any, configuration: Path | None) -> None:
    """A checkpoint in one file as a pipeline's folder, described by another or by the base."""
    from skinaug.models.single_file import load_single_file, save_configuration

    with TemporaryDirectory() as scratch:
        load_single_file(path, configuration or save_configuration(base, Path(scratch))).save_pretrained(
            folder
        )
    unused = [name for name in tensor_names(path) if DRAWS_NOTHING.fullmatch(name)]
    if unused:
        Console().print(
            f"{path.name}: left out {len(unused)} tensors that draw nothing, such as {unused[0]}",
            highlight=False,
            markup=False,
        )


def _from_peft(folder: Path, file: Path, pipeline: Any) -> None:
    """A LoRA that peft has saved, under diffusers' names; its scale alpha / rank goes into the second matrix."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / PEFT_CONFIG).read_text())
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("use_dora"):
        raise InputError(
            f"{folder} is a LoRA with ranks or scales a layer, or with magnitudes: save it with diffusers' save_lora_weights, which "
            "keeps them."
        )
    rank = float(config["r"])
    scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    tensors = {}
    for name, tensor in load_file(folder / PEFT_FILE).items():
        own = name.removeprefix("base_model.model.")
        part = "text_encoder" if own.startswith("text_model.") else family_of(pipeline).denoiser
        tensors[f"{part}.{own}"] = tensor * scale if ".lora_B." in own else tensor
    save_file(tensors, file)


def _take_token(path: Path, phrase: str | None, out: Path) -> str:
    """A textual inversion into textual_inversion/, and the token that stands for its class."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    (own,) = tensors if len(tensors) == 1 else (None,)
    token = phrase or (own if own not in (None, A1111) else f"<{path.stem}>")
    if not token.strip("<>") or any(letter in token for letter in "/\\ \t\n"):
        raise InputError(
            f"The token {token!r} of {path} is no single word: set finetune.phrases={{<class>: <word>}}."
        )
    folder = out / "textual_inversion"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors if own is None else {token: tensors[own]}, folder / f"{token.strip('<>')}.safetensors")
    return token
