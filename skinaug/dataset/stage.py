"""The stage `dataset`: the real photographs, read, checked, de-duplicated and split by patient."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from skinaug.stage import Build, Stage, Step, build, plain, without_later

LATER = {  # options that came later, and what was done before
    "min_patients": None,
    "source.splits": None,
    "duplicates.across_splits": "fail",
}


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The photographs. Of a folder its place and the names, sizes and times of the files that are read count: reading every byte
    of a large collection before each command would cost minutes. A source that renders its images has none."""
    from skinaug.sources.root import check_root, root_digest

    source = build(cfg.dataset.source)
    root = check_root(source, cfg.dataset.root, "dataset")
    digests = {"root": f"{root} {root_digest(root, source)}"} if root else {}
    yield Step("dataset", without_later(plain(cfg.dataset), LATER), build_dataset, digests=digests)


def build_dataset(job: Build) -> None:
    build(job.cfg.dataset)(out=job.out)


def tags(cfg: DictConfig) -> dict[str, str]:
    return {"dataset": cfg.dataset.source["_target_"].rpartition(".")[2]}


STAGE = Stage("dataset", 4, steps, tags=tags)
