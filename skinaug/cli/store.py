"""`skinaug store ls | gc`: look at the store, and delete what nobody uses."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from skinaug.errors import InputError, listing, plural
from skinaug.store.digest import folder_size
from skinaug.store.store import Store, require_whole

MOST_INPUTS = 6  # that a line of the list names: reports have one a run


def main(arguments: list[str]) -> int:
    """List artifacts, or delete those that no run asked for in some days; returns the exit status: 1 where some that are listed are
    not whole."""
    parser = argparse.ArgumentParser(prog="skinaug store", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list the artifacts")
    gc = commands.add_parser(
        "gc", help="delete artifacts and abandoned work that no run has asked for lately"
    )
    for command in (ls, gc):
        command.add_argument(
            "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
        )
    gc.add_argument(
        "--days", type=float, default=30, help="keep what was used in the last DAYS days (default: 30)"
    )
    gc.add_argument("--yes", action="store_true", help="delete; without it only a list is printed")
    options = parser.parse_args(arguments)
    store = Store(options.store)
    return _list(store) if options.command == "ls" else _collect(store, options.days, delete=options.yes)


def _list(store: Store) -> int:
    table = Table(title=f"store {store.root}")
    for name in (
        "stage",
        "key",
        "created",
        "seconds",
        "MB",
        "inputs",
    ):  # stages and keys are there to be copied
        table.add_column(name, no_wrap=name in ("stage", "key"), min_width=18 if name == "key" else None)
    total, faults = 0, list[str]()
    for artifact in store.artifacts():
        size = folder_size(artifact.path)
        total += size
        try:
            record = artifact.record
            require_whole(artifact)
        except InputError as error:
            faults.append(str(error))
            table.add_row(artifact.stage, artifact.key, "not whole", "", f"{size / 1e6:.1f}", "")
            continue
        named = [f"{name} {key[:8]}" for name, key in record["inputs"].items()]
        more = [f"and {len(named) - MOST_INPUTS} more"] if len(named) > MOST_INPUTS else []
        inputs = ", ".join(named[:MOST_INPUTS] + more)
        seconds = f"{record['seconds']:.1f}"
        table.add_row(
            artifact.stage, artifact.key, record["created"][:19], seconds, f"{size / 1e6:.1f}", inputs
        )
    console = Console()
    console.print(table)
    console.print(f"{plural(table.row_count, 'artifact')}, {total / 1e6:.1f} MB")
    if faults:
        console.print(
            f"{plural(len(faults), 'artifact is', 'artifacts are')} not whole:\n{listing(faults)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return 1 if faults else 0


def _collect(store: Store, days: float, delete: bool) -> int:
    console = Console()
    unused = store.unused(days)
    sizes = [folder_size(folder) for folder in unused]
    for folder, size in zip(unused, sizes, strict=True):
        if delete:
            store.remove(folder)
        console.print(
            f"{'deleted' if delete else 'would delete'}  {folder}  {size / 1e6:.1f} MB", highlight=False
        )
    verb = "freed" if delete else "to free"
    hint = "" if delete or not unused else "; add --yes to delete"
    console.print(f"{plural(len(unused), 'folder')}, {sum(sizes) / 1e6:.1f} MB {verb}{hint}")
    return 0
