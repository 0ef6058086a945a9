"""Pictures that do not show what their prompt asked for: skin tone, size and redness of lesions, and CLIP's opinion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from rich.console import Console

from skinaug.errors import InputError
from skinaug.images import open_image
from skinaug.manifest import Manifest
from skinaug.metrics.skin import TONES, realised
from skinaug.sources.vocabulary import scale_of, titles_of

MEASURED = {  # attribute of prompts: (column of `metrics.skin.measure`, column of scores)
    "skin_type": ("tone", "measured_tone"),
    "lesion_size": ("lesion_area_share", "measured_area_share"),
    "lesion_colour": ("redness", "measured_redness"),
}
Range = Sequence[float | None]  # least and most; None: no limit


class PromptAgreement:
    """Keeps pictures whose measured attributes are near those that their prompts asked for.

    A picture is judged by the attributes that its row of the pool names, and by no other.

    How far to trust it, at the thresholds of conf/filter/prompt_agreement.yaml (`metrics.skin.measure` tells more): of
    phantoms, 98 % of type I labelled VI, 36 % of type I labelled IV and 1 % with the right type are refused for tone; of
    uncontrolled photographs with the right type, 18 % (PAD-UFES-20). Size tells gross errors only: of tiny lesions labelled
    large half are refused, of those with the right word 5 %. Redness tells white from red (60 %, against 10 % with the right
    word), and not much else.

    Args:
        image_size: pixels a side at which pictures are measured.
        clip: folder of a CLIP model in transformers' format, with its tokenizer and image processor and weights as
            safetensors; null: none. General CLIP models know little of dermatology, and no learned tokens.
        batch_size: pictures a forward pass of CLIP.

    Raises:
        InputError: `clip` is no such folder.
    """

    exposure: ClassVar[str] = "off_the_shelf"

    def __init__(self, image_size: int, clip: str | None = None, batch_size: int = 64) -> None:
        self.image_size, self.batch_size = image_size, batch_size
        self.clip = None if clip is None else Path(clip)
        if self.clip is not None and not (
            (self.clip / "config.json").is_file() and any(self.clip.glob("*.safetensors"))
        ):
            raise InputError(
                f"filter.prompt_agreement.scorer.clip={clip} is no folder with a CLIP model's config.json and *.safetensors "
                "(pickled weights are not read): download one and give its folder, or null."
            )

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id; requested_skin_type and measured_tone (1 to 6); requested_lesion_size and measured_area_share
        ([0, 1]); requested_lesion_colour and measured_redness (CIE a*); with `clip`, clip_score: cosine of picture and
        prompt, [-1, 1], null without a prompt. Null where an attribute was not asked for. `real` is not looked at.
        """
        measured = realised(pool, self.image_size, cache)
        _tell_other_scales(_requested(pool.table, "skin_type"))
        columns = {"image_id": pool.table["image_id"]}
        for attribute, (measure, column) in MEASURED.items():
            asked = _requested(pool.table, attribute)
            columns[f"requested_{attribute}"] = asked
            columns[column] = measured.select(pl.when(asked.is_not_null()).then(measure))[measure]
        if self.clip is not None:
            columns["clip_score"] = clip_scores(
                self.clip, pool, self.batch_size, trainer().strategy.root_device
            )
        return pl.DataFrame(columns)

    def keep(
        self,
        scores: pl.DataFrame,
        max_tone_steps: float | None = 2,
        size: Mapping[str, Range] | None = None,
        redness: Mapping[str, Range] | None = None,
        min_clip: float | None = None,
    ) -> pl.DataFrame:
        """Those within every limit that concerns them.

        Args:
            scores: rows of `score`'s table.
            max_tone_steps: most steps between the skin type asked for (I to VI) and the tone; None: not judged. Types on other
                scales than Fitzpatrick's are not judged, and `score` tells of them.
            size: lesion size in the prompts' words: [least, most] share of the skin in view. Other words are not judged.
            redness: lesion colour in the prompts' words: [least, most] redness. Other words are not judged.
            min_clip: least CLIP score; None: not judged.

        Returns:
            Columns keep, reason ("skin tone", "lesion size", "redness", "CLIP": the first that fails; null for those that
            stay).

        Raises:
            InputError: a threshold that is none, or min_clip without a CLIP model.
        """
        _check(self.clip, max_tone_steps, min_clip)
        ordinal = {word: number for number, word in enumerate(TONES, start=1)}
        asked = pl.col("requested_skin_type").cast(
            pl.String
        )  # null throughout has no type of its own in some tables
        asked_tone = asked.replace_strict(ordinal, default=None, return_dtype=pl.Int8)
        steps = (asked_tone - pl.col("measured_tone")).abs()
        reasons = {
            "skin tone": pl.lit(False) if max_tone_steps is None else steps > max_tone_steps,
            "lesion size": _outside("size", size, "requested_lesion_size", "measured_area_share"),
            "redness": _outside("redness", redness, "requested_lesion_colour", "measured_redness"),
            "CLIP": pl.lit(False) if min_clip is None else pl.col("clip_score") < min_clip,
        }
        reason = pl.coalesce(pl.when(failed).then(pl.lit(text)) for text, failed in reasons.items())
        return scores.select(reason.is_null().alias("keep"), reason.alias("reason"))


def clip_scores(folder: Path, pool: Manifest, batch_size: int, device: Any) -> pl.Series:
    """Cosine of each picture and its prompt under a CLIP model saved in a folder; null where there is no prompt.

    Raises:
        InputError: the folder holds no CLIP model with its processor.
    """
    import torch  # only here: whoever uses no CLIP does not wait for it
    from transformers import CLIPModel, CLIPProcessor

    try:
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        model = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"filter.prompt_agreement.scorer.clip={folder} cannot be read as a CLIP model: {error}"
        ) from error
    model = model.eval().to(device)
    prompts, paths = _requested(pool.table, "prompt").to_list(), pool.paths()
    rows = [row for row, prompt in enumerate(prompts) if prompt]
    found: list[float | None] = [None] * len(prompts)
    limit = model.config.text_config.max_position_embeddings
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        inputs = processor(
            text=[prompts[row] for row in part],
            images=[open_image(paths[row]) for row in part],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=limit,
        ).to(device)
        with torch.inference_mode():
            output = model(**inputs)
        cosines = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
        for row, cosine in zip(part, cosines.tolist(), strict=True):
            found[row] = cosine
    return pl.Series("clip_score", found, dtype=pl.Float64)


def _requested(table: pl.DataFrame, name: str) -> pl.Series:
    """A column as text, null throughout where the table lacks it."""
    if name not in table.columns:
        return pl.Series(name, [None] * len(table), dtype=pl.String)
    return table[name].cast(pl.String)


def _tell_other_scales(asked: pl.Series) -> None:
    """Print how many pictures were asked for on scales that the tones, which stand beside Fitzpatrick's types, have no place on."""
    others = [word for word in asked.drop_nulls() if scale_of(word) not in (None, "fitzpatrick")]
    if others:
        Console().print(
            f"prompt_agreement: {len(others)} of {len(asked)} pictures ask for a skin type on another scale than Fitzpatrick's "
            f"({titles_of(others)}): their tone is not judged",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def _outside(name: str, ranges: Mapping[str, Range] | None, word: str, value: str) -> pl.Expr:
    """Whether a row's value lies outside the range of its word."""
    failed = pl.lit(False)
    for key, limits in (ranges or {}).items():
        least, most = _limits(name, key, limits)
        failed = failed | ((pl.col(word) == key) & ~pl.col(value).is_between(least, most))
    return failed


def _limits(name: str, key: str, limits: Range) -> tuple[float, float]:
    try:
        least, most = limits
        least, most = (-np.inf if least is None else float(least)), (np.inf if most is None else float(most))
    except (TypeError, ValueError):
        least, most = np.inf, -np.inf
    if not least <= most:
        raise InputError(
            f"filter.prompt_agreement.keep.{name}.{key}={limits} is no range: give [least, most], null for no limit."
        )
    return least, most


def _check(clip: Path | None, max_tone_steps: float | None, min_clip: float | None) -> None:
    if max_tone_steps is not None and not 0 <= max_tone_steps <= len(TONES) - 1:
        raise InputError(
            f"filter.prompt_agreement.keep.max_tone_steps={max_tone_steps} lies outside 0 to 5: the tones are six."
        )
    if min_clip is None:
        return
    if not -1 <= min_clip <= 1:
        raise InputError(
            f"filter.prompt_agreement.keep.min_clip={min_clip} is no cosine: give a value in [-1, 1]."
        )
    if clip is None:
        raise InputError(
            f"filter.prompt_agreement.keep.min_clip={min_clip} needs CLIP scores: give filter.prompt_agreement.scorer.clip=<folder>."
        )
