"""What a family of base models is: all that training and drawing must know of one architecture and its diffusers pipeline.

Importing a family costs milliseconds: folders are checked before torch is there. Its methods import what they need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Of B texts, by name: [B, L, W] of words, [B, L] of masks, [B, P] of whole texts.
States = dict[str, "Tensor"]

# Samplers by name: over a schedule of added noise, and from noise to picture on a straight line.
NOISE_SCHEDULERS = ("dpmsolver++", "unipc", "ddim", "euler")
FLOW_SCHEDULERS = ("flow", "dpmsolver++", "unipc")

METHODS = LORA, FULL, TEXTUAL_INVERSION = "lora", "full", "textual_inversion"

# How a denoiser is guided: by a prediction with the text and one without, by a number that it is told, or not at all because it was
# distilled from one that was guided.
TWO_PREDICTIONS, EMBEDDED, UNGUIDED = "two predictions", "an embedding", "nothing"
TOLD, UNTOLD = "told", "untold"  # the two predictions

# What pipelines call text states.
POOLED = {"embeds": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
MASKED = {"embeds": "prompt_embeds", "mask": "prompt_attention_mask"}
# Of pipelines that would map sizes to a table's, and read a text even where they are given states.
AS_ASKED = {"negative_prompt": None, "use_resolution_binning": False}


class Family:
    """One architecture. A new one overrides what differs from Stable Diffusion 3's kind: a transformer that learned a flow.

    Attributes:
        name: in messages and documents.
        pipeline: diffusers' class, as a folder's model_index.json names it.
        parts: that it cannot do without; optional: parts that `base.drop` may leave out.
        denoiser: the part that denoises.
        flow: whether it learned a flow (Lipman et al. 2023) rather than to remove noise.
        methods: of fine-tuning that it takes.
        schedulers: samplers that draw with it; image_schedulers: those that can start from a picture, none where diffusers has no
            such pipeline; inpaint_schedulers: those that can draw into one, likewise.
        least_steps: of denoising with which its pipeline draws.
        branches: in which order a guided pipeline asks for its predictions: a tuple a call of the denoiser.
        lora_by_pipeline: whether diffusers' pipeline reads a LoRA; else peft does, into the denoiser.
        lora_encoders: text encoders whose LoRA diffusers saves and loads.
        lora_layers: what layers of a usual name are called in this family besides: LoRA changes those too.
        arguments: the pipeline's argument for each of the text states.
        call: further arguments of the pipeline.
        chats: whether the pipeline speaks to its text encoder by the tokenizer's own template of chats.
        unread: whether some of the denoiser's weights reach no prediction, such as those of words behind the last attention.
    """

    name: str
    pipeline: str
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    denoiser: str = "transformer"
    flow: bool = True
    methods: tuple[str, ...] = (LORA, FULL)
    schedulers: tuple[str, ...] = FLOW_SCHEDULERS
    # Of flows; diffusers' other samplers cannot start one from a picture.
    image_schedulers: tuple[str, ...] = FLOW_SCHEDULERS[:1]
    inpaint_schedulers: tuple[str, ...] = ()
    least_steps: int = 1
    branches: tuple[tuple[str, ...], ...] = ((UNTOLD, TOLD),)
    lora_by_pipeline: bool = True
    lora_encoders: tuple[str, ...] = ()
    lora_layers: Mapping[str, tuple[str, ...]] = {}
    arguments: Mapping[str, str] = {"embeds": "prompt_embeds"}
    call: Mapping[str, Any] = {}
    chats: bool = False
    unread: bool = False

    @property
    def samplers(self) -> Mapping[str, tuple[str, ...]]:
        """Samplers by mode of drawing: text, image, inpaint."""
        return {"text": self.schedulers, "image": self.image_schedulers, "inpaint": self.inpaint_schedulers}

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Text states of distinct texts as the pipeline itself makes them, with gradients where its encoders learn.

        An empty text is what guidance is taken against. Texts of different length are filled up with zeros.
        """
        raise NotImplementedError

    def denoise(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """The denoiser's output for noisy latents [B, C, h, w], of the same shape: noise, velocity, or eps - x_0 for a flow.

        timesteps: float or int [B], of the base's schedule. original_sizes: int [B, 3], height and width of the photographs, and
        the side of the squares that they became, in pixels.
        """
        raise NotImplementedError

    def encode(self, pipeline: Any, texts: Sequence[str], device: torch.device) -> States:
        """Text states of B texts, in the encoders' own precision whatever the caller computes in; each distinct text is read once.

        T5, Gemma and others were trained in bfloat16, and overflow in float16.
        """
        import torch

        distinct = list(dict.fromkeys(texts))
        with torch.autocast(device.type, enabled=False):
            states = self.read(pipeline, distinct, device)
        rows = torch.tensor([distinct.index(text) for text in texts], device=device)
        return {name: value[rows] for name, value in states.items()}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """Tokens that a text encoder reads: those that its tokenizer tells, where the pipeline does not ask for fewer."""
        return pipeline.components[encoder.replace("text_encoder", "tokenizer")].model_max_length

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        """A text as a text encoder's tokenizer is given it: with what the pipeline puts around it."""
        return text

    def moments(self, vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, C, h, w] of what the autoencoder makes of images [B, 3, H, W] in [-1, 1]."""
        return gaussian(vae, images)

    def normalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] from the autoencoder's units to the denoiser's."""
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (latents - shift) * vae.config.scaling_factor

    def widths(self, vae_config: Mapping[str, Any]) -> Sequence[int]:
        """Channels of the autoencoder's blocks, from the widest map to the smallest; between two the side is halved."""
        return vae_config["block_out_channels"]

    def patch(self, denoiser_config: Mapping[str, Any]) -> int:
        """How many of the autoencoder's places a side the denoiser takes as one."""
        return denoiser_config["patch_size"]

    def factor(self, vae_config: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> int:
        """What a picture's side must be a multiple of, in pixels."""
        return 2 ** (len(self.widths(vae_config)) - 1) * self.patch(denoiser_config)

    def drawn_factor(self, vae_config: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> int:
        """What a drawn picture's side must be a multiple of: the pipelines ask for 8 pixels whatever the autoencoder."""
        return math.lcm(8, self.factor(vae_config, denoiser_config))

    def guidance(self, index: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> str:
        """How such a denoiser is guided, by the pipeline's settings and its own: TWO_PREDICTIONS, EMBEDDED or UNGUIDED."""
        return TWO_PREDICTIONS

    def guidance_arguments(self, scale: float) -> dict[str, float]:
        """The pipeline's arguments for a weight of guidance, 1 for none (Ho and Salimans 2022)."""
        return {"guidance_scale": scale}

    def text_arguments(self, told: States, untold: States | None) -> dict[str, Any]:
        """The pipeline's arguments for the states of B texts, guided away from those of no text where it is guided so: [B, ...]."""
        arguments: dict[str, Any] = {self.arguments[name]: value for name, value in told.items()}
        for name, value in (untold or {}).items():
            arguments[f"negative_{self.arguments[name]}"] = value
        return arguments

    def share(self, timestep: float, num_train_timesteps: int) -> float:
        """The level of noise in [0, 1], 1 for noise alone, of the timestep that the pipeline tells the denoiser."""
        return timestep / num_train_timesteps


def gaussian(vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [B, C, h, w] of an autoencoder's q(z|x), of images [B, 3, H, W] in [-1, 1] (Kingma and Welling 2014)."""
    posterior = vae.encode(images).latent_dist
    return posterior.mean, posterior.std


def stacked(rows: Sequence[States]) -> States:
    """States [B, ...] of B texts from those of each, which may differ in length: zeros fill the ends up, and masks are zero there."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def joined(values: list[Tensor]) -> Tensor:
        alike = len({value.shape for value in values}) == 1
        return torch.stack(values) if alike else pad_sequence(values, batch_first=True)

    return {name: joined([row[name] for row in rows]) for name in rows[0]}


def frozen_states(family: Family, pipeline: Any, texts: Sequence[str], device: torch.device) -> States:
    """Text states of B texts by encoders on the device that do not learn.

    Raises:
        InputError: states that are no numbers.
    """
    import torch

    with torch.no_grad():
        states = family.encode(pipeline, texts, device)
    if not all(value.isfinite().all() for value in states.values()):
        raise InputError(
            f"The base's text encoders make numbers that are not finite of {', '.join(map(repr, texts))}. Use a base whose text encoders "
            "are intact; where they have 8 bits, whose products are float16, 4 bits or as many as they have (quantize=4 or null)."
        )
    return states


def cleaned(text: str) -> str:
    """A text as the pipelines of PixArt and SANA hand it to their tokenizers, whatever is installed."""
    return text.lower().strip()


def as_message(tokenizer: Any, text: str, thinking: bool) -> str:
    """A text as a user's message to Qwen3, which is asked to think before it answers, or not to."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )


def guidance_of(family: Family, pipeline: Any) -> str:
    """How a pipeline's denoiser is guided."""
    return family.guidance(pipeline.config, pipeline.components[family.denoiser].config)
