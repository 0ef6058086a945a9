"""The finetune stage: real training photographs and their captions teach a base model the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.optim import Optimizer

from skinaug.errors import InputError
from skinaug.finetune import resume
from skinaug.finetune.average import AveragedWeights
from skinaug.finetune.batches import Photographs, training_batch
from skinaug.finetune.cache import encode_moments
from skinaug.finetune.card import write_card
from skinaug.finetune.latents import Batch
from skinaug.finetune.lighten import lighten
from skinaug.finetune.masks import check_masks
from skinaug.finetune.methods.method import FinetuneMethod
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.module import DiffusionFinetuner, Objective
from skinaug.finetune.samples import SampleGrids, examples
from skinaug.finetune.scope import SCOPES, folder_names, only
from skinaug.finetune.sharding import is_sharded, patient, put_weights, whole_weights
from skinaug.finetune.suits import check_image_size, check_lengths
from skinaug.finetune.text import Caption, caption_rows, frozen_text, many_captions
from skinaug.manifest import Manifest
from skinaug.models.families.table import family_of
from skinaug.models.phrases import write_phrases
from skinaug.prompts import PromptSet
from skinaug.store.files import flush


@dataclass(frozen=True)
class Prior:
    """Prior preservation (DreamBooth: Ruiz et al. 2023, section 3.3): the base's own pictures are kept in training.

    Attributes:
        weight: of their loss, beside the photographs' 1.
        prompts: what the base is asked for; {label} is "skin".
        generate: the generate stage with its settings.
    """

    weight: float
    prompts: PromptSet
    generate: Callable[..., None]

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(
                f"finetune.prior.weight={self.weight}: it is above 0; finetune.prior=null does without."
            )


@dataclass(frozen=True)
class Finetune:
    """Teach a base model the classes of a manifest.

    Each step draws the classes in turn. A run that was killed goes on from its last checkpoint and ends as if it had not
    been.

    Attributes:
        method: what learns.
        captions: the texts that the photographs are shown with, filled from their attributes.
        image_size: pixels a side; photographs are resized and cropped to squares.
        steps: optimizer steps, of each model; batch_size: images a batch, which devices share; accumulate_grad_batches: batches
            a step.
        optimizer: makes the optimizer of the learning parameters. Its rate means the same on any number of devices.
        warmup_steps: of linearly rising learning rate; a half cosine to zero follows.
        caption_dropout: share of images with an empty caption, for classifier-free guidance.
        flip: also show mirror images. crops: different squares of a photograph, 1 or more; the first is the central one.
        objective: noise and loss.
        prior: of which the pictures come as `prior_images`; None does without.
        scope: all: one model knows every class; class: each class has its own.
        ema_decay: of the average of the learning weights over steps, which is saved; None saves the last weights.
        gradient_checkpointing: compute activations again in the backward pass: less memory, about a third more time.
        compile: the denoiser by torch.compile.
        sample_prompts: of the sample grids; None takes one a class.

    Raises:
        InputError: settings that cannot work, or that do not fit the base; a training that diverges.
    """

    method: FinetuneMethod
    captions: PromptSet
    image_size: int
    steps: int
    batch_size: int
    optimizer: Callable[[Sequence[nn.Parameter]], Optimizer]
    warmup_steps: int
    caption_dropout: float
    flip: bool
    accumulate_grad_batches: int
    sample_every_num_steps: int
    checkpoint_every_minutes: float
    seed: int
    crops: int = 1
    objective: Objective = field(default_factory=Objective)
    prior: Prior | None = None
    scope: str = "all"
    ema_decay: float | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    sample_prompts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        counts = (
            "image_size",
            "steps",
            "batch_size",
            "accumulate_grad_batches",
            "sample_every_num_steps",
            "crops",
        )
        problems = [
            f"finetune.{name}={getattr(self, name)}: it is at least 1."
            for name in counts
            if getattr(self, name) < 1
        ]
        if not 0 <= self.caption_dropout < 1:
            problems.append(
                f"finetune.caption_dropout={self.caption_dropout}: it is a share, at least 0 and below 1."
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            problems.append(
                f"finetune.ema_decay={self.ema_decay}: it is at least 0 and below 1, or null for none."
            )
        if self.scope not in SCOPES:
            problems.append(f"finetune.scope={self.scope!r}: choose {' or '.join(SCOPES)}.")
        if problems:
            raise InputError("\n".join(problems))

    def __call__(
        self,
        *,
        manifest: Manifest,
        prior_images: Manifest | None,
        base: Callable[[], DiffusionPipeline],
        base_name: str,
        licence: str,
        trainer: Callable[..., Trainer],
        cache: Path,
        logger: Any,
        out: Path,
        drop: Sequence[str] = (),
    ) -> None:
        """Leave the method's files, labels.json, samples/ and a model card in `out`; with scope=class in out/models/<class>.

        manifest: training photographs. prior_images: the base's, where `prior` asks for them. cache: folder for encoded
        images and texts, of any base and data. base_name, licence, drop: of the base, for the model card.
        """
        phrases = self.phrases(manifest.classes)
        teach = partial(
            self.teach, prior_images=prior_images, base=base, trainer=trainer, cache=cache, logger=logger
        )
        if self.scope == "all":
            teach(manifest, phrases, out=out)
        else:
            for label, name in folder_names(manifest.classes).items():
                teach(only(manifest, label), {label: phrases[label]}, out=out / "models" / name)
        if rank_zero_only.rank == 0:
            write_phrases(phrases, out)
            write_card(
                out,
                manifest=manifest,
                phrases=phrases,
                method=type(self.method).__name__,
                settings=self.summary(),
                base_name=base_name,
                licence=licence,
                drop=drop,
            )

    def teach(
        self,
        manifest: Manifest,
        phrases: Mapping[str, str],
        *,
        prior_images: Manifest | None,
        base: Callable[[], DiffusionPipeline],
        trainer: Callable[..., Trainer],
        cache: Path,
        logger: Any,
        out: Path,
        learner: Callable[..., DiffusionFinetuner] = DiffusionFinetuner,
    ) -> None:
        """Train and save one model, unless it is there. learner: makes what is trained."""
        if (out / "labels.json").exists():
            return
        self.check_sharding(trainer())
        self.check_lesion_weight(manifest)
        out.mkdir(parents=True, exist_ok=True)
        pipeline = base()
        check_image_size(self.image_size, pipeline)
        parameters = self.method.prepare(pipeline, manifest.classes, self.seed)
        caption = caption_rows(manifest, self.captions, phrases)
        check_lengths(pipeline, many_captions(caption, manifest, self.captions))
        fitter = self.trainer(trainer, pipeline, phrases, logger, out)
        module = learner(
            pipeline,
            parameters,
            make_batch=self.batches(pipeline, fitter, manifest, caption, prior_images, cache),
            frozen_text=frozen_text(pipeline, parameters, cache),
            objective=self.objective,
            optimizer=self.optimizer,
            num_steps=self.steps,
            warmup_steps=self.warmup_steps,
            seed=self.seed,
        )
        lighten(module, fitter, self.gradient_checkpointing, self.compile)
        resume.fit(fitter, module, out / "checkpoints")
        weights = whole_weights(fitter) if is_sharded(fitter) else None
        if fitter.is_global_zero:
            if weights is not None:
                pipeline = base()
                self.method.prepare(pipeline, manifest.classes, self.seed)
                put_weights(pipeline, weights)
            self.method.save(pipeline, manifest.classes, out)
            flush(out)  # labels.json says that the model is there
            write_phrases(phrases, out)
            resume.remove(out / "checkpoints")
        fitter.strategy.barrier()

    def batches(
        self,
        pipeline: Any,
        fitter: Trainer,
        manifest: Manifest,
        caption: Caption,
        prior_images: Manifest | None,
        cache: Path,
    ) -> Callable[[int], Batch]:
        """What a training step sees, by its number: images are encoded here, and the autoencoder leaves the device."""
        encode = partial(
            encode_moments,
            pipeline.vae,
            size=self.image_size,
            device=fitter.strategy.root_device,
            batch_size=self.batch_size,
            cache=cache,
            encode=family_of(pipeline).moments,
        )
        with fitter.precision_plugin.forward_context():
            shown = Photographs(
                encode(manifest, crops=self.crops, mirror=self.flip),
                manifest,
                caption,
                self.image_size,
                masks=self.objective.lesion_weight > 0,
            )
            prior = None
            if self.prior is not None and prior_images is not None:
                prompts = prior_images.table["prompt"].to_list()
                moments = encode(prior_images, crops=1, mirror=self.flip)
                prior = Photographs(moments, prior_images, lambda row, rng: prompts[row], self.image_size)
        pipeline.vae.to("cpu")
        return partial(
            training_batch,
            shown=shown,
            prior=prior,
            prior_weight=self.prior.weight if self.prior else 0.0,
            batch_size=self.batch_size,
            caption_dropout=self.caption_dropout,
            seed=self.seed,
        )

    def check_lesion_weight(self, manifest: Manifest) -> None:
        """Refuse to weigh lesions that no mask shows, or that the base's own pictures lack."""
        check_masks(manifest, "finetune.objective.lesion_weight", self.objective.lesion_weight)
        if self.objective.lesion_weight and self.prior is not None:
            raise InputError(
                "finetune.objective.lesion_weight and finetune.prior exclude each other: the base's own pictures have no masks. "
                "Set one of them to 0 or null."
            )

    def check_sharding(self, fitter: Trainer) -> None:
        """Refuse what cannot be done with weights in pieces."""
        if is_sharded(fitter) and (self.ema_decay is not None or isinstance(self.method, TextualInversion)):
            raise InputError(
                "trainer=fsdp: weights in pieces are for finetune=lora and finetune=full, and are not averaged. Set "
                "finetune.ema_decay=null, or another trainer."
            )

    def trainer(
        self,
        trainer: Callable[..., Trainer],
        pipeline: Any,
        phrases: Mapping[str, str],
        logger: Any,
        out: Path,
    ) -> Trainer:
        """A Trainer with checkpoints, sample grids and averaged weights."""
        prompts = self.sample_prompts or examples(self.captions, phrases, self.seed)
        callbacks: list[Callback] = [
            resume.checkpoints(out / "checkpoints", every_minutes=self.checkpoint_every_minutes),
            SampleGrids(
                pipeline, prompts, out / "samples", self.image_size, self.sample_every_num_steps, self.seed
            ),
        ]
        if self.ema_decay is not None:
            callbacks.insert(0, AveragedWeights(self.ema_decay))
        # Of some text encoders that learn, the last layers are not read either.
        unread = family_of(pipeline).unread or getattr(self.method, "text_encoder", False)
        return trainer(
            **(patient(trainer().strategy) if unread else {}),
            max_steps=self.steps,
            accumulate_grad_batches=self.accumulate_grad_batches,
            callbacks=callbacks,
            logger=logger,
            default_root_dir=out,
        )

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """What stands for each class in captions and prompts."""
        return {label: self.captions.phrase(label) for label in classes} | self.method.phrases(classes)

    def summary(self) -> dict[str, object]:
        """The recipe in a few lines."""
        names = ("scope", "steps", "batch_size", "accumulate_grad_batches", "image_size", "ema_decay", "seed")
        options = getattr(self.optimizer, "keywords", {})
        return {
            **{name: getattr(self, name) for name in names},
            "learning rate": options.get("lr"),
            "objective": str(self.objective),
            "prior weight": self.prior.weight if self.prior else None,
        }


def keep_base(captions: PromptSet, *, manifest: Manifest, out: Path, **_: Any) -> None:
    """No fine-tuning: leaves only labels.json, so the pool shows what the base alone makes of the classes' names."""
    write_phrases({label: captions.phrase(label) for label in manifest.classes}, out)
