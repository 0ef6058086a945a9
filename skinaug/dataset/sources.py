"""Where real images come from: a folder a class, a CSV file with a map of its columns, a published set.

A source has `licence`, `citation` and `load(root) -> table` with one row an image: `path` (POSIX, relative to the root) and
`label`; optionally `image_id`, `group_id` (the patient), `split`, `lesion_id` and any attributes. Sources only list files;
`check.py` opens them, and refuses those that lead out of the root.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Protocol

import polars as pl

from skinaug.errors import InputError, listing
from skinaug.images import SUFFIXES

COMPUTED = ("source", "width", "height", "sha256")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
UNKNOWN_WORDS = ("", "na", "n/a", "nan", "none", "null", "unknown", "unk")
SKIN_TYPES = ("I", "II", "III", "IV", "V", "VI")


class Source(Protocol):
    """Anything that lists labelled images under a root folder. One that renders its own images renders them into it."""

    licence: str
    citation: str

    def load(self, root: Path) -> pl.DataFrame: ...


@dataclass(frozen=True)
class Folder:
    """One sub-folder a class; images may lie deeper. `train/ val/ test/` above the classes are taken as splits.

    Attributes:
        group_pattern: regular expression searched in each image's path; what its first group matches names the patient.
            None: every image is a patient of its own, which is only right where no patient has two.
        licence, citation: of the data.
    """

    group_pattern: str | None = None
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def load(self, root: Path) -> pl.DataFrame:
        """The images below `root` as `path, label`, and `split`, `group_id` where known.

        Raises:
            InputError: images outside any class folder, or a group pattern that some paths do not match.
        """
        paths = [PurePosixPath(path) for path in list_images(root)]
        top = {path.parts[0].lower() for path in paths if len(path.parts) > 1}
        depth = 1 if top and top <= SPLIT_WORDS.keys() else 0
        stray = [str(path) for path in paths if len(path.parts) < depth + 2]
        if stray:
            raise InputError(
                f"dataset=folder wants one sub-folder a class under {root}, and {len(stray)} images lie in none:"
                f"\n{listing(stray)}\nMove them into the folder of their class, or elsewhere."
            )
        columns = {"path": [str(path) for path in paths], "label": [path.parts[depth] for path in paths]}
        if depth:
            columns["split"] = [SPLIT_WORDS[path.parts[0].lower()] for path in paths]
        if self.group_pattern:
            columns["group_id"] = _match_groups(self.group_pattern, columns["path"])
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


@dataclass(frozen=True)
class Csv:
    """A CSV file with one row an image.

    Attributes:
        columns: our column name to the file's. `path` and `label` are needed; `group_id` (patient), `lesion_id`,
            `image_id`, `split`, `body_site`, `skin_type`, `age`, `sex` and any others are carried.
        file: the CSV file, relative to the root.
        images: the folder, relative to the root, that paths in the file start from. A bare name that is no file there
            is looked for by its stem in all sub-folders, whatever its extension.
        separator: the character between values.
        licence, citation: of the data.
    """

    columns: Mapping[str, str]
    file: str = "metadata.csv"
    images: str = "."
    separator: str = ","
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def load(self, root: Path) -> pl.DataFrame:
        """The file's rows under our column names, tidied.

        Raises:
            InputError: no such file, a mapped column that it lacks, rows without a path or label, several files for one
                name, an unknown split.
        """
        table = read_columns(root / self.file, self.columns, self.separator)
        table = tidy(table)
        found = locate(root, self.images, table["path"].to_list())
        return table.with_columns(path=pl.Series(found, dtype=pl.String))


@dataclass(frozen=True)
class PadUfes20:
    """PAD-UFES-20 as published: `metadata.csv`, and images in any sub-folders found by the stem of `img_id`.

    Pacheco et al. (2020), doi 10.17632/zr7vgbcyr2.1. Six diagnoses; `patient_id` becomes `group_id`; region, Fitzpatrick
    type, age in years and gender are carried as attributes.
    """

    licence: str = "CC BY 4.0"
    citation: str = (
        "Pacheco A.G.C. et al. (2020), PAD-UFES-20: a skin lesion dataset composed of patient data and clinical images"
        " collected from smartphones, Mendeley Data V1, doi 10.17632/zr7vgbcyr2.1; Data in Brief 32:106221"
    )
    columns: Mapping[str, str] = field(
        default_factory=lambda: {
            "path": "img_id",
            "label": "diagnostic",
            "group_id": "patient_id",
            "lesion_id": "lesion_id",
            "body_site": "region",
            "skin_type": "fitspatrick",
            "age": "age",
            "sex": "gender",
        }
    )
    needs_root: ClassVar[bool] = True

    def load(self, root: Path) -> pl.DataFrame:
        """One row an image; `image_id` is the stem of `img_id`. Raises InputError as `Csv` does."""
        table = Csv(self.columns).load(root)
        stems = [PurePosixPath(path).stem for path in table["path"]]
        return table.with_columns(image_id=pl.Series(stems, dtype=pl.String))


def list_images(root: Path) -> list[str]:
    """Image files below `root` as sorted POSIX paths relative to it; hidden files and linked folders are left out."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith((".", "__MACOSX"))]
        base = Path(folder).relative_to(root)
        found += [
            (base / file).as_posix()
            for file in files
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES
        ]
    return sorted(found)


def locate(root: Path, images: str, names: Sequence[str]) -> list[str]:
    """Each name's file as a POSIX path relative to `root`; a name that is nowhere is kept, for the check to report.

    Raises:
        InputError: several files have the stem of one name, listed together.
    """
    folder = PurePosixPath(images)
    files = list_images(root / images)
    exact = set(files)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_stem[PurePosixPath(file).stem].append(file)
    found, ambiguous = [], []
    for name in names:
        name = name.replace("\\", "/")
        candidates = [name] if name in exact or "/" in name else _by_stem(by_stem, name)
        if len(candidates) > 1:
            ambiguous.append(f"{name}: {', '.join(candidates)}")
        found.append((folder / (candidates[0] if candidates else name)).as_posix())
    if ambiguous:
        raise InputError(
            f"{len(ambiguous)} names in the table fit several files under {root / images}:\n{listing(ambiguous)}"
            "\nGive paths with their folder, or remove the files that are not meant."
        )
    return found


def read_columns(path: Path, columns: Mapping[str, str], separator: str = ",") -> pl.DataFrame:
    """The mapped columns of a CSV file under our names, all as text; empty values are null.

    Raises:
        InputError: the file is missing or no CSV, the map lacks `path` or `label`, names a column that the file has not
            or one that is computed.
    """
    unmapped = [name for name in ("path", "label") if name not in columns]
    if unmapped:
        raise InputError(f"dataset.source.columns maps {', '.join(columns) or 'nothing'}; {', '.join(unmapped)} is missing.")
    computed = [name for name in columns if name in COMPUTED]
    if computed:
        raise InputError(f"dataset.source.columns maps {', '.join(computed)}, which is computed: leave it out.")
    if not path.is_file():
        raise InputError(f"There is no file {path}. Is dataset.root={path.parent} the right folder?")
    try:
        table = pl.read_csv(path, separator=separator, infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} cannot be read as a CSV file: {str(error).splitlines()[0]}") from error
    missing = [f"{ours} <- {theirs}" for ours, theirs in columns.items() if theirs not in table.columns]
    if missing:
        raise InputError(
            f"{path} lacks columns that dataset.source.columns maps:\n{listing(missing)}"
            f"\nIt has: {', '.join(table.columns)}."
        )
    return table.select(pl.col(theirs).str.strip_chars().alias(ours) for ours, theirs in columns.items())


def tidy(table: pl.DataFrame) -> pl.DataFrame:
    """Attributes in the manifest's terms: skin type I to VI, age a number, body site and sex as lower-case words.

    Words for "not known" become null. Input and output columns are text, except `age` (years).

    Raises:
        InputError: rows without a path or label, or splits that are none of train, val, test, listed together.
    """
    empty = table.with_row_index("row", offset=2).filter(
        pl.any_horizontal(pl.col(name).is_null() | (pl.col(name) == "") for name in ("path", "label"))
    )
    if len(empty):
        lines = [f"line {row}" for row in empty["row"]]
        raise InputError(f"{len(empty)} rows of the table have no path or no label:\n{listing(lines)}")
    words = [name for name in table.columns if name not in ("path", "label", "image_id")]
    table = table.with_columns(
        pl.when(pl.col(name).str.to_lowercase().is_in(UNKNOWN_WORDS)).then(None).otherwise(pl.col(name)).alias(name)
        for name in words
    )
    rules = {
        "skin_type": _roman(pl.col("skin_type")),
        "age": pl.col("age").cast(pl.Float64, strict=False).fill_nan(None),
        "body_site": pl.col("body_site").str.to_lowercase().str.replace_all("_", " "),
        "sex": pl.col("sex").str.to_lowercase().replace({"m": "male", "f": "female"}),
        "split": pl.col("split").str.to_lowercase().replace(SPLIT_WORDS),
    }
    table = table.with_columns(**{name: rule for name, rule in rules.items() if name in words})
    if "split" in words:
        _require_splits(table["split"])
    return table


def _require_splits(column: pl.Series) -> None:
    unknown = sorted(set(column.drop_nulls()) - set(SPLIT_WORDS.values()))
    if unknown:
        raise InputError(f"The split column has {', '.join(unknown[:20])}; it may have train, val and test, or be empty.")


def _roman(column: pl.Expr) -> pl.Expr:
    """Fitzpatrick type from "2", "2.0", "ii" or "II"; anything else is unknown."""
    number = column.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).cast(pl.String)
    names = {str(place): name for place, name in enumerate(SKIN_TYPES, start=1)}
    word = column.str.to_uppercase()
    from_word = pl.when(word.is_in(SKIN_TYPES)).then(word)
    return number.replace_strict(names, default=None, return_dtype=pl.String).fill_null(from_word)


def _by_stem(by_stem: Mapping[str, list[str]], name: str) -> list[str]:
    """Files whose stem is the whole name (an id without an extension), else the name without its extension."""
    return by_stem.get(name) or by_stem.get(PurePosixPath(name).stem) or []


def _match_groups(pattern: str, paths: Sequence[str]) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"dataset.source.group_pattern={pattern!r} is no regular expression: {error}.") from error
    if expression.groups < 1:
        raise InputError(f"dataset.source.group_pattern={pattern!r} needs a group (...) around the patient's name.")
    matches = [expression.search(path) for path in paths]
    failed = [path for path, match in zip(paths, matches, strict=True) if match is None or match[1] is None]
    if failed:
        raise InputError(
            f"dataset.source.group_pattern={pattern!r} matches no patient in {len(failed)} paths:\n{listing(failed)}"
        )
    return [match[1] for match in matches if match]
