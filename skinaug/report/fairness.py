"""For whom an arm works: gaps between subgroups of patients in top-1, calibration, sensitivity, specificity and AUROC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from skinaug.metrics.calibration import confidence_bins, confidences
from skinaug.report import paired
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws, known_variance
from skinaug.report.paired import Found
from skinaug.report.ranking import MACRO
from skinaug.report.statistics import Sums, Variance, placements
from skinaug.report.subgroups import LEAST_IMAGES, UNSTATED, heading, members, sizes_of
from skinaug.report.tables import Cell, Table, number, percent, points, table

EVERY = ("top1", "ece")  # scores of all images of a group
ONE = ("sensitivity", "specificity", "auroc")  # of each class against the rest
NAMES = {
    "top1": "Top-1",
    "ece": "Calibration error",
    "sensitivity": "Sensitivity (equal opportunity)",
    "specificity": "Specificity",
    "equalized_odds": "Equalised odds",
    "auroc": "AUROC",
}
NUM_DRAWS = 2000  # of what chance alone would show
ALL = ""  # in the place of a class, of scores of all images


@dataclass(frozen=True)
class Groups:
    """The subgroups of test patients whose scores are held against each other.

    Attributes:
        keys: Q rows: `attribute`, `group`, `label` (ALL, or the class against the rest), `metric`, the `images` and `patients` that the
            score rests on (of sensitivity those of the class, of AUROC the fewer of those with and without), and `left_out`,
            why it is not scored; empty where it is.
        inside: of each run, which test images are in which of K groups: float [N, K].
    """

    keys: pl.DataFrame
    inside: list[np.ndarray]

    @property
    def scored(self) -> np.ndarray:
        """bool [Q]."""
        return (self.keys["left_out"] == "").to_numpy()


def find_groups(
    study: Study, draws: Draws, attributes: Sequence[Sequence[str]], least_patients: int
) -> Groups:
    """The subgroups by some attributes, each alone or taken together, and what of them can be scored: groups with 20 images and
    `least_patients` patients or more, and of each class those with so many patients who have it and so many who do not."""
    names, inside = members(study, attributes)
    sizes = sizes_of(study, names, inside, least_patients)
    images, patients = _counts(study, draws, inside)
    rows = []
    for k, row in enumerate(sizes.iter_rows(named=True)):
        whole = {"attribute": row["attribute"], "group": row["subgroup"]}
        few = _too_few(row, least_patients)
        rows += [
            {**whole, "label": ALL, "metric": metric, "images": row["images"], "patients": row["patients"]}
            | {"left_out": few}
            for metric in EVERY
        ]
        for c, label in enumerate(study.classes):
            for metric in ONE:
                sides = {"sensitivity": (0,), "specificity": (1,), "auroc": (0, 1)}[metric]
                counts = {
                    "images": min(int(images[k, c, side]) for side in sides),
                    "patients": min(int(patients[k, c, side]) for side in sides),
                }
                lacks = [_lack(label, side, int(patients[k, c, side]), least_patients) for side in sides]
                left_out = few or "; ".join(filter(None, lacks))
                rows.append({**whole, "label": label, "metric": metric, **counts, "left_out": left_out})
    words = dict.fromkeys(("attribute", "group", "label", "metric"), pl.String())
    counted = {"images": pl.Int64(), "patients": pl.Int64(), "left_out": pl.String()}
    return Groups(pl.DataFrame(rows, schema={**words, **counted}), [one.astype(float) for one in inside])


def _too_few(row: Mapping[str, Any], least_patients: int) -> str:
    if row["subgroup"] == UNSTATED:
        return "nobody knows who is in it"
    if row["images"] < LEAST_IMAGES:
        return f"fewer than {LEAST_IMAGES} images"
    return f"fewer than {least_patients} patients" if row["patients"] < least_patients else ""


def _lack(label: str, side: int, patients: int, least: int) -> str:
    whose = f"with {label}" if side == 0 else f"without {label}"
    if patients == 0:
        return f"no patient {whose}"
    return f"fewer than {least} patients {whose}" if patients < least else ""


def _counts(study: Study, draws: Draws, inside: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images and patients of each group with and without each class, the fewest of any test set: int [K, C, 2] each."""
    found = []
    for i in {id(one): i for i, one in enumerate(inside)}.values():
        own = study.predictions[i]
        has = own.labels[:, None] == np.arange(len(own.classes))
        sides = inside[i][:, :, None, None] & np.stack([has, ~has], -1)[:, None]
        sums = draws.sums(own, {"images": sides.astype(float)})["images"]
        found.append((sums.sum(0), (sums > 0).sum(0)))
    images, patients = (np.min(counts, 0).astype(int) for counts in zip(*found, strict=True))
    return images, patients


def groups_frame(study: Study, draws: Draws, groups: Groups) -> pl.DataFrame:
    """One row an arm, attribute, group, class and score: `Groups.keys`, and as `paired.compared`, a family for each score. Verdicts
    are of the difference to the baseline in that group; of the calibration error, less is better."""
    keys = groups.keys.with_columns(
        family=pl.format("{} {}", "metric", pl.col("label") == ALL), least=pl.lit(0.0), most=pl.lit(1.0)
    )
    frames = []
    for ece in (False, True):
        chosen = (keys["metric"] == "ece") == ece
        find = _finder(study, draws, groups, chosen.to_numpy())
        frames.append(paired.compared(study, find, keys.filter(chosen), -1 if ece else 1))
    order = keys.select("attribute", "group", "label", "metric").with_row_index("key")
    on = ["attribute", "group", "label", "metric"]
    place = {arm: position for position, arm in enumerate(study.arms)}
    frame = pl.concat(frames).join(order, on=on, how="left")
    return frame.sort(pl.col("arm").replace_strict(place), "key").drop("key")


def gaps_frame(study: Study, draws: Draws, groups: Groups) -> pl.DataFrame:
    """One row an arm, attribute, class and score: the largest less the smallest score of the groups that are scored.

    Columns: `gap` with its interval, which holds for all pairs of groups at once, hence for the pair that is picked; `chance`, the
    gap that so many groups of these sizes would show on average if they did not differ; `worst` and `best`, the groups, and
    `worst_value`; `groups`, how many are held against each other (the fewest of several), and `classes`, how many a mean is of. The gap in sensitivity is the equal opportunity difference, and
    `equalized_odds` the larger of the gaps in sensitivity and specificity (Hardt, Price and Srebro 2016, NeurIPS 29). Of the
    label MACRO, means of the classes' gaps, without an interval. `difference` to the baseline arm's gap is paired by patient and
    seed, and adjusted for all arms, attributes and classes of a score (Holm); below 0 it is the smaller gap, which `verdict`
    calls an improvement. No row where fewer than two groups are scored.

    Each arm's pair is taken as it is picked on the test images. In simulated studies of 3 and 5 seeds, 3 attributes of 3 and 6 groups
    that do not differ, and arms as good as the baseline or much better, a change of some gap was claimed in at most 4 %, and a gap of
    the baseline in some attribute in 2 to 8 %.
    """
    scored = groups.keys.filter(pl.Series(groups.scored))
    contrasts = _contrasts(scored, study.classes)
    keys = contrasts.with_columns(
        family=pl.format("{} {}", "metric", pl.col("label") == MACRO), least=pl.lit(-1.0), most=pl.lit(1.0)
    ).drop("of")
    if contrasts.is_empty():
        return _named(paired.nothing(keys), pl.DataFrame(schema=PICKS))
    picks: list[dict[str, Any]] = []
    score = _finder(study, draws, groups, groups.scored)
    images = scored["images"].to_numpy()

    def find(arm: str) -> Found:
        own = score(arm)
        weights, picked = _picked(
            contrasts, groups.keys.filter(pl.Series(groups.scored)), own.on_test.mean(0)
        )
        chance = _by_chance(contrasts, scored, known_variance(own.on_test, own.on_drawn))
        picks.extend(
            {"arm": arm, **one, "chance": float(gap)} for one, gap in zip(picked, chance, strict=True)
        )
        sizes = 1 / (weights**2 @ (1 / np.maximum(images, 1)))
        return Found(
            own.seeds, _weighted(own.on_test, weights), _weighted(own.on_drawn, weights), None, sizes
        )

    frame = paired.compared(study, find, keys, better=-1)
    return _named(frame, pl.DataFrame(picks, schema=PICKS))


PICKS = dict.fromkeys(("arm", "attribute", "label", "metric", "worst", "best"), pl.String) | {
    "worst_value": pl.Float64,
    "chance": pl.Float64,
}


def _named(frame: pl.DataFrame, picks: pl.DataFrame) -> pl.DataFrame:
    frame = frame.rename({"value": "gap"})
    on = ["arm", "attribute", "label", "metric"]
    return frame.join(picks, on=on, how="left", maintain_order="left")


def _contrasts(keys: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The gaps that there are: `attribute`, `label`, `metric`, the numbers of `groups` and, of a mean, of `classes`, of how many `comparisons` each is picked, and
    `of`, the rows of the gaps that an equalised odds difference or a mean is made of."""
    rows: list[dict[str, Any]] = []
    for (attribute,), own in keys.group_by("attribute", maintain_order=True):
        counts = {
            (row[0], row[1]): row[2] for row in own.group_by("label", "metric").agg(pl.len()).iter_rows()
        }
        wanted = [(ALL, metric) for metric in EVERY] + [
            (label, metric) for label in classes for metric in ONE
        ]
        start = len(rows)
        for label, metric in wanted:
            num = counts.get((label, metric), 0)
            pairs = num * (num - 1) / 2
            rows += [_contrast(attribute, label, metric, num, pairs)] * (num > 1)
        for label in classes:
            odds = [
                k
                for k in range(start, len(rows))
                if rows[k]["label"] == label and rows[k]["metric"] in ONE[:2]
            ]
            if len(odds) == 2:
                pairs = sum(rows[k]["comparisons"] for k in odds)
                num = min(rows[k]["groups"] for k in odds)
                rows.append(_contrast(attribute, label, "equalized_odds", num, pairs, odds))
        for metric in (*ONE, "equalized_odds"):
            if parts := [k for k in range(start, len(rows)) if rows[k]["metric"] == metric]:
                num = min(rows[k]["groups"] for k in parts)
                # A mean of largest differences lies above 0 by chance alone: it has no interval of its own.
                rows.append(_contrast(attribute, MACRO, metric, num, np.nan, parts))
    schema = dict.fromkeys(("attribute", "label", "metric"), pl.String())
    numbers = {
        "groups": pl.Int64(),
        "classes": pl.Int64(),
        "comparisons": pl.Float64(),
        "of": pl.List(pl.Int64),
    }
    return pl.DataFrame(rows, schema={**schema, **numbers})


def _contrast(
    attribute: Any, label: str, metric: str, groups: int, comparisons: float, of: Sequence[int] = ()
) -> dict[str, Any]:
    about = {"attribute": attribute, "label": label, "metric": metric, "groups": groups}
    about["classes"] = len(of) if label == MACRO else None
    return {**about, "comparisons": comparisons, "of": list(of)}


def _picked(
    contrasts: pl.DataFrame, keys: pl.DataFrame, mean: np.ndarray
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Of an arm's mean scores [Q]: the weights of each gap [K, Q], and the groups that make it."""
    weights, told = np.zeros((len(contrasts), len(mean))), list[dict[str, Any]]()
    gaps = np.zeros(len(contrasts))
    rows = keys.with_row_index("key").partition_by("attribute", "label", "metric", as_dict=True)
    for k, row in enumerate(contrasts.iter_rows(named=True)):
        about = {name: row[name] for name in ("attribute", "label", "metric")}
        pick: dict[str, Any] = {"worst": None, "best": None, "worst_value": None}
        if row["label"] == MACRO:
            weights[k] = weights[row["of"]].mean(0)
        elif row["of"]:
            larger = max(row["of"], key=lambda part: gaps[part])
            weights[k], pick = weights[larger], {name: told[larger][name] for name in pick}
        else:
            own = rows[row["attribute"], row["label"], row["metric"]]
            places = own["key"].to_numpy()
            order = places[np.argsort(mean[places], kind="stable")]
            low, high = order[0], order[-1]
            weights[k, high] += 1
            weights[k, low] -= 1
            worst, best = (high, low) if row["metric"] == "ece" else (low, high)
            pick["worst_value"] = float(mean[worst])
            if mean[high] > mean[low]:
                pick |= {"worst": keys["group"][int(worst)], "best": keys["group"][int(best)]}
        gaps[k] = weights[k] @ mean
        told.append({**about, **pick})
    return weights, told


def _by_chance(contrasts: pl.DataFrame, keys: pl.DataFrame, variance: Variance) -> np.ndarray:
    """The gaps that groups of equal true scores would show on average, each off by a normal error of its own: [K]."""
    errors = np.random.default_rng(0).normal(size=(NUM_DRAWS, len(keys))) * np.sqrt(variance.of_mean()[0])
    rows = keys.with_row_index("key").partition_by("attribute", "label", "metric", as_dict=True)
    ranges: list[np.ndarray] = []
    for row in contrasts.iter_rows(named=True):
        parts = [ranges[part] for part in row["of"]]
        if not parts:
            own = errors[:, rows[row["attribute"], row["label"], row["metric"]]["key"].to_numpy()]
            ranges.append(own.max(1) - own.min(1))
        else:
            ranges.append(np.mean(parts, 0) if row["label"] == MACRO else np.max(parts, 0))
    return np.array([own.mean() for own in ranges])


def _weighted(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of scores [..., Q]; NaN where a score that counts is not defined."""
    unknown = ~np.isfinite(scores)
    sums = np.where(unknown, 0, scores) @ weights.T
    return (
        np.where(unknown.astype(float) @ (weights != 0).T.astype(float) > 0, np.nan, sums)
        if unknown.any()
        else sums
    )


def _finder(study: Study, draws: Draws, groups: Groups, chosen: np.ndarray) -> Any:
    """A function of an arm that tells those of its Q scores that are chosen."""
    wanted = groups.scored
    patients = np.where(groups.keys["metric"].is_in(["ece", "auroc"]), 0, groups.keys["patients"].to_numpy())

    def terms(i: int, own: Predictions) -> Sums:
        return fairness_terms(own, groups.inside[i])

    def scores(sums: Sums) -> np.ndarray:
        return np.where(wanted, fairness_scores(sums), np.nan)[..., chosen]

    def find(arm: str) -> Found:
        return paired.found(study, draws, arm, terms, scores)._replace(patients=patients[chosen])

    return find


def fairness_terms(predictions: Predictions, inside: np.ndarray) -> Sums:
    """What each image adds to the sums that `fairness_scores` needs.

    Args:
        inside: float [N, K], 1 for the images of each group.

    Returns:
        `images` and `right` [N, K], `gaps` [N, K, 15]; `positive`, `negative`, `found`, `cleared`, `above`, `below` [N, K, C].
    """
    p, labels, classes = predictions.probabilities, predictions.labels, np.arange(len(predictions.classes))
    confidence, right = confidences(p, labels)
    has, taken = labels[:, None] == classes, p.argmax(1)[:, None] == classes
    above, below = np.zeros((2, *inside.shape, len(classes)))
    for k in range(inside.shape[1]):
        rows = np.flatnonzero(inside[:, k])
        for c in classes:
            above[rows, k, c], below[rows, k, c] = placements(p[rows, c], has[rows, c])
    kinds = {"positive": has, "negative": ~has, "found": has & taken, "cleared": ~has & ~taken}
    return {
        "images": inside,
        "right": inside * right[:, None],
        "gaps": inside[..., None] * ((confidence - right)[:, None] * confidence_bins(confidence))[:, None],
        **{name: inside[..., None] * own[:, None] for name, own in kinds.items()},
        "above": np.nan_to_num(above),
        "below": np.nan_to_num(below),
    }


def fairness_scores(sums: Sums) -> np.ndarray:
    """Scores in the order of `Groups.keys`, from sums over any leading shape: [..., Q]; NaN where one is not defined."""
    images, positive, negative = sums["images"], sums["positive"], sums["negative"]
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = sums["above"] / positive + sums["below"] / negative
        whole = np.stack([sums["right"] / images, np.abs(sums["gaps"]).sum(-1) / images], -1)
        one = np.stack([sums["found"] / positive, sums["cleared"] / negative, auroc], -1)
    return np.concatenate([whole, one.reshape(*one.shape[:-2], -1)], -1).reshape(*images.shape[:-1], -1)


def gaps_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """Gaps of some arms in points, a row an attribute, score and arm: of all images, and means over classes."""
    return _gaps(frame.filter(pl.col("label").is_in([ALL, MACRO])), arms, ["attribute"])


def class_gaps_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """Gaps of each class against the rest."""
    return _gaps(frame.filter(~pl.col("label").is_in([ALL, MACRO])), arms, ["attribute", "label"])


def _gaps(frame: pl.DataFrame, arms: Sequence[str], by: Sequence[str]) -> Table:
    rows = []
    for names, part in frame.group_by(*by, "metric", maintain_order=True):
        of = {row["arm"]: row for row in part.iter_rows(named=True)}
        words = [heading(str(names[0])), *map(str, names[1:-1]), _metric(of[arms[0]])]
        rows += [[*words, arm, *_gap(of[arm])] for arm in arms]
    header = [
        "Attribute",
        *(["Class"] * (len(by) - 1)),
        "Score",
        "Arm",
        "Gap",
        "By chance",
        "Worst",
        "Score there",
    ]
    return table(header, rows, words=len(by) + 2)


def _metric(row: Mapping[str, Any]) -> Cell:
    classes = row["classes"]
    return Cell(
        NAMES[row["metric"]],
        f"mean of {classes} class{'es' * (classes != 1)}" if row["label"] == MACRO else "",
    )


def _gap(row: Mapping[str, Any]) -> list[Any]:
    bounds = (
        "" if row["low"] is None else f"{percent(row['low'])} to {percent(row['high'])}".replace("-", "−")
    )
    return [
        Cell(percent(row["gap"]), bounds),
        percent(row["chance"]),
        row["worst"],
        percent(row["worst_value"]),
    ]


def changes_table(frame: pl.DataFrame) -> Table | None:
    """What all arms but the baseline change of the gaps of all images and of the means over classes, in points; None of the
    baseline alone."""
    chosen = frame.filter(pl.col("label").is_in([ALL, MACRO]), pl.col("arm") != pl.col("baseline"))
    metrics = [metric for metric in NAMES if metric in chosen["metric"]]
    rows = []
    for attribute in chosen["attribute"].unique(maintain_order=True):
        own = chosen.filter(pl.col("attribute") == attribute)
        for (arm,), part in own.group_by("arm", maintain_order=True):
            of = {row["metric"]: row for row in part.iter_rows(named=True)}
            rows.append([heading(attribute), str(arm), *(_change(of.get(metric)) for metric in metrics)])
    header = ["Attribute", "Arm", *(NAMES[metric] for metric in metrics)]
    return table(header, rows, words=2) if rows else None


def _change(row: Mapping[str, Any] | None) -> Cell:
    if row is None or row["difference"] is None:
        return Cell("–")
    bounds = [row[f"difference_{end}_adjusted"] for end in ("low", "high")]
    return Cell(points(row["difference"]), " to ".join(map(points, bounds)))


def left_out_table(frame: pl.DataFrame) -> Table | None:
    """The groups and classes that are not scored, and why; None where all are.

    frame: a `groups_frame`.
    """
    first = frame.filter(pl.col("arm") == pl.col("baseline"), pl.col("left_out") != "")
    rows = list(_left_out(first))
    return table(["Subgroup", "Not scored", "Why", "Images", "Patients"], rows, words=3) if rows else None


def _left_out(keys: pl.DataFrame) -> Iterator[list[Any]]:
    for (attribute, group), part in keys.group_by("attribute", "group", maintain_order=True):
        name = f"{heading(str(attribute))}: {group}"
        whole = part.filter(pl.col("label") == ALL)
        if whole.height:
            row = whole.row(0, named=True)
            yield [name, "anything", row["left_out"], number(row["images"]), number(row["patients"])]
            continue
        for (label, why), own in part.group_by("label", "left_out", maintain_order=True):
            scores = ", ".join(NAMES[metric].partition(" (")[0] for metric in own["metric"])
            yield [name, f"{label}: {scores}", why, int(own["images"].min()), int(own["patients"].min())]  # type: ignore[arg-type]
