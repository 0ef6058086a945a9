"""Lightning Trainers as every stage uses them: quiet, repeatable, with a progress bar and nothing written unasked."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from skinaug import termination
from skinaug.errors import InputError
from skinaug.models.devices import device_count, device_numbers
from skinaug.models.freed import keep_freed_memory

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # what Lightning's precisions compute in


def make_trainer(
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = "auto",
    precision: str = "auto",
    **options: Any,
) -> L.Trainer:
    """A Trainer with this project's defaults; `options` are Lightning's own and win over them.

    Args:
        accelerator: auto, cpu, gpu or mps.
        devices: how many, auto for all, or which: [0, 1] or "0,1". Of cores that do nothing else, only the number counts.
        precision: a Lightning precision, or auto: bf16-mixed on GPUs that have bfloat16, 32-true elsewhere.
        options: keywords of `lightning.Trainer`, such as `max_steps`, `callbacks`, `logger`, `default_root_dir`; `strategy` may
            also be a function that makes one, since each Trainer needs its own.
    """
    quieten()
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    on_cpu = accelerator == "cpu" or (
        accelerator == "auto" and not on_gpu and not MPSAccelerator.is_available()
    )
    if on_cpu:
        keep_freed_memory()
    callbacks = list(options.pop("callbacks", None) or [])
    if callable(options.get("strategy")):
        options["strategy"] = options["strategy"]()
    bar = (
        [StepProgress()] if options.pop("enable_progress_bar", True) else []
    )  # False: the stage brings its own
    defaults: dict[str, Any] = {
        "precision": pick_precision(precision, on_gpu),
        # "warn" and not True: a few CUDA kernels of common networks have no deterministic form. CPU kernels all have.
        "deterministic": "warn" if on_gpu else False,
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        # Stages share their work out among devices themselves, so that it is the same on any number of them.
        "use_distributed_sampler": False,
        "plugins": [cluster(options.get("num_nodes", 1))],
    }
    return L.Trainer(
        accelerator=accelerator,
        devices=(device_count(devices) or "auto") if on_cpu else device_numbers(devices),
        callbacks=[*callbacks, *bar, StopAtSigterm()],
        **{**defaults, **options},
    )


def fully_sharded(devices: int | str | Sequence[int], num_nodes: int) -> ModelParallelStrategy:
    """Every device holds a piece of every weight, gradient and optimizer state (FSDP); checkpoints are whole."""
    return ModelParallelStrategy(
        data_parallel_size=(device_count(devices) or torch.cuda.device_count()) * num_nodes,
        tensor_parallel_size=1,
        save_distributed_checkpoint=False,
    )


def cluster(num_nodes: int) -> ClusterEnvironment:
    """How processes on several devices find each other: those of several machines are tasks of a Slurm job, which is put back
    into its queue by whoever launched it; those of one machine are started by Lightning, inside a Slurm job as elsewhere."""
    return SLURMEnvironment(auto_requeue=False) if num_nodes > 1 else LightningEnvironment()


def share(count: int, trainer: L.Trainer) -> slice:
    """Which of the `count` parts of a batch this device computes: one stretch of them, as long as the others' or one longer.

    Raises:
        InputError: there are fewer parts than devices.
    """
    rank, size = trainer.global_rank, trainer.world_size
    if count < size:
        raise InputError(
            f"A batch of {count} cannot be shared by {size} devices: raise batch_size, or lower trainer.devices."
        )
    return slice(count * rank // size, count * (rank + 1) // size)


def pick_precision(precision: str, on_gpu: bool) -> str:
    """The Lightning precision that `auto` stands for; any other value is passed on."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def quieten() -> None:
    """Silence Lightning's notices of hardware and tips, and warnings that our fixed settings would always draw."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
    # Where weights are averaged, they are not in pieces: `Finetune.check_sharding`.
    warnings.filterwarnings(
        "ignore", message="You're using the WeightAveraging callback with a model that overrides"
    )
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning's own use of PyTorch


class Terminated(SIGTERMException):
    """A SIGTERM ended a training after a whole optimizer step, or a prediction after a whole batch."""

    def __init__(self) -> None:
        super().__init__(termination.STATUS)


class StopAtSigterm(Callback):
    """Ends a training or prediction at the next point at which nothing is lost.

    Lightning itself would stop inside a validation or between two batches of one optimizer step, and go on with a prediction.
    """

    def __init__(self) -> None:
        self.step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.step = trainer.global_step
        termination.defer_sigterm()  # Lightning puts the handler of before back

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        termination.defer_sigterm()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        whole, self.step = trainer.global_step != self.step, trainer.global_step  # gradients may accumulate
        if whole and termination.asked and not validates_now(trainer):
            raise Terminated

    def on_predict_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if termination.asked:
            raise Terminated

    def on_train_end(self, *_: Any) -> None:
        if termination.asked:  # it came in the last validation
            termination.ask_again()


class ResumeCheckpoint(ModelCheckpoint):
    """The training state of the last save: every so often, and after the step at which a SIGTERM ends the training."""

    def __init__(self, **options: Any) -> None:
        super().__init__(save_on_exception=True, enable_version_counter=False, **options)

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        if not validates_now(trainer):
            super().on_train_batch_end(trainer, *rest)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, Terminated):  # at any other, a step may be half done
            super().on_exception(trainer, pl_module, exception)


def validates_now(trainer: L.Trainer) -> bool:
    """Whether a validation follows the step that has just ended. A training that went on from before it would leave it out."""
    return trainer.enable_validation and trainer.global_step % int(trainer.val_check_batch) == 0


class StepProgress(Callback):
    """One line for a whole fit or prediction: steps done, steps a second, time left, the latest validation score."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and stage in ("fit", "predict"):
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn()]
            columns += [TimeRemainingColumn(), TextColumn("{task.fields[score]}")]
            self.progress = Progress(*columns, transient=True, disable=not get_console().is_terminal)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
        self._start("training", total, trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.progress is not None and self.progress.task_ids:
            scores = trainer.progress_bar_metrics.items()
            text = "  ".join(f"{name} {value:.3f}" for name, value in scores)
            self.progress.update(self.progress.task_ids[0], score=text)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start("predicting", sum(trainer.num_predict_batches), 0)

    def on_predict_batch_end(self, *_: Any) -> None:
        if self.progress is not None:
            self.progress.advance(self.progress.task_ids[0])

    def _start(self, description: str, total: float, completed: int) -> None:
        if self.progress is not None:
            self.progress.add_task(description, total=total, completed=completed, score="")
            self.progress.start()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


class RateColumn(ProgressColumn):
    """Steps a second, or seconds a step where they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} steps/s" if speed >= 1 else f"{1 / speed:.1f} s/step")
