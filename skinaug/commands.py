"""What each command of the command line does with a composed configuration."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.checks import check, check_classes
from skinaug.errors import InputError
from skinaug.files import telling_full_disk, write_text
from skinaug.manifest import Manifest
from skinaug.pipeline import Made, picture_cache, read, run, why
from skinaug.recipes import build, plain, recipes, report_recipe
from skinaug.store import Artifact, Store
from skinaug.sweeper import refuse_without_sweep

if TYPE_CHECKING:
    from skinaug.report.collect import Run

RUN_FILE = "run.json"

console = Console()


def execute(cfg: DictConfig, command: str, stage: str) -> float | None:
    """Run one command of the command line on a composed configuration.

    Returns the validation score by which a search judges a classifier (`classify.monitor`); None of other commands.
    """
    if command == "report":
        report(cfg, Path(cfg.report.runs) if cfg.report.runs else newest_sweep(cfg))
    elif command == "why":
        print_why(cfg, stage)
    elif command == "prompts":
        print_prompts(cfg)
    elif command == "mix":
        print_mix(cfg)
    elif command == "review":
        review(cfg)
    else:
        if stage == "classify":
            refuse_without_sweep(cfg)
        made = run(cfg, stage)
        if stage == "audit":
            print_pool(cfg, made)
        if stage == "classify":
            return record_run(cfg, made)
    return None


def print_pool(cfg: DictConfig, made: Made) -> None:
    """What the audit found of the pool, and the certificate of what made it."""
    from skinaug.audit.certificate import print_certificate
    from skinaug.audit.lineage import audit_artifact
    from skinaug.audit.pool import print_audit

    print_audit(made["audit"].path)
    print_certificate(audit_artifact(Store(Path(cfg.store)), made["curate"]), "the curated pool")


def record_run(cfg: DictConfig, made: Made) -> float:
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
        "overrides": dict(override.split("=", 1) for override in hydra.overrides.task),
        "config": {name: value for name, value in plain(cfg).items() if name not in ("store", "output")},
        "artifacts": {name: str(artifact.path) for name, artifact in made.items()},
    }
    write_text(folder / RUN_FILE, json.dumps(about, indent=2) + "\n")
    metrics = json.loads((made["classify"].path / "metrics.json").read_text())
    test = metrics["test"]
    scores = "  ".join(
        f"{name} {test[name]:.1%}" for name in ("top1", "balanced_accuracy", "macro_f1", "auroc")
    )
    console.print(
        f"{cfg.mix.name}, seed {cfg.seed}, on real test images: {scores}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return float(metrics["val"][cfg.classify.monitor])


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
    from skinaug.report.collect import distinct, name_arms, read_runs
    from skinaug.report.report import print_report

    runs = name_arms(distinct(read_runs(sweep)))
    recipe, store = report_recipe(cfg.report, runs), Store(Path(cfg.store))
    about = {"name": "report", "job": {"report": plain(cfg.report)}, "runs": [asdict(run) for run in runs]}
    artifact = store.get(
        recipe,
        lambda out: build(cfg.report)(runs=runs, out=out),
        about=json.loads(json.dumps(about, default=str)),  # folders as text
    )
    folder = sweep / "report"
    with telling_full_disk(sweep):
        shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
    print_report(folder)


def recorded_runs(artifact: Artifact) -> list[Run]:
    """The runs that a report is of, as its record tells."""
    from skinaug.report.collect import Run

    runs = []
    for told in artifact.record["runs"]:
        artifacts = {stage: Path(folder) for stage, folder in told["artifacts"].items()}
        runs.append(Run(**{**told, "artifacts": artifacts, "folder": Path(told["folder"])}))
    return runs


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
        table.add_row(name, key, verdict, escape("\n".join(reasons)))
    console.print(table)


def print_prompts(cfg: DictConfig) -> None:
    """The first texts that each class's images are asked for with."""
    from skinaug.prompts import preview

    prompts = build(cfg.prompts)
    made = run(cfg, "dataset")
    table = Table("class", "prompt", title=f"prompts={cfg.prompts.name}")
    for row in preview(prompts, read(made["dataset"]).classes, cfg.preview, cfg.generate.seed):
        table.add_row(escape(row["label"]), escape(row["prompt"]))
    console.print(table)


def review(cfg: DictConfig) -> None:
    """Open the page on which people judge the pool, which is built first where it is not there yet."""
    from skinaug.curate.review import check_settings
    from skinaug.curate.review import review as open_page

    settings = plain(cfg.review)
    check_settings(settings["reviewer"], settings["host"], settings["port"])
    made = run(cfg, "generate")
    pool, real = read(made["generate"]), read(made["dataset"]).split("train")
    device = build(cfg.trainer)().strategy.root_device
    settings["nearest"] = build(cfg.review.nearest)(pool, real, cache=picture_cache(cfg), device=device)
    settings["folder"] = Path(cfg.review.folder)
    open_page(pool, stored_scores(cfg, pool), **settings)


def stored_scores(cfg: DictConfig, pool: Manifest) -> pl.DataFrame:
    """One row an image of the pool: image_id and `<filter>.<score>` of the filters that have scored it already.

    Other people's decisions are left out: reviewers judge on their own.
    """
    from skinaug.curate.curate import prefixed

    store, table = Store(Path(cfg.store)), pool.table.select("image_id")
    for name, recipe in recipes(cfg, "curate").items():
        kind, _, filter_ = name.partition(".")
        if kind == "score" and "reviews" not in cfg.curate.filters[filter_].scorer and store.has(recipe):
            scores = pl.read_parquet(store.artifact(recipe).path / "scores.parquet")
            table = table.join(prefixed(filter_, scores), on="image_id", how="left", maintain_order="left")
    return table


def print_mix(cfg: DictConfig) -> None:
    """The mix as a table. Trains nothing: where the curated pool is not there yet, the counts are those asked for."""
    from skinaug.mix.mix import show

    plan = recipes(cfg, "mix")
    store = Store(Path(cfg.store))
    cheap = ("dataset", "copies", "mix")
    if all(store.has(recipe) for name, recipe in plan.items() if name not in cheap):
        counts = pl.read_csv(run(cfg, "mix")["mix"].path / "table.csv")
        show(counts, cfg.mix.name)
        return
    check(cfg, "mix")
    real = read(run(cfg, "dataset")["dataset"])
    check_classes(cfg, "mix", real)
    show(build(cfg.mix).counts(real), f"{cfg.mix.name} (planned: the pool is not made yet)")
