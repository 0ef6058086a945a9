"""Where labelled images come from: a folder a class, a table with a map of its columns, a published set.

A source has `licence`, `citation` and `load(root) -> table` with one row an image: `path` (POSIX, relative to the root) and
`label`; optionally `image_id`, `group_id` (the patient), `split`, `lesion_id`, any attributes, and `left_out` (`left_out.py`).
Sources only list files; `check.py` opens them, and refuses those that lead out of the root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.sources.files import list_images, locate, metadata_files, refuse_names, unlisted
from skinaug.sources.nested import above, inside_classes
from skinaug.sources.tables import METADATA, read_columns, read_csv, read_metadata, tidy
from skinaug.sources.told import tell
from skinaug.sources.top_folders import splits_of, tell_left_out, tops_of
from skinaug.sources.values import Value, read_value
from skinaug.sources.vocabulary import check_scales

PAD_UFES_20_COLUMNS = {
    "path": "img_id",
    "label": "diagnostic",
    "group_id": "patient_id",
    "lesion_id": "lesion_id",
    "body_site": "region",
    "skin_type": "fitspatrick",
    "age": "age",
    "sex": "gender",
}


class Source(Protocol):
    """Anything that lists labelled images under a root folder.

    One that has also a method `tables(root)`, which names the files that it reads beside images, relative to the root, is made
    anew only where these or images change, and not for whatever else lies there.

    Attributes:
        licence, citation: of the data, carried into every report.
        needs_root: False for a source that renders its images: into the folder that `load` is given.

    One that reads images out of a file also has `packed`, the file's name, and `unpack` (`root.image_folder`).
    """

    licence: str
    citation: str
    needs_root: ClassVar[bool]

    def load(self, root: Path) -> pl.DataFrame: ...


@dataclass(frozen=True)
class Folder:
    """One sub-folder a class; images may lie deeper. `train/ val/ test/` above the classes are taken as splits.

    Attributes:
        group_pattern: regular expression searched in each image's path; what its first group matches names the patient.
            None: every image is a patient of its own, which is only right where no patient has two.
        splits: each folder above the classes to its split, None: left out; {}: there are none, the folders are classes. None:
            their names tell (`top_folders`).
        licence, citation: of the data.
    """

    group_pattern: str | None = None
    splits: Mapping[str, str | None] | None = None
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def tables(self, root: Path) -> list[str]:
        """None: folders tell all."""
        return []

    def load(self, root: Path) -> pl.DataFrame:
        """The images below `root` as `path, label`, and `split`, `group_id` where known.

        Raises:
            InputError: images outside any class folder, names that are not UTF-8, folders that may be splits or classes, or a
                group pattern that some paths do not match.
        """
        names = list_images(root)
        refuse_names(names)
        paths = [PurePosixPath(name) for name in names]
        top = [path.parts[0] if len(path.parts) > 1 else None for path in paths]
        below = [path.parts[1] if len(path.parts) > 2 else None for path in paths]
        splits = splits_of(root, tops_of(zip(top, below, strict=True)), self.splits)
        paths = list(compress(paths, tell_left_out(splits, top)))
        depth = 1 if splits else 0
        stray = [str(path) for path in paths if len(path.parts) < depth + 2]
        if stray:
            raise InputError(
                f"A folder source wants one sub-folder a class under {root}, and {plural(len(stray), 'image lies in none', 'images lie in none')}:"
                f"\n{listing(stray)}\nMove them into the folder of their class, or elsewhere."
                f"{above(root) if len(stray) == len(paths) else ''}"
            )
        if told := inside_classes(root, paths, depth):
            tell(told)
        names = [str(path) for path in paths]
        columns: dict[str, list[Any]] = {"path": names, "label": [path.parts[depth] for path in paths]}
        if depth:
            columns["split"] = [splits[path.parts[0]] for path in paths]
        if self.group_pattern:
            columns["group_id"] = _match_groups(self.group_pattern, names)
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


@dataclass(frozen=True)
class Flat:
    """Images of one class, whatever folders they lie in.

    Attributes:
        label: the class.
        licence, citation: of the data.
    """

    label: str
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def tables(self, root: Path) -> list[str]:
        """None: folders tell all."""
        return []

    def load(self, root: Path) -> pl.DataFrame:
        """The images below `root` as `path, label`. Raises InputError of names that are not UTF-8."""
        names = list_images(root)
        refuse_names(names)
        return pl.DataFrame({"path": names}, schema={"path": pl.String}).with_columns(
            label=pl.lit(self.label)
        )


@dataclass(frozen=True)
class Csv:
    """A CSV file with one row an image.

    Attributes:
        columns: our column name to the file's, or to a value in another form, such as one-hot columns (`values`). `path` and `label`
            are needed; `group_id` (patient), `lesion_id`, `image_id`, `split`, `body_site`, `skin_type`, `age`, `sex` and any others
            are carried.
        file: the CSV file, relative to the root.
        images: the folder, relative to the root, that paths in the file start from. What is no file there is looked for by its
            name in all sub-folders (`files.locate`).
        separator: the character between values.
        scales: the scale that skin types are on, and who told_by them, by our column's name: `vocabulary.read_attributes`.
        licence, citation: of the data.
    """

    columns: Mapping[str, Value]
    file: str = "metadata.csv"
    images: str = "."
    separator: str = ","
    scales: Mapping[str, Any] | None = None
    told_by: Mapping[str, str] | None = None
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scales(self.scales, self.told_by)

    def tables(self, root: Path) -> list[str]:
        """The CSV file, and what it names and no listing of images shows."""
        try:
            names = read_value(read_csv(root / self.file, self.separator), self.columns["path"])["value"]
        except (InputError, LookupError, OSError, pl.exceptions.PolarsError):
            return [self.file]  # `load` tells what is wrong
        return [self.file, *unlisted(self.images, names.drop_nulls())]

    def load(self, root: Path) -> pl.DataFrame:
        """The file's rows under our column names, tidied; rows without a path or label too.

        Raises:
            InputError: no such file, one that is not UTF-8, a mapped column that it lacks or has twice, several files for one name,
                an unknown split, attributes that are not understood (`tables.tidy`).
        """
        table = read_columns(root / self.file, self.columns, self.separator)
        table = tidy(table, self.scales, self.told_by)
        found = locate(root, self.images, table["path"].to_list())
        return table.with_columns(path=pl.Series(found, dtype=pl.String))


@dataclass(frozen=True)
class ImageFolder:
    """A Hugging Face ImageFolder: tables `metadata.jsonl` or `metadata.csv` in the root or below it, whose `file_name` starts
    from their own folder. `train/ val/ test/` above them are taken as splits where the tables have no column `split`.

    Attributes:
        columns: our column name to the tables'; `path` is `file_name`. None: all of them, under their own names, but for
            what is computed; lists of texts other than `parents` and nested values are refused.
        label: the class of pictures of which neither a table nor a folder names one; None: they have none (`labels.labelled`).
        scales, told_by: as in `Csv`.
        splits: as of `Folder`; beside a column `split`, only what it leaves out counts.
        licence, citation: of the data.
    """

    columns: Mapping[str, str] | None = None
    label: str | None = None
    scales: Mapping[str, Any] | None = None
    told_by: Mapping[str, str] | None = None
    splits: Mapping[str, str | None] | None = None
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scales(self.scales, self.told_by)

    def tables(self, root: Path) -> list[str]:
        """The tables."""
        return [file.relative_to(root).as_posix() for file in metadata_files(root)]

    def load(self, root: Path) -> pl.DataFrame:
        """The rows of all tables, tidied; a picture without a label is of the class that its folder names.

        Raises:
            InputError: no table, one that cannot be read, mapped columns that are not there, rows without a file, folders that may
                be splits or classes.
        """
        files = metadata_files(root)
        if not files:
            raise InputError(
                f"{root} holds no {' or '.join(METADATA)}: it is no ImageFolder. A folder a class needs none: choose `folder`."
            )
        tables = [read_metadata(file, self.columns, file.parent.relative_to(root)) for file in files]
        table = pl.concat(tables, how="diagonal_relaxed")
        path = pl.col("path").str.split("/")
        deeper = pl.when(path.list.len() > 1).then(path.list.get(-2, null_on_oob=True))
        of_folder = deeper.otherwise(pl.lit(self.label, pl.String))
        table = table.with_columns(
            label=pl.coalesce("label", of_folder) if "label" in table.columns else of_folder
        )
        top = table.select(pl.when(path.list.len() > 1).then(path.list.first())).to_series().to_list()
        if "split" in table.columns and self.splits is None:
            return tidy(table, self.scales, self.told_by)
        splits = splits_of(root, tops_of(zip(top, table["label"], strict=True)), self.splits)
        if "split" not in table.columns and splits and (self.splits or None not in top):
            of_top = [splits.get(name) for name in top]
            table = table.with_columns(split=pl.Series(of_top, dtype=pl.String))
        taken = table.filter(pl.Series(tell_left_out(splits, top), dtype=pl.Boolean))
        return tidy(taken, self.scales, self.told_by)


@dataclass(frozen=True)
class PadUfes20:
    """PAD-UFES-20 as published: `metadata.csv`, and images in any sub-folders found by the stem of `img_id`.

    Pacheco et al. (2020), doi 10.17632/zr7vgbcyr2.1. Six diagnoses; `patient_id` becomes `group_id`; region, Fitzpatrick type, age in years and gender are carried as attributes.
    """

    licence: str = "CC BY 4.0"
    citation: str = (
        "Pacheco A.G.C. et al. (2020), PAD-UFES-20: a skin lesion dataset composed of patient data and clinical images"
        " collected from smartphones, Mendeley Data V1, doi 10.17632/zr7vgbcyr2.1; Data in Brief 32:106221"
    )
    needs_root: ClassVar[bool] = True

    def tables(self, root: Path) -> list[str]:
        """The table of metadata, as of `Csv`."""
        return Csv(PAD_UFES_20_COLUMNS).tables(root)

    def load(self, root: Path) -> pl.DataFrame:
        """One row an image; `image_id` is the stem of `img_id`. Raises InputError as `Csv` does."""
        table = Csv(PAD_UFES_20_COLUMNS).load(root)
        stems = [PurePosixPath(path).stem if path else None for path in table["path"]]
        return table.with_columns(image_id=pl.Series(stems, dtype=pl.String))


def _match_groups(pattern: str, paths: Sequence[str]) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"source.group_pattern={pattern!r} is no regular expression: {error}.") from error
    if expression.groups < 1:
        raise InputError(f"source.group_pattern={pattern!r} needs a group (...) around the patient's name.")
    matches = [expression.search(path) for path in paths]
    failed = [path for path, match in zip(paths, matches, strict=True) if match is None or match[1] is None]
    if failed:
        raise InputError(
            f"source.group_pattern={pattern!r} matches no patient in {len(failed)} paths:\n{listing(failed)}"
        )
    return [match[1] for match in matches if match]
