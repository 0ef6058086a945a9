"""Copies are found however they were saved; different pictures are not called copies."""

from __future__ import annotations

import io

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from skinaug.dataset.duplicates import (
    Duplicates,
    Embedding,
    find_copies,
    find_near_copies,
    merge_groups,
)
from skinaug.errors import InputError
from skinaug.images import open_image
from skinaug.sources.check import THUMBNAIL_PX
from skinaug.sources.sources import PadUfes20


def picture(seed: int, size: int = 96) -> Image.Image:
    """Smooth random blobs: the same at any resolution."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def thumbnail(image: Image.Image) -> np.ndarray:
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(image.convert("L").resize(size, Image.Resampling.LANCZOS))


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=12).flatmap(
        lambda groups: st.tuples(
            st.just([f"g{group}" for group in groups]),
            st.lists(st.tuples(*[st.integers(0, len(groups) - 1)] * 2), max_size=8),
        )
    )
)
def test_merged_groups_are_connected_components(case):
    groups, links = case
    graph = networkx.Graph()
    graph.add_nodes_from(groups)
    graph.add_edges_from((groups[i], groups[j]) for i, j in links)
    names = {node: min(part) for part in networkx.connected_components(graph) for node in part}
    pairs = np.array(links, np.int64).reshape(-1, 2)
    assert merge_groups(groups, pairs) == [names[group] for group in groups]


def test_copies_and_conflicts():
    found = find_copies(list("aabbc"), ["x", "x", "x", "y", "x"], list("54321"))
    assert found.rows() == [(0, 1, False), (1, 1, False), (2, 3, True), (3, 3, True)]


def color_signature(manifest) -> np.ndarray:
    """A cheap stand-in for a network: coarse colours, the same for a picture and its mirror image."""
    images = [
        Image.open(path).convert("RGB").resize((4, 4), Image.Resampling.BOX) for path in manifest.paths()
    ]
    pixels = np.stack([np.asarray(image, np.float32) for image in images])
    return (pixels + pixels[:, :, ::-1]).reshape(len(images), -1) - 255


COPIES = {
    "re-encoded": lambda image: jpeg(image, 40),
    "resized": lambda image: image.resize((50, 50), Image.Resampling.LANCZOS),
    "mirrored": lambda image: jpeg(ImageOps.mirror(image), 80),
}


@pytest.mark.parametrize("how", COPIES)
def test_planted_near_copies_are_found_and_nothing_else(make_manifest, how):
    images = [picture(seed) for seed in range(30)] + [COPIES[how](picture(seed)) for seed in range(5)]
    manifest = make_manifest([{"label": "a"} for _ in images])
    for image, path in zip(images, manifest.paths(), strict=True):
        image.save(path)
    thumbnails = np.stack([thumbnail(image) for image in images])
    found = find_near_copies(manifest, thumbnails, max_hamming=10, min_cosine=0.9, embed=color_signature)
    assert found.select("row", "other").rows() == [(seed, 30 + seed) for seed in range(5)]


def test_the_embedding_has_the_last_word_and_sees_candidates_only(make_manifest):
    manifest = make_manifest([{"label": "a"} for _ in range(4)])
    thumbnails = np.stack([thumbnail(picture(seed)) for seed in (0, 1, 0, 0)])
    asked = []

    def embed(candidates):
        asked.append(candidates.table["image_id"].to_list())
        return np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])

    found = find_near_copies(manifest, thumbnails, 4, 0.9, embed)
    assert found.rows() == [(0, 2, 0, 1.0)]
    assert asked == [["i0", "i2", "i3"]]
    assert find_near_copies(manifest, thumbnails, 4, 0.9, None)["cosine"].to_list() == [None] * 3


def test_no_candidates_need_no_network(make_manifest):
    manifest = make_manifest([{"label": "a"} for _ in range(3)])
    thumbnails = np.stack([thumbnail(picture(seed)) for seed in range(3)])
    assert find_near_copies(manifest, thumbnails, 4, 0.9, embed=None).is_empty()


def test_unknown_choices_are_refused():
    with pytest.raises(InputError, match=r"dataset\.duplicates\.conflicts=ignore.*drop, fail, keep"):
        Duplicates(conflicts="ignore")


@pytest.mark.slow
def test_defaults_on_real_photographs(pad_ufes_20, make_manifest):
    """Halved, re-encoded copies under another patient's name are found; no two patients' photographs are called copies."""
    table = PadUfes20().load(pad_ufes_20)[:200]
    originals = [open_image(pad_ufes_20 / path) for path in table["path"]]
    copies = [jpeg(image.resize((image.width // 2, image.height // 2)), 60) for image in originals[:50]]
    groups = table["group_id"].to_list() + [f"copy{number}" for number in range(50)]
    manifest = make_manifest([{"label": "a", "group_id": group} for group in groups])
    for image, path in zip(originals + copies, manifest.paths(), strict=True):
        image.save(path)
    rules = Duplicates(embed=Embedding())
    thumbnails = np.stack([thumbnail(image) for image in originals + copies])
    found = find_near_copies(manifest, thumbnails, rules.max_hamming, rules.min_cosine, rules.embed)
    pairs = set(found.select("row", "other").iter_rows())
    planted = {(number, 200 + number) for number in range(50)}
    assert len(pairs & planted) >= 49
    assert pairs - planted == set()
