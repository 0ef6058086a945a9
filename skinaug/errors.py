"""The one exception that stands for a user's mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

JOINERS = "\u200c\u200d"  # between letters of Persian and Indic scripts, and within emoji


class InputError(ValueError):
    """Bad input: the message says what was wrong, what was received and what to do. The command line exits with 2."""


class Ended(SystemExit):
    """The end of a command or job that has something to say. A SystemExit, because Hydra puts words of its own around errors.

    code: the exit status. message: what is told.
    """

    code: int

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def listing(items: Iterable[str], most: int = 20) -> str:
    """Items as indented lines, one each; past `most` of them only their number is told."""
    items = list(items)
    lines = [f"  {printable(item)}" for item in items[:most]]
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return "\n".join(lines)


def nearest(word: str, names: Iterable[str], cutoff: float = 0.7) -> str:
    """A sentence, with a space in front, with the names that a mistyped one is nearest to; "" where it is like none (its similarity
    by difflib, 0 to 1, is below the cutoff)."""
    found = difflib.get_close_matches(word, list(dict.fromkeys(names)), n=3, cutoff=cutoff)
    return f" Nearest: {', '.join(found)}." if found else ""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A number of things: "1 job", "1,200 jobs".

    nouns: of several, where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def printable(text: str) -> str:
    r"""Text for a line of a terminal: line breaks, escape sequences, marks that turn the direction of writing and bytes that are
    no UTF-8 are written as \n, \x1b, \u202e and \xff; letters of all scripts and emoji stay."""
    return "".join(
        letter if letter.isprintable() or letter in JOINERS else letter.encode("unicode_escape").decode()
        for letter in text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    )
