"""The stages `copies` and `audit`: near-copies of held-out photographs, and what the pool is like."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from skinaug.stage import Build, Stage, Step, build, named_files, plain


def copies_steps(cfg: DictConfig) -> Iterator[Step]:
    """Pairs of a training and a held-out photograph that are one picture, which the leak certificate reads."""
    config = plain(cfg.audit.copies)
    yield Step("copies", config, build_copies, ["dataset"], files=named_files(config), tracked=False)


def audit_steps(cfg: DictConfig) -> Iterator[Step]:
    """Fidelity and memorisation of the pool."""
    config = plain(cfg.audit.pool)
    yield Step("audit", config, build_audit, ["dataset", "generate", "curate"], files=named_files(config))


def build_copies(job: Build) -> None:
    import polars as pl

    build(job.cfg.audit.copies)(
        manifest=job.manifest("dataset"),
        hashes=pl.read_parquet(job.made["dataset"].path / "hashes.parquet"),
        cache=job.cache,
        device=lambda: build(job.cfg.trainer)().strategy.root_device,
        out=job.out,
    )


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


COPIES = Stage("copies", 1, copies_steps)
STAGE = Stage("audit", 1, audit_steps)
