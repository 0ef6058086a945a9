"""Each class against the rest at thresholds that a clinic would set: at a least specificity or sensitivity, with what verdicts are
worth at a stated prevalence, net benefit, and how far off ordered classes are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from skinaug.metrics.agreement import kappa_terms, quadratic_kappa
from skinaug.metrics.operating_points import (
    LEAST_PERCENT,
    net_benefit,
    predictive_values,
    thresholds_at,
    verdict_terms,
    youden_thresholds,
)
from skinaug.report import folds, paired, plots, statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws
from skinaug.report.paired import Found
from skinaug.report.statistics import Sums
from skinaug.report.tables import Cell, Table, percent, table, thousandths

RATES = ("sensitivity", "specificity")
ACTS_FROM = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


class Rule(NamedTuple):
    """How a threshold is chosen on validation images: the rate that is kept (youden: the sum of both is largest), and at least how
    high."""

    kept: str
    least: float | None


KEPT = ("specificity", "sensitivity")
FIXED = [Rule(kept, percent / 100) for kept in KEPT for percent in LEAST_PERCENT]
RULES = [Rule("youden", None), *FIXED]


def thresholds_frame(study: Study, draws: Draws) -> pl.DataFrame:
    """One row an arm, class and rule. A rule keeps `kept` at `at_least` 80, 90 or 95 % of each run's validation images, by its own
    threshold; `value` is the other rate on test images. Means over seeds: `threshold`; `validation_sensitivity` and
    `validation_specificity`, what it reached there; `kept_on_test`, what is left of the rate that it keeps.

    Further as `paired.compared`, a family for each rule. Intervals hold for these thresholds: the chance of which patients were in
    validation is not in them. No rows where a run has no validation images.
    """
    keys = pl.DataFrame(
        [
            {"label": label, "kept": rule.kept, "at_least": rule.least, "family": f"{rule.kept} {rule.least}"}
            for rule in FIXED
            for label in study.classes
        ]
    ).with_columns(least=pl.lit(0.0), most=pl.lit(1.0))
    if not study.validated:
        return paired.nothing(keys)
    chosen = choose(study)

    sides = np.repeat([0, 1], len(LEAST_PERCENT))  # of the two rates, the one that each rule's value is

    def terms(i: int, own: Predictions) -> Sums:
        both = _terms(folds.split(own), chosen[i])
        return {**both, "right": both["right"][:, np.arange(len(sides)), :, sides].swapaxes(0, 1)}

    def shares(sums: Sums) -> np.ndarray:
        """Images that each value is a share of: [..., R * C]."""
        return _flat(np.moveaxis(sums["images"][..., 0, :, :], -1, -2)[..., sides, :], 2)

    def rates(sums: Sums) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _flat(sums["right"], 2) / shares(sums)

    def find(arm: str) -> Found:
        return paired.found(study, draws, arm, terms, rates, shares)

    frame = paired.compared(study, find, keys)
    told = _reached(study, chosen)
    return frame.join(told, on=["arm", "label", "kept", "at_least"], how="left", maintain_order="left")


def choose(study: Study, by: Callable[[Predictions], np.ndarray] | None = None) -> list[list[np.ndarray]]:
    """Thresholds of each classifier of each run, by its own validation images: float [R, C], those of FIXED unless told."""
    return [[(by or _chosen)(val) for val in _validation(study, i)] for i in range(len(study.runs))]


def _validation(study: Study, i: int) -> list[Predictions]:
    """A run's validation predictions, a classifier each, in the order of `folds.split` of its test predictions."""
    return [val for _, val in folds.pairs(study.predictions[i], study.validation[i])]


def _chosen(val: Predictions) -> np.ndarray:
    least = [percent / 100 for percent in LEAST_PERCENT]
    by_rate = [thresholds_at(val.probabilities, val.labels, kept, least) for kept in KEPT]
    return np.concatenate(by_rate)


def _terms(parts: Sequence[Predictions], thresholds: Sequence[np.ndarray]) -> Sums:
    """`_own_terms` of each classifier's images at its own thresholds."""
    return folds.joined(_own_terms(part, own) for part, own in zip(parts, thresholds, strict=True))


def _own_terms(predictions: Predictions, thresholds: np.ndarray) -> Sums:
    """What each image adds to the verdicts that are right, [N, R, C, 2], and to those that there are, [N, 1, C, 2]: of positives, and
    of negatives."""
    by_rule = [verdict_terms(predictions.probabilities, predictions.labels, own) for own in thresholds]
    return {
        "right": np.stack([np.stack([one["found"], one["cleared"]], -1) for one in by_rule], 1),
        "images": np.stack([by_rule[0]["positive"], by_rule[0]["negative"]], -1)[:, None],
    }


def _rates(sums: Sums) -> np.ndarray:
    """Sensitivity and specificity: [..., R, C, 2]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums["right"] / sums["images"]


def _flat(values: np.ndarray, axes: int) -> np.ndarray:
    """The last axes as one."""
    return values.reshape(*values.shape[:-axes], -1)


def _reached(study: Study, chosen: Sequence[Sequence[np.ndarray]]) -> pl.DataFrame:
    """Thresholds and what they reached, means over an arm's seeds and their classifiers."""
    rows = []
    for arm in study.arms:
        places = [i for i, run in enumerate(study.runs) if run.arm == arm]
        threshold = np.mean([own for i in places for own in chosen[i]], 0)
        on_val, on_test = (
            np.mean([_rates(statistics.total(_terms(parts(i), chosen[i]))) for i in places], 0)
            for parts in (partial(_validation, study), lambda i: folds.split(study.predictions[i]))
        )
        for r, rule in enumerate(FIXED):
            for c, label in enumerate(study.classes):
                kept = on_test[r, c, RATES.index(rule.kept)]
                numbers = [threshold[r, c], *on_val[r, c], kept]
                rows.append((arm, label, *rule, *(None if np.isnan(n) else float(n) for n in numbers)))
    names = ("threshold", *(f"validation_{rate}" for rate in RATES), "kept_on_test")
    schema = dict.fromkeys(("arm", "label", "kept"), pl.String) | dict.fromkeys(
        ("at_least", *names), pl.Float64
    )
    return pl.DataFrame(rows, schema=schema, orient="row")


def predictive_values_frame(study: Study, draws: Draws, prevalence: Mapping[str, float]) -> pl.DataFrame:
    """One row an arm, class of a stated prevalence, rule and value: `ppv` and `npv` of the verdicts at RULES, where `prevalence` of
    the patients have the class. Further as `paired.compared`, a family for each rule and value. No rows where a run has no
    validation images."""
    labels = [label for label in study.classes if label in prevalence]
    keys = pl.DataFrame(
        [
            {
                "label": label,
                "prevalence": float(prevalence[label]),
                "kept": rule.kept,
                "at_least": rule.least,
            }
            | {"metric": metric}
            for rule in RULES
            for label in labels
            for metric in ("ppv", "npv")
        ],
        schema_overrides={"at_least": pl.Float64},
    ).with_columns(
        family=pl.concat_str("kept", "at_least", "metric", ignore_nulls=True),
        least=pl.lit(0.0),
        most=pl.lit(1.0),
    )
    if not study.validated:
        return paired.nothing(keys)
    chosen = choose(
        study,
        lambda val: np.concatenate([youden_thresholds(val.probabilities, val.labels)[None], _chosen(val)]),
    )
    places = [study.classes.index(label) for label in labels]
    shares = np.array([prevalence[label] for label in labels])

    def values(sums: Sums) -> np.ndarray:
        rates = _rates(sums)[..., places, :]
        return _flat(np.stack(predictive_values(rates[..., 0], rates[..., 1], shares), -1), 3)

    def find(arm: str) -> Found:
        return paired.found(study, draws, arm, lambda i, own: _terms(folds.split(own), chosen[i]), values)

    return paired.compared(study, find, keys)


def kappa_frame(study: Study, draws: Draws, ordered: Sequence[str]) -> pl.DataFrame:
    """One row an arm: Cohen's kappa with quadratic weights between the most probable class and the true one, by the place that classes
    have in their order. Further as `paired.compared`."""
    place = np.array([list(ordered).index(label) for label in study.classes])
    keys = pl.DataFrame({"metric": ["quadratic_kappa"], "family": [""], "least": [-1.0], "most": [1.0]})

    def terms(_: int, own: Predictions) -> Sums:
        return kappa_terms(place[own.probabilities.argmax(1)], place[own.labels])

    def find(arm: str) -> Found:
        return paired.found(study, draws, arm, terms, lambda sums: quadratic_kappa(sums)[..., None])

    return paired.compared(study, find, keys)


def decision_frame(
    study: Study, draws: Draws, labels: Sequence[str], prevalence: Mapping[str, float]
) -> pl.DataFrame:
    """One row an arm, class and threshold: the net benefit, in true positives a patient, of acting on those of whom the class is as
    probable as `threshold` or more; `treat_all` is that of acting on everybody, and that of acting on nobody is 0. At the
    stated prevalence of the class, else at its share of the test images. Further as `paired.compared`, a family for each class."""
    places = [study.classes.index(label) for label in labels]
    stated = np.array([prevalence.get(label, np.nan) for label in labels])
    from_ = np.array(ACTS_FROM)
    keys = pl.DataFrame(
        [{"label": label, "threshold": threshold} for threshold in ACTS_FROM for label in labels]
    ).with_columns(family="label", least=pl.lit(-np.inf), most=pl.lit(1.0))

    def benefit(sums: Sums) -> np.ndarray:
        images = sums["images"][..., 0, places, :]
        share = np.where(np.isnan(stated), images[..., 0] / images.sum(-1), stated)[..., None, :]
        rates = _rates(sums)[..., places, :]
        return _flat(net_benefit(rates[..., 0], rates[..., 1], share, from_[:, None]), 2)

    def find(arm: str) -> Found:
        return paired.found(study, draws, arm, lambda _, own: acting(own), benefit)

    def acting(own: Predictions) -> Sums:
        return _own_terms(own, np.repeat(from_[:, None], len(study.classes), 1))

    first = study.predictions[0].labels
    shares = [np.mean(first == c) if np.isnan(s) else s for c, s in zip(places, stated, strict=True)]
    of = pl.DataFrame({"label": labels, "prevalence": shares}, schema_overrides={"prevalence": pl.Float64})
    odds = pl.col("threshold") / (1 - pl.col("threshold"))
    frame = paired.compared(study, find, keys).join(of, on="label", how="left", maintain_order="left")
    return frame.with_columns(treat_all=pl.col("prevalence") - (1 - pl.col("prevalence")) * odds)


def thresholds_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """The rate that is not kept, of each class for some arms, a row each, in per cent."""
    rows = []
    for (label,), part in frame.group_by("label", maintain_order=True):
        by_key = {(row["arm"], row["kept"], row["at_least"]): row for row in part.iter_rows(named=True)}
        rows += [[Cell(str(label)), arm, *(_rate(by_key[arm, *rule]) for rule in FIXED)] for arm in arms]
    shown = table(
        ["Class", "Arm", *(f"{100 * rule.least:.0f} %" for rule in FIXED if rule.least)], rows, words=2
    )
    groups = [("", 2), ("Sensitivity at specificity", 3), ("Specificity at sensitivity", 3)]
    return Table(shown.header, shown.rows, shown.words, groups)


def predictive_values_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """PPV and NPV at each rule, for some arms, in per cent."""
    rows = []
    for (label, prevalence), part in frame.group_by("label", "prevalence", maintain_order=True):
        by_key = {
            (row["arm"], row["kept"], row["at_least"], row["metric"]): row
            for row in part.iter_rows(named=True)
        }
        for rule in RULES:
            for arm in arms:
                cells = [_rate(by_key[arm, *rule, metric]) for metric in ("ppv", "npv")]
                at = Cell(str(label), f"{100 * prevalence:g} % of patients")
                rows.append([at, _told(rule), arm, *cells])
    return table(["Class", "Threshold by", "Arm", "PPV", "NPV"], rows, words=3)


def _told(rule: Rule) -> str:
    return "Youden’s index" if rule.least is None else f"{rule.kept} {100 * rule.least:.0f} %"


def _rate(row: Mapping[str, Any]) -> Cell:
    if row["value"] is None:
        return Cell("–")
    return Cell(percent(row["value"]), "–".join(percent(row[end]) for end in ("low", "high")))


def kappa_table(frame: pl.DataFrame) -> Table:
    """A row an arm, beside its difference to the baseline."""
    rows = [_kappa_cells(row) for row in frame.iter_rows(named=True)]
    return table(["Arm", "Verdict", "Quadratic kappa", "Difference"], rows, words=2)


def _kappa_cells(row: Mapping[str, Any]) -> list[Any]:
    bounds = [row[f"difference_{end}_adjusted"] for end in ("low", "high")]
    difference = (
        None
        if row["difference"] is None
        else Cell(thousandths(row["difference"]), " to ".join(map(thousandths, bounds)))
    )
    score = (
        None if row["value"] is None else Cell(f"{row['value']:.3f}", f"{row['low']:.3f}–{row['high']:.3f}")
    )
    return [
        Cell(row["arm"], "baseline" if row["arm"] == row["baseline"] else ""),
        row["verdict"],
        score,
        difference,
    ]


def decision_curves(frame: pl.DataFrame, arms: Sequence[str]) -> Iterator[str]:
    """A figure a class, as SVG: net benefit of some arms and of acting on everybody, by the threshold."""
    for (label,), part in frame.group_by("label", maintain_order=True):
        series = {
            arm: [
                plots.Point(
                    100 * row["threshold"], arm, *(100 * row[name] for name in ("value", "low", "high"))
                )
                for row in part.filter(pl.col("arm") == arm, pl.col("value").is_not_null()).iter_rows(
                    named=True
                )
            ]
            for arm in arms
        }
        everybody = part.filter(pl.col("arm") == arms[0], pl.col("treat_all") > 0)
        series["acting on everybody"] = [
            plots.Point(100 * at, "acting on everybody", *[100 * benefit] * 3)
            for at, benefit in everybody.select("threshold", "treat_all").iter_rows()
        ]
        known = {name: points for name, points in series.items() if points}
        title = f"{label}: net benefit, true positives of 100 patients"
        yield plots.bands(known, title, "Acted from a probability of, %")
