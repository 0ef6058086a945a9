"""Sweeps with controls: `controls=[...]` adds to every job with synthetic images the same job with something in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.launch.repeats import check_repeats, refuse_pools_without_sweep, repeated

# What each control changes of a job; of `oracle`, where the photographs are rendered, ORACLE.
CONTROLS = {
    "real_alone": {"mix.control": "real_alone"},
    "duplicated_real": {"mix.control": "duplicated_real"},
    "label_permuted": {"mix.control": "label_permuted"},
    "standard_augmentation": {"mix.control": "real_alone", "augmentation": "strong"},
    "oracle": {"mix.control": "fresh_real"},
}
NEED_REAL = (
    "real_alone",
    "duplicated_real",
    "standard_augmentation",
)  # no controls of synthetic images alone
ORACLE = {
    "base": "oracle",
    "generate": "default",
    "filter": "[]",
}  # there are as many fresh ones as are asked for
RENDERED = "skinaug.dataset.phantom.source.Phantom"


class ControlSweeper(BasicSweeper):
    """Hydra's own sweeper, and after its jobs those of the controls that the configuration names; all of them once a fold."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        check_controls(config.controls)
        check_repeats(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        # No job is another one for the controls that stand beside it.
        jobs = [
            [override for override in job if not override.startswith("controls=")]
            for job in super().get_job_batch()
        ]
        controls = dict.fromkeys(self._controls(jobs)) if self.config and self.config.controls else {}
        every = [*jobs, *map(list, controls)]
        return repeated(every, self.config, self._compose) if self.config else every

    def _compose(self, job: list[str]) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, job)

    def _controls(self, jobs: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
        from skinaug.stage import build

        assert self.config is not None
        for job in jobs:
            cfg = self._compose(list(job))
            mix, rendered = build(cfg.mix), cfg.dataset.source["_target_"] == RENDERED
            for name in self.config.controls if mix.needs_pool else ():
                if mix.keeps_real or name not in NEED_REAL:
                    yield changed(job, ORACLE if name == "oracle" and rendered else CONTROLS[name])


def check_controls(names: Sequence[str]) -> None:
    """Refuse controls that do not exist.

    Raises:
        InputError: names them and those that there are.
    """
    unknown = [str(name) for name in names if name not in CONTROLS]
    if unknown:
        raise InputError(
            f"controls={list(names)}: there is no {', '.join(unknown)}. Controls: {', '.join(CONTROLS)}."
        )


def refuse_without_sweep(cfg: DictConfig) -> None:
    """Refuse controls of a single job, which has nothing beside it that they could be compared with, and pools of several seeds.

    Raises:
        InputError: there are controls or seeds of pools, and no sweep.
    """
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    if cfg.controls:
        raise InputError(
            "controls are jobs of a sweep, and this is a single job: add -m, or set mix.control."
        )
    refuse_pools_without_sweep(cfg)


def changed(job: Sequence[str], values: dict[str, str]) -> tuple[str, ...]:
    """A job's overrides with other values of some keys."""
    kept = [override for override in job if override.partition("=")[0] not in values]
    return (*kept, *(f"{key}={value}" for key, value in values.items()))
