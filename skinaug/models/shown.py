"""What a dashboard shows of a finished artifact: its numbers, predictions and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinaug.store.artifact import Artifact

if TYPE_CHECKING:
    import polars as pl


MARGIN_VERDICTS = (
    "non_inferior",
    "equivalent",
    "inferior",
)  # columns of a report's differences, where it has a margin


def summary(artifact: Artifact) -> dict[str, float]:
    """What a dashboard compares finished runs by, of any stage: cost/seconds; further

    - classify: test/<score>, test/recall/<class>, best/<score> (validation, of the chosen checkpoint) and train/<number>;
    - evaluate: test/<score> and test/recall/<class>, of a further test set;
    - curate: curate/generated and curate/kept, in images;
    - mix: mix/real and mix/synthetic, in images;
    - report: <arm>/difference to the baseline in top-1 with <arm>/low and <arm>/high (adjusted, in shares), <arm>/p_holm, and as 1
      or 0 <arm>/improves, <arm>/harms and, with a margin, <arm>/non_inferior, <arm>/equivalent and <arm>/inferior.
    """
    import polars as pl

    told: dict[str, float] = {"cost/seconds": artifact.record["seconds"]}
    if artifact.stage in ("classify", "evaluate"):
        metrics = json.loads((artifact.path / "metrics.json").read_text())
        for prefix, split in {"test": "test", "best": "val", "train": "train"}.items():
            if split not in metrics:
                continue
            numbers = {name: value for name, value in metrics[split].items() if _is_number(value)}
            told |= {f"{prefix}/{name}": value for name, value in numbers.items()}
        classes = metrics["test"]["per_class"].items()
        told |= {f"test/recall/{label}": scores["recall"] for label, scores in classes}
    elif artifact.stage == "curate":
        kept = len(pl.read_parquet(artifact.path / "manifest.parquet", columns=["image_id"]))
        generated = len(pl.read_parquet(artifact.path / "scores.parquet", columns=["image_id"]))
        told |= {"curate/generated": generated, "curate/kept": kept}
    elif artifact.stage == "mix":
        table = pl.read_csv(artifact.path / "table.csv")
        told |= {f"mix/{source}": int(table[source].sum()) for source in ("real", "synthetic")}
    elif artifact.stage == "report":
        told |= _verdicts(pl.read_csv(artifact.path / "differences.csv", infer_schema_length=None))
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _verdicts(differences: pl.DataFrame) -> dict[str, float]:
    """What a report says of each arm's top-1, by `<arm>/<column>`."""
    told: dict[str, float] = {}
    for row in differences.iter_rows(named=True):
        if row["metric"] == "top1":
            found = {
                "difference": row["difference"],
                "low": row["low_adjusted"],
                "high": row["high_adjusted"],
                "p_holm": row["p_holm"],
                "improves": int(row["low_adjusted"] > 0),
                "harms": int(row["high_adjusted"] < 0),
                **{name: int(row[name]) for name in MARGIN_VERDICTS if name in row},
            }
            told |= {f"{row['arm']}/{name}": value for name, value in found.items()}
    return told


def predictions(
    artifact: Artifact, inputs: Mapping[str, Artifact], most: int, photographs: bool
) -> pl.DataFrame:
    """Test predictions of a classifier, at most so many, drawn at random: image_id, label, prediction, confidence (probability of
    the prediction), correct; with `photographs` also `picture`, the file that was judged."""
    import polars as pl

    table = pl.read_parquet(artifact.path / "predictions.parquet").filter(pl.col("split") == "test")
    table = table.sample(min(most, table.height), seed=0).select(
        "image_id",
        "label",
        "prediction",
        confidence=pl.max_horizontal(pl.selectors.starts_with("p:")),
        correct=pl.col("label") == pl.col("prediction"),
    )
    return table.join(_files(_of(inputs, "dataset")), on="image_id", how="left") if photographs else table


def samples(artifact: Artifact, inputs: Mapping[str, Artifact], most: int, photographs: bool) -> pl.DataFrame:
    """Of a pool, as many images of each class, and of a curated one of those kept and those rejected: image_id, label,
    prompt, prompt_set, the filters' scores, kept, and `picture`, the file.

    Pictures that were made from a photograph are left out unless `photographs`: they may look like it.
    """
    import polars as pl

    pool = artifact if artifact.stage == "generate" else _of(inputs, "generate")
    table = pl.read_parquet(pool.path / "manifest.parquet")
    table = table.select(c for c in ("image_id", "label", "prompt", "prompt_set") if c in table.columns)
    groups = ["label"]
    if artifact.stage == "curate":
        scores = pl.read_parquet(artifact.path / "scores.parquet")
        kept = pl.read_parquet(artifact.path / "manifest.parquet", columns=["image_id"])["image_id"]
        table = table.join(scores.select("image_id", pl.selectors.contains(".")), on="image_id", how="left")
        table = table.with_columns(kept=pl.col("image_id").is_in(kept.implode()))
        groups = ["label", "kept"]
    each = max(most // max(table.n_unique(groups), 1), 1)
    table = table.group_by(groups, maintain_order=True).head(each).head(most).select(table.columns)
    from_photographs = pool.record["config"].get("mode", "text") != "text"
    if from_photographs and not photographs:
        return table
    return table.join(_files(pool), on="image_id", how="left")


def _of(inputs: Mapping[str, Artifact], stage: str) -> Artifact:
    """The input that a stage made, whatever its name: of several pools, each has one of its own."""
    return next(read for read in inputs.values() if read.stage == stage)


def _files(images: Artifact) -> pl.DataFrame:
    """image_id and the absolute path of its file, as `picture`, of the images of an artifact."""
    import polars as pl

    from skinaug.manifest import Manifest

    manifest = Manifest.read(images.path)
    paths = [str(path) for path in manifest.paths()]
    return pl.DataFrame({"image_id": manifest.table["image_id"], "picture": paths})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
