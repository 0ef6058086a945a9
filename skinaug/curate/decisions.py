"""What reviewers decided about pictures: one CSV a reviewer, and how far the reviewers agree."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import polars as pl
from sklearn.metrics import cohen_kappa_score

from skinaug.errors import InputError, listing

COLUMNS = ("image_id", "sha256", "decision", "decided")
IMAGE = ["image_id", "sha256"]  # a picture that was made anew under its old id is another one
WORDS = ("keep", "reject")
REVIEWER = re.compile(r"\w([\w .@-]{0,62}[\w@-])?")  # a file's name: no part of a path, nothing hidden


def record(
    folder: Path, reviewer: str, image_id: str, sha256: str, decision: str, words: Collection[str] = WORDS
) -> None:
    """Write one decision; it replaces the reviewer's earlier one about the same picture.

    The reviewer's file is rewritten whole or not at all, and is on the disk when this returns.

    words: that a decision may be.

    Raises:
        InputError: no such word, no reviewer's name, or the reviewer's file is damaged.
    """
    if decision not in words:
        raise InputError(f"{decision!r} is no decision: it is {' or '.join(words)}.")
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    row = pl.DataFrame([(image_id, sha256, decision, now)], schema=COLUMNS, orient="row")
    _write(folder, reviewer, pl.concat([_without(folder, reviewer, image_id, sha256, words), row]))


def forget(folder: Path, reviewer: str, image_id: str, sha256: str, words: Collection[str] = WORDS) -> None:
    """Take a decision back: the picture is unreviewed again. Does nothing where there is none."""
    _write(folder, reviewer, _without(folder, reviewer, image_id, sha256, words))


def read_own(folder: Path, reviewer: str, words: Collection[str] = WORDS) -> pl.DataFrame:
    """One reviewer's decisions, the latest last: columns image_id, sha256, decision, decided, all text.

    Raises:
        InputError: no reviewer's name, or bad rows.
    """
    path = _file(folder, reviewer)
    table, problems = _read(path, words)
    _refuse(folder, problems)
    return table


def read_decisions(folder: Path, words: Collection[str] = WORDS) -> pl.DataFrame:
    """All reviewers' decisions: columns image_id, sha256, reviewer, decision, decided, all text.

    A folder that is not there holds none.

    Raises:
        InputError: naming every bad row of every file.
    """
    tables, problems = [], []
    for path in sorted(Path(folder).glob("*.csv")):
        check_reviewer(path.stem)
        table, found = _read(path, words)
        tables.append(table.with_columns(reviewer=pl.lit(path.stem)))
        problems += found
    _refuse(folder, problems)
    names = ["image_id", "sha256", "reviewer", "decision", "decided"]
    return pl.concat(
        [pl.DataFrame(schema=dict.fromkeys(names, pl.String)), *(t.select(names) for t in tables)]
    )


def agreement(decisions: pl.DataFrame) -> pl.DataFrame:
    """How far each two reviewers agree.

    Args:
        decisions: `read_decisions`, or some of its rows.

    Returns:
        One row a pair: first, second (reviewers), images (that both judged), agreed (share of them in [0, 1]; null
        where there are none) and kappa (Cohen's, in [-1, 1]: 0 is chance, 1 is full agreement; null where both used
        one and the same word throughout, which leaves it undefined).
    """
    rows = []
    for first, second in combinations(sorted(decisions["reviewer"].unique()), 2):
        ours = decisions.filter(pl.col("reviewer") == first)
        theirs = decisions.filter(pl.col("reviewer") == second)
        both = ours.join(theirs, on=IMAGE, suffix="_second")
        words, others = both["decision"].to_list(), both["decision_second"].to_list()
        rows.append(
            {
                "first": first,
                "second": second,
                "images": both.height,
                "agreed": (both["decision"] == both["decision_second"]).mean(),
                "kappa": cohen_kappa_score(words, others) if len({*words, *others}) > 1 else None,
            }
        )
    schema = {
        "first": pl.String,
        "second": pl.String,
        "images": pl.Int64,
        "agreed": pl.Float64,
        "kappa": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema)


def check_reviewer(reviewer: str) -> None:
    """Raise InputError where a name cannot name a reviewer's file."""
    if not REVIEWER.fullmatch(reviewer):
        raise InputError(
            f"{reviewer!r} cannot name a reviewer: use up to 64 letters, digits, spaces and . _ @ -, a letter or a digit "
            "first. Choose another with review.reviewer=<name>."
        )


def _file(folder: Path, reviewer: str) -> Path:
    check_reviewer(reviewer)
    return Path(folder) / f"{reviewer}.csv"


def _without(folder: Path, reviewer: str, image_id: str, sha256: str, words: Collection[str]) -> pl.DataFrame:
    """The reviewer's rows about all other pictures, read from the disk: another page may have written since."""
    same = (pl.col("image_id") == image_id) & (pl.col("sha256") == sha256)
    return read_own(folder, reviewer, words).filter(~same)


def _write(folder: Path, reviewer: str, table: pl.DataFrame) -> None:
    path = _file(folder, reviewer)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        table.write_csv(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _read(path: Path, words: Collection[str]) -> tuple[pl.DataFrame, list[str]]:
    """A reviewer's rows and what is wrong with them; no rows where there is no file."""
    empty = pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    if not path.is_file():
        return empty, []
    try:
        table = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        return empty, [f"{path.name} is no CSV: {str(error).splitlines()[0]}"]
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        return empty, [
            f"{path.name} has the columns {', '.join(table.columns)} and lacks {', '.join(lacking)}"
        ]
    table = table.select(COLUMNS)
    faults = {
        "has no image_id": pl.col("image_id").is_null(),
        "has a sha256 that is not 64 hexadecimal digits": ~pl.col("sha256").str.contains("^[0-9a-f]{64}$"),
        f"has a decision outside {list(words)}": ~pl.col("decision").is_in(list(words)),
        "has no ISO time in decided": pl.col("decided").str.to_datetime("%+", strict=False).is_null(),
        "repeats an image": pl.struct(IMAGE).is_duplicated(),
    }
    rows = table.with_row_index("line", offset=2)
    return table, [
        f"{path.name}, line {row['line']} ({row['image_id']}, {row['decision']}) {text}"
        for text, condition in faults.items()
        for row in rows.filter(condition.fill_null(True)).iter_rows(named=True)
    ]


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        raise InputError(
            f"The reviews in {folder} have {len(problems)} faults:\n{listing(problems)}\nMend or remove these lines."
        )
