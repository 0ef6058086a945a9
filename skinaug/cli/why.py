"""`skinaug why <stage>`: would each stage run, and which value made its key new."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.pipeline import why


def command(cfg: DictConfig, stage: str) -> None:
    table = Table("stage", "key", "", "because")
    for name, key, reasons in why(cfg, stage):
        verdict = "[yellow]would run[/yellow]" if reasons else "[green]kept[/green]"
        table.add_row(name, key, verdict, escape("\n".join(reasons)))
    Console().print(table)
