"""The words that stand for classes: Latin letters and digits, whatever script the classes are named in."""

from __future__ import annotations

import re

from skinaug.finetune.methods.textual_inversion import TextualInversion


def test_every_class_has_a_token_of_its_own():
    assert TextualInversion().phrases(["acne", "Basal cell", "acne!"]) == {
        "acne": "<acne>",
        "Basal cell": "<basal-cell>",
        "acne!": "<acne->",
    }
    found = TextualInversion().phrases(["湿疹", "银屑病", "湿疹 2", "银屑病 2", "acne"])
    assert len(set(found.values())) == 5
    assert found["acne"] == "<acne>"
    assert all(re.fullmatch("<[a-z0-9-]+>", token) for token in found.values())
