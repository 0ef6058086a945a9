"""Tables of other people's columns and words, turned into the manifest's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.sources.labels import NO_LABEL, one_hot_option, refuse_lists
from skinaug.sources.told import tell
from skinaug.sources.values import Value, check_value, columns_of, read_value
from skinaug.sources.vocabulary import read_attributes

COMPUTED = ("source", "width", "height", "sha256", "left_out")
METADATA = ("metadata.jsonl", "metadata.csv")  # of a Hugging Face ImageFolder
LISTS = ("parents",)  # columns that hold a list of texts
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
UNKNOWN_WORDS = ("", "na", "n/a", "nan", "none", "null", "unknown", "unk")


def read_columns(path: Path, columns: Mapping[str, Value], separator: str = ",") -> pl.DataFrame:
    """The mapped columns of a CSV file under our names, all as text; empty values are null.

    columns: our name to a column, or to a value in another form (`values`): one-hot columns, lists.

    Raises:
        InputError: the file is missing, no CSV or not UTF-8, the map lacks `path` or `label`, names a column that the file
            has not or has twice, or a column that is computed; or labels are lists, and nothing says how to read them.
    """
    unmapped = [name for name in ("path", "label") if name not in columns]
    if unmapped:
        hint = one_hot_option(read_csv(path, separator)) if unmapped == ["label"] and path.is_file() else ""
        raise InputError(
            f"source.columns maps {', '.join(columns) or 'nothing'}; {', '.join(unmapped)} is missing.\n{hint}".rstrip()
        )
    for name, value in columns.items():
        check_value(value, f"source.columns.{name}")
    computed = [name for name in columns if name in COMPUTED]
    if computed:
        raise InputError(f"source.columns maps {', '.join(computed)}, which is computed: leave it out.")
    if len(separator.encode()) != 1:
        raise InputError(f"source.separator={separator!r}: it must be one character, such as , or ;.")
    if not path.is_file():
        raise InputError(f"There is no file {path}. Is root={path.parent} the right folder?")
    table = read_csv(path, separator)
    needed = [(ours, theirs) for ours, value in columns.items() for theirs in columns_of(value)]
    missing = [(ours, theirs) for ours, theirs in needed if theirs not in table.columns]
    if missing:
        _refuse_encoding(path)  # in a header, other encodings read as other names
        hint = one_hot_option(table) if "label" in dict(missing) else ""
        raise InputError(
            f"{path} lacks columns that source.columns maps:\n{listing(f'{ours} <- {theirs}' for ours, theirs in missing)}"
            f"\nIt has: {', '.join(table.columns)}.\n{hint}".rstrip()
        )
    twice = [theirs for _, theirs in needed if f"{theirs}_duplicated_0" in table.columns]
    if twice:
        raise InputError(
            f"{path} has several columns named {', '.join(twice)}: leave one, or rename the others."
        )
    table = table.with_columns(pl.col(pl.String).str.strip_chars())
    if isinstance(theirs := columns["label"], str):
        refuse_lists(table[theirs], theirs)
    read = {
        name: table[value] if isinstance(value, str) else read_value(table, value)["value"]
        for name, value in columns.items()
    }
    return pl.DataFrame(read)


def read_csv(path: Path, separator: str = ",") -> pl.DataFrame:
    """A CSV file, all as text; empty values are null.

    Raises:
        InputError: it is no CSV or not UTF-8.
    """
    try:
        return pl.read_csv(path, separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        _refuse_encoding(path)
        raise InputError(f"{path} cannot be read as a CSV file: {str(error).splitlines()[0]}") from error


def read_metadata(path: Path, columns: Mapping[str, str] | None, folder: PurePath) -> pl.DataFrame:
    """A table of an ImageFolder under our names, as text, but for `parents`, which may be a list of texts.

    columns: our name to the file's; None: all columns. folder: of the file, relative to the root: paths start from it.

    Raises:
        InputError: the file cannot be read, has no `file_name` or no mapped column, or holds values that are neither text nor
            numbers.
    """
    try:
        jsonl = path.suffix == ".jsonl"
        table = (
            pl.read_ndjson(path, infer_schema_length=None) if jsonl else pl.read_csv(path, infer_schema=False)
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    named = dict(columns) if columns else {name: name for name in table.columns if name not in COMPUTED}
    named.pop("file_name", None)
    named["path"] = named.get("path", "file_name") if columns else "file_name"
    if missing := [theirs for theirs in named.values() if theirs not in table.columns]:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}. An ImageFolder's table names "
            "each picture in `file_name`; other columns are mapped by source.columns."
        )
    table = table.select(pl.col(theirs).alias(ours) for ours, theirs in named.items())
    nested = [name for name, dtype in table.schema.items() if dtype.is_nested() and name not in LISTS]
    if nested:
        raise InputError(
            f"{path} has {', '.join(nested)}, which are lists or tables: choose columns by source.columns={{label: label, ...}}."
        )
    text = [
        pl.col(name).cast(pl.String).str.strip_chars()
        for name, dtype in table.schema.items()
        if not dtype.is_nested()
    ]
    table = table.with_columns(text)
    prefix = "" if folder == PurePath() else f"{folder.as_posix()}/"
    return table.with_columns(path=pl.lit(prefix) + pl.col("path"))


def _refuse_encoding(path: Path) -> None:
    """Raise an InputError that tells the lines which are not UTF-8, if there are any."""
    with path.open("rb") as file:
        bad = [f"line {number}" for number, line in enumerate(file, start=1) if not _is_utf8(line)]
    if bad:
        raise InputError(
            f"{path} is not UTF-8 in {plural(len(bad), 'line')}:\n{listing(bad)}\nSave it as UTF-8; spreadsheets have `CSV UTF-8`, and "
            "`iconv -f LATIN1 -t UTF-8` converts what an older program wrote."
        )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def tidy(
    table: pl.DataFrame, scales: Mapping[str, Any] | None = None, told_by: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """A table in the manifest's terms: attributes as `vocabulary.read_attributes` has them, splits train, val and test.

    Words for "not known", and of labels those of `NO_LABEL`, become null. Lesions whose number several patients have get the
    patient in front: such numbers start anew with each. Input columns are text.

    Args:
        scales, told_by: as in `vocabulary.read_attributes`.

    Raises:
        InputError: splits that are none of train, val, test; or as `read_attributes`.
    """
    none = pl.col("label").str.to_lowercase().is_in(NO_LABEL)
    table = table.with_columns(label=pl.when(~none).then("label"))
    table = read_attributes(table, scales, told_by)
    words = [name for name in table.columns if name not in ("path", "label", "image_id", "age", *LISTS)]
    table = table.with_columns(
        pl.when(pl.col(name).str.to_lowercase().is_in(UNKNOWN_WORDS))
        .then(None)
        .otherwise(pl.col(name))
        .alias(name)
        for name in words
    )
    if "split" in words:
        table = table.with_columns(split=pl.col("split").str.to_lowercase().replace(SPLIT_WORDS))
        _require_splits(table["split"])
    return _lesions_apart(table) if {"group_id", "lesion_id"} <= set(words) else table


def _lesions_apart(table: pl.DataFrame) -> pl.DataFrame:
    """`lesion_id` with the patient in front, where both are known and a number is in several patients."""
    known = pl.col("group_id").is_not_null() & pl.col("lesion_id").is_not_null()
    patients = table.filter(known).group_by("lesion_id").agg(pl.col("group_id").n_unique())
    shared = patients.filter(pl.col("group_id") > 1)["lesion_id"].sort()
    if shared.is_empty():
        return table
    tell(
        f"{len(shared):,} lesion ids are in several patients, such as {', '.join(shared[:3])}: a lesion is taken for that of its own "
        "patient, and joins no others."
    )
    own = pl.when(known).then(pl.format("{}-{}", "group_id", "lesion_id"))
    return table.with_columns(lesion_id=own.otherwise("lesion_id"))


def _require_splits(column: pl.Series) -> None:
    unknown = sorted(set(column.drop_nulls()) - set(SPLIT_WORDS.values()))
    if unknown:
        raise InputError(
            f"The split column has {', '.join(unknown[:20])}; it may have train, val and test, or be empty."
        )
