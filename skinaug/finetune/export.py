"""Pipelines to files, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerFast


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Save as float16 safetensors that plain diffusers loads, and draws with as they are loaded."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to("cpu").half()
        elif isinstance(
            part, PreTrainedTokenizerFast
        ):  # would save how its last text happened to be padded and cut
            part.backend_tokenizer.no_padding()
            part.backend_tokenizer.no_truncation()

    def save(part: Path) -> None:
        pipeline.save_pretrained(part)
        for config in part.glob("text_encoder*/config.json"):
            # diffusers loads its own networks in float32, transformers its own as their configuration says.
            values = json.loads(config.read_text()) | {"dtype": "float32"}
            config.write_text(json.dumps(values))

    save_whole(save, folder)


def save_whole(save: Callable[[Path], Any], folder: Path) -> None:
    """Call save(folder) so that a kill leaves no half of it; configs forget where their parts were loaded from."""
    part = folder.with_name(folder.name + ".part")
    save(part)
    for config in (*part.rglob("*config.json"), *part.rglob("model_index.json")):
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)  # of a try that was killed afterwards
    os.replace(part, folder)


def sort_metadata(file: Path) -> None:
    """Put the metadata of a safetensors file in order, in place: the library writes them in another one each time."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            opened.seek(8)
            opened.write(text.ljust(length))
