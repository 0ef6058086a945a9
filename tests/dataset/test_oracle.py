"""The oracle: the data's own distribution at gap 0, nothing of the class at gap 1, and never a patient of the data."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import ks_2samp

from skinaug.dataset.phantom.conditions import CONDITIONS
from skinaug.dataset.phantom.oracle import Oracle, blend, oracle_picture
from skinaug.dataset.phantom.parameters import Lesion
from skinaug.dataset.phantom.source import Phantom, condition_picture
from skinaug.errors import InputError
from skinaug.generate.oracle import generate_oracle
from skinaug.manifest import Manifest

NUMBERS = ("radius", "erythema", "pigment", "softness", "elevation")
COUNT = 300


def lesions(label: str, gap: float) -> list[Lesion]:
    return [oracle_picture(label, k, gap, seed=0)[0].lesion for k in range(COUNT)]


@pytest.mark.parametrize("label", CONDITIONS)
def test_at_gap_0_lesions_follow_the_datas_distribution(label: str):
    """Of five numbers, each at the 0.1 % level: a generator of another distribution fails, the same one does not."""
    data = [condition_picture(label, patient, 0, seed=0)[0].lesion for patient in range(COUNT)]
    for name in NUMBERS:
        own, theirs = ([getattr(lesion, name) for lesion in some] for some in (lesions(label, 0), data))
        assert ks_2samp(own, theirs).pvalue > 1e-3, name


def test_at_gap_1_the_class_says_nothing_about_the_lesion():
    drawn = {label: lesions(label, 1) for label in CONDITIONS}
    for name in NUMBERS:
        first, *others = ([getattr(lesion, name) for lesion in drawn[label]] for label in CONDITIONS)
        assert all(ks_2samp(first, other).pvalue > 1e-3 for other in others), name


def test_the_gap_moves_steadily_from_the_class_to_the_class_free_lesion():
    truth, far = Lesion(count=4, radius=0.1, erythema=1.0), Lesion(count=10, radius=0.3, erythema=0.0)
    assert blend(truth, far, 0) == truth
    assert blend(truth, far, 1) == far
    half = blend(truth, far, 0.5)
    assert (half.count, half.radius, half.erythema) == (7, pytest.approx(0.2), 0.5)
    assert {field.name for field in fields(Lesion)} == set(half.__dict__)


def test_no_picture_of_the_data_is_drawn_again():
    data = {
        condition_picture(label, patient, 0, seed)[0]
        for label in CONDITIONS
        for patient in range(40)
        for seed in (0, 1)
    }
    drawn = {
        oracle_picture(label, k, 0, seed)[0] for label in CONDITIONS for k in range(40) for seed in (0, 1)
    }
    assert not data & drawn
    assert len(drawn) == 2 * 40 * len(CONDITIONS)


def test_pool_is_whole_and_the_same_again(tmp_path):
    pools = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        generate_oracle(
            lambda **sizes: Oracle(**sizes, gap=0.3, workers=1),
            3,
            32,
            0,
            classes=CONDITIONS,
            out=tmp_path / name,
        )
        pools.append(Manifest.read(tmp_path / name))
    assert pools[0].table["sha256"].to_list() == pools[1].table["sha256"].to_list()
    assert set(pools[0].table["source"]) == {"synthetic"}
    assert np.bincount(pools[0].labels()).tolist() == [3] * len(CONDITIONS)
    data = Phantom(3, 32, 0, workers=1).load(tmp_path)
    assert not set(pools[0].table["group_id"]) & set(data["group_id"])


def test_what_cannot_be_rendered_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"base\.gap=1\.5 must be between 0"):
        Oracle(1, 32, gap=1.5)
    with pytest.raises(InputError, match="the data has melanoma: use dataset=phantom"):
        generate_oracle(Oracle, 3, 32, 0, classes=["melanoma"], out=tmp_path)
