"""Fidelity against closed forms, against other tools on the same features, and against fresh draws."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.errors import InputError
from skinaug.images import square
from skinaug.metrics import frechet, neighbours
from skinaug.metrics.features import embed_pixels
from skinaug.metrics.fidelity import METRICS, cmmd, fidelity, kernel_distance, prdc, vendi_score
from skinaug.metrics.frechet import (
    Statistics,
    frechet_distance,
    frechet_distance_of,
    read_statistics,
    statistics,
    too_few,
    write_statistics,
)
from skinaug.models.backbone import create_backbone


def draw(seed: int, count: int, dimensions: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated, skewed features, as networks give them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / dimensions**0.5
    return (np.abs(rng.normal(size=(count, dimensions)) * scale + shift) @ mixing).astype(np.float32)


@pytest.fixture(params=[(60, 90, 128), (300, 250, 40)], ids=["few images", "many images"])
def sets(request):
    real, synthetic, dimensions = request.param
    return draw(0, real, dimensions), draw(1, synthetic, dimensions, 0.1, 1.1)


def test_fid_of_known_gaussians():
    """With commuting covariances, the distance is the sum over axes of (mean difference)^2 + (difference of deviations)^2."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    deviations = [rng.uniform(0, 2, 6), rng.uniform(0, 2, 6)]
    deviations[0][2] = 0  # singular
    means = rng.normal(size=(2, 6))
    a, b = (
        Statistics(9, mean, axes @ np.diag(s**2) @ axes.T) for mean, s in zip(means, deviations, strict=True)
    )
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_fid_of_a_set_with_itself_is_zero_and_of_a_shifted_one_the_shift(sets):
    real, _ = sets
    scale = np.trace(statistics(real).covariance)
    assert frechet_distance_of(real, real) == pytest.approx(0, abs=1e-6 * scale)
    shift = np.full(real.shape[1], 0.5, np.float32)
    assert frechet_distance_of(real, real + shift) == pytest.approx(np.square(shift).sum(), rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    real=st.integers(2, 40),
    synthetic=st.integers(2, 40),
    dimensions=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_fid_by_features_is_that_by_statistics(real, synthetic, dimensions, seed):
    a, b = draw(seed, real, dimensions), draw(seed + 1, synthetic, dimensions, 0.3)
    expected = frechet_distance(statistics(a), statistics(b))
    assert frechet_distance_of(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert frechet_distance_of(b, a) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_statistics_are_numpys_however_many_images(sets, monkeypatch):
    monkeypatch.setattr(frechet, "AT_ONCE", 32)
    real, _ = sets
    found = statistics(real)
    assert found.count == len(real)
    assert found.covariance.dtype == np.float64
    np.testing.assert_allclose(found.mean, real.astype(np.float64).mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.covariance, np.cov(real.astype(np.float64), rowvar=False), rtol=1e-9)


def test_fid_agrees_with_other_tools(sets, monkeypatch):
    from cleanfid import fid as clean_fid
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, synthetic = sets
    found = frechet_distance_of(real, synthetic)
    stats = [fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in sets]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(theirs, rel=1e-3)
    a, b = statistics(real), statistics(synthetic)
    # clean-fid 0.1.35 asks for an estimate of the error, too, which SciPy 1.18 no longer gives.
    roots = SimpleNamespace(sqrtm=lambda product, disp: (scipy.linalg.sqrtm(product), None))
    monkeypatch.setattr(clean_fid, "linalg", roots)
    theirs = clean_fid.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert found == pytest.approx(theirs, rel=1e-3)


def test_kid_agrees_with_other_tools():
    """On one subset of everything, so that no draw differs; clean-fid's mean over draws is compared to ours."""
    from cleanfid.fid import kernel_distance as of_clean_fid
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, synthetic = draw(0, 80, 48), draw(1, 80, 48, 0.1, 1.1)
    mean, deviation = kernel_distance(real, synthetic, 1000, 3)
    theirs = kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(synthetic), kid_subset_size=80, kid_subsets=1, verbose=False
    )
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert mean == pytest.approx(of_clean_fid(real, synthetic, num_subsets=1), rel=1e-3)
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kid_of_subsets_estimates_that_of_all():
    real, synthetic = draw(0, 200, 48), draw(1, 150, 48, 0.1, 1.1)
    whole = fidelity(real, synthetic, real_groups=np.arange(200)).filter(metric="kid")["value"].item()
    mean, deviation = kernel_distance(real, synthetic, 50, 400)
    assert deviation > 2 * kernel_distance(real, synthetic, 125, 400)[1]
    assert mean == pytest.approx(whole, abs=5 * deviation / 400**0.5)
    assert kernel_distance(real, synthetic, 50, 5) == kernel_distance(real, synthetic, 50, 5)
    assert kernel_distance(real, synthetic, 50, 5) != kernel_distance(real, synthetic, 50, 5, seed=1)


def test_kid_is_unbiased():
    """Of one distribution it is 0 on average: below 0 about as often as above."""
    values = [kernel_distance(draw(s, 40, 24), draw(s + 1000, 40, 24), num_subsets=1)[0] for s in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_agrees_with_other_tools(sets, k, monkeypatch):
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(neighbours, "BLOCK", 32)
    real, synthetic = sets
    found = prdc(real, synthetic, k)
    theirs = compute_prdc(real, synthetic, k)
    assert found == pytest.approx({name: float(value) for name, value in theirs.items()}, rel=1e-3)
    generated, reference = torch.from_numpy(synthetic), torch.from_numpy(real)
    other = prc_features_to_metric(generated, reference, prc_neighborhood=k, verbose=False)
    assert (found["precision"], found["recall"]) == pytest.approx(
        (other["precision"], other["recall"]), rel=1e-3
    )
    assert found["precision"] != found["recall"]  # else a swap would go unseen


def test_prdc_of_equal_and_of_distant_sets():
    real = draw(0, 50, 16)
    equal = prdc(real, real, 5)
    assert (equal["precision"], equal["recall"], equal["coverage"]) == (1, 1, 1)
    assert set(prdc(real, real + 1000, 5).values()) == {0.0}


def test_cmmd_is_the_double_loop():
    real, synthetic = draw(0, 12, 10), draw(1, 9, 10, 0.5)

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for x in a.astype(np.float64):
            for y in b.astype(np.float64):
                gap = x / np.linalg.norm(x) - y / np.linalg.norm(y)
                total += np.exp(-(gap @ gap) / (2 * 10**2))
        return total / len(a) / len(b)

    expected = 1000 * (
        mean_kernel(real, real) + mean_kernel(synthetic, synthetic) - 2 * mean_kernel(real, synthetic)
    )
    assert cmmd(real, synthetic) == pytest.approx(expected, rel=1e-6)
    assert cmmd(real, real) == pytest.approx(0, abs=1e-9)


def test_vendi_of_known_sets():
    assert vendi_score(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    assert vendi_score(np.ones((7, 3), np.float32)) == pytest.approx(1)
    repeated = np.repeat(np.eye(4), 25, axis=0) * np.arange(1, 101)[:, None]  # length does not matter
    assert vendi_score(repeated) == pytest.approx(4)


def test_vendi_agrees_with_its_package(sets):
    from vendi_score import vendi

    for features in sets:
        theirs = vendi.score_X(features.astype(np.float64), normalize=True)
        assert vendi_score(features) == pytest.approx(theirs, rel=1e-3)


def test_statistics_survive_a_file(tmp_path):
    kept = statistics(draw(0, 20, 6))
    write_statistics(tmp_path / "real.safetensors", kept)
    found = read_statistics(tmp_path / "real.safetensors")
    assert found.count == 20
    np.testing.assert_array_equal(found.mean, kept.mean)
    np.testing.assert_array_equal(found.covariance, kept.covariance)


SOUND = {"count": np.array([9]), "mean": np.zeros(3), "covariance": np.eye(3)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mean": np.zeros(3)}, "holds no statistics: it has"),
        ({"weight": np.zeros(3)}, "holds no statistics: it has"),
        (SOUND | {"mean": np.zeros(2)}, "holds no statistics: it has"),
        (SOUND | {"mean": np.zeros(3, np.float32)}, "holds no statistics: it has"),
        (SOUND | {"more": np.zeros(3)}, "holds no statistics: it has"),
        (SOUND | {"count": np.array([1])}, "1 image,"),
        (SOUND | {"mean": np.array([0, np.nan, 0])}, "that no set of images has"),
        (SOUND | {"covariance": np.full((3, 3), np.inf)}, "that no set of images has"),
        (SOUND | {"covariance": -np.eye(3)}, "that no set of images has"),
        (SOUND | {"covariance": np.eye(3) + np.eye(3, k=1)}, "that no set of images has"),
    ],
)
def test_other_files_are_no_statistics(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=message):
        read_statistics(tmp_path / "x.safetensors")


def test_unreadable_files_are_no_statistics(tmp_path):
    (tmp_path / "text").write_text("mean: 0")
    for name in ("text", "missing"):
        with pytest.raises(InputError, match="cannot be read as statistics"):
            read_statistics(tmp_path / name)


def test_fidelity_tells_each_measure(sets):
    real, synthetic = sets
    table = fidelity(real, synthetic, real_groups=np.arange(len(real)) // 2, k=3, num_replicates=5)
    assert tuple(table["metric"]) == METRICS
    values = dict(table.select("metric", "value").iter_rows())
    assert values == pytest.approx(
        {
            "fid": frechet_distance_of(real, synthetic),
            "kid": values["kid"],  # see test_kid_of_subsets_estimates_that_of_all
            "cmmd": cmmd(real, synthetic),
            **prdc(real, synthetic, 3),
            "vendi": vendi_score(synthetic),
            "vendi_real": vendi_score(real),
        }
    )
    assert table.filter(table["low"] > table["value"]).is_empty()
    assert table.filter(table["high"] < table["value"]).is_empty()
    again = fidelity(real, synthetic, real_groups=np.arange(len(real)) // 2, k=3, num_replicates=5)
    assert table.equals(again)


def test_intervals_stay_in_range():
    real = draw(0, 60, 16)
    rows = fidelity(real, real, real_groups=np.arange(60), num_replicates=10).rows_by_key(
        "metric", unique=True
    )
    for name in ("precision", "recall", "coverage"):
        _, low, high = rows[name]
        assert 0 <= low <= high <= 1
    assert rows["fid"][1] == 0
    assert rows["cmmd"][1] == 0
    assert rows["kid"][1] < 0
    assert rows["density"][2] > 1


@pytest.mark.parametrize(
    ("patients", "images", "dimensions", "shift"), [(40, 100, 12, 0.4), (35, 80, 128, 0.1)]
)
def test_standard_errors_are_the_spread_over_fresh_draws(patients, images, dimensions, shift):
    """The interval's half width over 1.96 against the deviation over new patients and new synthetic images: never much too
    narrow, and too wide by the factor 2 at most that halving costs a measure whose spread falls as 1 / N."""
    values, errors = [], []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        persons = rng.normal(size=(patients, dimensions))
        real = np.repeat(persons, 3, axis=0) + 0.3 * rng.normal(size=(3 * patients, dimensions))
        synthetic = rng.normal(shift, 1, size=(images, dimensions))
        table = fidelity(real, synthetic, real_groups=np.repeat(np.arange(patients), 3), num_replicates=30)
        values.append(table["value"].to_numpy())
        errors.append(((table["high"] - table["low"]) / 2 / 1.96).to_numpy())
    ratios = dict(zip(METRICS, (np.median(errors, 0) / np.std(values, 0)).round(2), strict=True))
    assert all(0.75 < ratio < 2.1 for ratio in ratios.values()), ratios


def test_patients_stay_together():
    """Copies of one photograph say nothing new: intervals by patients are wider than by images."""
    rng = np.random.default_rng(0)
    real, synthetic = np.repeat(rng.normal(size=(30, 8)), 8, axis=0), rng.normal(0.5, 1, size=(5000, 8))
    real += 0.1 * rng.normal(size=real.shape)
    wide, narrow = (
        fidelity(real, synthetic[:400], real_groups=groups).filter(metric="fid").select("low", "high").row(0)
        for groups in (np.repeat(np.arange(30), 8).astype(str), np.arange(240))
    )
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


@pytest.mark.parametrize(("patients", "synthetic"), [(11, 50), (50, 11)])
def test_few_patients_or_images_have_no_interval(patients, synthetic):
    real = draw(0, 50, 8)
    table = fidelity(real, draw(1, synthetic, 8), real_groups=np.arange(50) % patients, num_replicates=2)
    assert table["value"].is_finite().all()
    assert table["low"].is_null().all()
    assert table["high"].is_null().all()
    enough = fidelity(real, draw(1, 12, 8), real_groups=np.arange(50) % 12, num_replicates=2)
    assert enough["low"].is_not_null().all()


def test_large_sets_are_cut_down_at_random():
    real, synthetic = draw(0, 60, 8), np.eye(200)
    tables = [
        fidelity(
            real[:, :8],
            synthetic[:, :8] + 1e-3,
            real_groups=np.arange(60),
            num_replicates=2,
            max_images=40,
            seed=s,
        )
        for s in (0, 0, 1)
    ]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    orthogonal = np.eye(200)
    cut = fidelity(draw(0, 60, 200), orthogonal, real_groups=np.arange(60), num_replicates=2, max_images=40)
    assert cut.filter(metric="vendi")["value"].item() == pytest.approx(40)
    assert 1 < cut.filter(metric="vendi_real")["value"].item() <= 40


def test_what_does_not_go_together_is_refused():
    good, groups = draw(0, 20, 6), np.arange(20)
    with pytest.raises(InputError, match="6 and 5 dimensions"):
        fidelity(good, good[:, :5], real_groups=groups)
    with pytest.raises(InputError, match="6 and 5 dimensions"):
        frechet_distance(statistics(good), statistics(good[:, :5]))
    with pytest.raises(InputError, match="k=5 nearest neighbours were asked for in sets of 20 and 5"):
        fidelity(good, good[:5], real_groups=groups)
    with pytest.raises(InputError, match="19 patients of 20 real images"):
        fidelity(good, good, real_groups=groups[1:])
    with pytest.raises(InputError, match="1 replicates"):
        fidelity(good, good, real_groups=groups, num_replicates=1)
    broken = good.copy()
    broken[3, 3] = np.nan
    for measure in (frechet_distance_of, kernel_distance, cmmd, prdc):
        with pytest.raises(InputError, match="all finite"):
            measure(good, broken)
        with pytest.raises(InputError, match="at least two images"):
            measure(good[:1], good)
    with pytest.raises(InputError, match="Vendi"):
        vendi_score(broken)


def test_says_when_there_are_too_few():
    assert "covariance of rank 99" in too_few(100, 1280)
    assert "covariance of rank" in too_few(1280, 1280)
    assert "biased upwards" in too_few(1281, 1280)
    assert "covariance" not in too_few(9_999, 1280)
    assert too_few(10_000, 1280) is None


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """48 + 48 phantoms of two conditions, 192 px."""
    drawn = [
        condition_picture(label, patient, 0, 0)
        for label in ("psoriasis", "vitiligo")
        for patient in range(48)
    ]
    return [render(picture, 192, rng).pixels for picture, rng, _ in drawn]


@pytest.fixture(scope="module")
def fid_after(pictures):
    """FID between the two conditions when a function shrinks the pictures."""
    network = create_backbone("tf_efficientnet_lite0", 0).eval()

    def measure(shrink) -> float:
        features = embed_pixels(np.stack([np.asarray(shrink(p), np.float32) for p in pictures]), network)
        return frechet_distance_of(features[:48], features[48:])

    return measure


def ours(picture: np.ndarray) -> np.ndarray:
    return square(Image.fromarray(picture), 64)


def test_shrinks_as_clean_fid_does(pictures, fid_after):
    """The same filter, antialiased. clean-fid's default keeps fractions of a level, which a stored picture cannot: that alone
    moves this FID by about 1 %, so it is its resizer that rounds that ours is compared to."""
    from cleanfid.resize import make_resizer

    rounding, fractions = (make_resizer("PIL", quantize, "bicubic", (64, 64)) for quantize in (True, False))
    assert fid_after(ours) == pytest.approx(fid_after(rounding), rel=1e-3)
    assert max(np.abs(ours(p) - fractions(p)).max() for p in pictures) < 1.5
    assert fid_after(ours) == pytest.approx(fid_after(fractions), rel=0.02)


def test_shrinking_without_antialiasing_moves_fid(fid_after):
    """The fault of other tools, which clean-fid names after them."""
    from cleanfid.resize import make_resizer

    aliased = make_resizer("PyTorch", False, "bilinear", (64, 64))
    assert abs(fid_after(aliased) / fid_after(ours) - 1) > 0.05
