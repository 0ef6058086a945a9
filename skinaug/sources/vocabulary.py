"""Words that other people's tables have for skin type, age, sex and body site, read into the manifest's.

Skin types stand on a scale, and numbers mean other things on other scales: `scales` says which one a column is on. A word of
the manifest names its scale (`II`, `I-II`, `Monk 3`, `MILK10k 0`), so that scales stay apart wherever words are counted,
sorted or joined. No scale is turned into another by its numbers: who wants that states a table, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from skinaug.errors import InputError
from skinaug.sources.told import tell

TOLD_BY = {"dermatologist": "by a dermatologist", "self": "self-told"}  # in words behind a skin type
TELLER = "skin_type_told_by"
MOST_UNREAD = (
    0.1  # share of a column's values that may be misunderstood in silence: a slip of the pen here and there
)
EXAMPLES = 5
OLDEST = 120  # years
NOT_KNOWN = {  # beside any that end in "unknown", such as AGE_UNKNOWN
    *("", "na", "n/a", "<na>", "nan", "none", "null", "unknown", "unk", "missing", "-", "?"),
    *("not known", "not stated", "not specified", "unspecified", "not reported", "not available"),
    *("undetermined", "none selected", "other or unspecified", "prefer not to say"),
}
NO_NUMBER = ("-1", "-1.0")  # stands for "not known" among numbers
SEXES = {
    **dict.fromkeys(("male", "m", "man"), "male"),
    **dict.fromkeys(("female", "f", "woman"), "female"),
    **dict.fromkeys(("other", "intersex", "non-binary", "nonbinary", "diverse"), "other"),
}
ROMAN = ("I", "II", "III", "IV", "V", "VI")


@dataclass(frozen=True)
class Scale:
    """A scale of skin types or tones.

    Attributes:
        title: its name in reports.
        words: the manifest's words, in the scale's order.
        spelling: regular expression over a whole value in small letters, with one group for each part of `parts`.
        parts: what the groups must be for each of the words.
    """

    title: str
    words: tuple[str, ...]
    spelling: re.Pattern[str]
    parts: Mapping[tuple[str, ...], str]

    def read(self, value: str) -> str | None:
        """The manifest's word for a value; None where it is no value of this scale."""
        found = self.spelling.fullmatch(_plain(value))
        return None if found is None else self.parts.get(found.groups())


def _names(*names: str) -> str:
    """Pattern of any number of a scale's names before its value."""
    return rf"(?:(?:{'|'.join(names)})[ :.-]*)*"


_FITZPATRICK = _names("fitzpatrick", "fst", "phototype", "skin", "type", "scale")
_SPELT = [(str(n), word.lower()) for n, word in enumerate(ROMAN, start=1)]  # of each type
SCALES: dict[str, Scale] = {
    "fitzpatrick": Scale(
        "Fitzpatrick",
        ROMAN,
        re.compile(rf"{_FITZPATRICK}(\d|[iv]+)(?:\.0+)?"),
        {(spelt,): word for word, both in zip(ROMAN, _SPELT, strict=True) for spelt in both},
    ),
    "fitzpatrick_pairs": Scale(
        "Fitzpatrick, pairs of types",
        ("I-II", "III-IV", "V-VI"),
        re.compile(rf"{_FITZPATRICK}(\d|[iv]+(?=\W))(?: ?(?:-|–|/|,|to|and|&) ?)?(\d|[iv]+)(?:\.0+)?"),
        {
            pair: f"{ROMAN[n]}-{ROMAN[n + 1]}"
            for n in (0, 2, 4)
            for pair in zip(*_SPELT[n : n + 2], strict=True)
        },
    ),
    "monk": Scale(
        "Monk",
        tuple(f"Monk {n}" for n in range(1, 11)),
        re.compile(rf"{_names('monk', 'mst', 'skin', 'tone', 'scale')}0?(\d+)(?:\.0+)?"),
        {(str(n),): f"Monk {n}" for n in range(1, 11)},
    ),
    "milk10k": Scale(
        "MILK10k, 0 very dark to 5 very light",
        tuple(f"MILK10k {n}" for n in range(6)),
        re.compile(rf"{_names('milk10k', 'skin', 'tone', 'class')}(\d)(?:\.0+)?"),
        {(str(n),): f"MILK10k {n}" for n in range(6)},
    ),
}
_ORDER = {word: (place, name) for name, scale in SCALES.items() for place, word in enumerate(scale.words)}


def scale_of(word: str) -> str | None:
    """The key in `SCALES` of the scale that a word of the manifest is on, who told it included; None of other words."""
    found = _ORDER.get(word.partition(", ")[0])
    return None if found is None else found[1]


def place_on_scale(word: str) -> tuple[int, int, str]:
    """Sorts words of the manifest: scale by scale in each one's order, other words behind them by the alphabet."""
    place, scale = _ORDER.get(word.partition(", ")[0], (0, ""))
    return (list(SCALES).index(scale) if scale else len(SCALES), place, word)


def with_teller(images: pl.DataFrame) -> pl.Expr:
    """The skin types of a manifest's table as words, with who told them where that is known: `II, self-told`."""
    word = pl.col("skin_type").cast(pl.String)
    if TELLER not in images.columns:
        return word
    who = pl.col(TELLER).cast(pl.String).replace(TOLD_BY)
    return pl.when(who.is_null()).then(word).otherwise(pl.format("{}, {}", word, who))


def with_scale(heading: str, words: Iterable[str | None]) -> str:
    """A heading with the titles of the scales behind it that some of the words below are on."""
    titles = titles_of(words)
    return f"{heading} ({titles})" if titles else heading


def titles_of(words: Iterable[str | None]) -> str:
    """The titles of the scales that some of the words are on, for reports and messages."""
    return "; ".join(SCALES[name].title for name in scales_of(words))


def scales_of(words: Iterable[str | None]) -> list[str]:
    """The scales, keys of `SCALES`, that some of the words are on."""
    found = {scale_of(word) for word in words if word}
    return [name for name in SCALES if name in found]


def check_scales(scales: Mapping[str, Any] | None, told_by: Mapping[str, str] | None = None) -> None:
    """Refuse what `read_attributes` cannot work with.

    Raises InputError.
    """
    for name, scale in (scales or {}).items():
        if isinstance(scale, Mapping):
            _stated(name, scale)
        elif scale not in SCALES:
            raise InputError(
                f"source.scales.{name}={scale}: choose from {', '.join(SCALES)}, or state a table of the file's words to words of one "
                f"scale, such as {{{name}: {{1: I, 2: II}}}}."
            )
    for name, who in (told_by or {}).items():
        if who not in TOLD_BY:
            raise InputError(f"source.told_by.{name}={who}: choose from {', '.join(TOLD_BY)}.")


def read_attributes(
    table: pl.DataFrame,
    scales: Mapping[str, Any] | None = None,
    told_by: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """The columns `skin_type`, `age`, `sex` and `body_site` of a table, and any that `scales` names, in the manifest's words.

    - skin type: a word of the column's scale (`SCALES`); a word that names another scale in full is that, whatever was said.
    - `age`: years, float64 (`years_of`).
    - `sex`: male, female or other.
    - `body_site`: any word, in small letters, with spaces for underscores.

    Words for "not known" (`NOT_KNOWN`, and -1 among numbers) and values that are not understood become null. Where the latter
    are over `MOST_UNREAD` of a column's non-empty values, that is told with examples. A skin type on no stated scale that has
    values outside Fitzpatrick's, and none outside another scale's, is refused: most of its numbers would be misread.

    Args:
        table: text columns; those that are absent are left out.
        scales: column to the scale that it is on: a key of `SCALES`, or a table of the file's words to words of one scale.
            `skin_type` is on `fitzpatrick` unless told otherwise.
        told_by: column to who told it (`TOLD_BY`): a column `<name>_told_by` is added to rows whose value is known.

    Raises:
        InputError: as `check_scales`, a scale of a column that is absent, columns of which nothing is understood, or a skin type
            that is on another scale.
    """
    check_scales(scales, told_by)
    if absent := [name for name in {**(scales or {}), **(told_by or {})} if name not in table.columns]:
        raise InputError(
            f"source.scales and source.told_by speak of {', '.join(absent)}, which source.columns does not map."
        )
    of = {"skin_type": "fitzpatrick", **(scales or {})}
    readers: dict[str, Callable[[str], Any]] = {name: _reader(name, scale) for name, scale in of.items()}
    readers |= {"age": years_of, "sex": lambda value: SEXES.get(_plain(value)), "body_site": _plain}
    dtypes = {"age": pl.Float64()}
    faults = []
    for name, reader in readers.items():
        if name not in table.columns:
            continue
        column = table[name].cast(pl.String)
        numbers = name in of or name == "age"
        known = [value for value in column.unique().drop_nulls().sort() if not is_unknown(value, numbers)]
        words = {value: reader(value) for value in known}
        read = column.replace_strict(words, default=None, return_dtype=dtypes.get(name, pl.String()))
        unread = [value for value, word in words.items() if word is None]
        if unread:
            lost = int(column.is_in(unread).sum())
            filled = int((column.fill_null("").str.strip_chars() != "").sum())
            line = _not_understood(name, of.get(name), lost, filled, unread, known)
            if len(unread) == len(known):
                faults.append(line)
            elif name in of and name not in (scales or {}) and _other_scales(of[name], known):
                right = f"dataset.source.scales={{{name}: {of[name]}}}"
                faults.append(f"{line} If the others are right, and these are not known, say {right}.")
            elif lost > MOST_UNREAD * filled:
                tell(f"{line} They count as not known.")
        table = table.with_columns(read.alias(name))
    if faults:
        raise InputError("\n".join(faults) + "\nLeave a column out of source.columns, and it is not read.")
    return table.with_columns(
        pl.when(pl.col(name).is_not_null()).then(pl.lit(who)).alias(f"{name}_told_by")
        for name, who in (told_by or {}).items()
    )


def is_unknown(value: str, number: bool = False) -> bool:
    """Whether a value stands for "not known". number: -1 does too."""
    plain = _plain(value)
    return plain in NOT_KNOWN or plain.endswith(" unknown") or (number and plain in NO_NUMBER)


_YEARS = r"(\d{1,3}(?:\.\d+)?)"
_AGES: dict[
    re.Pattern[str], Callable[..., float]
] = {  # of a value in small letters, without "age" or "years": how its numbers become years
    re.compile(_YEARS): lambda years: years,
    re.compile(rf"{_YEARS} ?(?:\+|(?:and|or) (?:above|over|older|more))"): lambda years: years,
    re.compile(rf"(?:>|≥|>=|over|above|from) ?{_YEARS}"): lambda years: years,
    re.compile(rf"(?:<|under|below) ?{_YEARS}"): lambda years: years / 2,
    re.compile(rf"{_YEARS} ?(?:-|–|to) ?{_YEARS}"): lambda first, last: (first + last + 1) / 2,
    re.compile(rf"[\[(]{_YEARS}, ?{_YEARS}[\])]"): lambda first, end: (first + end) / 2,
    re.compile(rf"{_YEARS}s"): lambda first: first + 5,
}


def years_of(value: str) -> float | None:
    """An age in years; None where it is none from 0 to `OLDEST`.

    A number is years, 0 too. A range that names its last year (`AGE_30_TO_39`, `30-39`), a decade (`30s`) and one with an end
    (`[30, 40)`) stand for their middle, 35. `85+`, `>85` and `AGE_80_OR_ABOVE` stand for the year that they name, `<18` and
    `under 18` for half of it.
    """
    plain = re.sub(r"(?<![a-z])(?:aged?|years?|yrs?|y|old|group)(?![a-z])", " ", _plain(value))
    plain = " ".join(plain.split())
    for spelling, rule in _AGES.items():
        if found := spelling.fullmatch(plain):
            years = float(rule(*map(float, found.groups())))
            return years if years <= OLDEST else None
    return None


def _plain(value: str) -> str:
    """In small letters, spaces for underscores and for whatever else is white."""
    return " ".join(value.replace("_", " ").lower().split())


def _reader(name: str, scale: Any) -> Callable[[str], str | None]:
    own = _stated(name, scale).get if isinstance(scale, Mapping) else SCALES[scale].read
    exact = {_plain(word): word for known in SCALES.values() for word in known.words}
    return lambda value: own(value) or exact.get(_plain(value))


class _Stated(dict[str, str]):
    """A stated table, asked for values as they are spelt: 0, 0.0 and upper case."""

    def get(self, value: str, default: Any = None) -> Any:
        plain = re.sub(r"^(\d+)\.0+$", r"\1", _plain(value))
        return super().get(plain, default)


def _stated(name: str, words: Mapping[Any, Any]) -> _Stated:
    table, scales = _Stated(), set()
    for theirs, ours in words.items():
        scale = scale_of(str(ours))
        if scale is None:
            every = "; ".join(", ".join(known.words) for known in SCALES.values())
            raise InputError(
                f"source.scales.{name} maps {theirs} to {ours}, a word of no scale. The words are: {every}."
            )
        scales.add(scale)
        table[_plain(str(theirs))] = str(ours)
    if len(scales) != 1:
        raise InputError(
            f"source.scales.{name} maps to words of {', '.join(sorted(scales)) or 'no scale'}: map to words of one."
        )
    return table


def _other_scales(scale: Any, values: Collection[str]) -> list[str]:
    """The other scales that have all of the values."""
    return [key for key, other in SCALES.items() if key != scale and all(map(other.read, values))]


def _not_understood(
    name: str, scale: Any, lost: int, filled: int, unread: Sequence[str], known: Sequence[str]
) -> str:
    examples = ", ".join(unread[:EXAMPLES])
    where = f" on the scale {scale}" if isinstance(scale, str) else ""
    line = f"{name}: {lost:,} of {filled:,} values are not understood{where}, such as {examples}."
    if name == "age":
        return f"{line} Write years, such as 45, 85+ or 30-39."
    if name == "sex":
        return f"{line} Write male, female or other."
    if fits := _other_scales(scale, known):
        options = " or ".join(f"dataset.source.scales={{{name}: {key}}}" for key in fits)
        words = " or ".join(SCALES[key].words[0] for key in fits)
        return f"{line} They may be on another scale: say so with {options}, or write its words in the table, such as {words}."
    return f"{line} Say the column's scale with dataset.source.scales={{{name}: ...}}: {', '.join(SCALES)}."
