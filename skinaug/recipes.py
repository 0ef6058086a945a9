"""What identifies each stage's result: its config, its inputs and its version, as one recipe a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from skinaug.base import local_folder
from skinaug.store import Recipe, folder_digest

if TYPE_CHECKING:
    from skinaug.report.collect import Run

# Raise a stage's number when its code changes what it makes from the same config and inputs.
VERSIONS = {
    "dataset": 4,
    "copies": 1,
    "finetune": 3,
    "generate": 3,
    "score": 4,
    "curate": 2,
    "audit": 1,
    "mix": 2,
    "classify": 4,
    "report": 5,
}


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
    copies = plain(cfg.audit.copies)
    add("copies", copies, "dataset", **_files(copies))
    if needs_pool(cfg, stage) and renders(cfg):
        add("generate", {"base": plain(cfg.base), **render_settings(cfg)}, "dataset")
    elif needs_pool(cfg, stage):
        base = {"base": plain(cfg.base), **precision}
        weights = _digest("weights", cfg.base.get("path"))
        prior = plain(cfg.finetune.get("prior"))
        if prior:
            add("generate.prior", {**prior["generate"], "prompts": prior["prompts"], **base}, **weights)
        pool = ["generate.prior"] if prior else []
        add("finetune", {**plain(cfg.finetune), **base}, "dataset", *pool, **weights)
        starts = ["dataset"] if cfg.generate.mode == "image" else []
        asked = {**plain(cfg.generate), "prompts": plain(cfg.prompts), **base}
        add("generate", asked, "finetune", *starts, **weights)
    if needs_pool(cfg, stage):
        for name, filter_ in cfg.curate.filters.items():
            scorer = {"name": name, **plain(filter_.scorer), **precision}
            add(f"score.{name}", scorer, "generate", "dataset", **_files(scorer))
        scores = [name for name in plan if name.startswith("score.")]
        keep = {name: plain(filter_.get("keep", {})) for name, filter_ in cfg.curate.filters.items()}
        add(
            "curate",
            {"filters": list(keep), "keep": keep, "subgroup": cfg.curate.get("subgroup")},
            "generate",
            *scores,
        )
        audit = plain(cfg.audit.pool)
        add("audit", audit, "dataset", "generate", "curate", **_files(audit))
    pool = ["curate"] if "curate" in plan else []
    draws = {
        name: value for name, value in plain(cfg.mix).items() if name != "name"
    }  # equal draws are one artifact
    if (pool or draws["pools"]) and draws["selection"] == "diverse":
        draws["features"] = plain(cfg.features)
    add("mix", draws, "dataset", "copies", *pool, **given_pools(cfg, stage), **_files(draws))
    add(
        "classify",
        {**plain(cfg.classify), **backbone},
        "mix",
        "dataset",
        "copies",
        **_digest("weights", cfg.backbone.get("weights")),
    )
    return dict(list(plan.items())[: list(plan).index(stage) + 1])


def report_recipe(settings: DictConfig, runs: Sequence[Run]) -> Recipe:
    """The recipe of a report of runs whose arms are named."""
    inputs = {f"{run.arm}/{run.seed}": run.artifacts["classify"].name for run in runs}
    return Recipe("report", VERSIONS["report"], plain(settings), inputs)


def needs_pool(cfg: DictConfig, stage: str) -> bool:
    """Whether a stage needs a pool of the study's own: a mix of real images alone or of other pools, and its classifier, do not."""
    if stage in ("mix", "classify"):
        return build(cfg.mix).needs_pool and not given_pools(cfg, stage)
    return stage not in ("dataset", "copies")


def given_pools(cfg: DictConfig, stage: str) -> dict[str, str]:
    """{`curate.<key>`: key} of the pools that a mix draws from instead of the study's own; {} for that one."""
    if stage not in ("mix", "classify") or not build(cfg.mix).needs_pool:
        return {}
    keys = [name.rpartition("/")[2] for name, weight in (cfg.mix.pools or {}).items() if weight]
    return {f"curate.{key}": key for key in keys}


def renders(cfg: DictConfig) -> bool:
    """Whether the base is a renderer, which is not taught anything, and not a model."""
    return "gap" in cfg.base


def render_settings(cfg: DictConfig) -> dict[str, Any]:
    """What of `generate` a renderer takes."""
    return {name: cfg.generate[name] for name in ("per_class", "image_size", "seed")}


def tracked_keys(cfg: DictConfig) -> dict[str, Any]:
    """What a dashboard groups, filters and draws axes by: one flat value a key, whatever the stage."""
    mix = {
        f"mix.{name}": value for name, value in plain(cfg.mix).items() if _is_scalar(value) and name[0] != "_"
    }
    return {
        "study": cfg.name,
        "seed": cfg.seed,
        "dataset": cfg.dataset.source["_target_"].rpartition(".")[2],
        "base": cfg.base.get("path") or next(iter(cfg.base.get("hub_ids") or []), None) or "oracle",
        "finetune": (cfg.finetune.get("method") or cfg.finetune)["_target_"].rpartition(".")[2],
        "prompts": cfg.prompts.name,
        "guidance_scale": cfg.generate.guidance_scale,
        "filters": "+".join(cfg.curate.filters) or "none",
        "backbone": cfg.backbone.name,
        **mix,
    }


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


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


def _files(settings: Mapping[str, Any]) -> dict[str, str]:
    """{dotted name: digest of the content} of the files and folders that settings name: values with a "/" that are there."""
    named = Recipe("", 0, settings, {}).flat().items()
    paths = {name: Path(value) for name, value in named if isinstance(value, str) and "/" in value}
    return {name: folder_digest(path) for name, path in paths.items() if path.exists()}


def build(node: DictConfig) -> Any:
    """The object or partial that a config node describes, its values as plain Python."""
    return instantiate(node, _convert_="object")
