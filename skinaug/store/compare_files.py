"""Two folders file by file, byte by byte; of tables and tensors that are not equal, how far they are apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import plural
from skinaug.store.artifact import changes

MEASURED = ("seconds", "images_per_second")  # names in JSON files that tell how fast the machine was


@dataclass(frozen=True)
class Verdict:
    """One comparison: the file's name in its folder, whether it is equal, and what there is to say of it."""

    file: str
    equal: bool
    about: str = ""


def compare_files(old: Path, new: Path, but: Collection[str] = ()) -> list[Verdict]:
    """One verdict a file of either folder, by name; files of a sub-folder that are all equal share one.

    Bytes are compared, and no tolerance makes two files equal. Of JSON files, values named in `MEASURED` are left out.

    Args:
        old, new: folders.
        but: names of files that are not compared.
    """
    names = sorted(
        {
            path.relative_to(folder).as_posix()
            for folder in (old, new)
            for path in folder.rglob("*")
            if path.is_file()
        }
        - set(but)
    )
    found = [_compare(name, old / name, new / name) for name in names]
    folders: dict[str, list[Verdict]] = {}
    for verdict in found:
        folders.setdefault(verdict.file.rpartition("/")[0], []).append(verdict)
    together: list[Verdict] = []
    for folder, verdicts in folders.items():
        if folder and len(verdicts) > 1 and all(verdict.equal for verdict in verdicts):
            together.append(Verdict(f"{folder}/", True, f"{plural(len(verdicts), 'file')}"))
        else:
            together += verdicts
    return together


def compare_json(file: str, old: Any, new: Any, left_out: Collection[str]) -> Verdict:
    """Two JSON values, but for what is named in `left_out`, at any depth."""
    flat = [dict(flatten("", value)) for value in (old, new)]
    skipped = {name: None for values in flat for name in values if set(name.split(".")) & set(left_out)}
    kept = [{name: value for name, value in values.items() if name not in skipped} for values in flat]
    differences = changes(*kept)
    if differences:
        return Verdict(file, False, _some(differences))
    return Verdict(file, True, f"left out: {', '.join(skipped)}" if skipped else "")


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and leaf values of JSON; list entries are numbered."""
    entries = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    if not entries or not value:
        yield prefix, value
    for name, inner in entries:
        yield from flatten(f"{prefix}.{name}" if prefix else str(name), inner)


def _compare(name: str, old: Path, new: Path) -> Verdict:
    for path, other in ((old, "built again"), (new, "in the store")):
        if not path.is_file():
            return Verdict(name, False, f"only {other}")
    if old.stat().st_size == new.stat().st_size and old.read_bytes() == new.read_bytes():
        return Verdict(name, True)
    if old.suffix == ".json":
        return compare_json(name, json.loads(old.read_text()), json.loads(new.read_text()), MEASURED)
    told = {".parquet": _apart_in_tables, ".csv": _apart_in_tables, ".safetensors": _apart_in_tensors}
    about = told[old.suffix](old, new) if old.suffix in told else []
    return Verdict(name, False, _some(about) or "other bytes")


def _apart_in_tables(old: Path, new: Path) -> list[str]:
    """A line a column of two Parquet or CSV tables that differs."""
    import numpy as np
    import polars as pl

    tables = [
        pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
        for path in (old, new)
    ]
    a, b = tables
    if a.schema != b.schema or a.height != b.height:
        return [f"{a.height} rows of {', '.join(a.columns)} -> {b.height} rows of {', '.join(b.columns)}"]
    lines = []
    for name in a.columns:
        differ = a[name].ne_missing(b[name])
        if not differ.any():
            continue
        line = f"{name}: {differ.sum()} of {a.height} rows differ"
        if a[name].dtype.is_numeric():
            old_values, new_values = (
                table[name].filter(differ).cast(pl.Float64).to_numpy() for table in tables
            )
            line += f", at most {np.nanmax(abs(old_values - new_values), initial=0):.3g} apart"
        lines.append(line)
    return lines or ["equal rows, other bytes (metadata)"]


def _apart_in_tensors(old: Path, new: Path) -> list[str]:
    """A line a tensor of two safetensors files that differs, the farthest apart first."""
    from safetensors.torch import load_file

    a, b = load_file(old), load_file(new)
    if {name: tensor.shape for name, tensor in a.items()} != {
        name: tensor.shape for name, tensor in b.items()
    }:
        return ["other names or shapes of tensors"]
    apart = {name: float((a[name].double() - b[name].double()).abs().max()) for name in a if a[name].numel()}
    differing = sorted((name for name in apart if apart[name]), key=lambda name: -apart[name])
    lines = [f"{name}: at most {apart[name]:.3g} apart" for name in differing]
    return lines or ["equal values, other bytes (types or metadata)"]


def _some(lines: list[str], most: int = 5) -> str:
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
