"""The report stage: a sweep's runs to tables, CSV, Markdown and one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from skinaug.report import (
    artifacts,
    audits,
    calibration,
    collect,
    cost,
    exchange,
    exposure,
    figures,
    gap,
    grid,
    html,
    measure,
    samples,
    subgroups,
    swept,
    tables,
    text,
)
from skinaug.report.collect import Run, Study
from skinaug.report.latex import latex
from skinaug.report.markdown import markdown
from skinaug.report.measure import SCORES, Draws, Measured
from skinaug.report.tables import Table
from skinaug.store.files import write_text

MOST_ARM_COLUMNS = 12  # that an arm's name may claim: the scores must fit beside it in 80
MOST_CLASSES = 12  # of which a confusion table is still readable
CURVES = {
    "train/loss": ("Training loss", 1),
    "val/loss": ("Validation loss", 1),
    "val/top1": ("Validation top-1, %", 100),
}
LATEX = ("arms", "differences", "paired", "exchange", "cost")  # tables that a paper may take
TERMINAL = ("top1", "balanced_accuracy", "auroc")  # what 80 columns have room for


def report(
    runs: Sequence[Run],
    published: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    compare: str | None = None,
    num_resamples: int = 2000,
    samples_per_class: int = 6,
    seed: int = 0,
    *,
    out: Path,
) -> None:
    """Write report.html, report.md and, as CSV, arms, differences, exchange, recall, runs, validity, cost, stages,
    calibration, operating_points, subgroups and gap; tables as LaTeX lie in tex/.

    Args:
        runs: jobs of one sweep; those that did not finish are listed as missing.
        published: results to show beside ours: `citation`, `test_images` and `rows` of arm, real and synthetic images a
            class, and top1, top2, top3 in per cent.
        baseline: the arm that the others are compared with; real_small, else the first, where none is given.
        compare: a swept config key, such as filter: arms that differ in nothing else are compared pair by pair.
        num_resamples: test sets and sets of seeds that the intervals stand on.
        samples_per_class: pictures a class and source.
        seed: of the bootstrap; other seeds move interval ends by about a tenth of a point.

    Raises:
        InputError: repeated or no finished runs, an unknown baseline, differing classes, unreadable published results.
    """
    if published is not None:
        tables.check_published(published)
    study = collect.make_study(runs, baseline)
    measured = measure.measure(study, num_resamples, seed)
    draws = measure.draw(study.predictions, num_resamples, seed)
    frames = {
        "arms": measure.arms_frame(study, measured),
        "differences": measure.differences_frame(study, measured),
        "exchange": exchange.exchange_frame(study, measured),
        "recall": measure.recall_frame(study, measured),
        "runs": measure.runs_frame(study, measured),
        "validity": audits.validity_frame(study, measured),
        "cost": cost.arms_frame(study),
        "stages": cost.stages_frame(study),
        "calibration": calibration.calibration_frame(study, draws),
        "operating_points": calibration.operating_points_frame(study, draws),
        "subgroups": subgroups.subgroups_frame(study, draws),
        "gap": gap.gap_frame(study, num_resamples, seed),
    }
    if compare is not None:
        frames["paired"] = measure.paired_frame(study, measured, compare)
    for name, frame in frames.items():
        write_text(out / f"{name}.csv", frame.write_csv())
    content = _content(study, published, frames, compare)
    write_text(out / "report.md", markdown(content))
    (out / "tex").mkdir(exist_ok=True)
    for name in LATEX:
        if content[f"{name}_table"]:
            write_text(out / "tex" / f"{name}.tex", latex(content[f"{name}_table"]))
    drawn = _drawn(study, frames["arms"])
    pictures = {
        "colours": figures.arm_colours(study.arms, study.baseline),
        "figures": _figures(study, measured, draws, frames),
        "pairs": _pairs(study),
        "strips": samples.sample_strips(study, samples_per_class),
        "samples_per_class": samples_per_class,
        "confusions": _confusions(study, drawn),
        "drawn": drawn,
        "drawn_note": text.drawn_note(study, drawn),
    }
    write_text(out / "report.html", html.render({**content, **pictures}))


def print_report(out: Path) -> None:
    """Print the arms and the differences of a finished report, and where its HTML lies."""
    arms, differences = (
        pl.read_csv(out / f"{name}.csv", infer_schema_length=None) for name in ("arms", "differences")
    )
    console = Console()
    title = "Scores on real test images, %, with 95 % interval"
    console.print(terminal_table(tables.arms_table(arms, TERMINAL), title))
    if differences.height:
        title = f"Difference to {differences['baseline'][0]} in points, paired by patient and seed, adjusted"
        console.print(terminal_table(tables.differences_table(differences, TERMINAL[:2]), title))
    if (out / "paired.csv").is_file():
        paired = pl.read_csv(out / "paired.csv", infer_schema_length=None)
        console.print(
            terminal_table(
                tables.paired_table(paired, ("top1", "balanced_accuracy")),
                "Pair by pair, in points, adjusted",
            )
        )
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, highlight=False)


def terminal_table(table: Table, title: str) -> RichTable:
    """A table for 80 columns or more."""
    shown = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for i, name in enumerate(table.header):
        longest = max((len(row[0].text) for row in table.rows), default=0)
        width = (
            min(longest, MOST_ARM_COLUMNS) if i == 0 else None
        )  # a name in one line reads better than a wide column
        shown.add_column(
            name, justify="left" if i < table.words else "right", overflow="fold", min_width=width
        )
    for row in table.rows:
        texts = [escape(cell.text) for cell in row]  # an arm may be called filter=[ensemble]
        shown.add_row(
            *(
                f"{text}\n[dim]{cell.note}[/dim]" if cell.note else text
                for text, cell in zip(texts, row, strict=True)
            )
        )
    return shown


def _content(
    study: Study, published: Mapping[str, Any] | None, frames: Mapping[str, pl.DataFrame], compare: str | None
) -> dict[str, Any]:
    """All words and tables of the report."""
    arms, differences = frames["arms"], frames["differences"]
    shown = measure.shown_arms(arms)
    metrics = measure.metric_names(study)
    data = [artifacts.manifest(folder) for folder in study.artifacts("dataset")]
    record = artifacts.record(study.runs[-1].artifacts["classify"])
    return {
        "experiment": study.experiment,
        "compare": compare,
        "paired_table": tables.paired_table(frames["paired"], metrics) if compare else None,
        "baseline": study.baseline,
        "classes": study.classes,
        "headline": text.headline(study, arms, differences),
        "paired_headline": text.pairs(frames["paired"], compare) if compare else [],
        "notes": text.notes(study, arms, differences),
        "arms_table": tables.arms_table(arms, metrics),
        "differences_table": tables.differences_table(differences, metrics) if differences.height else None,
        "exchange_table": exchange.exchange_table(frames["exchange"]),
        "heatmaps": {
            SCORES[name]: grid.heatmaps(study, arms, name) for name in ("top1", "balanced_accuracy")
        },
        "exchange_notes": exchange.exchange_notes(frames["exchange"]),
        "published": published,
        "published_reading": text.published_reading(published, study.baseline) if published else "",
        "published_table": tables.published_table(published, arms) if published else None,
        "funnels": {name: _funnel(folder) for name, folder in _funnels(study).items()},
        "audits": {name: _audit(folder) for name, folder in audits.pool_audits(study).items()},
        "validity_table": audits.validity_table(frames["validity"]) if frames["validity"].height else None,
        "certificates_table": audits.certificates_table(study),
        "not_covered": audits.not_covered(study),
        "recall_table": tables.recall_table(frames["recall"], tables.supports(study)),
        "shown": figures.arm_colours(shown, study.baseline),
        "calibration_table": calibration.calibration_table(frames["calibration"]),
        "operating_points_table": calibration.operating_points_table(frames["operating_points"], shown),
        "worst_table": subgroups.worst_table(frames["subgroups"], arms),
        "top1_table": subgroups.subgroups_table(frames["subgroups"], shown),
        "gap_table": gap.gap_table(frames["gap"], arms),
        "caution": subgroups.caution(frames["subgroups"]),
        "data_tables": [tables.data_table(manifest) for manifest in data],
        "licences": list(dict.fromkeys((m.licence, m.citation) for m in data)),
        "exposure_table": exposure.exposure_table(study),
        "runs_table": tables.runs_table(frames["runs"]),
        "cost": cost.summary(frames["stages"], frames["cost"]),
        "cost_table": cost.arms_table(frames["cost"]),
        "stages_table": cost.stages_table(frames["stages"]),
        "record": record,
        "settings": swept.shared_settings(study),
        "research_use_only": text.RESEARCH_USE_ONLY,
    }


def _funnel(folder: Path) -> dict[str, Table | None]:
    """Tables of what a pool's filters kept and why."""
    return {
        "kept": tables.funnel_table(folder),
        "reasons": tables.reasons_table(folder),
        "subgroups": tables.subgroups_table(folder),
    }


def _audit(folder: Path) -> dict[str, Any]:
    """Tables of what a pool's audit found."""
    return {
        "fidelity": audits.fidelity_table(folder),
        "fidelity_by_class": audits.fidelity_table(folder, None),
        "warnings": audits.warnings(folder),
        "memorisation": audits.memorisation_table(folder),
        "tones": audits.tones_table(folder),
        "sizes": audits.sizes_table(folder),
        "coverage": audits.coverage_table(folder),
    }


def _pairs(study: Study) -> dict[str, list[audits.Pair]]:
    """The nearest pairs of each pool."""
    runs = {run.artifacts["audit"]: run.artifacts for run in study.runs if "audit" in run.artifacts}
    return {
        name: audits.nearest_pairs(
            folder, *(runs[folder][stage] for stage in ("curate", "generate", "dataset"))
        )
        for name, folder in audits.pool_audits(study).items()
    }


def _funnels(study: Study) -> dict[str, Path]:
    """Curation artifacts by the name that their pool has among the samples."""
    folders = list(study.artifacts("curate"))
    return dict(zip(samples.pools(study), folders, strict=False)) if folders else {}


def _figures(
    study: Study, measured: Measured, draws: Draws, frames: Mapping[str, pl.DataFrame]
) -> dict[str, list[str]]:
    colours = figures.arm_colours(study.arms, study.baseline)
    drawn = _drawn(study, frames["arms"])
    return {
        "scores": [
            _scores_figure(study, measured, drawn, name, colours) for name in ("top1", "balanced_accuracy")
        ],
        "differences": [
            _differences_figure(measured, frames["differences"], drawn, name, colours)
            for name in ("top1", "balanced_accuracy")
            if frames["differences"].height
        ],
        "sweeps": [_sweep_figure(study, frames["arms"], key, "top1") for key in swept.numbers(study)],
        "exchange": _exchange_figures(study, measured, frames["exchange"]),
        "curves": _curves_figures(study, drawn, colours),
        "calibration": calibration.calibration_figures(study, draws, measure.shown_arms(frames["arms"])),
    }


def _drawn(study: Study, arms: pl.DataFrame) -> list[str]:
    """Arms that figures show, where one has a line or a colour of its own."""
    return figures.ends(dict(arms.select("arm", "top1").iter_rows()), study.baseline)


def _scores_figure(
    study: Study, measured: Measured, drawn: Sequence[str], metric: str, colours: Mapping[str, str]
) -> str:
    rows = []
    for arm in drawn:
        estimate = measured.estimate(arm, metric)
        mean, low, high = (100 * float(value) for value in (estimate.mean, estimate.low, estimate.high))
        seeds = {seed: 100 * float(measured.scores[arm, seed][metric]) for seed in measured.seeds(arm)}
        rows.append(figures.Row(arm, mean, low, high, seeds))
    return figures.dots(rows, colours, f"{SCORES[metric]}, %")


def _differences_figure(
    measured: Measured,
    differences: pl.DataFrame,
    drawn: Sequence[str],
    metric: str,
    colours: Mapping[str, str],
) -> str:
    rows = []
    chosen = (pl.col("metric") == metric) & pl.col("arm").is_in(list(drawn))
    for row in differences.filter(chosen).iter_rows(named=True):
        arm, baseline = row["arm"], row["baseline"]
        seeds = {
            seed: 100 * float(measured.scores[arm, seed][metric] - measured.scores[baseline, seed][metric])
            for seed in measured.seeds(arm, baseline)
        }
        bounds = 100 * row["low_adjusted"], 100 * row["high_adjusted"]
        rows.append(figures.Row(arm, 100 * row["difference"], *bounds, seeds))
    return figures.dots(rows, colours, f"{SCORES[metric]}, difference in points", zero=True)


def _sweep_figure(study: Study, arms: pl.DataFrame, key: str, metric: str) -> str:
    numbers = swept.numbers(study)[key]
    by_arm = {
        row["arm"]: tuple(100 * row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
        for row in arms.iter_rows(named=True)
    }
    found = {
        name: sorted(figures.Point(numbers[arm], arm, *by_arm[arm]) for arm in members if arm in numbers)
        for name, members in swept.series(study, key).items()
    }
    known = {name: points for name, points in found.items() if points}
    chosen = {name: known[name] for name in figures.spread(list(known))}
    several = f" ({len(chosen)} of {len(known)} series)" if len(chosen) < len(known) else ""
    return figures.bands(chosen, f"{SCORES[metric]}, %{several}", swept.heading(key))


def _exchange_figures(study: Study, measured: Measured, frame: pl.DataFrame) -> list[str]:
    """Learning curves of real images, each with the arms that are held against it: all counts of real images of some series."""
    svgs = []
    for drawing in exchange.drawings(study, measured, frame):
        points = [
            figures.Point(
                count, f"{count:,.4g} real / class", *(100 * float(v) for v in (own.mean, own.low, own.high))
            )
            for count, own in drawing.points.items()
        ]
        joins: dict[str, list[figures.Join]] = {}
        for row in drawing.arms:
            join = _join(study, measured, row)
            joins.setdefault(join.label, []).append(join)
        most = max(1, figures.MOST_ARMS // max(len(own) for own in joins.values()))
        chosen = [join for label in figures.spread(list(joins), most) for join in joins[label]]
        several = f" ({len(chosen)} of {len(drawing.arms)} arms)" if len(chosen) < len(drawing.arms) else ""
        title = f"{SCORES[exchange.JUDGE]}, %{several}"
        svgs.append(
            figures.exchange(points, (100 * drawing.risen).tolist(), chosen, title, "Real images / class")
        )
    return svgs


def _join(study: Study, measured: Measured, row: Mapping[str, Any]) -> figures.Join:
    arm = row["arm"]
    overrides = study.of(arm)[0].overrides
    keys = [key for key in collect.varying(study.runs) if not key.startswith("mix.real") and key in overrides]
    label = ", ".join(swept.setting(key, overrides[key]) for key in keys) or arm
    score = 100 * float(measured.estimate(arm, exchange.JUDGE).mean)
    equivalent, worth = exchange.told(row)
    said = f"{arm}: {score:.1f}, as much as {equivalent} real / class; a synthetic image is worth {worth}"
    return figures.Join(label, row["real"], score, row["equivalent"], said)


def _curves_figures(study: Study, drawn: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    tables = {arm: {run.seed: artifacts.curves(run) for run in study.of(arm)} for arm in drawn}
    svgs = []
    for column, (title, scale) in CURVES.items():
        found = {
            arm: {seed: figures.curve(table, column, scale) for seed, table in own.items()}
            for arm, own in tables.items()
        }
        known = {
            arm: {seed: curve for seed, curve in own.items() if curve is not None}
            for arm, own in found.items()
        }
        known = {arm: own for arm, own in known.items() if own}
        svgs += [figures.lines(known, colours, title)] * bool(known)
    return svgs


def _confusions(study: Study, drawn: Sequence[str]) -> dict[str, list[list[float]]]:
    """Rows of shares of each arm drawn, where the classes are few enough to read."""
    if len(study.classes) > MOST_CLASSES:
        return {}
    return {arm: np.nan_to_num(measure.confusion(study, arm)).tolist() for arm in drawn}
