"""Training steps: our fine-tuner, and the published diffusers recipe (read, encode and tokenize at every step).

Both see the same images, captions, noise and noise levels, and start from the same weights, so their losses agree step by step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from diffusers import DDPMScheduler
from lightning import Callback
from PIL import Image, ImageOps
from torch import nn

from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.latents import balanced_rows
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.samples import SampleGrids
from skinaug.finetune.text import caption_rows
from skinaug.manifest import Manifest
from skinaug.models.trainer import make_trainer, pick_precision
from skinaug.prompts import PromptSet
from skinaug.store.digest import sha256_file
from tests.bench import bases, measure

CLASSES = ("eczema", "psoriasis")
CAPTIONS = PromptSet("bench", ["a photo of {label} on the arm", "a close-up photo of {label}, skin type III"])
METHODS = {"textual_inversion": TextualInversion(1, "skin"), "lora": Lora(rank=16, alpha=16)}
RATE = {"textual_inversion": 5e-3, "lora": 1e-4}
DROPOUT = 0.1


@dataclass(frozen=True)
class Size:
    """How much a run trains on.

    Attributes:
        photographs: of each class; side: their pixels a side. By default as clinics' archives hold them.
        warm: steps that are not timed, at least 1; timed: those that are.
        batch: images a step.
    """

    photographs: int = 24
    side: int = 480
    warm: int = 3
    timed: int = 15
    batch: int = 16

    @property
    def steps(self) -> int:
        return self.warm + self.timed


def photographs(folder: Path, count: int, side: int) -> Manifest:
    """JPEG pictures, `count` of each class, made once."""
    rows = []
    for label in CLASSES:
        for number in range(count):
            path = folder / f"{label}_{number}.jpg"
            if not path.exists():
                picture, rng, _ = condition_picture(label, number, 0, 0)
                Image.fromarray(render(picture, side, rng).pixels).save(path, quality=92)
            row = {
                "image_id": path.stem,
                "path": path.name,
                "label": label,
                "split": "train",
                "group_id": path.stem,
            }
            rows.append(row | {"source": "real", "width": side, "height": side, "sha256": sha256_file(path)})
    return Manifest(pl.DataFrame(rows), folder, CLASSES)


class Clock(Callback):
    """Notes when each step ended and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: dict[str, Any], *_: Any) -> None:
        self.note(outputs["loss"])

    def note(self, loss: torch.Tensor) -> None:
        self.losses.append(float(loss))  # waits for the device
        self.ends.append(time.perf_counter())

    def figures(self, start: float, size: Size) -> dict[str, Any]:
        """Images a second after the warm-up; seconds up to the end of the first step; the losses."""
        rate = size.batch * size.timed / (self.ends[-1] - self.ends[size.warm - 1])
        return {"rate": rate, "first": self.ends[0] - start, "losses": self.losses}


def ours(method: str, base: str, folder: str, **sizes: int) -> dict[str, Any]:
    """Our fine-tune stage, without the sample grids, which the plain recipe does not draw. sizes: of `Size`."""
    clock, size, place = Clock(), Size(**sizes), Path(folder)
    manifest = photographs(place, size.photographs, size.side)
    pipeline = bases.load(base, place)

    def trainer(callbacks: Sequence[Callback] = (), **options: Any) -> Any:
        kept = [callback for callback in callbacks if not isinstance(callback, SampleGrids)]
        return make_trainer(callbacks=[*kept, clock], devices=1, enable_progress_bar=False, **options)

    stage = Finetune(
        METHODS[method], CAPTIONS, bases.SIZES[base], size.steps, size.batch, partial(torch.optim.AdamW, lr=RATE[method], weight_decay=0.0),
        warmup_steps=0, caption_dropout=DROPOUT, flip=True, accumulate_grad_batches=1, sample_every_num_steps=10**6,
        checkpoint_every_minutes=60, seed=0,
    )  # fmt: skip
    out = place / f"ours_{method}_{time.time_ns()}"
    out.mkdir()
    start = time.perf_counter()
    stage.teach(
        manifest, stage.phrases(CLASSES), prior_images=None, base=lambda: pipeline, trainer=trainer, cache=out / "encoded",
        logger=False, out=out,
    )  # fmt: skip
    return clock.figures(start, size)


def plain(method: str, base: str, folder: str, **sizes: int) -> dict[str, Any]:
    """The loop of diffusers' example scripts, in diffusers, transformers, peft and torch alone. sizes: of `Size`."""
    clock, device, size, place = Clock(), measure.device(), Size(**sizes), Path(folder)
    manifest = photographs(place, size.photographs, size.side)
    phrases = METHODS[method].phrases(CLASSES)
    caption = caption_rows(manifest, CAPTIONS, phrases)
    pipeline = bases.load(base, place)
    unet, vae, text_encoder, tokenizer = (
        pipeline.components[n] for n in ("unet", "vae", "text_encoder", "tokenizer")
    )
    half = pick_precision("auto", torch.cuda.is_available()) == "bf16-mixed"
    for network in (unet, vae, text_encoder):
        network.requires_grad_(False)
    start = time.perf_counter()
    learn = add_words(pipeline, place, base) if method == "textual_inversion" else add_lora(pipeline)
    for network in (unet, vae):
        frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
        network.to(device)
        for parameter in frozen if half else ():
            parameter.data = parameter.data.to(torch.bfloat16)
    text_encoder.to(device)
    optimizer = torch.optim.AdamW(learn, lr=RATE[method], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    words = text_encoder.get_input_embeddings().weight
    before = words.detach().clone()
    new = torch.arange(len(words), device=device) >= len(words) - len(CLASSES)
    paths = manifest.paths()
    for number in range(size.steps):
        rng = np.random.default_rng([0, number])
        rows = balanced_rows(manifest.labels(), number * size.batch, size.batch, 0)
        mirrored = rng.integers(2, size=size.batch)
        texts = ["" if rng.random() < DROPOUT else caption(int(row), rng) for row in rows]
        images = torch.stack(
            [
                picture(paths[row], bases.SIZES[base], bool(side))
                for row, side in zip(rows, mirrored, strict=True)
            ]
        )
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(
            device
        )
        generator = torch.Generator().manual_seed(number)
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            with torch.no_grad():
                posterior = vae.encode(images.to(device, vae.dtype)).latent_dist
            sample = posterior.mean + posterior.std * torch.randn(
                posterior.mean.shape, generator=generator
            ).to(device)
            latents = sample.float() * vae.config.scaling_factor
            noise = torch.randn(latents.shape, generator=generator).to(device)
            levels = (torch.rand(size.batch, generator=generator) * 1000).long().to(device)
            states = text_encoder(ids)[0]
            prediction = unet(noising.add_noise(latents, noise, levels), levels, states).sample
            velocity = noising.config.prediction_type == "v_prediction"
            target = noising.get_velocity(latents, noise, levels) if velocity else noise
            loss = nn.functional.mse_loss(prediction.float(), target.float())
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if method == "textual_inversion":
            with torch.no_grad():
                words[~new] = before.to(device)[~new]
        clock.note(loss.detach())
    return clock.figures(start, size)


def picture(path: Path, size: int, mirrored: bool) -> torch.Tensor:
    image = ImageOps.fit(Image.open(path).convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(ImageOps.mirror(image) if mirrored else image)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def add_words(pipeline: Any, folder: Path, base: str) -> list[nn.Parameter]:
    """The whole embedding table learns, and all rows but the new ones are put back after every step."""
    method = METHODS["textual_inversion"]
    (start,) = method.prepare(bases.load(base, folder), CLASSES, 0)  # the same first vectors
    pipeline.tokenizer.add_tokens(list(method.phrases(CLASSES).values()))
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    words = pipeline.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        words[-len(CLASSES) :] = start
    words.requires_grad_(True)
    return [words]


def add_lora(pipeline: Any) -> list[nn.Parameter]:
    torch.manual_seed(0)
    method = METHODS["lora"]
    pipeline.unet.add_adapter(method.config(method.target_modules))
    return [parameter for parameter in pipeline.unet.parameters() if parameter.requires_grad]
