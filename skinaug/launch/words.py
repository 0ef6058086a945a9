"""Words of the command line that are no overrides: each is told with where it breaks, how to quote it, or what may be meant."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from itertools import takewhile

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from skinaug.errors import InputError, printable

CARET = re.compile(r"\n( *)\^")  # below the word and what stands in front of it
AT = re.compile(r"at input '(.*)'", re.DOTALL)
FOLDERS = {  # of a command that is given a bare path: what it may be meant for
    "dataset": "dataset=folder dataset.root={}",
    "audit": "real=<folder> synthetic={}",
    "classify": "dataset=folder dataset.root={}",
    "generate": "generate=folder generate.root={}",
    "report": "report.runs={0} (a sweep of ours) or predictions={0} (tables made elsewhere)",
    "review": "dataset=folder dataset.root={}",
}
QUOTES = ("'", '"')
RULES = (
    "Values with any of , : = ( ) [ ] { } # ' or letters beyond ASCII stand in quotes of their own, within those of the shell; a list's values "
    "each in theirs: 'dataset.classes=[\"a, b\",c]'."
)


VALUED = (  # options of Hydra's whose value is the next word
    *(
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
    ),
    *("--info", "-i", "--experimental-rerun"),
)


def check_words(command: str, words: Sequence[str]) -> None:
    """Refuse words that Hydra cannot read.

    Args:
        command: of the command line, for what may be meant.
        words: behind it; those that begin with a dash are options, and are not looked at.

    Raises:
        InputError: the first one that cannot be read.
    """
    parser, before = OverridesParser.create(), ""
    for place, word in enumerate(words):
        if word.startswith("-") or before in VALUED:
            before = word
            continue
        try:
            parser.parse_overrides([word])
        except OverrideParseException as error:
            if "=" in word:
                raise InputError(_explained(word, str(error))) from error
            more = takewhile(lambda one: "=" not in one and not one.startswith("-"), words[place:])
            raise InputError(_no_value(command, before, list(more))) from error
        before = word


def several_values(word: str) -> str:
    """What to tell of a word with several values where there is no sweep."""
    key, _, value = word.partition("=")
    proposal = quoted(key, value)
    told = (
        f"{printable(word)} has several values, with commas between them, which only a sweep takes: add -m. "
        f"If it is one list: {shlex.quote(f'{key}=[{value}]')}."
    )
    return f"{told} If it is one text, quote it: {proposal}" if proposal else told


def _explained(word: str, error: str) -> str:
    """What to tell of a word that Hydra's parser refuses with an error."""
    key, _, value = word.partition("=")
    if function := re.search(r"Unknown function '(\w+)'", error):
        reason = f"{function[1]}(...) is no function of Hydra's"
    elif (place := _place(word, error)) < len(word):
        reason = f"it breaks at {printable(word[place])!r}, letter {place + 1}"
    else:
        reason = "its end is missing"
    proposal = quoted(key, value)
    advice = f" Quote it: {proposal}" if proposal else ""
    return f"The argument {printable(word)} cannot be read: {reason}.{advice}\n{RULES}"


def quoted(key: str, value: str) -> str | None:
    """An argument for a shell whose value stands in quotes of its own; None where that cannot be read either, or would make a text
    of a list or a table.

    Of a list, each of the values that are separated by commas is quoted by itself.
    """
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]") and not set("[]{}") & set(inner[1:-1]):
        values = [part.strip().strip("\"'") for part in inner[1:-1].split(",") if part.strip()]
        found = f"{key}=[{','.join(map(_in_quotes, values))}]"
    elif inner[:1] in ("[", "{"):
        return None
    else:
        found = f"{key}={_in_quotes(inner.strip(''.join(QUOTES)) if _torn(inner) else inner)}"
    try:
        OverridesParser.create().parse_overrides([found])
    except HydraException:
        return None
    return shlex.quote(found)


def _in_quotes(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"'


def _torn(value: str) -> bool:
    """Whether a value has a quote at one of its ends alone."""
    return (value[:1] in QUOTES) != (value[-1:] in QUOTES)


def _place(word: str, error: str) -> int:
    """Where in a word, from 0, its parser stopped; its length where more was to come."""
    if found := CARET.search(error):
        return max(len(found[1]) - len(error.partition(word)[0]), 0)
    if (found := AT.search(error)) and found[1] in word:
        end = word.index(found[1]) + len(found[1])
        closed = all(word.count(one) == word.count(other) for one, other in ("[]", "{}", "()"))
        return end if end == len(word) and not closed else end - 1
    if found := re.search(r"(?:input|at) '(.)'", error):
        behind = word.find(found[1], word.find("=") + 1)
        return behind if behind >= 0 else max(word.find(found[1]), 0)
    return len(word)


def _no_value(command: str, before: str, words: Sequence[str]) -> str:
    """What to tell of words without "="."""
    shown = printable(words[0])
    told = f"{shown} is no option and no override: overrides are key=value, such as seed=1."
    if "=" in before:
        return f"{told} If it belongs to {printable(before)}, quote them as one: {shlex.quote(printable(' '.join([before, *words])))}"
    if command in FOLDERS and ("/" in shown or os.path.exists(words[0])):
        return f"{told} Is skinaug {command} {FOLDERS[command].format(shlex.quote(shown))} meant?"
    return f"{told} `skinaug {command} --help` lists them."
