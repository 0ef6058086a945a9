"""YAML files are looked at before they are read: one that would run code, or grow without end, is refused."""

from __future__ import annotations

from pathlib import Path

import yaml

from skinaug.errors import InputError

MOST_VALUES = 20_000  # of one file, aliases written out; prompt sets have hundreds
MOST_DEEP = 50  # levels
MOST_BYTES = 5_000_000
PLAIN = ("str", "int", "float", "bool", "null", "seq", "map")
TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in PLAIN)


def check_yaml(path: Path) -> None:
    """Refuse a YAML file that is not plain data, without making objects of it.

    `a: &a [x, x]` with `*a` in it, over and over, writes out to more than any memory holds ("billion laughs").

    Raises:
        InputError: no UTF-8, no YAML, tags of objects (`!!python/...`), aliases within what they stand for, more values,
            levels or bytes than any configuration has.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _refusal(path, f"it has more than {MOST_BYTES:,} bytes")
    try:
        problem = _problem(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refusal(path, f"line {line} is not UTF-8. Save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise _refusal(path, f"it is not YAML: {error}") from error
    if problem:
        raise _refusal(path, problem)


def _problem(text: str) -> str | None:
    """The first reason to refuse a YAML text, in one pass over its events; None where there is none."""
    sizes: dict[str, int | None] = {}  # anchor -> values it stands for, None while it is being read
    opened: list[tuple[str | None, int]] = []  # anchor and values so far of what is being read
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        line = f"line {event.start_mark.line + 1}"
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in TAGS:
            return f"{line} has the tag {tag}: only plain values are read"
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                return f"{line}: *{event.anchor} stands within what it stands for"
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            sizes[event.anchor or ""] = size
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1))
            sizes[event.anchor or ""] = None
            if len(opened) > MOST_DEEP:
                return f"{line} is more than {MOST_DEEP} levels deep"
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
            sizes[anchor or ""] = size
        else:
            continue
        if opened:
            anchor, before = opened.pop()
            opened.append((anchor, before + size))
            if before + size > MOST_VALUES:
                return f"it has more than {MOST_VALUES:,} values with its aliases written out ({line})"
    return None


def _refusal(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be used as a configuration: {reason}.")
