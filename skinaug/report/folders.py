"""The page of an audit of two folders: its tables, and the pictures of the nearest copies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from skinaug.manifest import Manifest
from skinaug.report import audits, html, samples, text
from skinaug.report.audits import PAIRS, Pair
from skinaug.report.tables import Table, table
from skinaug.sources.vocabulary import with_scale
from skinaug.store.files import write_text

PAGE, TEMPLATE = "audit.html", "audit.html.j2"


def write_page(folder: Path, notes: Sequence[str]) -> None:
    """Write audit.html beside the files of an audit of two folders (`audit.folders.audit_folders`).

    notes: sentences that stand at its head.
    """
    summary = json.loads((folder / "summary.json").read_text())
    copies = pl.read_csv(
        folder / "copies.csv", schema_overrides={"image_id": pl.String, "other_id": pl.String}
    )
    content = {
        "real": summary["real"]["folder"],
        "synthetic": summary["synthetic"]["folder"],
        "notes": list(notes),
        "fidelity": audits.fidelity_table(folder),
        "fidelity_by_class": audits.fidelity_table(folder, None),
        "warnings": audits.warnings(folder),
        "memorisation": audits.memorisation_table(folder),
        "nearest": audits.nearest_pairs(folder, folder / "synthetic", folder / "real"),
        "of_real": _pairs(folder, copies.filter(pl.col("of") == "real"), "real"),
        "of_synthetic": _pairs(folder, copies.filter(pl.col("of") == "synthetic"), "synthetic"),
        "compared": _compared(folder),
        "tones": audits.tones_table(folder),
        "coverage": audits.coverage_table(folder),
        "figures": {},
        "samples_per_class": 1,
        "research_use_only": text.RESEARCH_USE_ONLY,
    }
    write_text(folder / PAGE, html.render(content, TEMPLATE))


def _pairs(folder: Path, copies: pl.DataFrame, kind: str) -> list[Pair]:
    """The most alike pairs of copies.csv, one an image."""
    own, others = (_paths(folder / name) for name in ("synthetic", kind))
    chosen = copies.unique("image_id", keep="first", maintain_order=True).head(PAIRS)
    return [
        Pair(
            samples.thumbnail(own[row["image_id"]], row["image_id"]),
            samples.thumbnail(others[row["other_id"]], row["other_id"]),
            f"cosine {row['cosine']:.2f}, {row['hamming']} of 64 bits apart{', identical' if row['identical'] else ''}",
        )
        for row in chosen.iter_rows(named=True)
    ]


def _paths(folder: Path) -> dict[str, Path]:
    """The files of a manifest's images, by id."""
    images = Manifest.read(folder)
    return dict(zip(images.table["image_id"], images.paths(), strict=True))


def _compared(folder: Path) -> Table:
    frame = pl.read_csv(folder / "compared.csv", schema_overrides={"value": pl.String})
    rows = [(with_scale(name, [value]), value, *counts) for name, value, *counts in frame.iter_rows()]
    return table(["Attribute", "Value", "Real", "Synthetic"], rows, words=2)
