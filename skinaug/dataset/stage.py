"""The stage `dataset`: the real photographs, read, checked, de-duplicated and split by patient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.stage import RESERVE, Build, Stage, Step, build, plain, teacher, without_later

LATER = {  # options that came later, and what was done before
    "labels": None,
    "min_patients": None,
    "source.splits": None,
    "duplicates.across_splits": "fail",
    "folds": None,
    "fold": None,
    "reserve": None,
}
OF_A_SET = ("source", "root", "classes")  # of several, what each has of its own


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The photographs. Of a folder its place and the names, sizes and times of the files that are read count: reading every byte
    of a large collection before each command would cost minutes. A source that renders its images has none."""
    from skinaug.sources.root import check_root, root_digest

    source = build(described(cfg)["source"] if is_several(cfg) else cfg.dataset.source)
    root = check_root(source, cfg.dataset.root, "dataset")
    digests = {"root": f"{root} {root_digest(root, source)}"} if root else {}
    yield Step("dataset", without_later(described(cfg), LATER), build_dataset, digests=digests)
    if teacher(cfg) == RESERVE:
        whole = {**described(cfg), "fold": None}
        yield Step(RESERVE, without_later(whole, LATER), build_reserve, digests=digests, tracked=False)


def is_several(cfg: DictConfig) -> bool:
    """Whether the data are several sets as one."""
    return cfg.dataset.source.get("sets") is not None


def described(cfg: DictConfig) -> dict[str, Any]:
    """The settings of `dataset`; of several sets, what counts of each (`OF_A_SET`) is part of their source."""
    settings: dict[str, Any] = plain(cfg.dataset)
    if teacher(cfg) == RESERVE:
        settings["reserve"] = cfg.folds.reserve
    if is_several(cfg):
        sets = settings["source"]["sets"]
        taken = {name: {part: one[part] for part in OF_A_SET} for name, one in sets.items()}
        if without := [name for name, one in taken.items() if one["root"] == "???"]:
            raise InputError(
                f"{', '.join(without)}: no folder is given. Give each its own: dataset.{without[0]}.root=<folder>, or, in a file, "
                f"`root` under source.sets.{without[0]}."
            )
        settings["source"] = {**settings["source"], "sets": taken}
    return settings


def own_columns(cfg: DictConfig) -> list[str] | None:
    """Names that the photographs' table has its columns mapped to; None where that is seen in the table alone."""
    columns = cfg.dataset.source.get("columns", ())
    return None if columns is None or is_several(cfg) else list(map(str, columns))


def check(cfg: DictConfig) -> None:
    from skinaug.dataset.folds import check_folds

    reserve = cfg.folds.reserve if teacher(cfg) == RESERVE else None
    check_folds(cfg.dataset.get("folds"), cfg.dataset.get("fold"), cfg.dataset.val_fraction, reserve)


def check_parts(cfg: DictConfig) -> None:
    """Of photographs that have yet to be read, what their table or folders do not tell is said before a build loads what it takes."""
    from skinaug.sources.root import check_root

    if (
        is_several(cfg)
        or (folder := check_root(source := build(cfg.dataset.source), cfg.dataset.root, "dataset")) is None
    ):
        return
    from skinaug.dataset.dataset import read_rows

    told = plain(cfg.dataset)
    read_rows(source, folder, told["classes"], told.get("labels"), told.get("folds"), told["on_bad"])


def build_dataset(job: Build) -> None:
    own = is_several(job.cfg) or teacher(job.cfg) == RESERVE
    build(described(job.cfg) if own else job.cfg.dataset)(out=job.out)


def build_reserve(job: Build) -> None:
    """The photographs that one generator of all folds learns from, and all others as its test."""
    build({**described(job.cfg), "fold": None})(out=job.out)


def tags(cfg: DictConfig) -> dict[str, Any]:
    fold = {} if cfg.dataset.get("fold") is None else {"fold": cfg.dataset.fold}
    if is_several(cfg):
        return {"dataset": "+".join(cfg.dataset.source.sets), **fold}
    return {"dataset": cfg.dataset.source["_target_"].rpartition(".")[2], **fold}


STAGE = Stage("dataset", 5, steps, check, check_parts, tags=tags)
