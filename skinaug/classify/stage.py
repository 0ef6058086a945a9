"""The stages `classify` and `evaluate`: a classifier is trained on a mix and judged on real photographs, and on those of further
test sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from inspect import signature
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.lineage import certify_training
from skinaug.manifest import Manifest
from skinaug.models.base import local_files
from skinaug.pools import curated_pool
from skinaug.stage import ONE, SEVERAL, Build, Plan, Stage, Step, build, named_files, plain
from skinaug.store.store import Store

GIVEN_FEATURES = "given_features"  # what makes a backbone of features that were computed elsewhere


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The classifier. A probe needs no second device: its features are computed once, and then it takes seconds."""
    config = {**plain(cfg.classify), "backbone": plain(cfg.backbone), "precision": cfg.trainer.precision}
    given = made_by(cfg) == GIVEN_FEATURES
    pictures = ["dataset", "curate", *(f"test.{name}" for name in test_sets(cfg))]
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
        checks=dict.fromkeys(pictures, partial(check_features, cfg)) if given else {},
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
    """Files of weights and features whose content counts."""
    from skinaug.models.backbone import LOCAL
    from skinaug.models.given_features import feature_files

    if made_by(cfg) == GIVEN_FEATURES:
        return {
            f"features.{number}": file for number, file in enumerate(feature_files(plain(cfg.backbone.file)))
        }
    name = str(cfg.backbone.get("name") or "")
    folder = {"backbone": Path(name.removeprefix(LOCAL))} if name.startswith(LOCAL) else {}
    elsewhere = named_files(plain(cfg.backbone.get("network")) or {}, "network")
    return local_files(cfg.backbone.get("weights")) | folder | elsewhere


def check(cfg: DictConfig) -> None:
    from skinaug.classify.settings import check_recipe
    from skinaug.models.backbone import check_backbone
    from skinaug.models.open_clip import check_image_encoder

    recipe, network = plain(cfg.classify), plain(cfg.backbone)
    check_recipe(**{name: recipe[name] for name in signature(check_recipe).parameters})
    if made_by(cfg) == GIVEN_FEATURES:
        check_given(cfg)
    checks: dict[str, Callable[..., None]] = {
        "create_backbone": partial(check_backbone, others=_options("backbone")),
        "create_image_encoder": check_image_encoder,
    }
    if made_by(cfg) in checks:
        checks[made_by(cfg)](cfg.backbone.name, network["pretrained"], network["weights"])


def _options(group: str) -> list[str]:
    """The files of a group wherever Hydra looks for them; none outside of a command."""
    hydra = GlobalHydra.instance()
    return hydra.config_loader().get_group_options(group, ObjectType.CONFIG) if hydra.is_initialized() else []


def check_given(cfg: DictConfig) -> None:
    """Refuse features where a network is to learn, and files that hold none."""
    from skinaug.models.given_features import read_features

    if cfg.classify.learns != "head":
        raise InputError(
            f"backbone=features gives vectors, and classify.learns={cfg.classify.learns} trains a network, which is not there: set "
            "classify=probe."
        )
    read_features(plain(cfg.backbone.file))


def check_features(cfg: DictConfig, images: Manifest) -> None:
    """Refuse images of which the backbone's files have no features."""
    from skinaug.models.given_features import read_features

    read_features(plain(cfg.backbone.file)).check(images)


def check_parts(cfg: DictConfig) -> None:
    from skinaug.classify.data import make_transform

    make_transform(cfg.classify.image_size, {}, plain(cfg.classify.augmentation))
    if made_by(cfg) != GIVEN_FEATURES:  # which look at no picture
        _check_network(json.dumps(plain(cfg.backbone)), cfg.classify.image_size)


@cache
def _check_network(backbone: str, image_size: int) -> None:
    """Once in a process: all jobs of a sweep may have the same one, and it takes a second."""
    from skinaug.models.backbone import check_runs

    check_runs(build(DictConfig(json.loads(backbone))), image_size)


def made_by(cfg: DictConfig) -> str:
    """The name of the function that makes the backbone."""
    return cfg.backbone["_target_"].rpartition(".")[2]


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    if len(data.classes) < 2:
        raise InputError(
            f"The data has one class, {', '.join(data.classes)}: a classifier tells two or more apart. Add images of another, "
            "or look at dataset.classes and dataset.labels: they leave out what they do not name."
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
    maker = cfg.backbone.get("network", cfg.backbone)["_target_"]
    return {"backbone": cfg.backbone.get("name") or maker.rpartition(".")[2]}


STAGE = Stage("classify", 5, steps, check, check_parts, check_data, tags)
EVALUATE = Stage("evaluate", 1, evaluate_steps)
