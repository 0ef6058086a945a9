"""Train a small Stable Diffusion pipeline from nothing: tokenizer, autoencoder, text encoder, then UNet and text encoder
together, by noisy pictures and then by reading back what they draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from lightning import Trainer
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import Optimizer
from transformers import CLIPTextModel, CLIPTokenizer

from skinaug.errors import InputError
from skinaug.finetune import components, resume
from skinaug.finetune.autoencoder import AutoencoderTrainer, pixel_batch, unit_scaling
from skinaug.finetune.cache import encode_moments
from skinaug.finetune.colour_start import start_from_colours
from skinaug.finetune.export import save_whole
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.latents import to_signal
from skinaug.finetune.masks import check_masks, load_masks
from skinaug.finetune.module import Objective
from skinaug.finetune.moments import Moments
from skinaug.finetune.read_back import Asked, PartOfTheWay, ReadBack, ReadBackTrainer
from skinaug.finetune.reader import WordReader, train_reader
from skinaug.finetune.text import Caption, caption_rows
from skinaug.finetune.text_start import tell_captions_apart
from skinaug.finetune.tokenizer import train_tokenizer
from skinaug.finetune.words import Vocabulary, WordTraining, numbers_of, vocabulary_of
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

OptimizerOf = Callable[[Sequence[nn.Parameter]], Optimizer]
UNET_FACTOR = 4  # latents are divided by this at the UNet's bottom


@dataclass(frozen=True)
class Sizes:
    """Of the networks. vocab_size and max_tokens: of the tokenizer; channels: at each level, the finest first;
    latent_channels: numbers that the autoencoder keeps of each place, 4 or more."""

    vocab_size: int
    max_tokens: int
    text_width: int
    text_layers: int
    vae_channels: Sequence[int]
    latent_channels: int
    unet_channels: Sequence[int]

    @property
    def vae_factor(self) -> int:
        """Pixels a latent, along one side."""
        return 2 ** (len(self.vae_channels) - 1)


@dataclass(frozen=True)
class AutoencoderTraining:
    """steps, warmup_steps: optimizer steps; batch_size: images; deviation: of the posterior; weights beside the colours' 1.
    lesion_weight: how much an image's lesions together count beside the whole image, by the manifest's column `mask`."""

    steps: int
    batch_size: int
    warmup_steps: int
    deviation: float
    edge_weight: float
    chroma_weight: float
    kl_weight: float
    lesion_weight: float
    optimizer: OptimizerOf


def pretrain(
    sizes: Sizes,
    autoencoder: AutoencoderTraining,
    text: WordTraining,
    training: Finetune,
    read_back: ReadBack | None = None,
    *,
    manifest: Manifest,
    trainer: Callable[..., Trainer],
    logger: Any,
    out: Path,
    **_: Any,
) -> None:
    """Leave a complete pipeline in out/pipeline, float16 safetensors that plain diffusers loads; sample grids in out/samples.

    `training` is that of UNet and text encoder, with its captions, picture size and seed; what it leaves stays in
    out/before_reading, with its sample grids, where `read_back` follows. Each part is trained once: what is in `out` is not
    trained again, and an interrupted part goes on from its checkpoint. No base is read: nothing is started from.

    Raises:
        InputError: an image size that does not suit the networks; lesions that no mask shows; nothing to read back, because
            the manifest has none of the captions' attributes.
    """
    image_size, seed = training.image_size, training.seed
    if image_size % (UNET_FACTOR * sizes.vae_factor):
        raise InputError(
            f"finetune.training.image_size must be a multiple of {UNET_FACTOR * sizes.vae_factor}, got {image_size}."
        )
    check_masks(manifest, "finetune.autoencoder.lesion_weight", autoencoder.lesion_weight)
    phrases = training.phrases(manifest.classes)
    vocabulary = vocabulary_of(manifest, training.captions.attributes)
    if read_back is not None and not vocabulary:
        raise InputError(
            "finetune.read_back reads the captions' attributes, and the data have none of them: "
            f"{', '.join(training.captions.attributes) or 'the prompt set has no attributes'}. Set finetune.read_back=null."
        )
    if not (out / "pipeline").exists():
        caption = caption_rows(manifest, training.captions, phrases)
        tokenizer = make_tokenizer(caption, len(manifest), sizes, out / "tokenizer", seed)
        if not (out / "vae").exists():
            folder = out / "vae_checkpoints"
            saver = resume.checkpoints(folder, training.checkpoint_every_minutes)
            settings = {"max_steps": autoencoder.steps, "gradient_clip_val": 1.0, "callbacks": [saver]}
            fit = trainer(**settings, logger=logger, default_root_dir=out)
            train_autoencoder(autoencoder, sizes, manifest, image_size, fit, folder, seed)
        if not (out / "text_encoder").exists():
            torch.manual_seed(seed)
            text_encoder = components.new_text_encoder(tokenizer, sizes.text_width, sizes.text_layers)
            tell_captions_apart(
                text_encoder, tokenizer, manifest, caption, training.captions.attributes, text, seed
            )
            save_whole(text_encoder.save_pretrained, out / "text_encoder")
        base = partial(new_pipeline, sizes, image_size, out, tokenizer, seed)
        feed = {"prior_images": None, "trainer": trainer, "cache": out, "logger": logger}
        before = out / "before_reading" if read_back is not None else out
        training.teach(manifest, phrases, base=base, out=before, **feed)
        if read_back is not None:
            base = partial(
                StableDiffusionPipeline.from_pretrained, before / "pipeline", torch_dtype=torch.float32
            )
            teach_by_reading(
                read_back,
                training,
                vocabulary,
                base=base,
                manifest=manifest,
                phrases=phrases,
                out=out,
                **feed,
            )
    for leftover in ("tokenizer", "vae", "vae_checkpoints", "text_encoder", "moments", "reader"):
        resume.remove(out / leftover)


def make_tokenizer(caption: Caption, count: int, sizes: Sizes, folder: Path, seed: int) -> CLIPTokenizer:
    """The tokenizer in `folder`, or a new one from one caption each of up to 20,000 images."""
    if not folder.exists():
        rng = np.random.default_rng([seed, 0])
        texts = [caption(row, rng) for row in range(min(count, 20_000))]
        tokenizer = train_tokenizer(texts, sizes.vocab_size, sizes.max_tokens)
        save_whole(tokenizer.save_pretrained, folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_autoencoder(
    training: AutoencoderTraining,
    sizes: Sizes,
    manifest: Manifest,
    image_size: int,
    trainer: Trainer,
    checkpoints: Path,
    seed: int,
) -> None:
    """Leave the autoencoder beside its checkpoints, with the scaling factor that some of the training images give."""
    pixels = load_pixels(manifest, image_size)
    masks = load_masks(manifest, image_size) if training.lesion_weight else None
    torch.manual_seed(seed)
    vae = components.new_autoencoder(sizes.vae_channels, sizes.latent_channels, image_size)
    start_from_colours(vae, to_signal(torch.from_numpy(pixels[:512])), training.deviation)
    module = AutoencoderTrainer(
        vae,
        partial(pixel_batch, pixels=pixels, masks=masks, batch_size=training.batch_size, seed=seed),
        training.optimizer,
        num_steps=training.steps,
        warmup_steps=training.warmup_steps,
        edge_weight=training.edge_weight,
        chroma_weight=training.chroma_weight,
        kl_weight=training.kl_weight,
        lesion_weight=training.lesion_weight,
        seed=seed,
    )
    resume.fit(trainer, module, checkpoints)
    if trainer.is_global_zero:
        some = manifest.with_table(manifest.table.head(1024))
        moments = moments_of(vae, some, image_size, False, trainer, checkpoints.parent)
        rows = np.arange(len(some))
        vae.register_to_config(scaling_factor=unit_scaling(moments.take(rows, np.zeros_like(rows))))
        save_whole(vae.to("cpu").save_pretrained, checkpoints.with_name("vae"))
    trainer.strategy.barrier()


def new_pipeline(
    sizes: Sizes, image_size: int, folder: Path, tokenizer: CLIPTokenizer, seed: int
) -> StableDiffusionPipeline:
    """An untrained UNet between the autoencoder and the text encoder in a folder; the same for a seed."""
    vae = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True)
    torch.manual_seed(seed)
    side = image_size // sizes.vae_factor
    unet = components.new_unet(sizes.unet_channels, sizes.latent_channels, side, sizes.text_width)
    return components.assemble(vae, text_encoder, tokenizer, unet)


def teach_by_reading(
    read_back: ReadBack,
    training: Finetune,
    vocabulary: Vocabulary,
    *,
    base: Callable[[], StableDiffusionPipeline],
    manifest: Manifest,
    phrases: Mapping[str, str],
    trainer: Callable[..., Trainer],
    out: Path,
    **feed: Any,
) -> None:
    """Go on from `base` as `read_back` says; the rest is as in `training`."""
    seed = training.seed + 1  # batches other than those that the first training began with
    learner = partial(
        ReadBackTrainer,
        reader=make_reader(read_back, vocabulary, base().vae, manifest, training, trainer(), out),
        vocabulary=vocabulary,
        asked=prompts_of(training.captions, phrases, read_back.batch_size, seed),
        weight=read_back.weight,
        draw_steps=read_back.draw_steps,
    )
    same = ("steps", "batch_size", "warmup_steps", "ema_decay", "optimizer")
    changes = {name: getattr(read_back, name) for name in same}
    method = PartOfTheWay(training.method, read_back.share)
    again = replace(training, **changes, method=method, objective=Objective(), seed=seed)
    again.teach(manifest, phrases, base=base, trainer=trainer, out=out, learner=learner, **feed)


def make_reader(
    read_back: ReadBack,
    vocabulary: Vocabulary,
    vae: AutoencoderKL,
    manifest: Manifest,
    training: Finetune,
    trainer: Trainer,
    out: Path,
) -> WordReader:
    """The reader in `out`, or a new one, taught by the training pictures as the autoencoder encodes them."""
    folder = out / "reader"
    if not folder.exists():
        moments = moments_of(vae, manifest, training.image_size, False, trainer, out)
        rows = np.arange(len(manifest))
        shown, numbers = moments.take(rows, np.zeros_like(rows)), numbers_of(manifest, vocabulary)
        scale = vae.config.scaling_factor
        taught = train_reader(shown, scale, numbers, vocabulary, read_back.reader, trainer, training.seed)
        save_whole(partial(save_reader, taught), folder)
    reader = WordReader(vae.config.latent_channels, vocabulary)
    load_model(reader, folder / "reader.safetensors")
    return reader.requires_grad_(False)


def save_reader(reader: WordReader, folder: Path) -> None:
    """Into a new folder."""
    folder.mkdir(parents=True)
    save_model(reader, str(folder / "reader.safetensors"))


def prompts_of(captions: PromptSet, phrases: Mapping[str, str], count: int, seed: int) -> Asked:
    """`count` prompts a batch, a function of its number; classes take turns."""
    labels = list(phrases)

    def asked(number: int) -> list[dict[str, Any]]:
        label = labels[number % len(labels)]
        return captions.sample(label, count, (seed << 32) + number, phrases[label])

    return asked


def moments_of(
    vae: AutoencoderKL, manifest: Manifest, image_size: int, mirror: bool, trainer: Trainer, cache: Path
) -> Moments:
    """As encode_moments of the central squares, on the trainer's device and in its precision."""
    device = trainer.strategy.root_device
    with trainer.precision_plugin.forward_context():
        return encode_moments(vae, manifest, image_size, 1, mirror, device, 64, cache)
