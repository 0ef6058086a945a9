"""The model card of a fine-tuning artifact: README.md, as model hubs show it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import ModelCardData
from safetensors import safe_open

from skinaug.manifest import Manifest
from skinaug.models.base import PACKAGE
from skinaug.models.base_folder import INDEX, read_index
from skinaug.models.cards import code, data_digest, licence_fields, table
from skinaug.models.families.table import family_in
from skinaug.models.layouts import PEFT_FILE

KINDS = ("textual_inversion", "lora")  # folders, and tags by which hubs file adapters
TOKENS = [
    'for path in sorted((folder / "textual_inversion").glob("*.safetensors")):',
    "    pipeline.load_textual_inversion(str(path))",
]
TOKENS_OF_TWO_ENCODERS = [
    "from safetensors.torch import load_file",
    'for path in sorted((folder / "textual_inversion").glob("*.safetensors")):',
    '    vectors, token = load_file(path), f"<{path.stem}>"',
    "    for key, encoder, tokenizer in (",
    '        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),',
    '        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),',
    "    ):",
    "        pipeline.load_textual_inversion(vectors[key], token=token, text_encoder=encoder, tokenizer=tokenizer)",
]
USE = """\
For research only. **Not for diagnosis**, triage, treatment or advice, and not a source of medical illustrations.

- The pictures are synthetic, and they show conditions of patients: say so wherever you show them. A picture that looks right \
to a layperson may be wrong to a dermatologist; nobody has checked them one by one.
- The model was taught with the photographs counted above and knows no others: skin types, body sites, ages and stages that \
are rare there are rare or wrong here, and a share of a class in these data is no prevalence.
- Training photographs may be memorised and come out again, whole or in part. Compare pictures with the training data before \
you pass them on, and do not use the model to find out who was photographed.
- The licences of the base and of the data bind whoever uses the model or its pictures."""


def write_card(
    out: Path,
    *,
    manifest: Manifest,
    phrases: Mapping[str, str],
    method: str,
    settings: Mapping[str, object],
    base_name: str,
    licence: str,
    drop: Sequence[str] = (),
) -> None:
    """Write out/README.md for the artifact that lies in `out`.

    Args:
        manifest: the training photographs.
        phrases: what stands for each class in a prompt.
        method: how it learned, a word or two.
        settings: the recipe: steps, batch size, learning rate, image size, seed and so on.
        base_name: of the base model: `owner/name`, `owner/name@revision`, a folder, or `package://name`.
        licence: of the base model's weights.
        drop: parts of the base that were left out.
    """
    conditions = f"{len(phrases)} skin condition{'' if len(phrases) == 1 else 's'}"
    short = hub_id(base_name)[0] if is_hub_id(base_name) else base_name
    title = f"{method} of {short} on {conditions}"
    counts = dict(manifest.table["label"].value_counts().iter_rows())
    classes = [(label, code(phrase), counts.get(label, 0)) for label, phrase in phrases.items()]
    data = {
        "images": len(manifest),
        "digest": code(data_digest(manifest)),
        "licence": manifest.licence or "not stated",
        "citation": manifest.citation or "not stated",
    }
    sections = [
        f"# {title}",
        f"A text-to-image diffusion model that was taught {conditions} with skinaug, to make synthetic "
        "training images for classifiers. For research only, not for diagnosis.",
        "## Classes",
        table(("class", "in a prompt", "training images"), classes),
        "## Use",
        "With diffusers, in this folder:",
        f"```python\n{loading_code(out, phrases, base_name, drop)}\n```",
        "The base's safety checker, where it has one, takes skin for nudity and blackens it: "
        "`pipeline.safety_checker = None`.",
        "## Training data",
        table(("", ""), data.items()),
        "The digest is the SHA-256 of the images' own, sorted and joined by line breaks.",
        "## Base model",
        table(("", ""), {"name": code(base_name), "licence": licence or "not stated"}.items()),
        "## Recipe",
        table(("", ""), {"method": method, **settings}.items()),
        *samples(out),
        "## Intended use and limits",
        USE,
    ]
    text = f"---\n{front_matter(out, title, base_name, licence)}\n---\n\n" + "\n\n".join(sections) + "\n"
    part = out / "README.md.part"
    part.write_text(text, "utf-8")
    os.replace(part, out / "README.md")


def front_matter(out: Path, title: str, base_name: str, licence: str) -> str:
    """The card's YAML, by which hubs find and file it."""
    kinds = [kind for folder in model_folders(out) for kind in KINDS if (folder / kind).is_dir()]
    tags = ["diffusers", "text-to-image", "dermatology", "synthetic-data", "skinaug"]
    tags += dict.fromkeys(kinds)
    return ModelCardData(
        **licence_fields(licence),
        base_model=hub_id(base_name)[0] if is_hub_id(base_name) else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=tags,
    ).to_yaml()


def loading_code(out: Path, phrases: Mapping[str, str], base_name: str, drop: Sequence[str]) -> str:
    """Python that loads the artifact in its folder with diffusers, and draws the first class."""
    folder = model_folders(out)[0]
    phrase = next(
        iter(phrases.values() if folder == out else json.loads((folder / "labels.json").read_text()).values())
    )
    body = [*pipeline_code(folder, base_name, drop), *token_code(folder), *lora_code(folder)]
    imports = [line for line in body if line.startswith("from ")]
    lines = [
        "from pathlib import Path",
        "",
        "import torch",
        "from diffusers import DiffusionPipeline",
        *imports,
        "",
        f"folder = Path({folder.relative_to(out).as_posix()!r}){'' if folder == out else '  # one model a class'}",
        *(line for line in body if line not in imports),
        'pipeline.to(torch.float32)  # on a GPU: pipeline.to("cuda", torch.bfloat16)',
        f"image = pipeline(prompt={f'a photo of {phrase}'!r}).images[0]",
    ]
    return "\n".join(lines)


def pipeline_code(folder: Path, base_name: str, drop: Sequence[str]) -> list[str]:
    """Lines that load the artifact's whole pipeline, or else the base. diffusers wants to be told which parts there are not."""
    load = "pipeline = DiffusionPipeline.from_pretrained"
    if (folder / "pipeline").is_dir():
        return [f'{load}(folder / "pipeline"{without(left_out(folder / "pipeline"))})']
    options = without(drop or left_out(Path(base_name)))
    if base_name.startswith(PACKAGE):
        base = f'files("skinaug") / "weights" / {base_name.removeprefix(PACKAGE)!r}'
        return ["from importlib.resources import files", f"{load}({base}{options})"]
    name, revision = hub_id(base_name) if is_hub_id(base_name) else (base_name, "")
    pinned = f", revision={revision!r}" if revision else ""
    return [f"{load}({name!r}{pinned}{options})"]


def left_out(folder: Path) -> list[str]:
    """Optional parts that a pipeline's folder does not have; none of what is no folder."""
    if not (folder / INDEX).is_file():
        return []
    index = read_index(folder)
    return [part for part in family_in(index).optional if index.get(part) in (None, [None, None])]


def without(parts: Sequence[str]) -> str:
    """Further arguments that leave parts out."""
    return "".join(f", {part}=None" for part in parts)


def token_code(folder: Path) -> list[str]:
    """Lines that load the artifact's tokens, if it has any."""
    paths = sorted((folder / "textual_inversion").glob("*.safetensors"))
    if not paths:
        return []
    return TOKENS_OF_TWO_ENCODERS if "clip_l" in tensor_names(paths[0]) else TOKENS


def lora_code(folder: Path) -> list[str]:
    """The line that loads the artifact's LoRA, if it has one: by the pipeline, or by peft where that reads none."""
    if (folder / "lora" / PEFT_FILE).is_file():
        adapted = 'PeftModel.from_pretrained(pipeline.transformer, folder / "lora")'
        return ["from peft import PeftModel", f"pipeline.transformer = {adapted}.merge_and_unload()"]
    found = [path.name for path in (folder / "lora").glob("*.safetensors")]
    return [f'pipeline.load_lora_weights(str(folder / "lora"), weight_name="{name}")' for name in found]


def tensor_names(*paths: Path) -> Iterable[str]:
    """Names of the tensors in safetensors files."""
    for path in paths:
        with safe_open(path, framework="np") as file:
            yield from file.keys()


def model_folders(out: Path) -> list[Path]:
    """Folders that each hold one model: the artifact itself, or one a class."""
    return sorted(path.parent for path in out.glob("models/*/labels.json")) or [out]


def samples(out: Path) -> list[str]:
    """A section with the last pictures that each model drew, one prompt a row; nothing where there are none."""
    last = [sorted((folder / "samples").glob("*.png"))[-1:] for folder in model_folders(out)]
    links = [path.relative_to(out).as_posix() for found in last for path in found]
    return ["## Samples", *(f"![samples]({link})" for link in links)] if links else []


def is_hub_id(base_name: str) -> bool:
    """Whether a base's name is a repository of a hub rather than a folder."""
    return (
        re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", base_name) is not None and not Path(base_name).exists()
    )


def hub_id(base_name: str) -> tuple[str, str]:
    """(repository, revision) of `owner/name@revision`; the revision may be empty."""
    name, _, revision = base_name.partition("@")
    return name, revision
