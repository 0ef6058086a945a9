"""`skinaug export <artifact> <folder>`: pictures or predictions of the store in a form that others read; of a sweep's folder,
the predictions of all its runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from skinaug.errors import InputError, listing, plural
from skinaug.images import SUFFIXES
from skinaug.leaks.lineage import audit_artifact
from skinaug.manifest import EXPOSURES, Manifest
from skinaug.models.cards import CARD
from skinaug.report.collect import (
    FILE_NAME,
    PROBABILITY,
    RUN_FILE,
    Run,
    Study,
    asked_runs,
    make_study,
    predictions_of,
)
from skinaug.report.subgroups import ATTRIBUTES
from skinaug.sources.patients import sentence
from skinaug.sources.vocabulary import TELLER
from skinaug.store.artifact import Artifact
from skinaug.store.store import Store

PICTURES = ("dataset", "generate", "curate", "mix")  # stages whose artifacts are manifests
FORMS = {
    "imagefolder": "of pictures: a Hugging Face ImageFolder, with a data card",
    "csv": "of pictures: a folder a class and metadata.csv, with a data card; of a classifier or a sweep: predictions",
    "isic": "of a classifier: a submission file of the ISIC challenges, one row a test image",
}


def main(arguments: list[str]) -> int:
    """Export; returns the exit status."""
    parser = argparse.ArgumentParser(prog="skinaug export", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    told = "; ".join(f"{name}: {words}" for name, words in FORMS.items())
    parser.add_argument(
        "artifact", help="<stage>/<key> or a key, as `skinaug store ls` lists them; or the folder of a sweep"
    )
    parser.add_argument("folder", type=Path, help="an empty or new folder")
    parser.add_argument("--to", choices=FORMS, default="csv", help=f"{told} (default: csv)")
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    options = parser.parse_args(arguments)
    if options.folder.exists() and any(options.folder.iterdir()):
        raise InputError(f"{options.folder} is not empty: give an empty or a new folder to export to.")
    store, sweep = Store(options.store), Path(options.artifact)
    if any(sweep.rglob(RUN_FILE)):
        told_count = export_runs(sweep, options.folder, options.to, store.root)
    else:
        told_count = export(store, store.find(options.artifact), options.folder, options.to)
    Console().print(f"{told_count} to {options.folder}", highlight=False, soft_wrap=True)
    return 0


def export(store: Store, artifact: Artifact, folder: Path, form: str) -> str:
    """Write an artifact to a folder in a form of `FORMS`; returns what was written, in words.

    Raises:
        InputError: a stage that has no such form, or pictures that cannot be files below a folder.
    """
    if artifact.stage in PICTURES and form != "isic":
        from skinaug.dataset.imagefolder import to_imagefolder

        manifest = Manifest.read(artifact.path)
        (to_imagefolder if form == "imagefolder" else to_csv)(manifest, folder)
        (folder / CARD).write_text(data_card(store, artifact, manifest))
        return plural(len(manifest), "picture")
    if artifact.stage == "classify" and form != "imagefolder":
        predictions = pl.read_parquet(artifact.path / FILE_NAME)
        if form == "isic":
            table = submission(predictions)  # of text, written as it is
            folder.mkdir(parents=True, exist_ok=True)
            table.write_csv(folder / "submission.csv")
            return plural(table.height, "row")
        job = artifact.record.get("job")  # which records of old do not tell
        about = {"arm": job["mix"]["name"], "seed": job["seed"]} if job else {}
        data = store.lineage(artifact.record["inputs"])["dataset"].path
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions([told(predictions, Manifest.read(data), **about)], folder)
        return plural(predictions.height, "row")
    raise InputError(
        f"{artifact.stage}/{artifact.key} cannot be exported as {form}. Pictures ({', '.join(PICTURES)}) go to imagefolder or csv, "
        "predictions (classify) to csv or isic; other stages hold neither."
    )


def export_runs(sweep: Path, folder: Path, form: str, store: Path | None = None) -> str:
    """Write the predictions of a sweep's finished runs to one table, with arm and seed as its report names them; returns what was
    written, in words. store: as of `read_runs`.

    Raises:
        InputError: no run below the folder has finished, or another form than csv.
    """
    if form != "csv":
        raise InputError(f"The runs below {sweep} cannot be exported as {form}: their predictions go to csv.")
    study = make_study(asked_runs(sweep, store))
    data = {path: Manifest.read(path) for path in study.artifacts("dataset")}
    tables = [
        told(table, data[run.artifacts["dataset"]], arm=run.arm, seed=run.seed)
        for run, table in _exported(study)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(tables, folder)
    return f"{plural(sum(table.height for table in tables), 'row')} of {plural(len(tables), 'run')}"


def _exported(study: Study) -> Iterator[tuple[Run, pl.DataFrame]]:
    """Runs by arm and seed, with predictions. What the report puts together of several seeds is taken apart again; the folds of one
    seed stay one run, of test images alone, which no two folds share: validation images of one are test images of another."""
    for run in study.runs:
        groups: dict[tuple[str, int], list[Run]] = {}
        for part in run.parts:
            arm = f"{run.arm}, split {run.seed}" if study.unit == "split" else run.arm
            groups.setdefault((arm, part.seed), []).append(part)
        if not groups:
            yield run, predictions_of(run)
        for (arm, seed), parts in groups.items():
            tables = [predictions_of(part).filter(pl.col("split") == "test") for part in parts]
            table = pl.concat(tables) if len(parts) > 1 else predictions_of(parts[0])
            yield replace(parts[0], arm=arm, seed=seed), table


def told(predictions: pl.DataFrame, data: Manifest, **about: Any) -> pl.DataFrame:
    """Predictions with what tells their run in front, and with what is known of the patients, for a report elsewhere."""
    known = data.table.select(
        "image_id", *(name for name in (*ATTRIBUTES, TELLER) if name in data.table.columns)
    )
    people = predictions.join(known, on="image_id", how="left", maintain_order="left", validate="m:1")
    return people.select(*(pl.lit(value).alias(name) for name, value in about.items()), pl.all())


def write_predictions(tables: Sequence[pl.DataFrame], folder: Path) -> None:
    """One CSV file; its numbers are read back as they are, to the last digit."""
    table = pl.concat(tables, how="diagonal_relaxed")
    table.with_columns(pl.col(f"^{PROBABILITY}.*$").cast(pl.Float64)).write_csv(folder / "predictions.csv")


def to_csv(manifest: Manifest, folder: Path) -> None:
    """`<label>/<image>` and metadata.csv with a row a picture: `file_name`, `label` and the other columns; lists joined by ;.

    Raises:
        InputError: labels or ids that would be files outside the folder.
    """
    from skinaug.dataset.imagefolder import file_names

    table, names = manifest.table, file_names(manifest)
    for name, source in zip(names, manifest.paths(), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    lists = [name for name, dtype in table.schema.items() if dtype.is_nested()]
    flat = table.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(";") for name in lists)
    # Masks stay behind: whoever reads the folder would take them for pictures of the class.
    flat = flat.drop("path", "mask", strict=False)
    flat.insert_column(0, pl.Series("file_name", names)).write_csv(folder / "metadata.csv")


def submission(predictions: pl.DataFrame) -> pl.DataFrame:
    """A row a test image: `image`, its file's name without folder and extension, and a probability a class, which its challenge
    reads as confidence above 0.5 or by rank.

    Numbers are written in full, with a decimal point and without an exponent, so that ranks are those of the probabilities. Of
    two classes that share the largest one the predicted is raised by 1e-12 of it, so that no reader's order of columns decides.

    Raises:
        InputError: test images that would have the same name.
    """
    test = predictions.filter(pl.col("split") == "test")
    names = [_image_name(image_id) for image_id in test["image_id"]]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"{len(twice)} names stand for several test images, and a submission knows images by their names alone:\n{listing(twice)}"
            "\nRename the files."
        )
    columns = [name for name in test.columns if name.startswith("p:")]
    tied = pl.sum_horizontal(pl.col(name) == pl.max_horizontal(columns) for name in columns) > 1
    numbers = test.select(
        pl.col(name).cast(pl.Float64)
        * pl.when(tied & (pl.col("prediction") == name.removeprefix("p:"))).then(1 + 1e-12).otherwise(1.0)
        for name in columns
    )
    written = {
        name.removeprefix("p:"): [np.format_float_positional(p, trim="0") for p in numbers[name]]
        for name in columns
    }
    return pl.DataFrame({"image": names, **written})


def _image_name(image_id: str) -> str:
    name = PurePosixPath(image_id)
    return name.stem if name.suffix.lower() in SUFFIXES else name.name


def data_card(store: Store, artifact: Artifact, manifest: Manifest) -> str:
    """README.md of exported pictures: how many, of what, made how, and who has seen what."""
    return "\n".join(_card(store, artifact, manifest)) + "\n"


def _card(store: Store, artifact: Artifact, manifest: Manifest) -> Iterator[str]:
    table = manifest.table
    yield f"# {artifact.stage} {artifact.key}"
    yield ""
    counts = table.group_by("label", "source").len().sort("label", "source")
    yield "| class | source | images |"
    yield "|---|---|---:|"
    for label, source, count in counts.iter_rows():
        yield f"| {label} | {source} | {count:,} |"
    yield ""
    lineage = store.lineage({artifact.stage: artifact.key})
    for words, value in facts(lineage, table):
        yield f"- **{words}**: {value}"
    if said := _without_patient(lineage):
        yield f"- **patients of the photographs**: {said}"
    yield f"- **licence of the photographs**: {manifest.licence or 'not told'}"
    if manifest.citation:
        yield f"- **cite**: {manifest.citation}"
    if artifact.stage != "dataset":
        certificate = audit_artifact(store, artifact)
        yield f"- **leak certificate**: {'holds' if certificate['holds'] else 'does not hold'}"
        for note in certificate["not_covered"]:
            yield f"- **not covered by it**: {note}"
    if "synthetic" in set(table["source"]):
        yield ""
        yield (
            "The synthetic pictures show no patient and have been checked by no dermatologist one by one. For research only, not for "
            "diagnosis. Say that they are synthetic wherever you show them."
        )


def _without_patient(lineage: Mapping[str, Artifact]) -> str:
    """What a data set's summary says of photographs without a patient; "" of none, and of summaries of before."""
    if "dataset" not in lineage:
        return ""
    summary = json.loads((lineage["dataset"].path / "summary.json").read_text())
    return sentence(summary["without_patient"]) if "without_patient" in summary else ""


def facts(lineage: Mapping[str, Artifact], table: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """What made the pictures, from the records of what led to them."""
    configs: dict[str, dict[str, Any]] = {name: found.record["config"] for name, found in lineage.items()}
    if base := configs.get("generate", {}).get("base"):
        yield "base", str(base.get("path") or ", ".join(base.get("hub_ids") or []) or base["_target_"])
        yield "licence of the base", str(base.get("licence") or "not told")
    for stage in ("finetune", "generate"):
        if "seen" in (given := configs.get(stage, {})):
            yield "made elsewhere", f"{given['name']}; its maker has seen: {given['seen']}"
    if "finetune" in configs and "seen" not in configs["finetune"]:
        method = (configs["finetune"].get("method") or configs["finetune"])["_target_"]
        yield "taught by", method.rpartition(".")[2]
    if "prompt_set" in table.columns:
        sets = sorted(table["prompt_set"].drop_nulls().unique())
        yield "prompt sets", ", ".join(sets)
    if filters := configs.get("curate", {}).get("filters"):
        yield "filters", ", ".join(filters)
    if "exposure" in table.columns:
        known = [EXPOSURES.get(name, name) for name in sorted(table["exposure"].drop_nulls().unique())]
        yield "exposure", "; ".join(known)
