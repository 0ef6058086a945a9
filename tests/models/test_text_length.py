"""Texts that would lose something on their way through a tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusion_components import plain_pipeline, save_tiny

from skinaug.models.text_length import cut_off, unknown_tokens


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    return plain_pipeline(save_tiny(Path(tmp_path_factory.mktemp("sdxl")), "sdxl"))


def test_a_token_counts_as_known_once_every_tokenizer_knows_it(pipeline):
    texts = ["a photo of <nevus>", "a photo of skin, 3 < 4"]
    assert unknown_tokens(pipeline, texts) == ["<nevus>"]
    pipeline.tokenizer.add_tokens(["<nevus>"])
    assert unknown_tokens(pipeline, texts) == ["<nevus>"]
    pipeline.tokenizer_2.add_tokens(["<nevus>"])
    assert unknown_tokens(pipeline, texts) == []


def test_the_lost_end_is_shown_for_each_encoder(pipeline):
    text = "a photo of skin " * 40 + "end"
    problems = cut_off(pipeline, [text, "a photo of skin"])
    assert len(problems) == 2
    assert all("end" in problem and "would lose" in problem for problem in problems)
