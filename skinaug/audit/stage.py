"""The stages `copies`, `real_labels` and `audit`: near-copies of held-out photographs, doubtful labels, and what the pool is like."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.given_features import feature_files, read_features
from skinaug.stage import Build, Stage, Step, build, copies_settings, named_files, plain


def copies_steps(cfg: DictConfig) -> Iterator[Step]:
    """Pairs of a training and a held-out photograph that are one picture, which the leak certificate reads."""
    config = copies_settings(cfg)
    then = [] if cfg.audit.real_labels is None else ["real_labels"]
    yield Step(
        "copies", config, build_copies, ["dataset"], files=named_files(config), then=then, tracked=False
    )


def real_labels_steps(cfg: DictConfig) -> Iterator[Step]:
    """Photographs whose labels are in doubt; on request, and nothing is made of it but a report."""
    if cfg.audit.real_labels is not None:
        config = plain(cfg.audit.real_labels)
        files = named_files(config)
        yield Step("real_labels", config, build_real_labels, ["dataset"], files=files, tracked=False)


def check_real_labels(cfg: DictConfig) -> None:
    """Refuse settings that cannot work."""
    from skinaug.audit.real_labels import check_settings

    settings = cfg.audit.real_labels
    check_settings(settings.folds, settings.neighbours, settings.off_topic_distance)


def audit_steps(cfg: DictConfig) -> Iterator[Step]:
    """Fidelity and memorisation of the pool."""
    config = plain(cfg.audit.pool)
    given = feature_files(config["features"]) if config["features"] else []
    numbered = {f"config.features{f'.{number}' if number else ''}": file for number, file in enumerate(given)}
    yield Step(
        "audit",
        config,
        build_audit,
        ["dataset", "generate", "curate"],
        files=named_files(config) | numbered,
        checks={"dataset": partial(check_photographs, cfg), "generate": partial(check_features, cfg)}
        if given
        else {},
    )


def check_copies(cfg: DictConfig) -> None:
    """Refuse a mistyped network of features, on which filters, copies and fidelity rest."""
    from skinaug.models.backbone import check_backbone

    network = plain(cfg.features.backbone)
    if network["_target_"].endswith(".create_backbone"):
        try:
            check_backbone(network["name"], network["pretrained"], network["weights"])
        except InputError as error:
            raise InputError(f"features.backbone: {error}") from error


def check_audit(cfg: DictConfig) -> None:
    """Refuse files of features that hold none."""
    if cfg.audit.pool.features:
        read_features(plain(cfg.audit.pool.features))


def check_photographs(cfg: DictConfig, data: Manifest) -> None:
    """Refuse photographs that fidelity is measured on and of which the files have no features."""
    reference = cfg.audit.pool.reference
    measured = {reference, "val"} if reference == "train" else {reference}
    check_features(cfg, data.with_table(data.table.filter(data.table["split"].is_in(list(measured)))))


def check_features(cfg: DictConfig, images: Manifest) -> None:
    read_features(plain(cfg.audit.pool.features)).check(images)


def build_copies(job: Build) -> None:
    import polars as pl

    build(copies_settings(job.cfg))(
        manifest=job.manifest("dataset"),
        hashes=pl.read_parquet(job.made["dataset"].path / "hashes.parquet"),
        cache=job.cache,
        device=lambda: build(job.cfg.trainer)().strategy.root_device,
        out=job.out,
        validation=True,
    )


def build_real_labels(job: Build) -> None:
    device = build(job.cfg.trainer)().strategy.root_device
    audit = build(job.cfg.audit.real_labels)
    audit(data=job.manifest("dataset"), cache=job.cache, device=device, out=job.out)


def build_audit(job: Build) -> None:
    build(job.cfg.audit.pool)(
        data=job.manifest("dataset"),
        raw=job.manifest("generate"),
        curated=job.manifest("curate"),
        trainer=build(job.cfg.trainer),
        cache=job.cache,
        logger=job.logger,
        out=job.out,
    )


COPIES = Stage("copies", 1, copies_steps, check_copies)
REAL_LABELS = Stage("real_labels", 1, real_labels_steps, check_parts=check_real_labels)
STAGE = Stage("audit", 2, audit_steps, check_audit)
