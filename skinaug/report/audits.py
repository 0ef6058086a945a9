"""What the audits of a sweep's pools and runs found: fidelity, memorisation, attributes, certificates, validity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.manifest import read_once
from skinaug.report import artifacts, samples
from skinaug.report.collect import Run, Study
from skinaug.report.measure import SCORES, Measured
from skinaug.report.samples import Thumbnail
from skinaug.report.tables import Cell, Table, number, table
from skinaug.report.units import jobs_of
from skinaug.sources.vocabulary import place_on_scale, with_scale

METRICS = {  # name -> (heading, whether more is better)
    "fid": ("FID", False),
    "kid": ("KID", False),
    "cmmd": ("CMMD", False),
    "precision": ("Precision", True),
    "recall": ("Recall", True),
    "density": ("Density", True),
    "coverage": ("Coverage", True),
    "vendi": ("Vendi score", True),
}
ALL = "all"
PAIRS = 12  # nearest pairs that are shown of a pool
LEAST_POOLS = 3  # that can be ranked
JUDGE = "top1"  # the score that fidelity should predict


@dataclass(frozen=True)
class Pair:
    """A synthetic image and the training photograph that it comes nearest to."""

    image: Thumbnail
    photograph: Thumbnail
    text: str


def pool_audits(study: Study) -> dict[str, Path]:
    """Audit artifacts by the name that their pool has among the samples; pools without one are left out."""
    names = dict(zip(study.artifacts("curate"), samples.pools(study), strict=False))
    found = {}
    for run in study.jobs:
        folder = run.artifacts.get("audit")
        if folder is not None and (name := names.get(run.artifacts["curate"])):
            found[name] = folder
    return found


def fidelity_table(folder: Path, label: str | None = ALL) -> Table:
    """Every metric with its interval: a row a set; or, without a label, a row a class and set."""
    frame = artifacts.fidelity(folder)
    raw, curated = (frame.filter(pl.col("set") == name)["value"] for name in ("raw", "curated"))
    if raw.equals(curated):  # nothing was filtered
        frame = frame.filter(pl.col("set") != "curated")
    chosen = frame.filter(pl.col("label") == label if label else pl.col("label") != ALL)
    rows = []
    for (name, of), part in chosen.group_by("set", "label", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        cells = [_value(by_metric[metric]) for metric in METRICS]
        about = [name] if label else [of, name]
        rows.append([*about, part["images"][0], *cells])
    rows = rows if label else sorted(rows, key=lambda row: str(row[0]))
    headings = ["Set"] if label else ["Class", "Set"]
    marked = [f"{heading} {'↑' if more else '↓'}" for heading, more in METRICS.values()]
    return table([*headings, "Images", *marked], rows, words=len(headings))


def _value(row: dict[str, Any]) -> Cell:
    interval = (
        "" if row["low"] is None or row["high"] is None else f"{short(row['low'])}–{short(row['high'])}"
    )
    return Cell(short(row["value"]), interval)


def short(value: float) -> str:
    """Three digits that count, and no exponent: 1,340, 12.9, 0.58."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}".replace("-", "−")


def warnings(folder: Path) -> list[str]:
    """What must be known of the values over all classes."""
    return [
        text for text in artifacts.fidelity(folder).filter(pl.col("label") == ALL)["warning"].unique() if text
    ]


def memorisation_table(folder: Path) -> Table:
    """Near-copies of training photographs, raw and curated, against the photographs among themselves."""
    rows: list[list[Any]] = []
    found = artifacts.memorisation(folder)
    for name, counts in found.items():
        if counts["images"]:
            verdict = "copies among them" if counts["accused"] else "no sign of copying"
            share = _share(counts["share"], counts["low"], counts["high"])
            rows.append([f"{name} pool", verdict, counts["images"], counts["copies"], share])
    if rows:
        counts = next(iter(found.values()))
        baseline = _share(counts["real_share"], counts["real_low"], counts["real_high"])
        rows.append(["training photographs, to other patients", "baseline", "", "", baseline])
    return table(["Set", "Verdict", "Images", "Near-copies", "Share, %"], rows, words=2)


def obedience_table(folder: Path) -> Table | None:
    """Words asked for against words seen, a row an attribute; None where it was not measured."""
    found = artifacts.obedience(folder)
    if found.is_empty():
        return None
    rows = []
    for row in found.iter_rows(named=True):
        scores = [f"{100 * row[name]:.0f}" for name in ("chance", "ceiling", "seen")]
        heard = (
            Cell("–")
            if row["obedience"] is None
            else Cell(f"{row['obedience']:.2f}", f"{row['low']:.2f}–{row['high']:.2f}")
        )
        rows.append([row["attribute"], row["words"], row["images"], *scores, heard])
    headings = ["Asked for", "Words", "Images", "Chance, %", "Real images, %", "Pool, %", "Obedience"]
    return table(headings, rows, words=2)


def _share(share: float, low: float, high: float) -> Cell:
    return Cell(f"{100 * share:.1f}", f"{100 * low:.1f}–{100 * high:.1f}")


def nearest_pairs(folder: Path, generate: Path, dataset: Path) -> list[Pair]:
    """The pairs of an audit that are most likely to be copies, one a photograph."""
    table = pl.read_parquet(folder / "memorisation.parquet").sort("copy_p", "ratio", "image_id")
    chosen = table.unique("nearest", keep="first", maintain_order=True).head(PAIRS)
    pool, data = read_once(generate), read_once(dataset)
    paths = dict(zip(pool.table["image_id"], pool.paths(), strict=True))
    photographs = dict(zip(data.table["image_id"], data.paths(), strict=True))
    return [
        Pair(
            samples.thumbnail(paths[row["image_id"]], f"synthetic, {row['label']}"),
            samples.thumbnail(photographs[row["nearest"]], f"training photograph {row['nearest']}"),
            f"{row['label']}, cosine {row['similarity']:.2f}, p {row['copy_p']:.3f}{'' if row['kept'] else ', rejected'}",
        )
        for row in chosen.iter_rows(named=True)
    ]


def tones_table(folder: Path) -> Table | None:
    """Of the images kept, skin type asked for (rows) against tone that came out (columns), in per cent of the row.

    None where none was asked for.
    """
    asked = artifacts.attributes(folder).filter(pl.col("skin_type") != "")
    if asked.is_empty():
        return None
    heading = with_scale("Asked", asked["skin_type"])
    return _crossed(asked, "skin_type", "tone", heading, [str(tone) for tone in range(1, 7)], "tone ")


def sizes_table(folder: Path) -> Table:
    """Of the images kept, class (rows) against the size of lesions that came out (columns), in per cent of the row."""
    return _crossed(
        artifacts.attributes(folder), "label", "size", "Class", ["none", "small", "medium", "large"], ""
    )


def _crossed(
    frame: pl.DataFrame, row: str, column: str, heading: str, columns: Sequence[str], prefix: str
) -> Table:
    counts = frame.group_by(row, pl.col(column).cast(pl.String)).agg(pl.col("kept").sum())
    cells = {(one, other): images for one, other, images in counts.iter_rows()}
    rows = []
    for name in sorted(frame[row].unique(), key=place_on_scale):
        total = sum(cells.get((name, other), 0) for other in columns)
        shares = [cells.get((name, other), 0) / max(total, 1) for other in columns]
        rows.append([name, total, *(Cell(f"{100 * share:.0f}", heat=share) for share in shares)])
    return table([heading, "Images kept", *(prefix + other for other in columns)], rows)


def coverage_table(folder: Path) -> Table | None:
    """Images kept of those asked for, by body site (rows) and skin type (columns); None where neither was asked for."""
    asked = artifacts.attributes(folder).filter((pl.col("skin_type") != "") & (pl.col("body_site") != ""))
    if asked.is_empty():
        return None
    sums = asked.group_by("body_site", "skin_type").agg(pl.col("images").sum(), pl.col("kept").sum())
    cells = {
        (site, tone): Cell(number(kept), f"of {images}") for site, tone, images, kept in sums.iter_rows()
    }
    types = sorted(asked["skin_type"].unique(), key=place_on_scale)
    rows = [
        [site, *(cells.get((site, tone), Cell("–")) for tone in types)]
        for site in sorted(asked["body_site"].unique())
    ]
    return table([with_scale("Asked body site, skin type", types), *types], rows)


def certificates_table(study: Study) -> Table | None:
    """What each arm's certificates cover: photographs that reached each place, and leaks; None of runs that were made
    elsewhere, of which nothing could be certified."""
    if not study.artifacts("classify"):
        return None
    rows = []
    for arm in study.arms:
        certificates = [artifacts.certificate(run) for run in jobs_of(study.of(arm))]
        made = [certificate for certificate in certificates if certificate is not None]
        holding = sum(certificate["holds"] for certificate in made)
        places = {name: counts for certificate in made for name, counts in certificate["places"].items()}
        reached = ", ".join(f"{name} {counts['photographs']:,}" for name, counts in places.items() if counts)
        held_out = made[0]["held_out"] if made else {}
        patients = " + ".join(str(split["patients"]) for split in held_out.values())
        verdict = "holds" if made and holding == len(certificates) else "not shown"
        rows.append(
            [arm, f"{verdict} ({holding} of {len(certificates)} runs)", reached or "–", patients or "–"]
        )
    return table(
        ["Arm", "Certificate", "Photographs that reached", "Held-out patients (val + test)"], rows, words=3
    )


def not_covered(study: Study) -> list[str]:
    """What the certificates cannot speak of."""
    found = [certificate for run in study.jobs if (certificate := artifacts.certificate(run))]
    return list(dict.fromkeys(text for certificate in found for text in certificate["not_covered"]))


VALIDITY = {
    "metric": pl.String,
    "correlation": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "pools": pl.Int64,
}


def validity_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """Whether fidelity ranks the pools as the classifiers do: Spearman's correlation with top-1, with a 95 % interval.

    A pool's score is the mean over the runs that trained on it, of those mixes and seeds that every pool has. The interval
    resamples test patients (as everywhere) and draws each fidelity value from its own normal interval. Measures of which less
    is better are turned round: 1 is a measure that ranks as the classifiers do. Empty below three pools.
    """
    folders = {run.artifacts["audit"]: None for run in study.runs if "audit" in run.artifacts}
    used = {
        folder: {
            _design(run): (run.arm, run.seed) for run in study.runs if run.artifacts.get("audit") == folder
        }
        for folder in folders
    }
    shared = set.intersection(*map(set, used.values())) if used else set()
    if len(used) < LEAST_POOLS or not shared:
        return pl.DataFrame(schema=VALIDITY)
    names = [[runs[design] for design in shared] for runs in used.values()]
    scores = np.array([np.mean([measured.scores[name][JUDGE] for name in runs]) for runs in names])
    resampled = np.stack(
        [np.mean([measured.resampled[name][JUDGE] for name in runs], axis=0) for runs in names], axis=1
    )
    rng, rows = np.random.default_rng(measured.seed), []
    frames = [
        artifacts.fidelity(folder).filter((pl.col("label") == ALL) & (pl.col("set") == "curated"))
        for folder in used
    ]
    for metric, (_, more_is_better) in METRICS.items():
        values = [
            frame.row(by_predicate=pl.col("metric") == metric, named=True) for frame in frames if frame.height
        ]
        if len(values) < len(frames):
            continue
        sign = 1 if more_is_better else -1
        value = sign * np.array([row["value"] for row in values])
        widths = np.array(
            [(row["high"] - row["low"]) / 2 if row["low"] is not None else np.nan for row in values]
        )
        drawn = value + rng.normal(size=resampled.shape) * np.nan_to_num(widths) / 1.96
        correlations = _rank_correlation(drawn, resampled)
        low, high = np.nanquantile(correlations, (0.025, 0.975))
        rows.append(
            (
                metric,
                float(_rank_correlation(value[None], scores[None])[0]),
                float(low),
                float(high),
                len(values),
            )
        )
    return pl.DataFrame(rows, schema=VALIDITY, orient="row")


def _design(run: Run) -> tuple[str, int]:
    """What two runs on different pools have in common: the mix and the seed."""
    mix = run.config.get("mix", {})
    return (repr(sorted(mix.items())) if isinstance(mix, dict) else str(mix), run.seed)


def _rank_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row: float [B, P] twice to float [B]; nan where a row is constant."""
    from scipy.stats import rankdata  # takes a second to import: only where pools are ranked

    ranks = [rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (left, right)]
    with np.errstate(invalid="ignore"):
        return (ranks[0] * ranks[1]).sum(1) / np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))


def validity_table(validity: pl.DataFrame) -> Table:
    """A row a metric: its rank correlation with the classifiers' scores."""
    rows = []
    for row in validity.iter_rows(named=True):
        interval = f"{row['low']:+.2f} to {row['high']:+.2f}".replace("-", "−")
        correlation = Cell(f"{row['correlation']:+.2f}".replace("-", "−"), interval)
        verdict = (
            "ranks alike"
            if row["low"] > 0
            else "ranks the other way"
            if row["high"] < 0
            else "not shown to rank alike"
        )
        rows.append([METRICS[row["metric"]][0], verdict, row["pools"], correlation])
    return table(["Measure", f"Against {SCORES[JUDGE].lower()}", "Pools", "Rank correlation"], rows, words=2)
