"""What a base takes of a device's memory while it learns and draws: bytes a part, calculated from what `count` counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FULL, HALF = 4, 2  # bytes of a number
BITS: dict[int, tuple[float, float]] = {8: (1, FULL), 4: (0.5, 0)}  # bytes of a weight, and of a row beside
BLOCK, SCALES = (
    64,
    256,
)  # weights of 4 bits that share a scale of a byte, and scales that share one of float32
DECODER_MAPS = 4  # widest maps at full resolution: as in generate/batches.py
DEVICES = (12, 24, 80)  # GB
SPARE = 0.9  # of a device's memory that can be had: the rest is CUDA's own, the workspaces' and lost between blocks

Base = Mapping[str, Any]


@cache
def bases() -> dict[str, Base]:
    """What was counted of each base, by name."""
    found: dict[str, Base] = json.loads(Path(__file__).with_name("counts.json").read_text())
    return found


def weights(part: Mapping[str, int], rest: float, bits: int | None = None) -> float:
    """Bytes of a network whose numbers take `rest` bytes each, but for those in layers of 8 or 4 bits."""
    if bits is None:
        return part["parameters"] * rest
    each, row = BITS[bits]
    scales = part["rows"] * row + (part["linear"] / BLOCK * (1 + FULL / SCALES) if bits == 4 else 0)
    return part["linear"] * each + scales + (part["parameters"] - part["linear"]) * rest


def reading(base: Base, bits: int | None = None, drop: bool = True) -> float:
    """The text encoders, in float32, while nothing else is on the device. drop: without those that conf/base leaves out."""
    from skinaug.models.quantize import LARGE

    kept = {name: part for name, part in base["encoders"].items() if not (drop and name in base["left_out"])}
    return sum(weights(part, FULL, bits if part["parameters"] >= LARGE else None) for part in kept.values())


def lora(base: Base, bits: int | None = None, checkpointed: bool = False) -> dict[str, float]:
    """A LoRA's training of one picture a batch, in bf16-mixed."""
    return {
        "denoiser": weights(base["denoiser"], HALF, bits),
        "learning": base["lora"] * 4 * FULL,  # weights, gradients, and the two moments of AdamW
        "activations": base["checkpointed" if checkpointed else "training"],
        "unpacked": base["denoiser"]["largest"] * HALF if bits else 0,  # the layer that computes
    }


def full(base: Base, checkpointed: bool = False) -> dict[str, float]:
    """Training of every weight on one picture a batch, in bf16-mixed, with the average that conf/finetune/full.yaml keeps."""
    numbers = base["denoiser"]["parameters"]
    return {
        "denoiser": numbers * FULL,
        "learning": numbers * 4 * FULL,  # gradients, two moments, the average
        "activations": base["checkpointed" if checkpointed else "training"],
        "unpacked": numbers * HALF,  # autocast keeps a copy in bfloat16 for the backward pass
    }


def drawing(base: Base, bits: int | None = None, offload: str | None = None) -> dict[str, float]:
    """A picture with guidance, in bf16-mixed: float32 weights, computed with in bfloat16."""
    network, vae = base["denoiser"], base["vae"]["parameters"] * FULL
    calls = (
        2 * base["checkpointed"]
    )  # with the text and without; a little more than it takes, as nothing learns
    decoding = DECODER_MAPS * FULL * base["vae_width"] * base["image_size"] ** 2
    if offload in ("group", "sequential"):
        return {"denoiser": network["largest"] * (FULL + HALF), "vae": 0, "activations": max(calls, decoding)}
    held = weights(network, FULL, bits) + network["largest"] * HALF
    if offload == "model":
        denoising = held + calls >= vae + decoding
        return {
            "denoiser": held if denoising else 0,
            "vae": 0 if denoising else vae,
            "activations": calls if denoising else decoding,
        }
    return {"denoiser": held, "vae": vae, "activations": max(calls, decoding)}


def peak(parts: Mapping[str, float], texts: float) -> float:
    """The most at any moment: texts are read before anything else is there."""
    return max(sum(parts.values()), texts)


def fits(needed: float) -> str:
    """The smallest of DEVICES that holds so many bytes."""
    return next((f"{size}" for size in DEVICES if needed <= size * 1e9 * SPARE), "none")


def gb(count: float) -> str:
    return f"{count / 1e9:.2f}" if count < 1e10 else f"{count / 1e9:.1f}"


LORAS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "checkpointing": {"checkpointed": True},
    "8 bits": {"bits": 8},
    "8 bits, checkpointing": {"bits": 8, "checkpointed": True},
    "4 bits": {"bits": 4},
    "4 bits, checkpointing": {"bits": 4, "checkpointed": True},
}
DRAWINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "offload=model": {"offload": "model"},
    "8 bits": {"bits": 8},
    "4 bits": {"bits": 4},
    "4 bits, offload=model": {"bits": 4, "offload": "model"},
    "offload=group": {"offload": "group"},
}


def tables() -> dict[str, list[list[str]]]:
    """Rows of text by title, the first of each its heads; GB of 10^9 bytes, or parameters in thousand millions."""
    return {
        "Weights": _weights(),
        "Text encoders, alone on the device": _texts(),
        "Training: bytes a part": _parts(),
        "Training: the most at any moment": _training(),
        "Drawing: the most at any moment": _drawing(),
    }


def markdown() -> str:
    """The tables as docs/memory.md holds them."""
    return "\n\n".join(f"### {title}\n\n{_lines(rows)}" for title, rows in tables().items()) + "\n"


def _weights() -> list[list[str]]:
    heads = ["base", "pixels", "denoiser, 10^9", "float32", "bfloat16", "8 bits", "4 bits", "VAE, float32"]
    rows = []
    for name, base in bases().items():
        part = base["denoiser"]
        held = [weights(part, FULL), weights(part, HALF), weights(part, HALF, 8), weights(part, HALF, 4)]
        told = [*map(gb, held), gb(base["vae"]["parameters"] * FULL)]
        rows.append([name, str(base["image_size"]), f"{part['parameters'] / 1e9:.3f}", *told])
    return [heads, *rows]


def _texts() -> list[list[str]]:
    heads = ["base", "10^9", "float32", "8 bits", "4 bits"]
    rows = []
    for name, base in bases().items():
        for drop in (True, False) if base["left_out"] else (True,):
            kept = [part for part, _ in base["encoders"].items() if not (drop and part in base["left_out"])]
            numbers = sum(base["encoders"][part]["parameters"] for part in kept)
            title = name if drop else f"{name}, base.drop=[]"
            told = [gb(reading(base, bits, drop)) for bits in (None, 8, 4)]
            rows.append([title, f"{numbers / 1e9:.3f}", *told])
    return [heads, *rows]


def _parts() -> list[list[str]]:
    heads = [
        "base, method",
        "denoiser",
        "learns: weights, gradients, moments",
        "activations",
        "a layer unpacked, or copies",
        "sum",
    ]
    rows = []
    for name, base in bases().items():
        ways = {
            "full": full(base),
            "LoRA": lora(base),
            "LoRA, 4 bits, checkpointing": lora(base, bits=4, checkpointed=True),
        }
        rows += [
            [f"{name}, {way}", *map(gb, parts.values()), gb(sum(parts.values()))]
            for way, parts in ways.items()
        ]
    return [heads, *rows]


def _training() -> list[list[str]]:
    return _most({"full": full, "full, checkpointing": lambda base: full(base, True)}, LORAS, lora, "LoRA")


def _drawing() -> list[list[str]]:
    return _most({}, DRAWINGS, drawing, "")


def _most(first: Any, ways: Mapping[str, Mapping[str, Any]], need: Any, prefix: str) -> list[list[str]]:
    """A row a base and a column a way: GB, and the device that holds them."""
    titles = [
        f"{prefix} {title}".strip() if title != "as it is" or prefix == "" else prefix for title in ways
    ]
    rows = []
    for name, base in bases().items():
        told = [peak(way(base), reading(base)) for way in first.values()]
        told += [peak(need(base, **options), reading(base, options.get("bits"))) for options in ways.values()]
        rows.append([name, *(f"{gb(count)} ({fits(count)})" for count in told)])
    return [["base", *first, *titles], *rows]


def _lines(rows: list[list[str]]) -> str:
    ruled = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)
