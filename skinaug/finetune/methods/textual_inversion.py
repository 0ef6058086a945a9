"""Textual inversion (Gal et al. 2022): a class becomes a new word, and nothing but that word's vectors learns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.finetune.scope import folder_names
from skinaug.finetune.suits import check_method
from skinaug.models.families.family import TEXTUAL_INVERSION
from skinaug.models.families.table import family_of
from skinaug.models.layouts import ENCODERS
from skinaug.models.text_length import text_encoders


class ExtendedEmbedding(nn.Module):
    """An embedding whose first rows are frozen and whose last rows, the new words, are the parameter `new`."""

    def __init__(self, frozen: Tensor, new: Tensor) -> None:
        super().__init__()
        self.register_buffer("frozen", frozen.detach(), persistent=False)
        self.register_buffer("start", new.detach().clone(), persistent=False)
        self.new = nn.Parameter(new)

    @property
    def weight(self) -> Tensor:
        return torch.cat([self.frozen, self.new])

    def forward(self, ids: Tensor) -> Tensor:
        is_new = ids >= len(self.frozen)
        new = nn.functional.embedding((ids - len(self.frozen)).clamp(min=0), self.new)
        old = nn.functional.embedding(ids.clamp(max=len(self.frozen) - 1), self.frozen)
        return torch.where(is_new[..., None], new, old)


@dataclass(frozen=True)
class TextualInversion:
    """One token a class, of several vectors that start near an ordinary word's.

    Attributes:
        num_vectors: vectors a class, at least 1.
        initial_word: a word that is one token of the base's tokenizer.
        noise: deviation of the vectors around the initial word's, in units of the vocabulary's deviation: several
            vectors that start equal stay equal.
    """

    num_vectors: int = 1
    initial_word: str = "skin"
    noise: float = 0.1

    def __post_init__(self) -> None:
        if self.num_vectors < 1:
            raise InputError(
                f"finetune.method.num_vectors={self.num_vectors}: a class needs at least 1 vector."
            )
        if self.noise < 0:
            raise InputError(f"finetune.method.noise={self.noise}: it is a deviation, at least 0.")

    @property
    def changes_base(self) -> bool:
        """Whether the base\'s own weights learn, so that the whole pipeline is saved."""
        return False

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """What stands for each class in a prompt: its token, of Latin letters and digits, with a digest of the name where those
        are none or another class's."""
        names = {label: re.sub("[^a-z0-9]+", "-", label.lower())[:64] for label in classes}
        often = Counter(names.values())
        return {
            label: f"<{name}>" if name.strip("-") and often[name] == 1 else f"<{unique}>"
            for (label, name), unique in zip(names.items(), folder_names(classes).values(), strict=True)
        }

    def prepare(self, pipeline: Any, classes: Sequence[str], seed: int) -> list[nn.Parameter]:
        """Add the classes' tokens to each tokenizer and their rows to each text encoder; the rows are what learns.

        Raises:
            InputError: the initial word is several tokens, a class's token is already a word, or diffusers has no textual
                inversion for this family.
        """
        check_method(TEXTUAL_INVERSION, family_of(pipeline))
        names = [name for token in self.phrases(classes).values() for name in self.names(token)]
        generator = torch.Generator().manual_seed(seed)
        return [
            self._extend(encoder, tokenizer, names, generator)
            for _, encoder, tokenizer in text_encoders(pipeline)
        ]

    def _extend(
        self, text_encoder: Any, tokenizer: Any, names: Sequence[str], generator: torch.Generator
    ) -> nn.Parameter:
        """New rows of one text encoder."""
        start = tokenizer.encode(self.initial_word, add_special_tokens=False)
        if len(start) != 1:
            pieces = ", ".join(tokenizer.convert_ids_to_tokens(start)) or "nothing"
            raise InputError(
                f"finetune.method.initial_word={self.initial_word!r} is not one token of this base but {len(start)} "
                f"({pieces}). Choose a simpler word, such as skin."
            )
        frozen = text_encoder.get_input_embeddings().weight
        if tokenizer.add_tokens(list(names)) != len(names) or len(tokenizer) - len(names) != len(frozen):
            raise InputError(
                f"The base's tokenizer already has some of the tokens {', '.join(names)}. Rename the classes."
            )
        noise = (
            torch.randn(len(names), frozen.shape[1], generator=generator) * frozen.std().cpu() * self.noise
        )
        rows = ExtendedEmbedding(frozen, frozen[start[0]].detach() + noise.to(frozen))
        text_encoder.set_input_embeddings(rows)
        return rows.new

    def names(self, token: str) -> list[str]:
        """A token's vectors as diffusers names them: <t>, <t>_1, <t>_2."""
        return [token, *(f"{token}_{number}" for number in range(1, self.num_vectors))]

    def save(self, pipeline: Any, classes: Sequence[str], out: Path) -> None:
        """Write out/textual_inversion/<class>.safetensors, as `load_textual_inversion` of the pipeline's class reads.

        Raises:
            InputError: a vector did not move, so its class was not taught.
        """
        folder = out / "textual_inversion"
        folder.mkdir(exist_ok=True)
        encoders = [list(self._learned(encoder)) for _, encoder, _ in text_encoders(pipeline)]
        for token, *taught in zip(self.phrases(classes).values(), *encoders, strict=True):
            if not all((vectors != start).any(1).all() for vectors, start in taught):
                raise InputError(f"The vectors of {token} are where they started: train for more steps.")
            keys = tuple(ENCODERS) if len(taught) > 1 else (token,)
            rows = {key: vectors.contiguous() for key, (vectors, _) in zip(keys, taught, strict=True)}
            save_file(rows, folder / f"{token.strip('<>')}.safetensors")

    def _learned(self, encoder: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Each class's vectors now and at the start, float32 [num_vectors, width]."""
        rows = encoder.get_input_embeddings()
        now, start = (part.detach().float().cpu().split(self.num_vectors) for part in (rows.new, rows.start))
        return zip(now, start, strict=True)
