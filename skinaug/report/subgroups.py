"""Top-1 in subgroups of the test patients, by skin type, body site, sex and age, and each arm's worst subgroup."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from skinaug.manifest import REQUIRED, read_once
from skinaug.progress import shown
from skinaug.report import statistics
from skinaug.report.collect import GIVEN, PROBABILITY, Run, Study, predictions_of
from skinaug.report.measure import Draws, known_variance, share_interval, verdict
from skinaug.report.statistics import Variance
from skinaug.report.tables import Cell, Table, percent, points, table
from skinaug.report.units import jobs_of
from skinaug.sources.vocabulary import TELLER, place_on_scale, with_scale, with_teller

ATTRIBUTES = {
    "skin_type": "Skin type",
    "body_site": "Body site",
    "sex": "Sex",
    "age": "Age",
    "collection": "Data set",
}
AGES = {
    18.0: "under 18",
    40.0: "18 to 39",
    60.0: "40 to 59",
    np.inf: "60 and over",
}  # years that a band ends before
LEAST_IMAGES, LEAST_PATIENTS = 20, 10  # of a subgroup that is scored
UNSTATED = "not stated"  # a subgroup too, but no candidate for the worst: nobody knows who is in it


NO_ATTRIBUTES = (
    *REQUIRED,
    "lesion_id",
    "mask",
    TELLER,
    "arm",
    "seed",
    "prediction",
)  # columns that make no subgroups


class Top1(NamedTuple):
    """An arm's top-1 in K subgroups: seeds, [S, K] on the test set and [B, S, K] on the drawn ones."""

    seeds: list[int]
    on_test: np.ndarray
    on_drawn: np.ndarray


SUBGROUPS = {
    "arm": pl.String,
    "attribute": pl.String,
    "subgroup": pl.String,
    "images": pl.Int64,
    "patients": pl.Int64,
    "scored": pl.Boolean,
    "seeds": pl.Int64,
    "top1": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "low_adjusted": pl.Float64,
    "high_adjusted": pl.Float64,
    "worst": pl.Boolean,
    "baseline": pl.String,
    "difference": pl.Float64,
    "difference_low_adjusted": pl.Float64,
    "difference_high_adjusted": pl.Float64,
    "difference_p_holm": pl.Float64,
    "verdict": pl.String,
}


def subgroups_frame(
    study: Study,
    draws: Draws,
    attributes: Sequence[Sequence[str]] | None = None,
    least_patients: int = LEAST_PATIENTS,
) -> pl.DataFrame:
    """One row an arm and subgroup of the test patients; none where the data sets say nothing of them.

    Columns: `images` and `patients` of the subgroup, over all of the study's test images; `scored`, whether these are 20
    images of 10 patients (`least_patients`) or more, without which the following are null; `top1` with its own 95 % interval `low` to `high`,
    and with one that holds for all of an arm's scored subgroups at once (Bonferroni), hence for the one picked as the
    `worst`; the `difference` to the baseline arm in the same subgroup, paired by patient and seed, with interval, p-value and `verdict` adjusted for all
    arms and subgroups (Holm), null for the baseline and for arms that share no seed with it.
    """
    names, inside = members(study, attributes)
    if not names:
        return pl.DataFrame(schema=SUBGROUPS)
    sizes = sizes_of(study, names, inside, least_patients)
    scored = sizes["scored"].to_numpy()
    keys = sizes.filter("scored").drop("scored")
    inside = [every[:, scored] for every in inside]
    baseline = _top1(study, draws, inside, study.baseline)
    scores, pairs = [], []
    for arm in shown(study.arms, "subgroups"):
        own = baseline if arm == study.baseline else _top1(study, draws, inside, arm)
        scores.append(_scores(arm, keys, own))
        if arm != study.baseline and set(own.seeds) & set(baseline.seeds):
            pairs.append((arm, *_difference(own, baseline)))
    on = ["arm", "attribute", "subgroup"]
    rows = pl.DataFrame({"arm": study.arms}).join(sizes, how="cross", maintain_order="left_right")
    for found in (pl.concat(scores), _differences(pairs, keys)):
        rows = rows.join(found, on=on, how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("worst").fill_null(False), baseline=pl.lit(study.baseline))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SUBGROUPS.items())


def members(
    study: Study, attributes: Sequence[Sequence[str]] | None = None
) -> tuple[list[tuple[str, str]], list[np.ndarray]]:
    """Attribute and value of K subgroups, and which test images of each run are in them: bool [N, K], one array for all runs
    with the same test images. Attributes that tell no images apart make no subgroups.

    Args:
        attributes: each alone, or taken together (`sex+age`, with values such as `female, 18 to 39`); each of ATTRIBUTES alone
            unless told.
    """
    sets = [(name,) for name in ATTRIBUTES] if attributes is None else attributes
    first = {_folder(run): run for run in reversed(study.runs)}
    asked = {name for together in sets for name in together}
    tables = {
        folder: {image: _together(row, sets) for image, row in _attributes(_test_images(run), asked).items()}
        for folder, run in first.items()
    }
    values = {
        name: sorted({row[name] for rows in tables.values() for row in rows.values()}, key=_places)
        for name in map("+".join, sets)
    }
    names = [(name, value) for name, found in values.items() if len(found) > 1 for value in found]
    known: dict[tuple[Path, tuple[str, ...]], np.ndarray] = {}
    inside = []
    for run, predictions in zip(study.runs, study.predictions, strict=True):
        folder, images = _folder(run), tuple(predictions.images)
        if (folder, images) not in known:
            prefix = f"{folder.name}/"  # of images where several data sets use one id; an id may have a / too
            rows = [tables[folder][image.removeprefix(prefix)] for image in images]
            known[folder, images] = np.array([[row[name] == value for name, value in names] for row in rows])
        inside.append(known[folder, images])
    return names, inside


def stated(study: Study) -> tuple[list[str], list[str]]:
    """The attributes that some test image has; and the data's own columns, which may be asked for too (`own_columns`)."""
    tables = [_test_images(run) for run in {_folder(run): run for run in study.runs}.values()]
    own = dict.fromkeys(name for table in tables for name in own_columns(table))
    found = [stated_in(table, own) for table in tables]
    return [name for name in (*ATTRIBUTES, *own) if any(name in names for names in found)], list(own)


def own_columns(images: pl.DataFrame) -> list[str]:
    """The columns of a table of images that make subgroups though only these data have them, such as the hospital: what is text, a
    truth value or a whole number."""
    kinds = {
        name: dtype for name, dtype in images.schema.items() if name not in (*ATTRIBUTES, *NO_ATTRIBUTES)
    }
    return [
        name
        for name, dtype in kinds.items()
        if (dtype in (pl.String, pl.Boolean) or dtype.is_integer())
        and not name.startswith(PROBABILITY)
        and "+" not in name
    ]


def stated_in(images: pl.DataFrame, own: Collection[str] = ()) -> list[str]:
    """The attributes, and of the data's own columns those, that some image of a table has."""
    names = [*ATTRIBUTES, *own]
    rows = _attributes(images, names).values()
    return [name for name in names if any(row[name] != UNSTATED for row in rows)]


def _together(row: Mapping[str, str], sets: Sequence[Sequence[str]]) -> dict[str, str]:
    """Values of attributes that are taken together, by their names; not stated where one of them is not."""
    values = {"+".join(names): [row[name] for name in names] for names in sets}
    return {name: UNSTATED if UNSTATED in own else ", ".join(own) for name, own in values.items()}


def _places(value: str) -> list[tuple[Any, ...]]:
    return [_place(part) for part in value.split(", ")]


def _folder(run: Run) -> Path:
    """The artifact that tells the attributes of the run's test images."""
    return run.artifacts["dataset" if "dataset" in run.artifacts else GIVEN]


def _folders(run: Run) -> list[Path]:
    """The data sets of a run's jobs: one a fold."""
    return list(dict.fromkeys(job.artifacts["dataset"] for job in jobs_of([run])))


def _test_images(run: Run) -> pl.DataFrame:
    if "dataset" in run.artifacts:
        tables = [read_once(folder).split("test").table for folder in _folders(run)]
        return pl.concat(tables, how="diagonal_relaxed").unique("image_id", keep="first", maintain_order=True)
    return predictions_of(run).filter(pl.col("split") == "test")


def _attributes(images: pl.DataFrame, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Some attributes of images in words, by image_id."""
    words = {name: pl.col(name).cast(pl.String) for name in names if name in images.columns}
    if "skin_type" in words:
        words["skin_type"] = with_teller(images)
    if "age" in words:
        years = pl.col("age").cast(pl.Float64, strict=False)
        words["age"] = years.cut(list(AGES)[:-1], labels=list(AGES.values()), left_closed=True).cast(
            pl.String
        )
    columns = [words.get(name, pl.lit(None, pl.String)).fill_null(UNSTATED).alias(name) for name in names]
    return {row["image_id"]: row for row in images.select("image_id", *columns).iter_rows(named=True)}


def _place(value: str) -> tuple[Any, ...]:
    """Order of an attribute's values: bands by age, skin types in their scale's order, other words by the alphabet, last what is
    not stated."""
    bands = list(AGES.values())
    return (value == UNSTATED, bands.index(value) if value in bands else 0, *place_on_scale(value))


def sizes_of(
    study: Study, names: Sequence[tuple[str, str]], inside: Sequence[np.ndarray], least_patients: int
) -> pl.DataFrame:
    """Distinct test images and patients of each subgroup, over all runs, and whether they are enough."""
    images: list[set[str]] = [set() for _ in names]
    patients: list[set[str]] = [set() for _ in names]
    for i in {id(every): i for i, every in enumerate(inside)}.values():
        for k in range(len(names)):
            rows = np.flatnonzero(inside[i][:, k])
            images[k].update(study.predictions[i].images[row] for row in rows)
            patients[k].update(study.predictions[i].groups[row] for row in rows)
    return pl.DataFrame(
        {
            "attribute": [attribute for attribute, _ in names],
            "subgroup": [value for _, value in names],
            "images": [len(own) for own in images],
            "patients": [len(own) for own in patients],
        }
    ).with_columns(scored=(pl.col("images") >= LEAST_IMAGES) & (pl.col("patients") >= least_patients))


def _top1(study: Study, draws: Draws, inside: Sequence[np.ndarray], arm: str) -> Top1:
    places = sorted(
        (i for i, run in enumerate(study.runs) if run.arm == arm), key=lambda i: study.runs[i].seed
    )
    sums = []
    for i in places:
        predictions = study.predictions[i]
        right = predictions.probabilities.argmax(1) == predictions.labels
        terms = {"images": inside[i].astype(float), "right": (inside[i] & right[:, None]).astype(float)}
        sums.append(draws.sums(predictions, terms))
    with np.errstate(invalid="ignore"):
        on_test, on_drawn = (found["right"] / found["images"] for found in draws.resample(sums))
    return Top1([study.runs[i].seed for i in places], on_test, on_drawn)


def _scores(arm: str, keys: pl.DataFrame, own: Top1) -> pl.DataFrame:
    patients = keys["patients"].to_numpy()
    mean, variance = own.on_test.mean(0), known_variance(own.on_test, own.on_drawn)
    alone = share_interval(mean, variance, patients)
    level = statistics.LEVEL / max(1, keys.height)
    joint = share_interval(mean, no_less_than_usual(variance, keys), patients, level)
    stated = (keys["subgroup"] != UNSTATED).to_numpy() & np.isfinite(mean)
    lowest = np.where(stated, mean, np.inf).argmin() if stated.any() else -1
    return keys.select(pl.lit(arm).alias("arm"), "attribute", "subgroup").with_columns(
        seeds=pl.lit(len(own.seeds)),
        top1=pl.Series(mean, nan_to_null=True),
        low=pl.Series(alone.low, nan_to_null=True),
        high=pl.Series(alone.high, nan_to_null=True),
        low_adjusted=pl.Series(joint.low, nan_to_null=True),
        high_adjusted=pl.Series(joint.high, nan_to_null=True),
        worst=pl.Series(np.arange(keys.height) == lowest),
    )


def _difference(own: Top1, baseline: Top1) -> tuple[np.ndarray, Variance]:
    """Arm less baseline, mean over the seeds that both have, and where its chance comes from: [K]."""
    shared = sorted(set(own.seeds) & set(baseline.seeds))
    first, second = ([one.seeds.index(seed) for seed in shared] for one in (own, baseline))
    on_test = own.on_test[first] - baseline.on_test[second]
    return on_test.mean(0), known_variance(on_test, own.on_drawn[:, first] - baseline.on_drawn[:, second])


def no_less_than_usual(variance: Variance, keys: pl.DataFrame) -> Variance:
    """Variance between seeds raised to what is usual, the mean over subgroups in proportion to one over their images.

    Three seeds that happen to agree in one of twenty subgroups make its variance far too small, and the adjustment for many
    comparisons picks just such a one: in simulated studies of 3 seeds, 3 arms and 20 subgroups without any difference, one
    or more was claimed in a fifth, and in none with this.
    """
    images = keys["images"].to_numpy()
    known = np.isfinite(variance.seed)
    usual = (variance.seed * images)[known].sum() / max(1, known.sum()) / images
    return replace(variance, seed=np.maximum(variance.seed, usual))


def _differences(pairs: Sequence[tuple[str, np.ndarray, Variance]], keys: pl.DataFrame) -> pl.DataFrame:
    """All differences, adjusted as one family; those of subgroups that an arm has no images of are left out."""
    pairs = [(arm, mean, no_less_than_usual(variance, keys)) for arm, mean, variance in pairs]
    p = [statistics.p_value(mean, variance) for _, mean, variance in pairs]
    family = np.concatenate([np.zeros(0), *p])
    known = np.isfinite(family)
    adjusted, levels = np.full(len(family), np.nan), np.full(len(family), statistics.LEVEL)
    adjusted[known], levels[known] = statistics.holm(family[known]), statistics.family_levels(family[known])
    rows = []
    for i, (arm, mean, variance) in enumerate(pairs):
        part = slice(i * keys.height, (i + 1) * keys.height)
        found = statistics.interval(mean, variance, levels[part])
        columns = zip(
            keys.iter_rows(),
            mean,
            np.maximum(found.low, -1),
            np.minimum(found.high, 1),
            adjusted[part],
            known[part],
            strict=True,
        )
        rows += [
            (
                arm,
                *key[:2],
                float(value),
                float(low),
                float(high),
                float(own),
                verdict(float(low), float(high)),
            )
            for key, value, low, high, own, told in columns
            if told
        ]
    names = ("arm", "attribute", "subgroup", *list(SUBGROUPS)[-5:])
    return pl.DataFrame(rows, schema={name: SUBGROUPS[name] for name in names}, orient="row")


def worst_table(frame: pl.DataFrame, arms: pl.DataFrame) -> Table | None:
    """Each arm's worst subgroup beside its score on all test images; None where no subgroup is scored.

    arms: `measure.arms_frame` of the same study.
    """
    worst = frame.filter("worst").join(arms.select("arm", all_images="top1"), on="arm", maintain_order="left")
    header = ["Arm", "Worst subgroup", "Verdict there", "Top-1 there", "Top-1 of all", "Difference there"]
    rows = [_worst_cells(row) for row in worst.iter_rows(named=True)]
    return table(header, rows, words=3) if rows else None


def _worst_cells(row: Mapping[str, Any]) -> list[Any]:
    bounds = [row[f"difference_{end}_adjusted"] for end in ("low", "high")]
    return [
        Cell(row["arm"], "baseline" if row["arm"] == row["baseline"] else ""),
        _subgroup(row),
        row["verdict"],
        _score(row, "_adjusted"),
        percent(row["all_images"]),
        None
        if row["difference"] is None
        else Cell(points(row["difference"]), " to ".join(map(points, bounds))),
    ]


def _subgroup(row: Mapping[str, Any]) -> Cell:
    images, patients = row["images"], row["patients"]
    size = f"{images:,} image{'s' * (images != 1)}, {patients:,} patient{'s' * (patients != 1)}"
    title = with_scale(heading(row["attribute"]), row["subgroup"].split(", "))
    return Cell(f"{title}: {row['subgroup']}", size)


def heading(attribute: str) -> str:
    """An attribute, or several that are taken together, in words."""
    first, *others = attribute.split("+")
    return " and ".join([_title(first), *(_title(name).lower() for name in others)])


def _title(name: str) -> str:
    return ATTRIBUTES.get(name, name.replace("_", " ").capitalize())


def _score(row: Mapping[str, Any], which: str = "") -> Cell:
    if row["top1"] is None:
        return Cell("–" if row["scored"] else "too few")
    return Cell(percent(row["top1"]), "–".join(percent(row[f"{end}{which}"]) for end in ("low", "high")))


def subgroups_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """Top-1 of each subgroup (rows) for some arms (columns), with intervals that are not adjusted."""
    rows = []
    shown = frame.filter(pl.col("arm").is_in(list(arms)))
    for _, part in shown.group_by("attribute", "subgroup", maintain_order=True):
        by_arm = {row["arm"]: row for row in part.iter_rows(named=True)}
        rows.append([_subgroup(by_arm[arms[0]]), *(_score(by_arm[arm]) for arm in arms)])
    return table(["Subgroup", *arms], rows)


def by(attributes: Sequence[Sequence[str]] | None) -> str:
    """The attributes of subgroups in a sentence; each of ATTRIBUTES alone unless told."""
    names = [heading("+".join(own)).lower() for own in attributes or [(name,) for name in ATTRIBUTES]]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def caution(frame: pl.DataFrame, least_patients: int = LEAST_PATIENTS) -> str:
    """What to bear in mind of the worst of so many subgroups; empty where none is scored."""
    if not frame["scored"].any():
        return ""
    scored = frame.filter("scored").select("attribute", "subgroup").n_unique()
    few = frame.filter(~pl.col("scored")).select("attribute", "subgroup").n_unique()
    left = (
        f" {few} more {'is' if few == 1 else 'are'} not scored, with fewer than {LEAST_IMAGES} images or "
        f"{least_patients} patients."
        if few
        else ""
    )
    seeds = int(frame["seeds"].min())  # type: ignore[arg-type]
    wide = f" With {seeds} seeds such intervals are wide: 5 or more narrow them." if 1 < seeds < 5 else ""
    return (
        f"The lowest of {scored} subgroups is in part the lowest by chance, and would come out higher with other patients; "
        f"its interval holds for all {scored} at once, and differences are adjusted for all arms and subgroups. Subgroups also "
        f"differ in the classes that they have.{left}{wide}"
    )
