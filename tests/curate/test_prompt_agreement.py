"""Requested against measured attributes on phantoms with right and swapped requests, and CLIP against transformers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from phantoms import phantom_manifest
from sklearn.metrics import roc_auc_score

from skinaug.curate.filters.prompt_agreement import PromptAgreement
from skinaug.dataset.phantom.source import PhantomMorphology
from skinaug.errors import InputError
from skinaug.images import load_pixels, open_image
from skinaug.manifest import Manifest
from skinaug.metrics.skin import measure

PRESET = yaml.safe_load((Path(__file__).parents[2] / "conf/filter/prompt_agreement.yaml").read_text())[
    "prompt_agreement"
]
THRESHOLDS = PRESET["keep"]
SIZE = 64
FILTER = PromptAgreement(SIZE)


@pytest.fixture
def with_clip(tmp_path: Path) -> PromptAgreement:
    """A filter whose folder looks like a CLIP model's; nothing is read from it before pictures are scored."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    return PromptAgreement(SIZE, clip=str(tmp_path))


def score(pool: Manifest, filter_: PromptAgreement = FILTER) -> pl.DataFrame:
    empty = pool.with_table(pool.table.clear())  # off the shelf: real images are not looked at
    return filter_.score(pool, empty, trainer=cpu, cache=None)


def cpu() -> object:
    from skinaug.models.trainer import make_trainer

    return make_trainer(accelerator="cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return phantom_manifest(
        PhantomMorphology(count=900, image_size=SIZE, seed=21, workers=1), tmp_path_factory.mktemp("phantoms")
    )


@pytest.fixture(scope="module")
def scores(pool: Manifest) -> pl.DataFrame:
    return score(pool)


def refused(
    scores: pl.DataFrame, attribute: str, true: str, asked: str, reason: str, **thresholds: object
) -> float:
    """Share of pictures of one word that are refused for a reason when their row asks for another."""
    column = f"requested_{attribute}"
    rows = scores.filter(pl.col(column) == true).with_columns(pl.lit(asked).alias(column))
    assert rows.height > 20
    return (FILTER.keep(rows, **(THRESHOLDS | thresholds))["reason"] == reason).fill_null(False).mean()


def auc(scores: pl.DataFrame, attribute: str, value: str, low: str, high: str) -> float:
    """How well a measure ranks pictures of two words."""
    words = f"requested_{attribute}"
    rows = scores.filter(pl.col(words).is_in([low, high]))
    return roc_auc_score((rows[words] == high).to_numpy(), rows[value].to_numpy())


def test_swapped_skin_types_are_refused(scores: pl.DataFrame):
    assert auc(scores, "skin_type", "measured_tone", "I", "VI") > 0.97
    assert auc(scores, "skin_type", "measured_tone", "I", "IV") > 0.93
    assert auc(scores, "skin_type", "measured_tone", "III", "V") > 0.85
    for true, asked in (("I", "VI"), ("VI", "I")):
        assert refused(scores, "skin_type", true, asked, "skin tone") > 0.93
    for kind in ("I", "II", "III", "IV", "V", "VI"):
        assert refused(scores, "skin_type", kind, kind, "skin tone") < 0.06
    assert refused(scores, "skin_type", "I", "VI", "skin tone", max_tone_steps=None) == 0
    assert refused(scores, "skin_type", "I", "II", "skin tone", max_tone_steps=0) > 0.3


def test_swapped_sizes_are_refused(scores: pl.DataFrame):
    assert auc(scores, "lesion_size", "measured_area_share", "tiny", "large") > 0.85
    assert auc(scores, "lesion_size", "measured_area_share", "small", "large") > 0.77
    assert refused(scores, "lesion_size", "tiny", "large", "lesion size") > 0.35
    assert refused(scores, "lesion_size", "large", "tiny", "lesion size") > 0.4
    for word in THRESHOLDS["size"]:
        assert refused(scores, "lesion_size", word, word, "lesion size") < 0.12
    assert refused(scores, "lesion_size", "tiny", "large", "lesion size", size=None) == 0


def test_swapped_colours_are_refused(scores: pl.DataFrame):
    assert auc(scores, "lesion_colour", "measured_redness", "white", "red") > 0.82
    assert refused(scores, "lesion_colour", "white", "red", "redness") > 0.4
    assert refused(scores, "lesion_colour", "red", "red", "redness") < 0.17
    assert refused(scores, "lesion_colour", "white", "red", "redness", redness=None) == 0


def test_scores_are_the_measures_of_what_was_asked_for(pool: Manifest, scores: pl.DataFrame):
    part = pool.with_table(pool.table[:25])
    measured = measure(load_pixels(part, SIZE))
    for attribute, name, column in (
        ("skin_type", "tone", "measured_tone"),
        ("lesion_size", "lesion_area_share", "measured_area_share"),
        ("lesion_colour", "redness", "measured_redness"),
    ):
        asked = part.table[attribute]
        assert scores[f"requested_{attribute}"][:25].to_list() == asked.to_list()
        for value, expected, word in zip(scores[column][:25], measured[name], asked, strict=True):
            assert value == (None if word is None else pytest.approx(expected, abs=2e-3))
    assert part.table["lesion_size"].null_count() > 0
    assert scores["image_id"].to_list() == pool.table["image_id"].to_list()
    assert "clip_score" not in scores.columns


def test_what_was_not_asked_for_is_not_judged(pool: Manifest):
    """Pools without the attributes, and words that have no range."""
    part = pool.with_table(pool.table[:40].drop("skin_type", "lesion_size", "lesion_colour"))
    found = score(part)
    assert found.drop("image_id").null_count().sum_horizontal()[0] == 40 * 6
    decided = FILTER.keep(found, **THRESHOLDS)
    assert decided["keep"].all()
    assert decided.schema == {"keep": pl.Boolean, "reason": pl.String}
    strange = score(
        part.with_table(
            part.table.with_columns(
                skin_type=pl.lit("olive"), lesion_size=pl.lit("huge"), lesion_colour=pl.lit("brown")
            )
        )
    )
    assert FILTER.keep(strange, **THRESHOLDS)["keep"].all()


ROW = {
    "image_id": "a",
    "requested_skin_type": "III",
    "measured_tone": 3,
    "requested_lesion_size": "small",
    "measured_area_share": 0.05,
    "requested_lesion_colour": "red",
    "measured_redness": 8.0,
    "clip_score": 0.3,
}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"measured_tone": 5}, None),
        ({"measured_tone": 6}, "skin tone"),
        ({"requested_skin_type": "VI"}, "skin tone"),
        ({"measured_area_share": 0.31}, "lesion size"),
        ({"measured_area_share": 0.009}, "lesion size"),
        ({"measured_area_share": 0.3}, None),
        ({"requested_lesion_size": "large"}, "lesion size"),
        ({"measured_redness": 1.9}, "redness"),
        ({"measured_redness": 1.9, "requested_lesion_colour": "brown"}, None),
        ({"clip_score": 0.1}, "CLIP"),
        ({"clip_score": None}, None),
        ({"measured_tone": 6, "measured_redness": 0.0}, "skin tone"),
        ({"requested_skin_type": None, "measured_tone": None}, None),
    ],
)
def test_limits_and_reasons(values: dict, reason: str | None, with_clip: PromptAgreement):
    rows = pl.DataFrame([ROW | values], schema_overrides={"clip_score": pl.Float64})
    decided = with_clip.keep(
        rows, 2, size={"small": [0.01, 0.3], "large": [0.2, None]}, redness={"red": [2, None]}, min_clip=0.2
    )
    assert decided.row(0) == (reason is None, reason)


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"max_tone_steps": 6}, "outside 0 to 5"),
        ({"size": {"small": [0.3, 0.1]}}, "keep.size.small"),
        ({"redness": {"red": 3}}, "keep.redness.red=3 is no range"),
        ({"size": {"small": [0.1]}}, "no range"),
        ({"min_clip": 2}, "no cosine"),
    ],
)
def test_bad_thresholds_are_refused(thresholds: dict, message: str):
    with pytest.raises(InputError, match=message):
        FILTER.keep(pl.DataFrame([ROW]), **thresholds)


def test_min_clip_without_clip_is_refused_before_there_are_scores(with_clip: PromptAgreement):
    with pytest.raises(InputError, match="needs CLIP scores"):
        FILTER.keep(pl.DataFrame(), min_clip=0.2)
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        with_clip.keep(
            pl.DataFrame(), min_clip=0.2
        )  # these settings can work: only the scores are not there yet


def test_the_preset_matches_the_class():
    scorer = PRESET["scorer"]
    assert scorer.pop("_target_") == f"{PromptAgreement.__module__}.{PromptAgreement.__qualname__}"
    assert PromptAgreement(**scorer | {"image_size": SIZE}).clip is None
    assert PromptAgreement.exposure == "off_the_shelf"


@pytest.fixture(scope="module")
def save_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A function that saves a tiny random CLIP into a new folder."""
    import torch
    from diffusion_components import save_tiny_pipeline
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    pipeline = save_tiny_pipeline(tmp_path_factory.mktemp("pipeline"))
    words = CLIPTokenizer.from_pretrained(pipeline, subfolder="tokenizer")

    def save() -> Path:
        torch.manual_seed(0)
        layers = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        text = layers | {
            "vocab_size": len(words),
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        }
        vision = layers | {"image_size": 32, "patch_size": 8}
        folder = tmp_path_factory.mktemp("clip")
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8, initializer_factor=20.0)
        CLIPModel(config).save_pretrained(folder)
        processor = CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_center_crop=True
        )
        CLIPProcessor(processor, words).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def clip(save_clip: Callable[[], Path]) -> Path:
    return save_clip()


def with_prompts(pool: Manifest, prompts: list[str | None]) -> Manifest:
    return pool.with_table(
        pool.table[: len(prompts)].with_columns(pl.Series("prompt", prompts, dtype=pl.String))
    )


PROMPTS = [
    "a photo of acne on the face",
    "a photo of skin",
    None,
    "nevus, skin type vi " * 30,  # more tokens than CLIP reads
    "a photo of acne on the face",
    "",
    "macroscopic photo of a lesion",
]


def test_clip_scores_are_those_of_transformers(clip: Path, pool: Manifest):
    """One picture and prompt at a time through the two towers, against batches of three."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    part = with_prompts(pool, PROMPTS)
    found = score(part, PromptAgreement(SIZE, clip=str(clip), batch_size=3))["clip_score"]
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    expected: list[float | None] = []
    for prompt, path in zip(PROMPTS, part.paths(), strict=True):
        if not prompt:
            expected.append(None)
            continue
        inputs = processor(
            text=[prompt], images=[open_image(path)], return_tensors="pt", truncation=True, max_length=77
        )
        with torch.no_grad():
            picture = model.visual_projection(model.vision_model(inputs["pixel_values"]).pooler_output)
            text = model.text_projection(model.text_model(inputs["input_ids"]).pooler_output)
        expected.append(float(torch.nn.functional.cosine_similarity(picture, text)))
    assert found.is_null().to_list() == [value is None for value in expected]
    np.testing.assert_allclose(
        found.drop_nulls(), [value for value in expected if value is not None], atol=1e-5
    )
    assert found.drop_nulls().std() > 0.01


def test_pools_without_prompts_have_no_clip_scores(clip: Path, pool: Manifest):
    found = score(pool.with_table(pool.table[:3]), PromptAgreement(SIZE, clip=str(clip)))
    assert found["clip_score"].to_list() == [None] * 3
    kept = PromptAgreement(SIZE, clip=str(clip)).keep(found, max_tone_steps=None, min_clip=0.9)
    assert kept["keep"].all()


def test_pickled_weights_are_refused(save_clip: Callable[[], Path]):
    import torch
    from safetensors.torch import load_file

    folder = save_clip()
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match="pickled weights are not read"):
        PromptAgreement(SIZE, clip=str(folder))


def test_another_model_is_refused(save_clip: Callable[[], Path], pool: Manifest):
    folder = save_clip()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(InputError, match="cannot be read as a CLIP model"):
        score(with_prompts(pool, PROMPTS), PromptAgreement(SIZE, clip=str(folder)))


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="is no folder with a CLIP model"):
        PromptAgreement(SIZE, clip=str(tmp_path / "nowhere"))
