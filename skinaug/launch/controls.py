"""Sweeps with controls: `controls=[...]` adds to every job with synthetic images the same job with something in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.launch.failures import failed, forget_sweep, raise_failures
from skinaug.launch.jobs import SweepLauncher
from skinaug.launch.overrides import key_of
from skinaug.launch.repeats import check_repeats, refuse_pools_without_sweep, repeated

# What each control changes of a job; of `oracle`, where the photographs are rendered, ORACLE.
CONTROLS = {
    "real_alone": {"mix.control": "real_alone"},
    "duplicated_real": {"mix.control": "duplicated_real"},
    "tone_shift": {"mix.control": "tone_shift"},
    "label_permuted": {"mix.control": "label_permuted"},
    "standard_augmentation": {"mix.control": "real_alone", "augmentation": "strong"},
    "oracle": {"mix.control": "fresh_real"},
}
NEED_REAL = (
    "real_alone",
    "duplicated_real",
    "tone_shift",
    "standard_augmentation",
)  # no controls of synthetic images alone
ORACLE = {
    "base": "oracle",
    "generate": "default",
    "filter": "[]",
}  # there are as many fresh ones as are asked for
OF_THE_POOL = ("base.", "generate.", "filter.")
OF_ANY_POOL = ("generate.per_class", "generate.image_size", "generate.seed")
RENDERED = "skinaug.dataset.phantom.source.Phantom"


class ControlSweeper(BasicSweeper):
    """Hydra's own sweeper, and after its jobs those of the controls that the configuration names; all of them once a fold."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        check_controls(config.controls)
        check_repeats(config)
        # By options of a job without filters: what removes the settings that an experiment's file makes of some.
        self.settings_left: dict[tuple[str, ...], list[str]] = {}
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep to its end, whichever of its jobs fail.

        Raises:
            InputError: every job was refused.
            Ended: some jobs have failed; there is a report of the others.
        """
        assert self.launcher is not None
        assert self.hydra_context is not None
        assert self.config is not None
        if not isinstance(self.launcher, SweepLauncher):
            return super().sweep(arguments)
        results: list[JobReturn] = []
        launch = self.launcher.launch

        def collected(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            batch = launch(job_overrides, initial_job_idx=initial_job_idx)
            results.extend(batch)
            return [result for result in batch if not failed(result)]  # Hydra would end with the first one

        self.launcher.launch = collected  # type: ignore[method-assign]
        try:
            returns = super().sweep(arguments)
        except BaseException:
            forget_sweep(self.config)
            raise
        if all(map(failed, results)):
            forget_sweep(self.config)
        elif any(map(failed, results)):
            name = self.config.hydra.job.config_name
            self.hydra_context.callbacks.on_multirun_end(config=self.config, config_name=name)
        raise_failures(results, self.launcher.told)
        return returns

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Our launchers compose all jobs before they start one."""
        if not isinstance(self.launcher, SweepLauncher):
            super().validate_batch_is_legal(batch)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        # No job is another one for the controls that stand beside it.
        jobs = [
            [override for override in job if not override.startswith("controls=")]
            for job in super().get_job_batch()
        ]
        controls = dict.fromkeys(self._controls(jobs)) if self.config and self.config.controls else {}
        every = [*jobs, *map(list, controls)]
        return repeated(every, self.config, self._composed) if self.config else every

    def _controls(self, jobs: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
        from skinaug.stage import build

        assert self.config is not None
        for job in jobs:
            cfg = self._composed(job)
            mix, rendered = build(cfg.mix), cfg.dataset.source["_target_"] == RENDERED
            for name in self.config.controls if mix.needs_pool else ():
                if mix.keeps_real or name not in NEED_REAL:
                    yield self._oracle(job) if name == "oracle" and rendered else changed(job, CONTROLS[name])

    def _oracle(self, job: Sequence[str]) -> tuple[str, ...]:
        """The job with a pool that the truth renders. What was set of the base, of the drawing and of filters is not of it."""
        keys = [key_of(override) for override in job]
        kept = [
            override
            for key, override in zip(keys, job, strict=True)
            if key in OF_ANY_POOL or not key.startswith(OF_THE_POOL)
        ]
        oracle = changed(kept, ORACLE)
        options = tuple(
            override for override in oracle if "." not in key_of(override) and key_of(override) != "seed"
        )
        if options not in self.settings_left:
            self.settings_left[options] = [f"~filter.{name}" for name in self._composed(options).filter]
        return (*oracle, *self.settings_left[options])

    def _composed(self, job: Sequence[str]) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(job))


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
    kept = [override for override in job if key_of(override) not in values]
    return (*kept, *(f"{key}={value}" for key, value in values.items()))
