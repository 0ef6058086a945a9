"""The stages in data order, and the one way to plan, check and make them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

import skinaug.audit.stage as audit
import skinaug.classify.stage as classify
import skinaug.curate.stage as curate
import skinaug.dataset.stage as dataset
import skinaug.finetune.stage as finetune
import skinaug.generate.stage as generate
import skinaug.mix.stage as mix
import skinaug.test.stage as test
from skinaug.devices.spread import build_spread, for_step, is_spread
from skinaug.errors import InputError
from skinaug.manifest import Manifest, read_once
from skinaug.models.devices import check_trainer
from skinaug.report.settings import Asked
from skinaug.sources.walk import leave_out
from skinaug.stage import Build, Plan, Stage, Step, build, keyed, plain
from skinaug.store.artifact import Artifact, Recipe
from skinaug.store.digest import folder_digest
from skinaug.store.store import Store
from skinaug.targets import check_targets

# In data order. Reports, which are of many jobs, are made by `report.stage`.
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        dataset.STAGE,
        test.STAGE,
        audit.COPIES,
        audit.REAL_LABELS,
        mix.EXPOSED,
        finetune.STAGE,
        generate.STAGE,
        curate.SCORE,
        curate.STAGE,
        audit.STAGE,
        mix.TONES,
        mix.STAGE,
        test.CERTIFY,
        classify.STAGE,
        classify.EVALUATE,
    )
}

LARGEST_SEED = 2**32 - 1  # NumPy's, to which Lightning holds all

console = Console()


def stage_of(name: str) -> Stage:
    """The stage that makes a step."""
    return STAGES[name.partition(".")[0]]


def steps(cfg: DictConfig, target: str) -> dict[str, Step]:
    """A step, or all of a stage that has none of its name, and what belongs to them, in the order in which they are built."""
    known: dict[str, dict[str, Step]] = {}
    plan: dict[str, Step] = {}
    leave_out(cfg.store, cfg.output)  # from photographs' folders, of which `dataset.root=.` may hold them

    def of(stage: Stage) -> dict[str, Step]:
        if stage.name not in known:
            known[stage.name] = {step.name: step for step in stage.steps(cfg)}
        return known[stage.name]

    def add(name: str) -> None:
        step = of(stage_of(name))[name]
        for need in (*step.after, *step.inputs):
            if need not in plan:
                add(need)
        plan[name] = step
        for follower in step.then:
            add(follower)

    own = of(stage_of(target))
    for name in own if target in STAGES and target not in own else [target]:
        if name not in plan:
            add(name)
    return plan


def recipes(cfg: DictConfig, target: str) -> dict[str, Recipe]:
    """The recipes of a step and of all that it needs, in the order in which they are built."""
    return recipes_of(steps(cfg, target))


def recipes_of(plan: Plan) -> dict[str, Recipe]:
    """What identifies the results of steps."""
    found: dict[str, Recipe] = {}
    for name, step in plan.items():
        found[name] = recipe_with(step, {need: found[need].key for need in step.inputs})
    return found


def recipe_with(step: Step, inputs: Mapping[str, str]) -> Recipe:
    """What identifies the result of a step that is made of artifacts with these keys."""
    files = {name: folder_digest(path) for name, path in step.files.items() if path.exists()}
    stage = stage_of(step.name)
    return Recipe(stage.name, stage.version, keyed(step.config), {**inputs, **step.digests, **files})


def check(cfg: DictConfig, plan: Plan, judged: set[str] | None = None) -> None:
    """Refuse what can be seen to be wrong from the config alone.

    Args:
        judged: keys of results whose parts other jobs of a sweep have had judged, which these join; None: nobody has.

    Raises:
        InputError: the data's folder, the mix, the prompts, the base, the filters, the backbone or the report's margin cannot work, or
            code that they name is not there.
    """
    check_values(cfg, plan)
    store, judged = Store(Path(cfg.store)), set() if judged is None else judged
    for name, recipe in recipes_of(plan).items():
        if recipe.key in judged or store.has(recipe):
            continue
        check_targets(name, plan[name].config, installed=True)
        if name in STAGES:
            STAGES[name].check_parts(cfg)
        judged.add(recipe.key)


def check_seeds(cfg: DictConfig) -> None:
    """Refuse a `seed`, wherever it stands, that random number generators do not take: else it would be noticed where it is first used,
    which may be hours later.

    Raises:
        InputError: one that is no whole number from 0 to 2^32 - 1.
    """
    values = {str(name): plain(cfg[name]) for name in cfg if name != "hydra"}
    for name, seed in _seeds(values):
        if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
            raise InputError(f"{name}={seed}: a seed is a whole number from 0 to {LARGEST_SEED}.")


def _seeds(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each seed with its name, those that lie less deep first: others follow `seed`."""
    if not isinstance(values, dict):
        return
    if "seed" in values:
        yield f"{place}seed", values["seed"]
    for key, value in values.items():
        yield from _seeds(value, f"{place}{key}.")


def check_values(cfg: DictConfig, plan: Plan) -> None:
    """What `check` refuses, but for what the parts themselves must judge, without importing torch.

    Raises:
        InputError: as `check`.
    """
    if cfg.report.margin is not None:  # of the report that a sweep ends with
        from skinaug.report.margin import check_margin  # which loads SciPy

        check_margin(cfg.report.margin)
    check_seeds(cfg)
    check_writable("output", Path(cfg.output))
    check_trainer(plain(cfg.trainer))
    stages = dict.fromkeys(map(stage_of, plan))
    for stage in stages:
        stage.check_suits(cfg)
    for stage in stages:
        stage.check(cfg)
    if classify.STAGE.name in plan:
        Asked.of(plain(cfg.report)).check(dataset.own_columns(cfg))
    store, planned = Store(Path(cfg.store)), recipes_of(plan)
    for name, step in plan.items():
        _check_photographs(store, step, planned["dataset"].key)
        if not store.has(planned[name]):
            check_targets(name, step.config)
    for name in ("trainer", "logger"):
        check_targets(name, plain(cfg[name]))
    try:
        check_writable("store", store.root)
    except InputError:
        if not all(map(store.has, planned.values())):
            raise  # one in which all is there can be read


def check_data(cfg: DictConfig, plan: Plan, data: Manifest) -> None:
    """Refuse what the data cannot serve, before anything is trained.

    Raises:
        InputError: prompts, a mix or a classifier ask for what the data lack.
    """
    for stage in dict.fromkeys(map(stage_of, plan)):
        stage.check_data(cfg, data, plan)
    if classify.STAGE.name in plan:
        Asked.of(plain(cfg.report)).check_images(data.classes, data.split("test").table)


def check_kept(cfg: DictConfig, plan: Plan) -> None:
    """`check_data`, `check_images` and `check_pool` of what the store holds already.

    Raises:
        InputError: as they do.
    """
    kept = there(cfg, plan)
    if "dataset" in kept:
        check_data(cfg, plan, read_once(kept["dataset"].path))
    for name in plan:
        if name in kept:
            check_images(plan, name, kept[name])
    check_pool(cfg, plan, kept)


def check_images(plan: Plan, name: str, artifact: Artifact) -> None:
    """Refuse images that are there and that a step can do nothing with.

    Args:
        plan: the job's steps.
        name: the step that has made the images; of those that were made before, by another job, the stage.
        artifact: holds them.

    Raises:
        InputError: such as features of a file that lacks some of them.
    """
    checks = [step.checks[name] for step in plan.values() if name in step.checks]
    if not checks:
        return
    images = read_once(artifact.path)
    for check in checks:
        check(images)


def check_pool(cfg: DictConfig, plan: Plan, made: Mapping[str, Artifact]) -> None:
    """Refuse what the curated pool cannot serve, before a classifier is trained; accepts where the pool is not among the artifacts.

    Args:
        made: the job's artifacts so far, by step.

    Raises:
        InputError: a mix asks for more images than the pool has kept.
    """
    for stage in dict.fromkeys(map(stage_of, plan)):
        stage.check_pool(cfg, plan, made)


def there(cfg: DictConfig, plan: Plan) -> dict[str, Artifact]:
    """The artifacts of steps that are there already, those that were made before by other jobs included."""
    store = Store(Path(cfg.store))
    made = {name: store.artifact(recipe) for name, recipe in recipes_of(plan).items() if store.has(recipe)}
    return made_before(store, plan) | made


def made_before(store: Store, plan: Plan) -> dict[str, Artifact]:
    """Artifacts by others, with all that led to them, as far as the steps do not make them themselves."""
    own = set(map(stage_of, plan))
    return {
        name: artifact
        for step in plan.values()
        for name, artifact in store.lineage(step.digests).items()
        if stage_of(artifact.stage) not in own
    }


def run(cfg: DictConfig, target: str) -> dict[str, Artifact]:
    """Build what a step needs and the step itself, reusing all that is there. Returns every artifact by step."""
    store, plan = Store(Path(cfg.store)), steps(cfg, target)
    check(cfg, plan)
    made = made_before(store, plan)
    for artifact in made.values():
        check_images(plan, artifact.stage, artifact)
    for name, recipe in recipes_of(plan).items():
        made[name] = make(cfg, store, plan[name], recipe, made)
        if name == "dataset":
            check_data(cfg, plan, Manifest.read(made[name].path))
        check_images(plan, name, made[name])
        if name in ("dataset", "curate"):
            check_pool(cfg, plan, made)
    return made


def make(cfg: DictConfig, store: Store, step: Step, recipe: Recipe, made: Mapping[str, Artifact]) -> Artifact:
    """One artifact: found, or built inside a tracked run."""
    if store.has(recipe):
        console.print(f"[dim]{step.name:<16} {recipe.key}  kept[/dim]", highlight=False)
        return store.get(recipe, lambda out: None)
    inputs = {need: made[need] for need in recipe.inputs if need in made}
    with ExitStack() as tracking:

        def build_tracked(out: Path) -> None:
            console.print(f"[bold]{step.name:<16}[/bold] {recipe.key}  building", highlight=False)
            logger = False
            if step.tracked:
                track = build(cfg.logger)
                run = track(store.artifact(recipe), recipe, inputs, cfg.name, tags(cfg))
                logger = tracking.enter_context(run)
            job = Build(for_step(cfg, step), made, out, logger)
            if step.prepare:
                step.prepare(job)
            if is_spread(cfg, step):
                build_spread(step, job)
            else:
                step.build(job)

        artifact = store.get(recipe, build_tracked, about={"name": step.name, "job": plain(cfg)})
    console.print(
        f"{step.name:<16} {recipe.key}  built in {artifact.record['seconds']:.1f} s", highlight=False
    )
    return artifact


def why(cfg: DictConfig, target: str) -> Iterator[tuple[str, str, list[str]]]:
    """For each step up to this one: name, key, and what makes it run (empty: its artifact is there)."""
    store = Store(Path(cfg.store))
    for name, recipe in recipes(cfg, target).items():
        yield name, recipe.key, store.why(recipe)


def tags(cfg: DictConfig) -> dict[str, Any]:
    """What a dashboard groups, filters and draws axes by: one flat value a key, whatever the stage."""
    found = {"study": cfg.name, "seed": cfg.seed}
    for stage in STAGES.values():
        found |= stage.tags(cfg)
    return found


def _check_photographs(store: Store, step: Step, data: str) -> None:
    """Refuse what was made before of other photographs than the job's."""
    for name, key in step.digests.items():
        lineage = store.lineage({name: key})
        if lineage and data not in {artifact.key for artifact in lineage.values()}:
            raise InputError(
                f"{step.name} asks for {name.replace('.', '/')}, which was made for other photographs than those of this study "
                f"(dataset {data}), so nothing could keep test patients out of it. Make one for this data set."
            )


def check_writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be made or written; makes nothing."""
    there = Path(os.path.abspath(folder))
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"{name}={folder} cannot be written: {there} is no writable folder. Choose another: {name}=<folder>."
        )
