"""`skinaug plan [stage] <overrides>`: what a sweep or a job would build, reuse and cost, before anything starts.

Keys follow from the configurations alone, so nothing is built to know them, and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from skinaug.errors import InputError, plural
from skinaug.launch import configs
from skinaug.launch.overrides import by_key
from skinaug.launch.repeats import spelled_out
from skinaug.launch.selections import refuse_repeated_sets, spread_sets
from skinaug.launch.words import check_words
from skinaug.pipeline import STAGES, check_kept, check_values, recipes_of, steps
from skinaug.report.collect import Run, distinct, name_arms
from skinaug.report.stage import report_recipe
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store
from skinaug.store.timings import duration, nearest_seconds, timings

BASIC_LAUNCHER = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}

console = Console()


def main(arguments: list[str]) -> int:
    """Print what a command would do; returns the exit status: 0, or 2 where a job would be refused."""
    stage = arguments.pop(0) if arguments and arguments[0] in STAGES else "classify"
    plan = plan_of(stage, arguments)
    print_plan(plan)
    return 2 if plan.refused else 0


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes:
        jobs: how many there are.
        recipes: of every artifact, by stage: distinct ones.
        kept: keys of those that are there.
        seconds: of those that are not, by key: what the nearest earlier one took; None: there is none.
        refused: message -> the overrides of the jobs that it is told of.
        folds: how many there are over patients; None: none.
        first_fold: keys of what the jobs of the first fold stand on: what the same sweep without folds would take.
    """

    jobs: int
    recipes: Mapping[str, list[Recipe]]
    kept: frozenset[str]
    seconds: Mapping[str, float | None]
    refused: Mapping[str, list[str]]
    folds: int | None = None
    first_fold: frozenset[str] = frozenset()


def plan_of(stage: str, overrides: Sequence[str]) -> Plan:
    """What `skinaug <stage> <overrides>` would do.

    Raises:
        InputError: the sweep cannot be planned.
    """
    configs.register()
    check_words(stage, overrides)
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3", job_name="skinaug"):
        return make_plan(*compose(overrides), stage)


def compose(overrides: Sequence[str]) -> tuple[DictConfig, list[DictConfig]]:
    """The configuration of a command, and those of its jobs, as Hydra and the configured sweeper make them.

    Raises:
        InputError: the sweeper chooses its jobs by the results of others.
    """
    from hydra._internal.core_plugins.basic_sweeper import (
        BasicSweeper,  # after Hydra's plug-ins, which load it anew
    )

    from skinaug.launch.controls import refuse_without_sweep

    loader = GlobalHydra.instance().config_loader()
    asked = spread_sets(
        spelled_out([override for override in overrides if override not in ("-m", "--multirun")])
    )
    config = loader.load_configuration("config", asked, RunMode.MULTIRUN, validate_sweep_overrides=False)
    sweeps = len(asked) < len(overrides) or config.hydra.mode == RunMode.MULTIRUN
    if not sweeps:
        config = loader.load_configuration("config", asked, RunMode.RUN)
        HydraConfig.instance().set_config(config)
        refuse_without_sweep(config)
        return config, [config]
    with open_dict(config):
        config.hydra.launcher = BASIC_LAUNCHER  # nothing is launched
        config.hydra.mode = RunMode.MULTIRUN
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    sweeper = Plugins.instance().instantiate_sweeper(
        config=config, hydra_context=context, task_function=lambda cfg: None
    )
    if not isinstance(sweeper, BasicSweeper):
        raise InputError(
            f"{type(sweeper).__name__} chooses its jobs by the results of earlier ones, so there is no plan of them. A single job's "
            "plan tells what one costs."
        )
    arguments = [*sweeper._parse_config(), *config.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    sweeper.overrides = sweeper.split_arguments(parsed, sweeper.max_batch_size)
    jobs: list[DictConfig] = []
    while not sweeper.is_done():
        jobs += [loader.load_sweep_config(config, list(job)) for job in sweeper.get_job_batch()]
    return config, jobs


def make_plan(config: DictConfig, jobs: Sequence[DictConfig], stage: str) -> Plan:
    """What jobs would build and reuse up to a stage, and the report on them where they are a sweep of classifiers."""
    store = Store(Path(config.store))
    found: dict[str, dict[str, Recipe]] = {}
    refused: dict[str, list[str]] = {}
    runs: list[Run] = []
    lost: list[Run] = []
    first_fold: set[str] = set()
    for job in jobs:
        try:
            refuse_repeated_sets(job, job.hydra.overrides.task)
            planned = steps(job, stage)
            check_values(job, planned)
            check_kept(job, planned)
            plan = recipes_of(planned)
        except InputError as error:
            refused.setdefault(str(error), []).append(" ".join(job.hydra.overrides.task))
            lost.append(_run(job, {}, str(error)))
            continue
        for recipe in plan.values():
            found.setdefault(recipe.stage, {})[recipe.key] = recipe
            if job.dataset.fold == 0:
                first_fold.add(recipe.key)
        if stage == "classify":
            runs.append(_run(job, plan))
    if config.hydra.mode == RunMode.MULTIRUN and runs:
        report = report_recipe(config.report, name_arms([*distinct(runs), *lost]))
        found["report"] = {report.key: report}
    by_stage = {stage: list(found[stage].values()) for stage in (*STAGES, "report") if stage in found}
    every = [recipe for plans in by_stage.values() for recipe in plans]
    kept = frozenset(recipe.key for recipe in every if store.has(recipe))
    timed = timings(store)
    seconds = {recipe.key: nearest_seconds(recipe, timed) for recipe in every if recipe.key not in kept}
    return Plan(len(jobs), by_stage, kept, seconds, refused, config.folds.count, frozenset(first_fold))


def _run(job: DictConfig, plan: Mapping[str, Recipe], failure: str | None = None) -> Run:
    """The run that a job will be, as far as a report's key depends on it."""
    artifacts = {name: Path(recipe.key) for name, recipe in plan.items()}
    overrides = by_key(job.hydra.overrides.task)
    return Run(job.name, job.mix.name, job.seed, overrides, artifacts=artifacts, failure=failure)


def print_plan(plan: Plan) -> None:
    """A table by stage, the cost, and what would be refused."""
    table = Table("stage", "artifacts", "kept", "to build", "seconds each", "seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage, found in plan.recipes.items():
        missing = [recipe.key for recipe in found if recipe.key not in plan.kept]
        known = [seconds for key in missing if (seconds := plan.seconds[key]) is not None]
        each = f"{sum(known) / len(known):.1f}" if known else "no earlier run" if missing else ""
        total = f"{sum(known):.0f}" if known else ""
        table.add_row(stage, str(len(found)), str(len(found) - len(missing)), str(len(missing)), each, total)
    console.print(table)
    known = [seconds for seconds in plan.seconds.values() if seconds is not None]
    unknown = len(plan.seconds) - len(known)
    cost = (
        f"about {duration(sum(known))} of computing, as earlier artifacts of this store took" if known else ""
    )
    more = f"{plural(unknown, 'artifact')} of which there is no earlier run" if unknown else ""
    told = " and ".join(filter(None, [cost, more])) or "nothing"
    console.print(
        f"{plural(plan.jobs, 'job')}, {plural(len(plan.seconds), 'artifact')} to build: {told}.",
        highlight=False,
        soft_wrap=True,
    )
    if plan.folds is not None:
        alone = {key: seconds for key, seconds in plan.seconds.items() if key in plan.first_fold}
        timed = [seconds for seconds in alone.values() if seconds is not None]
        spent = f", about {duration(sum(timed))} of it" if timed else ""
        console.print(
            f"{plan.folds} folds, each with data set, weights, pool, filters and classifiers of its own: the first by itself takes "
            f"{len(alone)} of the {plural(len(plan.seconds), 'artifact')}{spent}.",
            highlight=False,
            soft_wrap=True,
        )
    if plan.refused:
        count = sum(map(len, plan.refused.values()))
        console.print(f"{count} of {plural(plan.jobs, 'job')} would be refused:", highlight=False)
    for message, jobs in plan.refused.items():
        names = "\n".join(f"  {job or '(the job)'}" for job in jobs)
        console.print(f"{names}\n{message}", highlight=False, soft_wrap=True, markup=False)
