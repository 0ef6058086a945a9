"""What Hydra calls when a multirun ends. Imported with every configuration, so it imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class ReportWhenDone(Callback):
    """Writes the report when a multirun of classifiers ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from skinaug.cli.report import report
        from skinaug.report.collect import RUN_FILE

        sweep = Path(config.hydra.sweep.dir)
        if any(sweep.rglob(RUN_FILE)):
            report(config, sweep)
