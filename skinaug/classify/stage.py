"""The stages `classify` and `evaluate`: a classifier is trained on a mix and judged on real photographs, and on those of further
test sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import signature
from pathlib import Path

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.lineage import certify_training
from skinaug.manifest import Manifest
from skinaug.models.base import local_files
from skinaug.pools import curated_pool
from skinaug.stage import ONE, SEVERAL, Build, Plan, Stage, Step, build, plain
from skinaug.store.store import Store


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The classifier. A probe needs no second device: its features are computed once, and then it takes seconds."""
    config = {**plain(cfg.classify), "backbone": plain(cfg.backbone), "precision": cfg.trainer.precision}
    yield Step(
        "classify",
        config,
        build_classify,
        ["mix", "dataset", "copies"],
        files=backbone_files(cfg),
        after=[f"{stage}.{name}" for stage in ("test", "certify") for name in test_sets(cfg)],
        then=[f"evaluate.{name}" for name in test_sets(cfg)],
        devices=ONE if cfg.classify.learns == "head" else SEVERAL,
        prepare=certify,
    )


def test_sets(cfg: DictConfig) -> list[str]:
    """Names of further test sets, which are checked before anything is trained."""
    return list(cfg.get("test") or {})


def evaluate_steps(cfg: DictConfig) -> Iterator[Step]:
    """The classifier's predictions on each further test set, by its saved weights."""
    for name in test_sets(cfg):
        yield Step(
            f"evaluate.{name}",
            {"precision": cfg.trainer.precision},
            partial(build_evaluate, name),
            ["classify", f"test.{name}", f"certify.{name}"],
        )


def backbone_files(cfg: DictConfig) -> dict[str, Path]:
    """Files of weights whose content counts."""
    from skinaug.models.backbone import LOCAL

    name = timm_name(cfg) or ""
    folder = {"backbone": Path(name.removeprefix(LOCAL))} if name.startswith(LOCAL) else {}
    return local_files(cfg.backbone.get("weights")) | folder


def check(cfg: DictConfig) -> None:
    from skinaug.classify.settings import check_recipe
    from skinaug.models.backbone import check_backbone

    recipe = plain(cfg.classify)
    check_recipe(**{name: recipe[name] for name in signature(check_recipe).parameters})
    if timm_name(cfg):
        check_backbone(cfg.backbone.name, cfg.backbone.pretrained, cfg.backbone.weights)


def check_parts(cfg: DictConfig) -> None:
    from skinaug.models.backbone import check_runs

    check_runs(build(cfg.backbone), cfg.classify.image_size)


def timm_name(cfg: DictConfig) -> str | None:
    """Of the backbone; None for one that other code makes."""
    return cfg.backbone.name if cfg.backbone["_target_"].endswith(".create_backbone") else None


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    if len(data.classes) < 2:
        raise InputError(
            f"The data has one class, {', '.join(data.classes)}: a classifier tells two or more apart. Add images of another, "
            "or look at dataset.classes."
        )


def certify(job: Build) -> None:
    """The leak certificate once more, of what the store holds now."""
    needs = {name: job.made[name].key for name in ("mix", "dataset", "copies")}
    certify_training(Store(Path(job.cfg.store)), needs, job.manifest("mix"), job.out)


def build_classify(job: Build) -> None:
    build(job.cfg.classify)(
        backbone=build(job.cfg.backbone),
        mix=job.manifest("mix"),
        real=job.manifest("dataset"),
        pool=curated_pool(job.made),
        cache=job.cache,
        trainer=build(job.cfg.trainer),
        logger=job.logger,
        out=job.out,
    )


def build_evaluate(name: str, job: Build) -> None:
    from skinaug.classify.trained import evaluate, load_classifier

    classifier = load_classifier(
        job.made["classify"].path,
        build(job.cfg.backbone),
        job.cfg.classify,
        build(job.cfg.trainer),
        job.cache,
    )
    evaluate(classifier, job.manifest(f"test.{name}"), job.out)


def tags(cfg: DictConfig) -> dict[str, str]:
    made_by = cfg.backbone.get("network", cfg.backbone)["_target_"]
    return {"backbone": timm_name(cfg) or made_by.rpartition(".")[2]}


STAGE = Stage("classify", 4, steps, check, check_parts, check_data, tags)
EVALUATE = Stage("evaluate", 1, evaluate_steps)
