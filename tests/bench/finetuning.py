"""Training steps: our fine-tuner, and the published diffusers recipe (read, encode and tokenize at every step).

`python -m tests.bench.finetuning ours|plain textual_inversion|lora tiny|sd15 <folder>`. Both see the same images, captions, noise
and noise levels, and start from the same weights, so their losses agree step by step.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
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
COUNT, SIDE = 24, 480  # photographs a class, and their pixels a side
WARM, STEPS = 3, 15  # steps that are not timed, and those that are
BATCH = 16
CAPTIONS = PromptSet("bench", ["a photo of {label} on the arm", "a close-up photo of {label}, skin type III"])
METHODS = {"textual_inversion": TextualInversion(1, "skin"), "lora": Lora(rank=16, alpha=16)}
RATE = {"textual_inversion": 5e-3, "lora": 1e-4}
DROPOUT = 0.1


def photographs(folder: Path) -> Manifest:
    """JPEG pictures of the size that clinics' archives hold, made once."""
    rows = []
    for label in CLASSES:
        for number in range(COUNT):
            path = folder / f"{label}_{number}.jpg"
            if not path.exists():
                picture, rng, _ = condition_picture(label, number, 0, 0)
                Image.fromarray(render(picture, SIDE, rng).pixels).save(path, quality=92)
            row = {
                "image_id": path.stem,
                "path": path.name,
                "label": label,
                "split": "train",
                "group_id": path.stem,
            }
            rows.append(row | {"source": "real", "width": SIDE, "height": SIDE, "sha256": sha256_file(path)})
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

    def report(self, start: float, precision: str) -> None:
        """Images a second after the warm-up; seconds up to the end of the first step; the losses."""
        rate = BATCH * STEPS / (self.ends[-1] - self.ends[WARM - 1])
        measure.report(rate=rate, first=self.ends[0] - start, losses=self.losses, precision=precision)


def ours(method: str, base: str, folder: Path) -> None:
    clock = Clock()
    manifest = photographs(folder)
    pipeline = bases.load(base, folder)

    def trainer(callbacks: list[Callback], **options: Any) -> Any:
        kept = [callback for callback in callbacks if not isinstance(callback, SampleGrids)]
        return make_trainer(callbacks=[*kept, clock], devices=1, enable_progress_bar=False, **options)

    stage = Finetune(
        METHODS[method], CAPTIONS, bases.SIZES[base], WARM + STEPS, BATCH, partial(torch.optim.AdamW, lr=RATE[method], weight_decay=0.0),
        warmup_steps=0, caption_dropout=DROPOUT, flip=True, accumulate_grad_batches=1, sample_every_num_steps=10**6,
        checkpoint_every_minutes=60, seed=0,
    )  # fmt: skip
    out = folder / f"ours_{method}_{time.time_ns()}"
    out.mkdir()
    start = time.perf_counter()
    stage.teach(
        manifest, stage.phrases(CLASSES), prior_images=None, base=lambda: pipeline, trainer=trainer, cache=out / "encoded",
        logger=False, out=out,
    )  # fmt: skip
    clock.report(start, precision())


def precision() -> str:
    return pick_precision("auto", torch.cuda.is_available())


def plain(method: str, base: str, folder: Path) -> None:
    """The loop of diffusers' example scripts, in diffusers, transformers, peft and torch alone."""
    clock, device, size = Clock(), measure.device(), bases.SIZES[base]
    manifest = photographs(folder)
    phrases = METHODS[method].phrases(CLASSES)
    caption = caption_rows(manifest, CAPTIONS, phrases)
    pipeline = bases.load(base, folder)
    unet, vae, text_encoder, tokenizer = (
        pipeline.components[n] for n in ("unet", "vae", "text_encoder", "tokenizer")
    )
    half = precision() == "bf16-mixed"
    for network in (unet, vae, text_encoder):
        network.requires_grad_(False)
    start = time.perf_counter()
    learn = add_words(pipeline, folder, base) if method == "textual_inversion" else add_lora(pipeline)
    for network in (unet, vae):
        frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
        network.to(device)
        for parameter in frozen if half else ():
            parameter.data = parameter.data.to(torch.bfloat16)
    text_encoder.to(device)
    optimizer = torch.optim.AdamW(learn, lr=RATE[method], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, WARM + STEPS)
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    words = text_encoder.get_input_embeddings().weight
    before = words.detach().clone()
    new = torch.arange(len(words), device=device) >= len(words) - len(CLASSES)
    paths = manifest.paths()
    for number in range(WARM + STEPS):
        rng = np.random.default_rng([0, number])
        rows = balanced_rows(manifest.labels(), number * BATCH, BATCH, 0)
        mirrored = rng.integers(2, size=BATCH)
        texts = ["" if rng.random() < DROPOUT else caption(int(row), rng) for row in rows]
        images = torch.stack(
            [picture(paths[row], size, bool(side)) for row, side in zip(rows, mirrored, strict=True)]
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
            levels = (torch.rand(BATCH, generator=generator) * 1000).long().to(device)
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
    clock.report(start, precision())


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


if __name__ == "__main__":
    way, method, base, folder = sys.argv[1:]
    {"ours": ours, "plain": plain}[way](method, base, Path(folder))
