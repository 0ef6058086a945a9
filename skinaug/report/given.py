"""Predictions that were made elsewhere: tables of a folder, checked, in the form of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing, plural, printable
from skinaug.report.collect import PROBABILITY
from skinaug.report.settings import Asked
from skinaug.report.subgroups import ATTRIBUTES
from skinaug.sources.tables import SPLIT_WORDS, read_csv, tidy
from skinaug.sources.told import tell, telling
from skinaug.sources.vocabulary import TELLER

READERS = (".csv", ".parquet")
PATIENTS = ("group_id", "patient_id", "patient")  # names of the patients' column, the first that is there
PEOPLE = (*ATTRIBUTES, TELLER)
NAMED = ("image_id", "label", "arm", "seed", "split", "prediction", *PATIENTS, *PEOPLE)  # no classes
JUDGED = ("test", "val", "synthetic")
ROUNDING = 0.01  # by which probabilities may miss a sum of 1: twenty classes with three decimals
FILE = re.compile(r"(?P<arm>.+?)[ _-]+seed[ _-]*(?P<seed>\d+)")  # of a name without its ending
SEED = re.compile(r"(?:seed[ _-]*)?(?P<seed>\d+)")  # of one in a folder that has the arm's name
MOST_NAMED = 5  # labels, rows or images of one file


class Given(NamedTuple):
    """What a folder's tables say.

    Attributes:
        table: a row an image and run: `arm`, `seed`, `image_id`, `group_id`, `split` (test, val, synthetic), `label`, the
            attributes of patients that some table has, and `p:<class>` in float64 for each class.
        unread: names of columns that stand for nothing known, and were left out.
    """

    table: pl.DataFrame
    unread: list[str]


def tables_of(place: Path) -> dict[str, Path]:
    """The tables below a folder, or one table, by name; in the order of their numbers, hidden files left out.

    Raises:
        InputError: there are none, or files of other kinds lie among them.
    """
    advice = "Give a folder of CSV or Parquet files: predictions=<folder>."
    if not place.exists():
        raise InputError(f"The folder {place} does not exist. {advice}")
    if place.is_file():
        files = {place.name: place}
    else:
        found = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
        names = (name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts))
        files = {name: place / name for name in sorted(names, key=_natural)}
    others = [name for name, path in files.items() if path.suffix.lower() not in READERS]
    if others:
        raise InputError(
            f"{plural(len(others), 'file')} of {place} {'is' if len(others) == 1 else 'are'} neither CSV nor Parquet:\n{listing(others)}\nPredictions are read from tables "
            "alone, and pickles are never opened: save them as CSV or Parquet, and move other files elsewhere."
        )
    if not files:
        raise InputError(f"The folder {place} holds no predictions. {advice}")
    return files


def read_given(place: Path) -> Given:
    """Read and check the predictions of a folder, or of one table.

    A table has `image_id`, `label` and a probability a class, in columns `p:<class>` or else in all that hold numbers and
    are no known name. Arm and seed are columns, or told by its name: `<arm>_seed<k>.csv` or `<arm>/<k>.csv`. The patient is
    `group_id`, `patient_id` or `patient`; without it each image is a patient of its own. `split` is test, val or synthetic;
    without it test.

    Raises:
        InputError: no tables, or tables that cannot be read, lack a column, hold no probabilities, name classes that they
            have no column of, repeat images, or cannot be held against each other. All tables with a fault are named.
    """
    read, unread, said, faults = [], dict[str, None](), dict[str, None](), []
    files = tables_of(place)
    for name, path in files.items():
        try:
            with telling() as lines:
                table, others = _read(path, name)
        except InputError as error:
            faults.append(f"{name}: {' '.join(str(error).replace(f'{path} ', '').split())}")
            continue
        read.append(table.with_columns(file=pl.lit(name)))
        unread |= dict.fromkeys(others)
        said |= dict.fromkeys(lines)
    for line in said:
        tell(line)
    if faults:
        raise InputError(
            f"{len(faults)} of {len(files)} tables of {place} cannot be reported on:\n{listing(faults)}"
        )
    classes = _classes(read[0])
    foreign = [
        f"{name}: {', '.join(_classes(table))}"
        for name, table in zip(files, read, strict=True)
        if set(_classes(table)) != set(classes)
    ]
    if foreign:
        raise InputError(
            f"Tables of other classes than {printable(', '.join(classes))} cannot be in one report:\n{listing(foreign)}"
        )
    table = pl.concat(read, how="diagonal_relaxed")
    _check_together(table)
    return Given(table.select(pl.exclude("file", f"^{PROBABILITY}.*$"), *_columns(classes)), list(unread))


def check_given(given: Given, asked: Asked) -> None:
    """Refuse questions about what the tables do not have. Raises InputError."""
    table = given.table
    asked.check_images(_classes(table), table.filter(pl.col("split") == "test"))
    validated = table.filter(pl.col("split") == "val").select("arm", "seed").unique().height
    asked.check_validated(validated == table.select("arm", "seed").unique().height)


def _read(path: Path, name: str) -> tuple[pl.DataFrame, list[str]]:
    """One table and the columns of it that were left out. Raises InputError of one line."""
    table = _opened(path)
    arm, seed = told_by_name(name)
    told = {"arm": arm, "seed": seed, "split": "test"}
    lacking = [column for column in ("image_id", "label") if column not in table.columns]
    lacking += [column for column in ("arm", "seed") if column not in table.columns and told[column] is None]
    if lacking:
        by_name = " Arm and seed can also be told by its name: <arm>_seed<k>.csv." * bool(
            {"arm", "seed"} & set(lacking)
        )
        raise InputError(
            f"lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}.{by_name}"
        )
    table = table.with_columns(
        pl.lit(value).alias(column) for column, value in told.items() if column not in table.columns
    )
    patients = next((column for column in PATIENTS if column in table.columns), "image_id")
    columns, unread = _probabilities(table)
    attributes = [column for column in PEOPLE if column in table.columns]
    keys = ("arm", "seed", "image_id", "split", "label", *attributes)
    rows = table.select(
        *(_text(table[column]) for column in keys),
        _text(table[patients]).alias("group_id"),
        *(_numbers(table[column]).alias(PROBABILITY + label) for label, column in columns.items()),
    )
    word = pl.col("split").str.to_lowercase()
    rows = rows.with_columns(split=word.replace(SPLIT_WORDS))
    _check_rows(rows, list(columns), unread)
    people = tidy(rows.select("label", *attributes, path="image_id")).select(attributes)
    return rows.with_columns(pl.col("seed").cast(pl.Int64), *people), unread


def _opened(path: Path) -> pl.DataFrame:
    """A file's content; that of a CSV file all as text."""
    if path.suffix.lower() == ".csv":
        table = read_csv(path)
    else:
        try:
            table = pl.read_parquet(path, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"is no Parquet file that can be read: {str(error).splitlines()[0]}") from error
    twice = [name for name in table.columns if f"{name}_duplicated_0" in table.columns]
    nested = [name for name, dtype in table.schema.items() if dtype.is_nested() or dtype == pl.Binary]
    if twice or nested:
        wrong = (
            f"several columns named {', '.join(twice)}" if twice else f"lists or bytes in {', '.join(nested)}"
        )
        raise InputError(f"has {wrong}: a column of texts or numbers each is needed.")
    if table.is_empty():
        raise InputError("has no rows.")
    return table


def _text(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).str.strip_chars()


def _numbers(column: pl.Series) -> pl.Series:
    """float64; what is no number is null."""
    return (_text(column) if column.dtype == pl.String else column).cast(pl.Float64, strict=False)


def told_by_name(name: str) -> tuple[str | None, str | None]:
    """Arm and seed of `<arm>_seed<k>.csv` and of `<arm>/<k>.csv`; folders above are part of the arm's name."""
    path = PurePosixPath(name)
    above = "" if path.parent == PurePosixPath() else f"{path.parent}/"
    if found := FILE.fullmatch(path.stem):
        return above + found["arm"], found["seed"]
    if above and (found := SEED.fullmatch(path.stem)):
        return above.rstrip("/"), found["seed"]
    return None, None


def _probabilities(table: pl.DataFrame) -> tuple[dict[str, str], list[str]]:
    """The column of each class, and the columns that stand for nothing known."""
    prefixed = {
        name.removeprefix(PROBABILITY): name for name in table.columns if name.startswith(PROBABILITY)
    }
    others = [name for name in table.columns if name not in NAMED and not name.startswith(PROBABILITY)]
    if prefixed:
        return prefixed, others
    numeric = {name: name for name in others if _numbers(table[name].drop_nulls()).is_not_null().all()}
    return numeric, [name for name in others if name not in numeric]


def _check_rows(rows: pl.DataFrame, classes: Sequence[str], unread: Sequence[str]) -> None:
    """Raise an InputError of one line for the first kind of fault that a table has."""
    if not classes:
        raise InputError(
            "holds no column of numbers: a probability a class is needed, as p:<class> or <class>."
        )
    for column in ("image_id", "label", "arm", "seed", "split", "group_id"):
        empty = rows.filter(pl.col(column).fill_null("") == "")
        if empty.height:
            raise InputError(f"has no {column} in {empty.height} of {rows.height} rows.")
    if odd := sorted(seed for seed in rows["seed"].unique() if not seed.isdecimal()):
        raise InputError(f"has seeds that are no whole numbers: {_some(odd)}.")
    if odd := sorted(set(rows["split"].unique()) - set(JUDGED)):
        raise InputError(f"has rows of the split {_some(odd)}: a report judges {', '.join(JUDGED)}.")
    if foreign := sorted(set(rows["label"].unique()) - set(classes)):
        not_read = f" Not read, because they hold text: {_some(unread)}." if unread else ""
        raise InputError(
            f"has labels that no column has: {_some(foreign)}; its classes are {', '.join(classes)}.{not_read}"
        )
    _check_probabilities(rows.select(_columns(classes)).to_numpy(), classes)
    keys = ["arm", "seed", "image_id"]
    repeated = rows.filter(pl.struct(keys).is_duplicated())["image_id"].unique(maintain_order=True).to_list()
    if repeated:
        raise InputError(f"has {plural(len(repeated), 'image')} more than once in a run: {_some(repeated)}.")
    without = [
        f"{arm}, seed {seed}"
        for (arm, seed), part in rows.group_by("arm", "seed", maintain_order=True)
        if "test" not in part["split"]
    ]
    if without:
        raise InputError(f"has no test images of {_some(without)}.")


def _check_probabilities(values: np.ndarray, classes: Sequence[str]) -> None:
    """values: float [N, C]."""
    if unknown := int((~np.isfinite(values)).any(1).sum()):
        raise InputError(
            f"has no number in {unknown} of {len(values)} rows of the classes {', '.join(classes)}."
        )
    if outside := int(((values < 0) | (values > 1)).any(1).sum()):
        raise InputError(
            f"has values outside 0 to 1 in {outside} of {len(values)} rows of {', '.join(classes)}: these are no "
            "probabilities. Of logits, write the softmax."
        )
    sums = values.sum(1)
    if (wrong := np.flatnonzero(np.abs(sums - 1) > ROUNDING)).size:
        raise InputError(
            f"has {wrong.size} of {len(values)} rows that do not sum to 1 over {', '.join(classes)}: row {wrong[0] + 1} "
            f"sums to {sums[wrong[0]]:.4g}. Classes must exclude each other: write a softmax. Columns of other numbers are told "
            "apart by calling the classes' p:<class>."
        )


def _check_together(table: pl.DataFrame) -> None:
    """Refuse tables that cannot be held against each other."""
    runs = table.group_by("arm", "seed", maintain_order=True)
    files = {run: part["file"].unique(maintain_order=True).to_list() for run, part in runs}
    several = [f"{arm}, seed {seed}: {', '.join(own)}" for (arm, seed), own in files.items() if len(own) > 1]
    if several:
        raise InputError(
            f"Several tables are of the same arm and seed:\n{listing(several)}\nName them apart, or join them in one table."
        )
    _refuse_other_images(table)
    for column, words in {"label": "labels", "group_id": "patients", "split": "splits"}.items():
        kinds = table.group_by("image_id", maintain_order=True).agg(
            pl.col(column).unique(maintain_order=True)
        )
        odd = kinds.filter(pl.col(column).list.len() > 1)
        if odd.height:
            lines = [f"{image}: {', '.join(values)}" for image, values in odd.iter_rows()]
            raise InputError(
                f"{plural(odd.height, 'image has', 'images have')} other {words} in one run than in another:\n{listing(lines)}\nAll runs must be judged on the "
                "same images."
            )
    homes = table.filter(pl.col("split") != "synthetic").group_by("group_id").agg(pl.col("split").n_unique())
    crossing = sorted(homes.filter(pl.col("split") > 1)["group_id"])
    if crossing:
        raise InputError(
            f"{plural(len(crossing), 'patient has', 'patients have')} images in validation and test:\n{listing(crossing)}\nThresholds that they choose would be "
            "judged on the same patients: leave their validation images out."
        )


def _refuse_other_images(table: pl.DataFrame) -> None:
    """Refuse runs that were judged on other test images than the first."""
    runs = _images_of_runs(table)
    (first, images), *others = runs.items()
    odd = [
        f"{name}: {len(images - own)} of them missing, {len(own - images)} others"
        for name, own in others
        if own != images
    ]
    if odd:
        raise InputError(
            f"Not all runs were judged on the {len(images)} test images of {first}:\n{listing(odd)}\nDifferences are paired by image: "
            "let all arms judge the same ones."
        )


def _images_of_runs(table: pl.DataFrame) -> Mapping[str, set[Any]]:
    test = table.filter(pl.col("split") == "test").group_by("arm", "seed", maintain_order=True)
    return {f"{arm}, seed {seed}": set(part["image_id"]) for (arm, seed), part in test}


def _classes(table: pl.DataFrame) -> list[str]:
    return [name.removeprefix(PROBABILITY) for name in table.columns if name.startswith(PROBABILITY)]


def _columns(classes: Sequence[str]) -> Iterator[str]:
    return (PROBABILITY + label for label in classes)


def _some(names: Sequence[Any]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(str, names[:MOST_NAMED])) + more


def _natural(name: str) -> list[Any]:
    """Sorts 10 after 9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
