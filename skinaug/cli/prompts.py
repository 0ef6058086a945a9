"""`skinaug prompts`: the first texts that each class's images are asked for with."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.cli.next_step import tell_next
from skinaug.manifest import Manifest
from skinaug.pipeline import run
from skinaug.prompts import preview
from skinaug.stage import build


def command(cfg: DictConfig, stage: str) -> None:
    prompts = build(cfg.prompts)
    data = Manifest.read(run(cfg, "dataset")["dataset"].path)
    table = Table("class", "prompt", title=f"prompts={cfg.prompts.name}")
    for row in preview(prompts, data.classes, cfg.preview, cfg.generate.seed):
        table.add_row(escape(row["label"]), escape(row["prompt"]))
    Console().print(table)
    tell_next("prompts")
