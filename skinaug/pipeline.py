"""The stages wired together: what each one reads, what identifies its result, and how it is built."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from skinaug.base import check_base, local_folder
from skinaug.errors import InputError, listing
from skinaug.manifest import Manifest
from skinaug.store import Artifact, Recipe, Store, folder_digest

# Raise a stage's number when its code changes what it makes from the same config and inputs.
VERSIONS = {
    "dataset": 1,
    "finetune": 1,
    "generate": 1,
    "score": 1,
    "curate": 1,
    "mix": 1,
    "classify": 1,
    "report": 1,
}
STAGES = ("dataset", "finetune", "generate", "curate", "mix", "classify", "report")
RUN_FILE = "run.json"

console = Console()
Made = Mapping[str, Artifact]  # the artifacts so far: by stage, and `score.<filter>` for each filter


# --- what identifies each stage's result --------------------------------------------------------------------------------


def recipes(cfg: DictConfig, stage: str) -> dict[str, Recipe]:
    """The recipes of a stage and of all that it needs, in the order in which they are built."""
    plan: dict[str, Recipe] = {}

    def add(name: str, config: Mapping[str, Any], *needs: str, **digests: str) -> None:
        kind = name.partition(".")[0]
        inputs = {need: plan[need].key for need in needs} | digests
        plan[name] = Recipe(kind, VERSIONS[kind], config, inputs)

    precision = {"precision": cfg.trainer.precision}
    backbone = {"backbone": plain(cfg.backbone), **precision}
    add("dataset", plain(cfg.dataset), **_root(cfg))
    if needs_pool(cfg, stage):
        base = {"base": plain(cfg.base), **precision}
        weights = _digest("weights", cfg.base.get("path"))
        add("finetune", {**plain(cfg.finetune), **base}, "dataset", **weights)
        add("generate", {**plain(cfg.generate), "prompts": plain(cfg.prompts), **base}, "finetune", **weights)
        for name, filter_ in cfg.curate.filters.items():
            add(f"score.{name}", {"name": name, **plain(filter_.scorer), **precision}, "generate", "dataset")
        scores = [name for name in plan if name.startswith("score.")]
        keep = {name: plain(filter_.get("keep", {})) for name, filter_ in cfg.curate.filters.items()}
        add("curate", {"filters": list(keep), "keep": keep}, "generate", *scores)
    pool = ["curate"] if "curate" in plan else []
    draws = {
        name: value for name, value in plain(cfg.mix).items() if name != "name"
    }  # equal draws are one artifact
    add("mix", draws, "dataset", *pool)
    add(
        "classify",
        {**plain(cfg.classify), **backbone},
        "mix",
        "dataset",
        **_digest("weights", cfg.backbone.get("weights")),
    )
    return dict(list(plan.items())[: list(plan).index(stage) + 1])


def needs_pool(cfg: DictConfig, stage: str) -> bool:
    """Whether a stage needs synthetic images: a mix of real images alone, and its classifier, do not."""
    return build(cfg.mix).needs_pool if stage in ("mix", "classify") else stage != "dataset"


def plain(node: Any) -> Any:
    """A config node as resolved dicts, lists and scalars."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _root(cfg: DictConfig) -> dict[str, str]:
    """{"root": where the photographs lie and their names, sizes and times}: reading every byte of a large collection
    before each command would cost minutes. A source that renders its images has none."""
    from skinaug.dataset.dataset import check_root, root_digest

    root = check_root(build(cfg.dataset.source), cfg.dataset.root)
    return {"root": f"{root} {root_digest(root)}"} if root else {}


def _digest(name: str, path: str | None) -> dict[str, str]:
    """{name: digest of the folder's content} for a local folder, {} for none."""
    folder = local_folder(path)
    return {name: folder_digest(folder)} if folder and folder.exists() else {}


# --- how each stage is built --------------------------------------------------------------------------------------------


def build_dataset(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.dataset)(out=out)


def build_finetune(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    manifest = read(made["dataset"]).split("train")
    build(cfg.finetune)(
        manifest=manifest, base=build(cfg.base), trainer=build(cfg.trainer), logger=logger, out=out
    )


def build_generate(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.generate)(
        classes=read(made["dataset"]).classes,
        weights=made["finetune"].path,
        base=build(cfg.base),
        prompts=build(cfg.prompts),
        trainer=build(cfg.trainer),
        logger=logger,
        out=out,
    )


def build_score(cfg: DictConfig, name: str, made: Made, out: Path) -> None:
    scorer = build(cfg.curate.filters[name].scorer)
    pool, real = read(made["generate"]), read(made["dataset"]).split("train")
    scores = scorer.score(pool, real, trainer=build(cfg.trainer), cache=pixel_cache(cfg))
    scores.write_parquet(out / "scores.parquet")


def build_curate(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    import polars as pl

    scores = {
        name: pl.read_parquet(made[f"score.{name}"].path / "scores.parquet") for name in cfg.curate.filters
    }
    build(cfg.curate)(pool=read(made["generate"]), scores=scores, out=out)


def build_mix(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    from skinaug.mix.mix import mix

    pool = read(made["curate"]) if "curate" in made else None
    mix(build(cfg.mix), read(made["dataset"]), pool, out)


def build_classify(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.classify)(
        backbone=build(cfg.backbone),
        mix=read(made["mix"]),
        real=read(made["dataset"]),
        cache=pixel_cache(cfg),
        trainer=build(cfg.trainer),
        logger=logger,
        out=out,
    )


BUILDERS: dict[str, Callable[[DictConfig, Made, Path, Any], None]] = {
    "dataset": build_dataset,
    "finetune": build_finetune,
    "generate": build_generate,
    "curate": build_curate,
    "mix": build_mix,
    "classify": build_classify,
}


def build(node: DictConfig, **overrides: Any) -> Any:
    """The object or partial that a config node describes, its values as plain Python."""
    return instantiate(node, _convert_="object", **overrides)


def read(artifact: Artifact) -> Manifest:
    """The manifest of an artifact."""
    return Manifest.read(artifact.path)


def pixel_cache(cfg: DictConfig) -> Path:
    """Decoded pictures, shared by all runs of a store."""
    return Path(cfg.store) / "pixels.sqlite"


# --- running ------------------------------------------------------------------------------------------------------------


def run(cfg: DictConfig, stage: str) -> dict[str, Artifact]:
    """Build what a stage needs and the stage itself, reusing all that is there. Returns every artifact by stage."""
    check(cfg, stage)
    store = Store(Path(cfg.store))
    made: dict[str, Artifact] = {}
    for name, recipe in recipes(cfg, stage).items():
        made[name] = make(cfg, store, name, recipe, made)
        if name == "dataset":
            check_classes(cfg, stage, read(made[name]))
    return made


def make(cfg: DictConfig, store: Store, name: str, recipe: Recipe, made: Made) -> Artifact:
    """One artifact: found, or built inside a tracked run."""
    if store.has(recipe):
        console.print(f"[dim]{name:<16} {recipe.key}  kept[/dim]", highlight=False)
        return store.get(recipe, lambda out: None)
    inputs = {need: made[need] for need in recipe.inputs if need in made}
    with ExitStack() as tracking:

        def build_tracked(out: Path) -> None:
            console.print(f"[bold]{name:<16}[/bold] {recipe.key}  building", highlight=False)
            if recipe.stage == "score":
                build_score(cfg, name.partition(".")[2], made, out)
                return
            track = build(cfg.logger)
            logger = tracking.enter_context(track(store.artifact(recipe), recipe, inputs, cfg.name))
            BUILDERS[name](cfg, made, out, logger)

        artifact = store.get(recipe, build_tracked)
    console.print(f"{name:<16} {recipe.key}  built in {artifact.record['seconds']:.1f} s", highlight=False)
    return artifact


def why(cfg: DictConfig, stage: str) -> Iterator[tuple[str, str, list[str]]]:
    """For each stage up to this one: name, key, and what makes it run (empty: its artifact is there)."""
    store = Store(Path(cfg.store))
    for name, recipe in recipes(cfg, stage).items():
        yield name, recipe.key, store.why(recipe)


# --- bad input, before anything is built or loaded ----------------------------------------------------------------------


def check(cfg: DictConfig, stage: str) -> None:
    """Refuse what can be seen to be wrong from the config alone.

    Raises:
        InputError: the data's folder, the mix, the prompts, the base or the backbone cannot work.
    """
    from skinaug.backbone import check_backbone
    from skinaug.dataset.dataset import check_root
    from skinaug.generate.plan import check_settings

    for name in ("store", "output"):
        check_writable(name, Path(cfg[name]))
    check_root(build(cfg.dataset.source), cfg.dataset.root)
    if stage in ("mix", "classify"):
        build(cfg.mix)
    if stage == "classify":
        check_backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
    if needs_pool(cfg, stage):
        build(cfg.prompts)
        check_settings(**plain(cfg.generate))
        check_base(cfg.base.path, cfg.base.hub_ids)
        if "method" in cfg.finetune and not Store(Path(cfg.store)).has(recipes(cfg, "finetune")["finetune"]):
            build(cfg.finetune.method)  # refuses bad settings; imports torch, so only where it will be needed


def check_writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be made or written; makes nothing."""
    there = Path(os.path.abspath(folder))
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"{name}={folder} cannot be written: {there} is no writable folder. Choose another: {name}=<folder>."
        )


def check_classes(cfg: DictConfig, stage: str, manifest: Manifest) -> None:
    """Refuse prompts or mixes that the data's classes cannot serve, before anything is trained."""
    if needs_pool(cfg, stage):
        build(cfg.prompts).check_labels(manifest.classes)
    if stage in ("mix", "classify"):
        counts = build(cfg.mix).counts(manifest)
        few = counts.filter(counts["synthetic"] > cfg.generate.per_class)
        if few.height:
            asked = listing(
                f"{label}: asked {count}" for label, count in few.select("label", "synthetic").iter_rows()
            )
            raise InputError(
                f"The mix {cfg.mix.name} asks for more synthetic images than the pool will have ({cfg.generate.per_class} a "
                f"class before curation):\n{asked}\nRaise generate.per_class or ask for fewer."
            )


# --- commands -----------------------------------------------------------------------------------------------------------


def execute(cfg: DictConfig, command: str, stage: str) -> None:
    """Run one command of the command line on a composed configuration."""
    if command == "report":
        report(cfg, Path(cfg.report.runs) if cfg.report.runs else newest_sweep(cfg))
    elif command == "why":
        print_why(cfg, stage)
    elif command == "prompts":
        print_prompts(cfg)
    elif command == "mix":
        print_mix(cfg)
    else:
        made = run(cfg, stage)
        if stage == "classify":
            record_run(cfg, made)


def record_run(cfg: DictConfig, made: Made) -> None:
    """Write the job's run.json, from which a report finds its artifacts, and print its metrics."""
    hydra = HydraConfig.get()
    sweep = hydra.mode == RunMode.MULTIRUN
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path(hydra.runtime.output_dir) if sweep else Path(cfg.output) / cfg.name / stamp
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "experiment": cfg.name,
        "arm": cfg.mix.name,
        "seed": cfg.seed,
        "overrides": dict(override.split("=", 1) for override in hydra.overrides.task),
        "config": {name: value for name, value in plain(cfg).items() if name not in ("store", "output")},
        "artifacts": {name: str(artifact.path) for name, artifact in made.items()},
    }
    partial = folder / f"{RUN_FILE}.partial"
    partial.write_text(json.dumps(about, indent=2) + "\n")
    os.replace(partial, folder / RUN_FILE)
    test = json.loads((made["classify"].path / "metrics.json").read_text())["test"]
    scores = "  ".join(
        f"{name} {test[name]:.1%}" for name in ("top1", "balanced_accuracy", "macro_f1", "auroc")
    )
    console.print(
        f"{cfg.mix.name}, seed {cfg.seed}, on real test images: {scores}", highlight=False, soft_wrap=True
    )


def forget_sweep(cfg: DictConfig) -> None:
    """Remove the folder that Hydra made for a sweep of which no job has finished."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    sweep = Path(HydraConfig.get().sweep.dir)
    if not any(path.is_file() and path.name != "multirun.yaml" for path in sweep.rglob("*")):
        shutil.rmtree(sweep, ignore_errors=True)
        for folder in (sweep.parent, Path(cfg.output)):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def report(cfg: DictConfig, sweep: Path) -> None:
    """Report on the runs below a folder, from the store where it was written before; a copy lies in `sweep`/report."""
    from skinaug.report.collect import name_arms, read_runs
    from skinaug.report.report import print_report

    runs = name_arms(read_runs(sweep))
    inputs = {f"{run.arm}/{run.seed}": Path(run.artifacts["classify"]).name for run in runs}
    recipe = Recipe("report", VERSIONS["report"], plain(cfg.report), inputs)
    store = Store(Path(cfg.store))
    artifact = store.get(recipe, lambda out: build(cfg.report)(runs=runs, out=out))
    folder = sweep / "report"
    shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
    print_report(folder)


def newest_sweep(cfg: DictConfig) -> Path:
    """The study's latest folder with finished runs."""
    runs = sorted((Path(cfg.output) / cfg.name).glob(f"*/**/{RUN_FILE}"))
    if not runs:
        raise InputError(
            f"No finished run of {cfg.name!r} lies under {cfg.output}. Run a sweep first (skinaug classify -m ...) or name a "
            "folder of runs with report.runs=<folder>."
        )
    return Path(cfg.output) / cfg.name / runs[-1].relative_to(Path(cfg.output) / cfg.name).parts[0]


def print_why(cfg: DictConfig, stage: str) -> None:
    """A table: would each stage run, and which value made its key new."""
    table = Table("stage", "key", "", "because")
    for name, key, reasons in why(cfg, stage):
        verdict = "[yellow]would run[/yellow]" if reasons else "[green]kept[/green]"
        table.add_row(name, key, verdict, "\n".join(reasons))
    console.print(table)


def print_prompts(cfg: DictConfig) -> None:
    """The first texts that each class's images are asked for with."""
    from skinaug.prompts import preview

    prompts = build(cfg.prompts)
    made = run(cfg, "dataset")
    table = Table("class", "prompt", title=f"prompts={cfg.prompts.name}")
    for row in preview(prompts, read(made["dataset"]).classes, cfg.preview, cfg.generate.seed):
        table.add_row(row["label"], row["prompt"])
    console.print(table)


def print_mix(cfg: DictConfig) -> None:
    """The mix as a table. Trains nothing: where the curated pool is not there yet, the counts are those asked for."""
    import polars as pl

    from skinaug.mix.mix import show

    plan = recipes(cfg, "mix")
    store = Store(Path(cfg.store))
    if all(store.has(recipe) for name, recipe in plan.items() if name != "mix"):
        counts = pl.read_csv(run(cfg, "mix")["mix"].path / "table.csv")
        show(counts, cfg.mix.name)
        return
    check(cfg, "mix")
    real = read(run(cfg, "dataset")["dataset"])
    check_classes(cfg, "mix", real)
    show(build(cfg.mix).counts(real), f"{cfg.mix.name} (planned: the pool is not made yet)")
