"""What a base takes of memory: counts against those known of the published weights, formulas against real tensors, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from commands import skinaug
from torch import Tensor, nn

from skinaug.models.families.table import FAMILIES
from skinaug.models.memory import count, needs
from skinaug.models.memory.activations import activation_bytes
from skinaug.models.memory.architectures import ARCHITECTURES
from skinaug.models.quantize import quantize

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
CONFIGS = Path(__file__).parents[2] / "conf" / "base"
CLIP_L, CLIP_G, T5 = 123_060_480, 694_659_840, 4_762_310_656
QWEN3, GEMMA2 = (
    8_044_936_192 // 2,
    5_228_683_776 // 2,
)  # bytes that the index of their files tells, in bfloat16
FLUX2_VAE = 84_046_371 - 256  # the file holds means and variances besides
PUBLISHED = {  # of the files on the hub: denoiser, autoencoder, text encoders
    "sd15": (859_520_964, 83_653_863, [CLIP_L]),
    "sd21": (865_910_724, 83_653_863, [340_387_840]),
    "sdxl": (2_567_463_684, 83_653_863, [CLIP_L, CLIP_G]),
    "flux1_dev": (11_901_408_320, 83_819_683, [CLIP_L, T5]),
    "flux2_klein": (3_875_544_576, FLUX2_VAE, [QWEN3]),
    "flux2_klein_base": (3_875_544_576, FLUX2_VAE, [QWEN3]),
    "zimage": (12_309_817_472 // 2, 83_819_683, [QWEN3]),
    "zimage_turbo": (12_309_817_472 // 2, 83_819_683, [QWEN3]),
    "qwenimage": (40_860_802_176 // 2, 126_892_531, [16_584_333_312 // 2]),
    "sana": (1_604_641_952, 312_250_275, [GEMMA2]),
    "pixart_sigma": (610_856_096, 83_653_863, [T5]),
}
TOLD = {"sd3": 2.0e9, "sd35": 2.5e9, "sana_512": 0.59e9, "pixart_alpha": 0.6e9, "flux1_schnell": 12e9}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_of_the_published_weights(name: str):
    base = needs.bases()[name]
    encoders = [part["parameters"] for part in base["encoders"].values()]
    assert (base["denoiser"]["parameters"], base["vae"]["parameters"], encoders) == PUBLISHED[name]


@pytest.mark.parametrize("name", TOLD)
def test_others_have_about_as_many_as_their_publishers_say(name: str):
    assert needs.bases()[name]["denoiser"]["parameters"] == pytest.approx(TOLD[name], rel=0.12)


def test_every_base_that_is_downloaded_has_a_row():
    configs = {file.stem: yaml.safe_load(file.read_text()) for file in CONFIGS.glob("*.yaml")}
    downloaded = {name for name, config in configs.items() if config.get("hub_ids")}
    assert set(configs) - downloaded == {"tiny", "oracle"}
    assert downloaded == set(needs.bases()) == set(ARCHITECTURES)
    assert {base.pipeline for base in ARCHITECTURES.values()} <= set(FAMILIES)


def test_stable_diffusion_3_has_both_clips_and_t5():
    for name in ("sd3", "sd35"):
        projected = CLIP_L + 768 * 768
        encoders = [part["parameters"] for part in needs.bases()[name]["encoders"].values()]
        assert encoders == [projected, CLIP_G, T5]


def test_what_fits_is_the_first_way_that_does():
    tables, most = needs.tables(), "the most at any moment, GB"
    numbers = {head: values for head, *values in zip(*tables[f"Training: {most}"], strict=True)}
    for name, *told in tables["Training: what fits"][1:]:
        row = numbers["base"].index(name)
        for size, ways in zip(needs.DEVICES, told, strict=True):
            held = [way for way in numbers if way != "base" and float(numbers[way][row]) <= 0.9 * size]
            firsts = [next((way for way in held if way in kind), None) for kind in (needs.FULLS, needs.LORAS)]
            assert ways == (", ".join(filter(None, firsts)) or "none"), (name, size)


def test_the_tables_fit_a_terminal():
    assert max(map(len, needs.markdown().splitlines())) <= 80


def test_the_page_counts_as_the_architectures_do():
    base = ARCHITECTURES["sd15"]
    recorded = needs.bases()["sd15"]
    assert count.sizes(count.build(base.denoiser)) == recorded["denoiser"]
    assert count.sizes(count.build(base.encoders["text_encoder"])) == recorded["encoders"]["text_encoder"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_that_was_counted_is_counted_again(name: str):
    assert count.counted(ARCHITECTURES[name]) == needs.bases()[name]


class Blocks(nn.Module):
    """Two blocks of two frozen layers with a function between that keeps its output."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 8), nn.Sigmoid()) for _ in range(2)
        ).requires_grad_(False)
        self.again = None

    def enable_gradient_checkpointing(self, again) -> None:
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.again(block, x) if self.again else block(x)
        return x


def test_activations_are_what_autograd_keeps():
    with torch.device("meta"):
        network, x = Blocks(), torch.empty(100, 8, requires_grad=True)
    whole, checkpointed = activation_bytes(network, lambda: network(x))
    assert whole == 2 * 100 * (32 + 8) * 4, "the sigmoids' outputs; frozen layers keep nothing"
    assert checkpointed == 2 * 100 * 8 * 4 + 100 * (32 + 8) * 4, "both blocks' inputs, and one block's own"


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_of_few_bits_take_what_the_formula_says(bits: int):
    network = nn.Sequential(nn.Linear(256, 128), nn.LayerNorm(128), nn.Linear(128, 64, bias=False))
    sizes = count.sizes(network)
    quantize(network, bits, torch.float32)
    state = (network[0].weight, network[2].weight)
    scales = [weight.SCB if bits == 8 else weight.quant_state.absmax for weight in state]
    rest = [network[0].bias, *network[1].parameters()]
    held = sum(tensor.nbytes for tensor in (*(weight.data for weight in state), *scales, *rest))
    assert needs.weights(sizes, 4, bits) == pytest.approx(held, rel=1e-3)  # scales of scales are few
    assert needs.weights(sizes, 2) == 2 * (256 * 128 + 128 + 256 + 128 * 64)


SMALL = {
    "image_size": 16,
    "denoiser": {"parameters": 1000, "linear": 640, "rows": 10, "largest": 320},
    "vae": {"parameters": 50, "linear": 0, "rows": 0, "largest": 0},
    "vae_width": 2,
    "encoders": {"text_encoder": {"parameters": 300, "linear": 200, "rows": 5, "largest": 100}},
    "left_out": [],
    "lora": 10,
    "training": 7000,
    "checkpointed": 900,
}


def test_parts_add_up():
    assert needs.lora(SMALL) == {"denoiser": 2000, "learning": 160, "activations": 7000, "unpacked": 0}
    few = needs.lora(SMALL, bits=4, checkpointed=True)
    assert few == {
        "denoiser": 320 + 10 * (1 + 4 / 256) + 720,
        "learning": 160,
        "activations": 900,
        "unpacked": 640,
    }
    assert sum(needs.full(SMALL).values()) == 1000 * (4 + 4 + 8 + 4 + 2) + 7000
    decoding = 4 * 4 * 2 * 16**2
    assert sum(needs.drawing(SMALL).values()) == 4000 + 640 + 200 + decoding
    assert sum(needs.drawing(SMALL, offload="model").values()) == 200 + decoding
    assert needs.peak({"denoiser": 1.0}, needs.reading(SMALL)) == 1200, "texts are read alone"
    assert [needs.fits(size * 1e9, 12) for size in (10, 11, 12)] == [True, False, False]
    assert list(map(needs.gb, (9.994e9, 9.995e9, 99.94e9, 99.95e9))) == ["9.99", "10.0", "99.9", "100"]


def test_the_page_and_the_command_tell_what_is_calculated(capsys: pytest.CaptureFixture):
    from skinaug.cli.memory import main

    assert main([]) == 0
    told = capsys.readouterr().out
    assert told.strip() == re.search(r"equal -->\n(.*?)\n<!-- end", PAGE.read_text(), re.S)[1].strip()


def test_the_command_takes_no_words(tmp_path: Path):
    done = skinaug("memory", "base=sdxl", cwd=tmp_path)
    assert done.returncode == 2
    assert "takes no words" in done.stderr
