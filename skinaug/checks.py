"""Bad input is refused here: before anything is built, or before anything is trained."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from skinaug.base import check_base, local_folder
from skinaug.errors import InputError, listing
from skinaug.manifest import Manifest
from skinaug.recipes import build, given_pools, needs_pool, plain, recipes, render_settings, renders
from skinaug.store import Store

if TYPE_CHECKING:
    from skinaug.generate.settings import Settings


def check(cfg: DictConfig, stage: str) -> None:
    """Refuse what can be seen to be wrong from the config alone.

    Raises:
        InputError: the data's folder, the mix, the prompts, the base, the filters or the backbone cannot work.
    """
    check_values(cfg, stage)
    if not needs_pool(cfg, stage):
        return
    plan, store = recipes(cfg, stage), Store(Path(cfg.store))
    if "curate" in plan and not store.has(plan["curate"]):
        check_filters(cfg)
    if "finetune" in plan and "method" in cfg.finetune and not store.has(plan["finetune"]):
        build(cfg.finetune)  # refuses bad settings; imports torch, so only where it will be needed


def check_values(cfg: DictConfig, stage: str) -> None:
    """What `check` refuses, but for the settings of filters and of the fine-tuning method, without importing torch.

    Raises:
        InputError: as `check`.
    """
    from skinaug.backbone import check_backbone
    from skinaug.classify.settings import check_recipe
    from skinaug.dataset.dataset import check_root
    from skinaug.generate.settings import check_settings

    check_writable("output", Path(cfg.output))
    check_root(build(cfg.dataset.source), cfg.dataset.root)
    if stage in ("mix", "classify"):
        check_score(cfg)
        check_pools(cfg, stage)
    if stage == "classify":
        recipe = plain(cfg.classify)
        check_recipe(**{name: recipe[name] for name in signature(check_recipe).parameters})
        check_backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)
    if needs_pool(cfg, stage):
        build(cfg.prompts)
        settings = check_settings(**plain(cfg.generate))
        if renders(cfg):
            check_renderer(cfg, stage)
        else:
            check_model(cfg, settings)
    store = Store(Path(cfg.store))
    try:
        check_writable("store", store.root)
    except InputError:
        if not all(store.has(recipe) for recipe in recipes(cfg, stage).values()):
            raise  # one in which all is there can be read


def check_model(cfg: DictConfig, settings: Settings) -> None:
    """Refuse a base model that cannot work."""
    from skinaug.generate.settings import check_folder

    base = plain(cfg.base)
    check_base(**{name: base[name] for name in signature(check_base).parameters if name in base})
    if folder := local_folder(cfg.base.path):
        check_folder(settings, folder)


def check_renderer(cfg: DictConfig, stage: str) -> None:
    """Refuse a renderer whose settings cannot work, and teaching it."""
    if stage == "finetune":
        raise InputError("base=oracle renders the pool itself: there is nothing to fine-tune. Use base=tiny.")
    build(cfg.base)(**render_settings(cfg))


def check_score(cfg: DictConfig) -> None:
    """Refuse a mix that cannot be made, or that selects images by the score of a filter that is not used."""
    mix = build(cfg.mix)
    if (
        mix.needs_pool
        and not mix.pools
        and mix.selection == "best"
        and mix.score.partition(".")[0] not in cfg.curate.filters
    ):
        raise InputError(
            f"mix.score={mix.score}: there is no such filter; the pool's are {', '.join(cfg.curate.filters) or 'none'}. Choose "
            "one of their scores, or add the filter."
        )


def check_pools(cfg: DictConfig, stage: str) -> None:
    """Refuse pools of a mix that are not curated pools of this store, or that were made for other photographs."""
    pools = given_pools(cfg, stage)
    if not pools:
        return  # every job of a sweep comes here, and the data set's key costs a look at all its files
    store = Store(Path(cfg.store))
    data = recipes(cfg, stage)["dataset"].key
    for key in pools.values():
        found = store.find(key)
        if found.stage != "curate":
            raise InputError(
                f"mix.pools names {found.stage}/{key}, which is no curated pool: name curate/<key>, as `skinaug store ls` does."
            )
        lineage = store.lineage({"curate": key})
        if data not in {artifact.key for artifact in lineage.values()}:
            raise InputError(
                f"mix.pools names curate/{key}, which was made for other photographs than those of this study (dataset {data}), so "
                "nothing could keep test patients out of it. Make a pool for this data set."
            )


def check_filters(cfg: DictConfig) -> None:
    """Refuse filters whose settings or thresholds cannot work, before a pool is made for them."""
    import polars as pl

    for filter_ in cfg.curate.filters.values():
        scorer = build(filter_.scorer)
        try:
            scorer.keep(pl.DataFrame(), **plain(filter_.get("keep", {})))
        except InputError:
            raise  # thresholds are checked before scores are looked at
        except Exception:  # there are no scores yet
            continue


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
    """Refuse prompts, mixes or a classifier that the data's classes cannot serve, before anything is trained."""
    if stage == "classify" and len(manifest.classes) < 2:
        raise InputError(
            f"The data has one class, {', '.join(manifest.classes)}: a classifier tells two or more apart. Add images of another, "
            "or look at dataset.classes."
        )
    if needs_pool(cfg, stage):
        from skinaug.generate.plan import check_real, check_templates
        from skinaug.generate.settings import check_settings

        check_templates(build(cfg.prompts), manifest.classes)
        check_real(check_settings(**plain(cfg.generate)), manifest.split("train"), manifest.classes)
    if stage in ("mix", "classify"):
        counts = build(cfg.mix).counts(manifest)
        few = counts.filter(counts["synthetic"] > cfg.generate.per_class)
        if few.height and not given_pools(cfg, stage):
            asked = listing(
                f"{label}: asked {count}" for label, count in few.select("label", "synthetic").iter_rows()
            )
            raise InputError(
                f"The mix {cfg.mix.name} asks for more synthetic images than the pool will have ({cfg.generate.per_class} a "
                f"class before curation):\n{asked}\nRaise generate.per_class or ask for fewer."
            )
