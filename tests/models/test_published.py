"""What is known of published bases without their weights: what their architectures give, and what is refused by it at once."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import commands
import diffusers
import pytest
import yaml

from skinaug.launch import configs
from skinaug.models.memory.architectures import ARCHITECTURES, Part
from skinaug.models.published import PUBLISHED, rules_of

BASES = {
    file.stem: yaml.safe_load(file.read_text())
    for file in sorted((configs.folder("conf") / "base").glob("*.yaml"))
}


def test_every_base_is_known():
    hub = {name: base for name, base in BASES.items() if base.get("hub_ids")}
    assert [name for name, base in hub.items() if rules_of(**base) is None] == []
    named = {one.partition("@")[0] for base in hub.values() for one in base["hub_ids"]}
    assert named <= set(PUBLISHED)
    assert rules_of(**(hub["sd15"] | {"path": "/a/copy"})) is None


def defaults(part: Part) -> dict[str, Any]:
    """What diffusers' class takes where a configuration does not say."""
    known = signature(getattr(diffusers, part[0]).__init__).parameters.values()
    return {one.name: one.default for one in known if one.default is not one.empty}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rules_are_those_of_the_architecture(name: str):
    known, rules = ARCHITECTURES[name], rules_of(**BASES[name])
    vae, denoiser = (defaults(part) | part[1] for part in (known.vae, known.denoiser))
    assert rules.pipeline == known.pipeline
    assert rules.factor == rules.family.factor(vae, denoiser) == rules.family.drawn_factor(vae, denoiser)
    index = {"is_distilled": name == "flux2_klein"}  # FLUX.2 tells it in model_index.json
    assert rules.guidance == rules.family.guidance(index, denoiser)


@pytest.mark.parametrize("command", ["plan", "classify"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("base=flux1_dev", "cannot be taught with finetune=textual_inversion"),
        ("base=sd3 finetune=lora scale.image_size=520", "takes multiples of 16 pixels"),
        ("base=sd3 finetune=lora finetune.image_size=512 generate.scheduler=flow generate.image_size=520", "no multiple of 16"),
        ("base=flux1_schnell finetune=lora generate.scheduler=flow generate.guidance_scale=3", "was distilled"),
        ("base=sana finetune=lora generate.scheduler=ddim", "does not suit SANA"),
    ],
)  # fmt: skip
def test_what_a_base_cannot_do_is_refused_before_its_weights_are_asked_for(
    tmp_path: Path, command: str, words: str, expected: str
):
    done = commands.here(command, *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stdout + done.stderr
    assert "Looked for" not in done.stderr
    assert not any(tmp_path.iterdir())
