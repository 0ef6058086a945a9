"""Searches: `hydra/sweeper=optuna` chooses each trial's values by what earlier ones scored on validation images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from skinaug.errors import InputError, plural
from skinaug.launch.failures import failed, message_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

ABANDONED = "abandoned"  # numbers of trials whose process was killed; their values are tried again

console = Console()


class SearchSweeper(Sweeper):
    """Optuna's TPE over Hydra's own syntax: `key=interval(0,2)`, `key=range(0,2,step=0.5)`, `key=choice(a,b)`, `tag(log,...)`.

    A trial is a job for each of `seeds`, and its value the mean of what they return. One of which a job is refused or fails
    is recorded as failed. What was tried is on disk, so that the same command goes on after a kill; another configuration is
    another search in the same file.

    Args:
        params: what is searched, by key; overrides of the command line come on top.
        trials: how many, failed ones included.
        at_once: trials that are launched together, for launchers that run jobs side by side.
        seeds: of a trial's jobs.
        seed: of the sampler.
        storage: Optuna's journal file.
    """

    def __init__(
        self,
        params: Mapping[str, str] | None,
        trials: int,
        at_once: int,
        seeds: Sequence[int],
        seed: int,
        storage: str,
    ) -> None:
        self.params, self.trials, self.at_once, self.seeds = params or {}, trials, at_once, list(seeds)
        self.seed, self.storage, self.jobs = seed, Path(storage), 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if min(self.trials, self.at_once, len(self.seeds)) < 1:
            raise InputError("A search needs hydra.sweeper.trials, at_once and seeds of one or more.")
        if config.controls:
            raise InputError("A search has no controls: give them to a sweep over the values that it finds.")
        if config.folds.count is not None or config.pools.seeds is not None:
            raise InputError(
                "A search has neither folds nor pools of several seeds: give them to a sweep over the values that it finds."
            )
        self.context, self.config = hydra_context, config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        told = {override.get_key_element(): override for override in parser.parse_overrides(
            [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        )}  # fmt: skip
        space = {
            key: distribution(override) for key, override in told.items() if override.is_sweep_override()
        }
        if not space:
            raise InputError(
                "There is nothing to search: give a key a range, such as mix.synthetic_ratio='interval(0,2)'."
            )
        fixed = [
            f"{key}={override.get_value_element_as_str()}"
            for key, override in told.items()
            if key not in space
        ]
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.storage.with_suffix(".lock"), timeout=0):
                self._search(space, fixed)
        except Timeout:
            raise InputError(
                f"Another process searches with {self.storage}: wait for it, or choose another hydra.sweeper.storage."
            ) from None

    def _search(self, space: Mapping[str, BaseDistribution], fixed: Sequence[str]) -> None:
        study = open_study(self.storage, self._name(space, fixed), self.seed)
        while (left := self.trials - len(ended(study))) > 0:
            batch = [study.ask(dict(space)) for _ in range(min(self.at_once, left))]
            jobs = [
                [*fixed, *(f"{key}={value}" for key, value in trial.params.items()), f"seed={seed}"]
                for trial in batch
                for seed in self.seeds
            ]
            results = self._launch(jobs)
            for number, trial in enumerate(batch):
                start = number * len(self.seeds)
                self._tell(study, trial, results[start : start + len(self.seeds)])
        done = [trial for trial in study.trials if trial.value is not None]
        if not done:
            raise InputError(
                f"{'All ' * (self.trials > 1)}{plural(self.trials, 'trial')} of the search failed: the messages are above."
            )
        values = "  ".join(f"{key}={value}" for key, value in study.best_params.items())
        console.print(
            f"{plural(len(done), 'trial')}, best on validation images: {values}: {study.best_value:.4f}",
            highlight=False,
            soft_wrap=True,
        )

    def _launch(self, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
        results = list(self.launcher.launch(jobs, initial_job_idx=self.jobs))
        self.jobs += len(jobs)
        return results

    def _tell(self, study: Study, trial: Trial, results: Sequence[JobReturn]) -> None:
        from optuna.trial import TrialState

        lost = [message_of(result) for result in results if failed(result)]
        if lost:
            console.print(
                f"trial {trial.number} failed: {lost[0]}", highlight=False, soft_wrap=True, markup=False
            )
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, sum(float(result.return_value) for result in results) / len(results))

    def _name(self, space: Mapping[str, BaseDistribution], fixed: Sequence[str]) -> str:
        """Of a search: a hash of all that its values depend on."""
        config = OmegaConf.masked_copy(self.config, [str(key) for key in self.config if key != "hydra"])
        values = OmegaConf.to_container(config, resolve=True)
        about = [values, {key: str(space[key]) for key in space}, fixed, self.seeds]
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


def open_study(storage: Path, name: str, seed: int) -> Study:
    """A study of a journal file, new or with what was tried before. Trials that a kill cut off are asked for again.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("hydra/sweeper=optuna needs Optuna: pip install 'skinaug[search]'.") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalStorage(JournalFileBackend(str(storage)))
    study = optuna.create_study(storage=journal, study_name=name, direction="maximize", load_if_exists=True)
    cut = study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    study.set_user_attr(ABANDONED, [*study.user_attrs.get(ABANDONED, []), *(trial.number for trial in cut)])
    for trial in cut:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    # Another seed than before a kill, or it would draw the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def ended(study: Study) -> list[FrozenTrial]:
    """Trials that have a value or have failed."""
    from optuna.trial import TrialState

    trials = study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL])
    return [trial for trial in trials if trial.number not in study.user_attrs[ABANDONED]]


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a key from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep: Any = override.value()
    if override.is_interval_sweep():
        return FloatDistribution(float(sweep.start), float(sweep.end), log="log" in sweep.tags)
    if override.is_range_sweep():
        last = sweep.start + (math.ceil((sweep.stop - sweep.start) / sweep.step) - 1) * sweep.step
        kind = (
            IntDistribution
            if all(isinstance(value, int) for value in (last, sweep.step))
            else FloatDistribution
        )
        return kind(sweep.start, last, step=sweep.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
