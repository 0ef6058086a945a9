"""`skinaug classify`: train a classifier, and note where a report finds what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from skinaug.cli.next_step import tell_next
from skinaug.launch.controls import refuse_without_sweep
from skinaug.launch.overrides import by_key
from skinaug.pipeline import run
from skinaug.report.collect import EVALUATED, RUN_FILE
from skinaug.stage import plain
from skinaug.store.artifact import Artifact
from skinaug.store.files import write_text

NO_SETTINGS = (
    "store",
    "output",
    "predictions",
    "real",
    "synthetic",
)  # places, and what other commands are given

console = Console()


def command(cfg: DictConfig, stage: str) -> float:
    refuse_without_sweep(cfg)
    made = run(cfg, "classify")
    score = record_run(cfg, made)
    tell_next("classify", made)
    return score


def record_run(cfg: DictConfig, made: Mapping[str, Artifact]) -> float:
    """Write the job's run.json, from which a report finds its artifacts, print its metrics and return its validation score."""
    hydra = HydraConfig.get()
    sweep = hydra.mode == RunMode.MULTIRUN
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path(hydra.runtime.output_dir) if sweep else Path(cfg.output) / cfg.name / stamp
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "experiment": cfg.name,
        "arm": cfg.mix.name,
        "seed": cfg.seed,
        "overrides": by_key(hydra.overrides.task),
        "config": {name: value for name, value in plain(cfg).items() if name not in NO_SETTINGS},
        "artifacts": {name: str(artifact.path) for name, artifact in made.items()},
    }
    write_text(folder / RUN_FILE, json.dumps(about, indent=2) + "\n")
    sets = {
        name: f"the test set {name.removeprefix(EVALUATED)}" for name in made if name.startswith(EVALUATED)
    }
    for name, words in {"classify": "real test images", **sets}.items():
        test = metrics_of(made[name])["test"]
        scores = "  ".join(
            f"{score} {test[score]:.1%}" for score in ("top1", "balanced_accuracy", "macro_f1", "auroc")
        )
        console.print(
            f"{cfg.mix.name}, seed {cfg.seed}, on {words}: {scores}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return float(metrics_of(made["classify"])["val"][cfg.classify.monitor])


def metrics_of(judged: Artifact) -> dict[str, Any]:
    return json.loads((judged.path / "metrics.json").read_text())
