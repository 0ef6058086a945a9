"""The stages `test` and `certify`: further test sets, and the certificates that nothing which led to a classifier has seen them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.lineage import certify_test_set
from skinaug.manifest import Manifest
from skinaug.stage import Build, Plan, Stage, Step, build, copies_settings, named_files, plain
from skinaug.store.store import Store


def set_steps(cfg: DictConfig) -> Iterator[Step]:
    """Each set. As of the data, its folder's place and its files' names, sizes and times count."""
    from skinaug.sources.root import check_root, root_digest
    from skinaug.test.sets import check_settings

    if not sets(cfg):
        raise InputError(
            "test=[] names no test set. Name some, such as test=[folder] test.folder.root=<folder>."
        )
    copies = copies_settings(cfg)
    for name, settings in sets(cfg).items():
        check_settings(name, settings)
        source = build(settings.source)
        root = check_root(source, settings.root, f"test.{name}")
        yield Step(
            f"test.{name}",
            {"name": name, **plain(settings), "copies": copies},
            partial(build_test, name),
            ["dataset"],
            digests={"root": f"{root} {root_digest(root, source)}"} if root else {},
            files=named_files(copies),
        )


def sets(cfg: DictConfig) -> Any:
    """The configured sets by name; records of before there were any have none."""
    return cfg.get("test") or {}


def certify_steps(cfg: DictConfig) -> Iterator[Step]:
    """A certificate a set, of the mix that a classifier is trained on and of all that led to it."""
    config = {"copies": copies_settings(cfg)}
    for name in sets(cfg):
        yield Step(
            f"certify.{name}",
            config,
            partial(build_certificate, name),
            [f"test.{name}", "mix", "dataset"],
            files=named_files(config),
            tracked=False,
        )


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    """Refuse sets without an image of the data's classes. Those that are rendered are not rendered for that."""
    from skinaug.sources.labels import labelled
    from skinaug.sources.left_out import taken_and_left
    from skinaug.sources.root import check_root
    from skinaug.sources.told import telling
    from skinaug.test.sets import known_images

    for name, settings in sets(cfg).items():
        source = build(settings.source)
        if root := check_root(source, settings.root, f"test.{name}"):
            with telling():  # the build tells it
                table, _ = taken_and_left(source.load(root))
                rows, _ = labelled(table, settings.on_bad)
                known_images(rows, name, plain(settings.labels), data.classes)


def build_test(name: str, job: Build) -> None:
    import polars as pl

    build(job.cfg.test[name])(
        name=name,
        data=job.manifest("dataset"),
        hashes=pl.read_parquet(job.made["dataset"].path / "hashes.parquet"),
        find_copies=_find_copies(job),
        out=job.out,
    )


def build_certificate(name: str, job: Build) -> None:
    from skinaug.test.apart import refuse_given_copies

    mix, further = job.manifest("mix"), job.made[f"test.{name}"].path
    refuse_given_copies(name, mix, further, _find_copies(job), job.out)
    certify_test_set(Store(Path(job.cfg.store)), {"mix": job.made["mix"].key}, mix, name, further, job.out)


def _find_copies(job: Build) -> Any:
    return partial(
        build(copies_settings(job.cfg)),
        cache=job.cache,
        device=lambda: build(job.cfg.trainer)().strategy.root_device,
    )


def tags(cfg: DictConfig) -> dict[str, Any]:
    return {"test": "+".join(sets(cfg)) or "none"}


STAGE = Stage("test", 1, set_steps, check_data=check_data, tags=tags)
CERTIFY = Stage("certify", 1, certify_steps)
