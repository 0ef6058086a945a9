"""LoRA (Hu et al. 2021) and its kin: low-rank changes of the networks' layers; classes keep their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.finetune.export import sort_metadata
from skinaug.finetune.suits import check_method
from skinaug.models.families.family import LORA
from skinaug.models.families.table import denoiser, family_of
from skinaug.models.text_length import text_encoders

# Settings of peft's LoraConfig with which an exported file draws, read by diffusers alone, what was taught.
OPTIONS = (
    *("use_dora", "use_rslora", "lora_dropout", "init_lora_weights", "rank_pattern", "alpha_pattern"),
    *("exclude_modules", "layers_to_transform", "layers_pattern"),
)
STARTS = (
    "gaussian",
    "orthogonal",
    True,
    False,
)  # others, such as pissa and olora, change the base's own weights
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the denoiser, and if wanted on those text encoders of which diffusers reads them.

    Attributes:
        rank: of each change, at least 1.
        alpha: the change is scaled by alpha / rank.
        target_modules: endings of the names of the denoiser's layers that are changed. Where a family has layers that do the same
            under other names, those are changed too (`family.Family.lora_layers`).
        text_encoder: whether the text encoders' attention changes as well.
        options: further settings of peft's LoraConfig, of OPTIONS, such as use_dora (Liu et al. 2024) or use_rslora.
    """

    rank: int = 16
    alpha: float = 16
    target_modules: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")
    text_encoder: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"finetune.method.rank={self.rank}: a rank is at least 1.")
        if self.alpha <= 0:
            raise InputError(f"finetune.method.alpha={self.alpha}: it is above 0.")
        if not self.target_modules:
            raise InputError("finetune.method.target_modules is empty: name at least one kind of layer.")
        foreign = [name for name in self.options if name not in OPTIONS]
        if foreign:
            raise InputError(
                f"finetune.method.options={dict(self.options)}: what is learned with {', '.join(foreign)} cannot be saved in a LoRA's file "
                f"so that diffusers reads it. Those that can: {', '.join(OPTIONS)}; rank, alpha and target_modules stand beside them."
            )
        start = self.options.get("init_lora_weights", STARTS[0])
        if start not in STARTS:
            raise InputError(
                f"finetune.method.options.init_lora_weights={start}: such a start changes the base's own weights, which a LoRA's file "
                f"does not hold. Those that do not: {', '.join(str(name).lower() for name in STARTS)}."
            )
        try:
            self.config(self.target_modules)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"finetune.method.options={dict(self.options)}: peft refuses them: {error}"
            ) from error

    @property
    def changes_base(self) -> bool:
        """Whether the base\'s own weights learn, so that the whole pipeline is saved."""
        return False

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """Classes keep the words that the prompts have for them."""
        return {}

    def config(self, target_modules: Sequence[str]) -> LoraConfig:
        """For peft."""
        settings = {"init_lora_weights": "gaussian", **self.options}
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=list(target_modules), **settings)

    def prepare(self, pipeline: Any, classes: Sequence[str], seed: int) -> list[nn.Parameter]:
        """Add the adapters; they are what learns.

        Raises:
            InputError: the family takes no LoRA, no layer has such a name, or the text encoders are to learn and diffusers reads no LoRA of this family's.
        """
        family = family_of(pipeline)
        check_method(LORA, family)
        if self.text_encoder and not family.lora_encoders:
            raise InputError(
                f"finetune.method.text_encoder=true: diffusers reads no LoRA of {family.name}'s text encoder. Set it to false."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for network, targets in self._changed(pipeline):
                try:
                    network.add_adapter(self.config(targets))
                except ValueError as error:
                    raise InputError(f"finetune.method.target_modules={list(targets)}: {error}") from error
        return [
            parameter
            for network, _ in self._changed(pipeline)
            for name, parameter in network.named_parameters()
            if ".lora_" in name
        ]

    def _changed(self, pipeline: Any) -> Iterator[tuple[Any, Sequence[str]]]:
        """Each network that changes, and its layers' endings."""
        family = family_of(pipeline)
        others = [family.lora_layers.get(name, ()) for name in self.target_modules]
        yield denoiser(pipeline), list(dict.fromkeys(chain(self.target_modules, *others)))
        if self.text_encoder:
            for name, network, _ in text_encoders(pipeline):
                if name in family.lora_encoders:
                    yield network, TEXT_LAYERS

    def save(self, pipeline: Any, classes: Sequence[str], out: Path) -> None:
        """Write out/lora/pytorch_lora_weights.safetensors, as `load_lora_weights` of the pipeline's class reads."""
        # peft's names: diffusers' older ones would lose convolutions on loading.
        name, network = family_of(pipeline).denoiser, denoiser(pipeline)
        layers = {f"{name}_lora_layers": _matrices(network)}
        layers[f"{name}_lora_adapter_metadata"] = _settings(network)
        for encoder_name, encoder, _ in text_encoders(pipeline) if self.text_encoder else ():
            if getattr(encoder, "peft_config", None):
                layers[f"{encoder_name}_lora_layers"] = _as_transformers_reads(_matrices(encoder))
                layers[f"{encoder_name}_lora_adapter_metadata"] = _settings(encoder)
        type(pipeline).save_lora_weights(out / "lora", safe_serialization=True, **layers)
        for file in (out / "lora").glob("*.safetensors"):
            sort_metadata(file)


def _matrices(network: nn.Module) -> dict[str, Tensor]:
    """The adapter's weights by peft's names. Those of a convolution in channels_last lie in another order than files hold."""
    return {name: weight.contiguous() for name, weight in get_peft_model_state_dict(network).items()}


def _settings(network: Any) -> dict[str, Any]:
    """peft's settings of the adapter, with sets in order: their own differs from process to process, and so would the file.

    Without dropout, which is of training alone: diffusers would draw with it (findings/diffusers_lora_dropout.sh).
    """
    settings = network.peft_config["default"].to_dict() | {"lora_dropout": 0.0}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}


def _as_transformers_reads(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DoRA's magnitudes by the name under which transformers loads them; it drops others without a word."""
    ending = "lora_magnitude_vector"
    return {f"{name}.weight" if name.endswith(ending) else name: value for name, value in layers.items()}
