"""What a base takes of a device's memory while it learns and draws: bytes a part, calculated from what `count` counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


def fits(needed: float, device: int) -> bool:
    """Whether a device of so many GB holds so many bytes."""
    return needed <= device * 1e9 * SPARE


def gb(count: float) -> str:
    """Thousand millions, in three digits."""
    value = count / 1e9
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


FULLS: dict[str, dict[str, Any]] = {"full": {}, "full+": {"checkpointed": True}}
LORAS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA+": {"checkpointed": True},
    "int8": {"bits": 8},
    "int8+": {"bits": 8, "checkpointed": True},
    "nf4": {"bits": 4},
    "nf4+": {"bits": 4, "checkpointed": True},
}
DRAWINGS: dict[str, dict[str, Any]] = {
    "as is": {},
    "model": {"offload": "model"},
    "group": {"offload": "group"},
    "int8": {"bits": 8},
    "int8+m": {"bits": 8, "offload": "model"},
    "nf4": {"bits": 4},
    "nf4+m": {"bits": 4, "offload": "model"},
}


def training_peaks(base: Base) -> dict[str, float]:
    """The most bytes at any moment of a training, by way: those that change less come first."""
    ways = {way: peak(full(base, **options), reading(base)) for way, options in FULLS.items()}
    loras = {way: peak(lora(base, **kind), reading(base, kind.get("bits"))) for way, kind in LORAS.items()}
    return ways | loras


def drawing_peaks(base: Base) -> dict[str, float]:
    """The most bytes at any moment of drawing, by way: those that change less come first."""
    return {
        way: peak(drawing(base, **kind), reading(base, kind.get("bits"))) for way, kind in DRAWINGS.items()
    }


METHODS = """full: every weight learns. LoRA: of rank 16. int8, nf4: a LoRA on weights of 8
or 4 bits (finetune.quantize). +: finetune.gradient_checkpointing=true."""
WAYS = """model, group: generate.offload. int8, nf4: weights of 8 or 4 bits
(generate.quantize), +m with generate.offload=model."""
TITLES = {  # a table's title, and what is said of it, in lines that a terminal holds
    "Training: what fits": f"""Of full and of LoRA, the way that changes least on a GPU of so many GB.
{METHODS}""",
    "Drawing: what fits": f"""The way that changes least on a GPU of so many GB.
{WAYS}""",
    "Training: the most at any moment, GB": METHODS,
    "Drawing: the most at any moment, GB": WAYS,
    "Training: GB a part": f"""learns: weights that learn, gradients, moments, average. copies: of weights in
bfloat16, or a layer unpacked. Texts are read before.
{METHODS}""",
    "Weights, GB": "10^9: parameters of the denoiser, GB in the next four. VAE: in fp32.",
    "Text encoders, alone on the device, GB": "10^9: parameters of all of a base's text encoders.",
}


def tables() -> dict[str, list[list[str]]]:
    """Rows of text by title, the first of each its heads; GB of 10^9 bytes, or parameters in thousand millions."""
    training = {name: training_peaks(base) for name, base in bases().items()}
    drawn = {name: drawing_peaks(base) for name, base in bases().items()}
    rows = (
        _fitting(training, (tuple(FULLS), tuple(LORAS))),
        _fitting(drawn, (tuple(DRAWINGS),)),
        _most(training),
        _most(drawn),
        _parts(),
        _weights(),
        _texts(),
    )
    return dict(zip(TITLES, rows, strict=True))


def markdown() -> str:
    """The tables as docs/memory.md holds them, in lines of at most 80 characters."""
    return (
        "\n\n".join(f"### {title}\n\n{TITLES[title]}\n\n{_lines(rows)}" for title, rows in tables().items())
        + "\n"
    )


def _fitting(peaks: Mapping[str, Mapping[str, float]], kinds: Sequence[Sequence[str]]) -> list[list[str]]:
    """A row a base and a column a device: of each kind of ways, the first that fits there."""
    rows = []
    for name, ways in peaks.items():
        told = []
        for device in DEVICES:
            found = (next((way for way in kind if fits(ways[way], device)), None) for kind in kinds)
            told.append(", ".join(filter(None, found)) or "none")
        rows.append([name, *told])
    return [["base", *(f"{device} GB" for device in DEVICES)], *rows]


def _most(peaks: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A row a base and a column a way: GB."""
    heads = next(iter(peaks.values()))
    return [["base", *heads], *([name, *map(gb, ways.values())] for name, ways in peaks.items())]


def _parts() -> list[list[str]]:
    heads = ["base, method", "weights", "learns", "activations", "copies", "sum"]
    rows = []
    for name, base in bases().items():
        ways = {"full": full(base), "LoRA": lora(base), "nf4+": lora(base, **LORAS["nf4+"])}
        rows += [
            [f"{name}, {way}", *map(gb, parts.values()), gb(sum(parts.values()))]
            for way, parts in ways.items()
        ]
    return [heads, *rows]


def _weights() -> list[list[str]]:
    heads = ["base", "px", "10^9", "fp32", "bf16", "int8", "nf4", "VAE"]
    rows = []
    for name, base in bases().items():
        part = base["denoiser"]
        held = [weights(part, FULL), weights(part, HALF), weights(part, HALF, 8), weights(part, HALF, 4)]
        told = [*map(gb, held), gb(base["vae"]["parameters"] * FULL)]
        rows.append([name, str(base["image_size"]), f"{part['parameters'] / 1e9:.3f}", *told])
    return [heads, *rows]


def _texts() -> list[list[str]]:
    heads = ["base", "10^9", "fp32", "int8", "nf4"]
    rows = []
    for name, base in bases().items():
        for drop in (True, False) if base["left_out"] else (True,):
            kept = [part for part, _ in base["encoders"].items() if not (drop and part in base["left_out"])]
            numbers = sum(base["encoders"][part]["parameters"] for part in kept)
            title = name if drop else f"{name}, base.drop=[]"
            told = [gb(reading(base, bits, drop)) for bits in (None, 8, 4)]
            rows.append([title, f"{numbers / 1e9:.3f}", *told])
    return [heads, *rows]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are as wide as their widest cell: what a terminal shows is one too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = all(cell[0].isdigit() for row in rows[1:] for cell in row[1:])
    rule = [
        f"{'-' * width}" if n == 0 or not numbers else f"{'-' * (width - 1)}:"
        for n, width in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        sides = ["<", *((">" if numbers else "<") * (len(cells) - 1))]
        return f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in zip(cells, sides, widths, strict=True))} |"

    return "\n".join(map(line, [rows[0], rule, *rows[1:]]))
