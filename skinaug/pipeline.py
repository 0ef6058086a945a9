"""The stages wired together: what each one reads, and how it is built. The whole flow, one short function a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from skinaug.audit.lineage import certify_training
from skinaug.checks import check, check_classes
from skinaug.devices import build_spread, for_stage, several
from skinaug.manifest import Manifest
from skinaug.recipes import build, given_pools, plain, recipes, render_settings, renders, tracked_keys
from skinaug.seen import write_seen
from skinaug.store import Artifact, Recipe, Store

if TYPE_CHECKING:
    import numpy as np

Made = Mapping[str, Artifact]  # the artifacts so far: by stage, and `score.<filter>` for each filter

console = Console()


def build_dataset(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.dataset)(out=out)


def build_copies(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    import polars as pl

    build(cfg.audit.copies)(
        manifest=read(made["dataset"]),
        hashes=pl.read_parquet(made["dataset"].path / "hashes.parquet"),
        cache=picture_cache(cfg),
        device=lambda: build(cfg.trainer)().strategy.root_device,
        out=out,
    )


def build_prior(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    from skinaug.finetune.finetune import write_phrases

    write_phrases({"skin": "skin"}, out)  # the base as it is
    write_seen(None, out)
    prior = build(cfg.finetune.prior)
    prior.generate(
        classes=["skin"],
        weights=out,
        base=build(cfg.base),
        prompts=prior.prompts,
        trainer=build(cfg.trainer),
        logger=logger,
        out=out,
    )


def build_finetune(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.finetune)(
        manifest=write_seen(read(made["dataset"]).split("train"), out),
        prior_images=read(made["generate.prior"]) if "generate.prior" in made else None,
        base=build(cfg.base),
        base_name=cfg.base.path or cfg.base.hub_ids[0],
        licence=cfg.base.licence,
        trainer=build(cfg.trainer),
        cache=Path(cfg.store) / "encoded",
        logger=logger,
        out=out,
    )


def build_generate(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    manifest = read(made["dataset"])
    if renders(cfg):
        from skinaug.generate.oracle import generate_oracle

        write_seen(None, out)
        generate_oracle(build(cfg.base), **render_settings(cfg), classes=manifest.classes, out=out)
        return
    real = manifest.split("train") if cfg.generate.mode == "image" else None
    build(cfg.generate)(
        classes=manifest.classes,
        real=write_seen(real, out),
        weights=made["finetune"].path,
        base=build(cfg.base),
        prompts=build(cfg.prompts),
        trainer=build(cfg.trainer),
        logger=logger,
        out=out,
    )


def build_score(cfg: DictConfig, name: str, made: Made, out: Path) -> None:
    scorer = build(cfg.curate.filters[name].scorer)
    train = read(made["dataset"]).split("train")
    if getattr(scorer, "exposure", "real") == "off_the_shelf":
        train = train.with_table(
            train.table.clear()
        )  # what it says that it does not look at, it does not get
    real = write_seen(train, out)
    scores = scorer.score(read(made["generate"]), real, trainer=build(cfg.trainer), cache=picture_cache(cfg))
    scores.write_parquet(out / "scores.parquet")


def build_curate(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    import polars as pl

    scores = {
        name: pl.read_parquet(made[f"score.{name}"].path / "scores.parquet") for name in cfg.curate.filters
    }
    build(cfg.curate)(pool=read(made["generate"]), scores=scores, out=out)


def build_audit(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.audit.pool)(
        data=read(made["dataset"]),
        raw=read(made["generate"]),
        curated=read(made["curate"]),
        trainer=build(cfg.trainer),
        cache=picture_cache(cfg),
        logger=logger,
        out=out,
    )


def build_mix(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    import polars as pl

    from skinaug.mix.mix import mix
    from skinaug.mix.pools import in_pool

    pools = curated_pools(made)
    scores = {name: pl.read_parquet(artifact.path / "scores.parquet") for name, artifact in pools.items()}
    if "curate" not in made:
        scores = {name: in_pool(table, name) for name, table in scores.items()}

    def features(images: Manifest) -> np.ndarray:
        from skinaug.metrics.features import embed

        network, device = build(cfg.features.backbone), build(cfg.trainer)().strategy.root_device
        return embed(images, network, cfg.features.image_size, cache=picture_cache(cfg), device=device)

    table = pl.concat(scores.values(), how="diagonal_relaxed") if scores else None
    mix(build(cfg.mix), read(made["dataset"]), curated_pool(made), out, table, features)
    needs = {
        name: artifact.key
        for name, artifact in made.items()
        if artifact.stage in ("dataset", "copies", "curate")
    }
    certify_training(Store(Path(cfg.store)), needs, Manifest.read(out), out)


def build_classify(cfg: DictConfig, made: Made, out: Path, logger: Any) -> None:
    build(cfg.classify)(
        backbone=build(cfg.backbone),
        mix=read(made["mix"]),
        real=read(made["dataset"]),
        pool=curated_pool(made),
        cache=picture_cache(cfg),
        trainer=build(cfg.trainer),
        logger=logger,
        out=out,
    )


BUILDERS: dict[str, Callable[[DictConfig, Made, Path, Any], None]] = {
    "dataset": build_dataset,
    "copies": build_copies,
    "generate.prior": build_prior,
    "finetune": build_finetune,
    "generate": build_generate,
    "curate": build_curate,
    "audit": build_audit,
    "mix": build_mix,
    "classify": build_classify,
}


def read(artifact: Artifact) -> Manifest:
    """The manifest of an artifact."""
    return Manifest.read(artifact.path)


def curated_pools(made: Made) -> dict[str, Artifact]:
    """The pools that a mix draws from, by `curate/<key>`: the study's own, or others that the mix names."""
    return {f"curate/{artifact.key}": artifact for artifact in made.values() if artifact.stage == "curate"}


def curated_pool(made: Made) -> Manifest | None:
    """Their images; None where there is none."""
    from skinaug.mix.pools import join_pools

    pools = {name: read(artifact) for name, artifact in curated_pools(made).items()}
    return read(made["curate"]) if "curate" in made else join_pools(pools) if pools else None


def picture_cache(cfg: DictConfig) -> Path:
    """What was computed of each picture, shared by all runs of a store."""
    return Path(cfg.store) / "pictures.sqlite"


def run(cfg: DictConfig, stage: str) -> dict[str, Artifact]:
    """Build what a stage needs and the stage itself, reusing all that is there. Returns every artifact by stage."""
    check(cfg, stage)
    store = Store(Path(cfg.store))
    given = store.lineage(given_pools(cfg, stage))  # other studies' pools, with all that made them
    made = {name: artifact for name, artifact in given.items() if artifact.stage not in ("dataset", "copies")}
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
            own = for_stage(cfg, recipe.stage)
            if recipe.stage == "score":
                build_score(own, name.partition(".")[2], made, out)
                return
            if recipe.stage == "copies":  # nothing to see in a dashboard, as of scores
                build_copies(own, made, out, False)
                return
            track = build(cfg.logger)
            logger = tracking.enter_context(
                track(store.artifact(recipe), recipe, inputs, cfg.name, tracked_keys(cfg))
            )
            if recipe.stage == "classify":
                needs = {name: made[name].key for name in ("mix", "dataset", "copies")}
                certify_training(store, needs, read(made["mix"]), out)
            if several(cfg, recipe.stage):
                build_spread(own, name, made, out, logger)
            else:
                BUILDERS[name](own, made, out, logger)

        artifact = store.get(recipe, build_tracked, about={"name": name, "job": plain(cfg)})
    console.print(f"{name:<16} {recipe.key}  built in {artifact.record['seconds']:.1f} s", highlight=False)
    return artifact


def why(cfg: DictConfig, stage: str) -> Iterator[tuple[str, str, list[str]]]:
    """For each stage up to this one: name, key, and what makes it run (empty: its artifact is there)."""
    store = Store(Path(cfg.store))
    for name, recipe in recipes(cfg, stage).items():
        yield name, recipe.key, store.why(recipe)
