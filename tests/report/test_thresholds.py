"""Ranking, thresholds, predictive values, kappa and net benefit of a drawn sweep against scikit-learn and plain counting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score, roc_curve

from skinaug.report import measure, ranking, thresholds
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws
from skinaug.report.settings import Asked
from tests.metrics.test_ranking import isic_2024

MALIGNANT = {"malignant": ["nevus", "acne"]}


@pytest.fixture(scope="module")
def draws(drawn_study: Study) -> Draws:
    return measure.draw(drawn_study.predictions, 200, 0)


@pytest.fixture(scope="module")
def grouped(drawn_study: Study) -> Study:
    return replace(drawn_study, groups=Asked(groups=MALIGNANT).grouped(drawn_study.classes))


def of(study: Study, arm: str) -> Iterator[tuple[Predictions, Predictions]]:
    """Test and validation predictions of an arm's runs."""
    for run, test, val in zip(study.runs, study.predictions, study.validation, strict=True):
        if run.arm == arm:
            yield test, val


def test_areas_are_means_over_seeds_and_classes(drawn_study: Study, draws: Draws):
    frame = ranking.ranking_frame(drawn_study, draws)
    scores = {
        "auroc": roc_auc_score,
        "auprc": average_precision_score,
        "pauc": lambda truth, scores: isic_2024(truth, scores),
    }
    found = {
        (metric, label): np.mean(
            [score(test.labels == c, test.probabilities[:, c]) for test, _ in of(drawn_study, "hybrid")]
        )
        for metric, score in scores.items()
        for c, label in enumerate(drawn_study.classes)
    }
    rows = {(r["arm"], r["metric"], r["label"]): r for r in frame.iter_rows(named=True)}
    for metric in scores:
        for label in drawn_study.classes:
            row = rows["hybrid", metric, label]
            assert row["value"] == pytest.approx(found[metric, label])
            assert row["low"] < row["value"] < row["high"]
            base = rows["real_small", metric, label]
            assert row["difference"] == pytest.approx(row["value"] - base["value"])
            assert (row["difference_p_holm"] < 0.05) == (row["verdict"] != measure.UNDECIDED)
            assert base["difference"] is None
        macro = np.mean([found[metric, label] for label in drawn_study.classes])
        assert rows["hybrid", metric, ranking.MACRO]["value"] == pytest.approx(macro)
    measured = measure.measure(drawn_study, 200, 0)
    ours, theirs = rows["real", "auroc", ranking.MACRO], measured.difference("real", "real_small", "auroc")[0]
    assert ours["difference"] == pytest.approx(theirs)
    arms = measure.arms_frame(drawn_study, measured).filter(pl.col("arm") == "real")
    assert (ours["low"], ours["high"]) == pytest.approx((arms["auroc_low"].item(), arms["auroc_high"].item()))


def test_thresholds_keep_a_rate_of_validation_and_are_judged_on_test(drawn_study: Study, draws: Draws):
    frame = thresholds.thresholds_frame(drawn_study, draws)
    assert frame.height == 4 * 6 * 6
    for row in frame.filter(pl.col("arm") == "real", pl.col("label") == "nevus").iter_rows(named=True):
        c, found = drawn_study.classes.index("nevus"), []
        for test, val in of(drawn_study, "real"):
            alarms, hits, cuts = roc_curve(val.labels == c, val.probabilities[:, c], drop_intermediate=False)
            if row["kept"] == "specificity":
                place = np.flatnonzero(1 - alarms >= row["at_least"] - 1e-9)[-1]
            else:
                place = np.flatnonzero(hits >= row["at_least"] - 1e-9)[0]
            below = val.probabilities[:, c][val.probabilities[:, c] < cuts[place]].max(initial=0.0)
            threshold, has = (cuts[place] + below) / 2, test.labels == c
            taken = test.probabilities[:, c] >= threshold
            rates = {"sensitivity": taken[has].mean(), "specificity": (~taken)[~has].mean()}
            (other,) = set(rates) - {row["kept"]}
            found.append((rates[other], rates[row["kept"]], threshold, hits[place], 1 - alarms[place]))
        names = ("value", "kept_on_test", "threshold", "validation_sensitivity", "validation_specificity")
        assert [row[name] for name in names] == pytest.approx(np.mean(found, 0).tolist())
        assert row[f"validation_{row['kept']}"] >= row["at_least"] - 1e-9
    shown = thresholds.thresholds_table(frame, ["real"])
    assert {len(cells) for cells in shown.rows} == {len(shown.header), sum(n for _, n in shown.groups)}


def test_predictive_values_are_those_of_the_stated_prevalence(grouped: Study, draws: Draws):
    frame = thresholds.predictive_values_frame(grouped, draws, {"malignant": 0.02})
    assert grouped.classes == ["malignant", "rest"]
    youden = frame.filter(pl.col("arm") == "hybrid", pl.col("kept") == "youden")
    found = []
    for test, val in of(grouped, "hybrid"):
        (cut, _) = thresholds.youden_thresholds(val.probabilities, val.labels)
        has, taken = test.labels == 0, test.probabilities[:, 0] >= cut
        true, false = 0.02 * taken[has].mean(), 0.98 * taken[~has].mean()
        missed, cleared = 0.02 * (~taken)[has].mean(), 0.98 * (~taken)[~has].mean()
        found.append((true / (true + false), cleared / (cleared + missed)))
    assert youden["metric"].to_list() == ["ppv", "npv"]
    assert youden["value"].to_list() == pytest.approx(np.mean(found, 0).tolist())
    assert frame.height == 4 * 7 * 2
    assert len(thresholds.predictive_values_table(frame, ["real", "hybrid"]).rows) == 2 * 7


def test_kappa_follows_the_order(drawn_study: Study, draws: Draws):
    order = list(reversed(drawn_study.classes))
    order[0], order[2] = order[2], order[0]
    frame = thresholds.kappa_frame(drawn_study, draws, order)
    for arm in drawn_study.arms:
        kappas = []
        for test, _ in of(drawn_study, arm):
            place = np.array([order.index(label) for label in drawn_study.classes])
            guess = place[test.probabilities.argmax(1)]
            kappas.append(cohen_kappa_score(place[test.labels], guess, weights="quadratic"))
        row = frame.row(by_predicate=pl.col("arm") == arm, named=True)
        assert row["value"] == pytest.approx(np.mean(kappas))
        assert row["low"] < row["value"] < row["high"]
    assert len(thresholds.kappa_table(frame).rows) == 4


def test_net_benefit_counts_on_test_images(grouped: Study, draws: Draws):
    frame = thresholds.decision_frame(grouped, draws, ["malignant"], {})
    for row in frame.filter(pl.col("arm") == "real").iter_rows(named=True):
        t, found = row["threshold"], []
        for test, _ in of(grouped, "real"):
            has, taken = test.labels == 0, test.probabilities[:, 0] >= t
            found.append((taken & has).mean() - (taken & ~has).mean() * t / (1 - t))
        assert row["value"] == pytest.approx(np.mean(found))
        assert row["prevalence"] == pytest.approx(1 / 3)
        assert row["treat_all"] == pytest.approx(1 / 3 - 2 / 3 * t / (1 - t))
    stated = thresholds.decision_frame(grouped, draws, ["malignant"], {"malignant": 0.02})
    assert stated["prevalence"].unique().to_list() == [0.02]
    assert (stated["value"] <= 0.02).all()
    (svg,) = thresholds.decision_curves(frame, ["real_small", "hybrid"])
    assert "acting on everybody" in svg


def test_a_group_has_the_sum_of_its_classes(drawn_study: Study, grouped: Study):
    plain, own = drawn_study.predictions[0], grouped.predictions[0]
    places = [plain.classes.index(label) for label in MALIGNANT["malignant"]]
    np.testing.assert_allclose(own.probabilities[:, 0], plain.probabilities[:, places].sum(1))
    np.testing.assert_array_equal(own.labels == 0, np.isin(plain.labels, places))
    np.testing.assert_allclose(own.probabilities.sum(1), 1)
    assert (own.images, own.groups) == (plain.images, plain.groups)
