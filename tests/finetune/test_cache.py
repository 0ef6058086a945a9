"""Cached moments and states are the networks' own, each is computed once, and nothing stale or half-written is read."""

from __future__ import annotations

import copy
import multiprocessing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from skinaug.errors import InputError
from skinaug.finetune import cache
from skinaug.finetune.cache import TextStates, encode_moments, random_square
from skinaug.finetune.entries import write
from skinaug.finetune.moments import Moments
from skinaug.images import open_image, square
from skinaug.manifest import Manifest
from skinaug.models.digest import module_digest
from skinaug.store.digest import sha256_file

CPU = torch.device("cpu")


class CountedVAE(AutoencoderKL):
    """Counts its calls and the pictures that it sees."""

    def encode(self, images, *arguments, **options):
        self.batches = [*getattr(self, "batches", []), len(images)]
        return super().encode(images, *arguments, **options)


@pytest.fixture
def vae(tiny_random_pipeline: Path) -> CountedVAE:
    return CountedVAE.from_pretrained(tiny_random_pipeline, subfolder="vae")


@pytest.fixture
def pictures(tmp_path: Path) -> Manifest:
    """Five pictures that are not square."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    rows = []
    for number in range(5):
        path = tmp_path / "pictures" / f"{number}.png"
        smooth = Image.fromarray(rng.integers(256, size=(6, 4, 3), dtype=np.uint8)).resize((36, 48))
        smooth.save(path)
        row = {name: str(number) for name in ("image_id", "group_id")} | {"label": "a", "split": "train"}
        about = {"source": "real", "width": 36, "height": 48, "sha256": sha256_file(path)}
        rows.append(row | {"path": path.name} | about)
    return Manifest(pl.DataFrame(rows), tmp_path / "pictures", ("a",))


def encode(vae, manifest: Manifest, folder: Path, size=16, crops=1, mirror=True, batch_size=4) -> Moments:
    return encode_moments(vae, manifest, size, crops, mirror, CPU, batch_size, folder)


def take_all(moments: Moments) -> torch.Tensor:
    """[N, views, 2, C, h, w]"""
    rows, views = np.indices((len(moments), moments.views))
    return moments.take(rows.ravel(), views.ravel()).unflatten(0, (len(moments), moments.views))


def posterior(vae, pixels: np.ndarray):
    images = torch.from_numpy(pixels.copy()).movedim(-1, 1) / 127.5 - 1
    with torch.no_grad():
        return vae.encode(images).latent_dist


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_moments_are_those_of_each_picture_and_its_mirror_image(vae, pictures: Manifest, tmp_path: Path):
    moments = take_all(encode(vae, pictures, tmp_path / "cache"))
    assert moments.shape == (5, 2, 2, 4, 8, 8)
    assert moments.dtype == torch.float32
    pixels = np.stack([square(open_image(path), 16) for path in pictures.paths()])
    for side, seen in enumerate((pixels, pixels[:, :, ::-1])):
        expected = posterior(vae, seen)
        torch.testing.assert_close(moments[:, side, 0], expected.mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(moments[:, side, 1], expected.std, rtol=1e-3, atol=1e-4)


def test_samples_of_moments_are_the_posteriors(vae, pictures: Manifest, tmp_path: Path):
    moments = encode(vae, pictures, tmp_path / "cache", mirror=False)
    mean, deviation = moments.take(np.array([3] * 2000), np.zeros(2000, int)).unbind(1)
    torch.manual_seed(0)
    ours = mean + deviation * torch.randn(mean.shape)
    dist = posterior(vae, square(open_image(pictures.paths()[3]), 16)[None])
    theirs = torch.cat([dist.sample() for _ in range(2000)])
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=0.15 * dist.std.max().item())
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.15, atol=0)


def test_crops_are_parts_of_the_picture_that_depend_on_it_and_their_number_alone():
    across, down = np.meshgrid(np.arange(300), np.arange(200))
    image = Image.fromarray(np.stack([across // 2, down, 0 * down], -1).astype(np.uint8))
    digests = [f"{number:064x}" for number in range(100)]
    sides, lefts, tops = [], [], []
    for digest in digests:
        crop = random_square(image, 100, digest, 1).astype(float)
        side = (crop[50, 90, 0] - crop[50, 10, 0]) * 2 / 80 * 100  # colours are coordinates
        sides.append(side)
        lefts.append(crop[50, 50, 0] * 2 - side / 2)
        tops.append(crop[50, 50, 1] - side / 2)
        larger = random_square(image, 200, digest, 1)[1::2, 1::2].astype(float)
        assert np.abs(larger - crop)[5:95, 5:95].max() <= 2, "the same part at any size"
    assert 155 < min(sides) < 170 < 190 < max(sides) < 205
    assert -4 < min(lefts) < 5 < 110 < max(lefts) < 142
    assert -4 < min(tops) < 2 < 15 < max(tops) < 42
    assert (np.array(tops) + sides).max() < 203
    again, other = (random_square(image, 100, digests[0], crop) for crop in (1, 2))
    assert (again == random_square(image, 100, digests[0], 1)).all()
    assert (again != other).any()


def test_more_crops_and_mirror_images_do_not_encode_the_old_ones_again(vae, pictures, tmp_path: Path):
    plain = encode(vae, pictures, tmp_path / "cache", mirror=False)
    vae.batches = []
    moments = encode(vae, pictures, tmp_path / "cache", crops=3)
    assert moments.views == 6
    assert sum(vae.batches) == 28, "5 x 5 new views in batches of 4, the last one filled up"
    assert torch.equal(take_all(moments)[:, 0], take_all(plain)[:, 0])
    vae.batches = []
    unmirrored = encode(vae, pictures, tmp_path / "cache", crops=3, mirror=False)
    assert torch.equal(take_all(moments)[:, ::2], take_all(unmirrored))
    assert vae.batches == []
    table, path = pictures.table, pictures.paths()[1]
    crop = random_square(open_image(path), 16, table["sha256"][1], 2)
    found = moments.take(np.array([1, 1]), np.array([4, 5]))[:, 0]
    for mean, seen in zip(found, (crop, crop[:, ::-1]), strict=True):
        torch.testing.assert_close(mean[None], posterior(vae, seen[None]).mean, rtol=1e-3, atol=1e-4)


def test_a_second_call_encodes_and_decodes_nothing(vae, pictures, tmp_path: Path, monkeypatch, capsys):
    first = take_all(encode(vae, pictures, tmp_path / "cache"))
    vae.batches = []
    monkeypatch.setattr(cache, "open_image", None)
    monkeypatch.setattr(cache, "_progress", None)
    assert torch.equal(take_all(encode(vae, pictures, tmp_path / "cache", batch_size=3)), first)
    turned = pictures.with_table(pictures.table.reverse())
    assert torch.equal(take_all(encode(vae, turned, tmp_path / "cache")), first.flip(0))
    assert vae.batches == []


@pytest.mark.parametrize("damage", ["cut", "emptied", "lengthened", "zeroed"])
def test_a_file_that_is_not_whole_is_made_again(vae, pictures, tmp_path: Path, damage: str):
    moments = encode(vae, pictures, tmp_path / "cache")
    first = take_all(moments)
    path = moments.path(2, 1)
    content = path.read_bytes()
    damaged = {
        "cut": content[:-1],
        "emptied": b"",
        "lengthened": content + b"0",
        "zeroed": bytes(len(content)),
    }
    path.write_bytes(damaged[damage])
    vae.batches = []
    assert torch.equal(take_all(encode(vae, pictures, tmp_path / "cache")), first)
    assert vae.batches == [4], "one batch, filled up"
    assert path.read_bytes() == content


def test_entries_are_the_same_bits_however_the_work_was_divided(vae, pictures: Manifest, tmp_path: Path):
    whole = take_all(encode(vae, pictures, tmp_path / "whole"))
    for row in range(5):
        encode(vae, pictures.with_table(pictures.table.slice(row, 1)), tmp_path / "parts")
    assert torch.equal(take_all(encode(vae, pictures, tmp_path / "parts")), whole)


def test_another_network_size_or_precision_has_entries_of_its_own(vae, pictures, tmp_path: Path):
    folders = {encode(vae, pictures, tmp_path / "cache").folder}
    folders.add(encode(vae, pictures, tmp_path / "cache", size=8).folder)
    with torch.autocast("cpu", torch.bfloat16):
        folders.add(encode(vae, pictures, tmp_path / "cache").folder)
    with torch.no_grad():
        vae.encoder.conv_in.weight[0, 0, 0, 0] += 1e-3
    changed = encode(vae, pictures, tmp_path / "cache")
    folders.add(changed.folder)
    assert len(folders) == 4
    assert len(files(tmp_path / "cache")) == 4 * 5 * 2
    expected = posterior(vae, square(open_image(pictures.paths()[0]), 16)[None]).mean
    torch.testing.assert_close(take_all(changed)[:1, 0, 0], expected, rtol=1e-3, atol=1e-4)


def test_an_autoencoder_that_overflows_in_float16_works_in_its_own_dtype(vae, pictures, tmp_path: Path):
    plain = encode(vae, pictures, tmp_path / "cache")
    with torch.autocast("cpu", torch.float16):
        assert encode(vae, pictures, tmp_path / "cache").folder == plain.folder
        vae.register_to_config(force_upcast=False)
        assert "float16" in encode(vae, pictures, tmp_path / "cache").folder.parent.name


def test_an_edited_picture_is_another_entry(vae, pictures: Manifest, tmp_path: Path):
    old = encode(vae, pictures, tmp_path / "cache")
    path = pictures.paths()[0]
    pixels = np.asarray(open_image(path)).copy()
    pixels[20:30, 10:20] = 255
    Image.fromarray(pixels).save(path)
    digest = pl.when(pl.col("image_id") == "0").then(pl.lit(sha256_file(path))).otherwise("sha256")
    edited = pictures.with_table(pictures.table.with_columns(sha256=digest))
    new = encode(vae, edited, tmp_path / "cache")
    assert new.path(0, 0) != old.path(0, 0)
    assert new.path(1, 0) == old.path(1, 0)
    expected = posterior(vae, square(open_image(path), 16)[None]).mean
    torch.testing.assert_close(take_all(new)[:1, 0, 0], expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="Build the dataset again"):
        encode(vae, pictures, tmp_path / "new cache")


def test_moments_that_are_no_numbers_are_refused(vae, pictures: Manifest, tmp_path: Path):
    with torch.no_grad():
        vae.quant_conv.bias[0] = 1e5  # beyond float16
    with pytest.raises(InputError, match=r"(?s)not finite.*0\.png.*trainer\.precision=32-true"):
        encode(vae, pictures.with_table(pictures.table.head(1)), tmp_path / "cache")
    assert files(tmp_path / "cache") == set()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks itself")
def test_two_processes_at_once(vae, pictures: Manifest, tmp_path: Path):
    context = multiprocessing.get_context("fork")  # a new interpreter would import for half a minute
    barrier = context.Barrier(2)

    def encode_all() -> None:
        torch.set_num_threads(1)  # as DataLoader's workers do: OpenMP's threads do not live on after a fork
        barrier.wait(60)
        encode(vae, pictures, tmp_path / "cache", crops=4, batch_size=2)

    processes = [context.Process(target=encode_all, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    moments = encode(vae, pictures, tmp_path / "cache", crops=4)
    assert not hasattr(vae, "batches"), "everything is there"
    assert len(files(tmp_path / "cache")) == 5 * 8, "and nothing else"
    torch.testing.assert_close(
        take_all(moments), take_all(encode(vae, pictures, tmp_path / "alone", crops=4)), rtol=1e-3, atol=1e-4
    )


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_reading_does_not_take_the_memory_of_the_whole_cache(tmp_path: Path):
    moments = Moments(tmp_path, [f"{number:064x}" for number in range(64)], crops=1, mirror=False)
    for row in range(64):
        write(moments.path(row, 0), {"moments": torch.full((2, 16, 128, 128), row).half()})
    rows = np.arange(64).reshape(32, 2)
    moments.take(rows[0], 0 * rows[0])
    before = anonymous_megabytes()
    for pair in rows:
        assert torch.equal(moments.take(pair, 0 * pair)[:, 1, 0, 0, 0], torch.from_numpy(pair).float())
    assert anonymous_megabytes() - before < 24, "the cache has 64 MB, or 128 as float32"


def test_the_digest_is_of_weights_and_configuration(tiny_random_pipeline: Path, tmp_path: Path):
    load = AutoencoderKL.from_pretrained
    vae = load(tiny_random_pipeline, subfolder="vae")
    digest = module_digest(vae)
    assert len(digest) == 16
    vae.save_pretrained(tmp_path / "copy")
    assert module_digest(load(tmp_path / "copy")) == digest, "wherever it was loaded from"
    assert module_digest(copy.deepcopy(vae).to(torch.bfloat16)) != digest
    vae.register_to_config(scaling_factor=0.5)
    assert module_digest(vae) != digest


def test_the_digest_sees_each_parameter_buffer_and_name():
    def network(first="a", shape=(2, 3), running=0.0) -> nn.Module:
        module = nn.Module()
        module.register_parameter(first, nn.Parameter(torch.arange(6.0).reshape(shape)))
        module.register_buffer("steps", torch.tensor(running))
        return module

    digests = [module_digest(network(**values)) for values in ({}, {"first": "b"}, {"shape": (3, 2)})]
    digests.append(module_digest(network(running=1.0)))
    assert len(set(digests)) == 4
    assert module_digest(network()) == digests[0]
    turned = network()
    turned.a.data = torch.arange(6.0).reshape(3, 2).T.contiguous().T.reshape(3, 2).T  # not contiguous
    straight = network()
    straight.a.data = turned.a.data.contiguous()
    assert module_digest(turned) == module_digest(straight)


class CountedEncoder:
    """States that tell a text's length and its first letter; keeps the texts that it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> dict[str, torch.Tensor]:
        self.texts += texts
        embeds = torch.stack([torch.full((3, 2), float(len(text))) for text in texts]).bfloat16()
        letters = torch.tensor([[ord((text or " ")[0])] for text in texts])
        return {"embeds": embeds, "last": embeds[:, -1], "pooled": letters}


def test_each_text_is_encoded_once_across_instances(tmp_path: Path):
    encoder = CountedEncoder()
    states = TextStates(encoder, "d1", tmp_path)
    found = states(["ab", "", "ab", "rötlich"])
    assert encoder.texts == ["ab", "", "rötlich"]
    assert found["embeds"].dtype == torch.bfloat16
    assert found["embeds"].shape == (4, 3, 2)
    assert found["embeds"][:, 0, 0].tolist() == [2, 0, 2, 7]
    assert found["pooled"].tolist() == [[97], [32], [97], [114]]
    again = TextStates(encoder, "d1", tmp_path)(["c", "ab"])
    assert again["embeds"][:, 2, 1].tolist() == [1, 2]
    assert encoder.texts == ["ab", "", "rötlich", "c"]
    TextStates(encoder, "d2", tmp_path)(["ab"])
    assert encoder.texts[4:] == ["ab"]
    content = states.path("c").read_bytes()
    states.path("c").write_bytes(content[:-1])
    assert states(["c"])["pooled"].tolist() == [[99]]
    assert encoder.texts[5:] == ["c"]
    assert load_file(states.path("c"))["pooled"].tolist() == [99]


def test_states_can_be_learned_through(tmp_path: Path):
    states = TextStates(lambda texts: {"embeds": nn.Embedding(4, 2).weight[None]}, "d", tmp_path)(["a"])[
        "embeds"
    ]
    layer = nn.Linear(2, 1)
    layer(states).sum().backward()
    torch.testing.assert_close(layer.weight.grad, states.sum((0, 1))[None])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("zeros", [False, True])
def test_an_entry_that_lost_its_content_in_a_power_cut_is_made_again(
    vae, pictures: Manifest, tmp_path: Path, share: float, zeros: bool
):
    moments = encode(vae, pictures, tmp_path / "cache")
    before = take_all(moments)
    file = moments.path(2, 1)
    content = file.read_bytes()
    kept = int(share * len(content))
    file.write_bytes(content[:kept] + (bytes(len(content) - kept) if zeros else b""))
    again = encode(vae, pictures, tmp_path / "cache")
    assert torch.equal(take_all(again), before)
    assert file.read_bytes() == content
