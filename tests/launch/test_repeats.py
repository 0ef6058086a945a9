"""Jobs of a sweep that are repeated: once a fold, and with the pool of their seed."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from skinaug.errors import InputError
from skinaug.launch.repeats import check_repeats, refuse_pools_without_sweep, repeated, spelled_out


def config(**values) -> DictConfig:
    base = {
        "folds": {"count": None},
        "pools": {"seeds": None, "number": None},
        "generate": {"seed": 7},
        "seed": 0,
    }
    return OmegaConf.merge(base, values)


def jobs_of(cfg: DictConfig, *jobs: str) -> list[str]:
    """The jobs of a sweep, each composed by its plain overrides."""

    def compose(job: list[str]) -> DictConfig:
        return OmegaConf.merge(cfg, OmegaConf.from_dotlist(job))

    return [" ".join(job) for job in repeated([job.split() for job in jobs], cfg, compose)]


def test_short_names_are_spelled_out():
    asked = ["folds=5", "generate.seeds=[0,1]", "folds.count=4", "-m", "seed=0,1"]
    assert spelled_out(asked) == ["folds.count=5", "pools.seeds=[0,1]", "folds.count=4", "-m", "seed=0,1"]


def test_every_job_is_there_once_a_fold_all_of_one_fold_first():
    found = jobs_of(config(folds={"count": 2}), "mix=real seed=0", "mix=hybrid seed=0")
    assert found == [
        "mix=real seed=0 dataset.fold=0",
        "mix=hybrid seed=0 dataset.fold=0",
        "mix=real seed=0 dataset.fold=1",
        "mix=hybrid seed=0 dataset.fold=1",
    ]


def test_jobs_that_name_their_fold_are_not_repeated():
    asked = ["seed=0 dataset.fold=1", "seed=1 dataset.fold=1"]
    assert jobs_of(config(folds={"count": 3}), *asked) == asked


def test_seeds_take_pools_in_turn():
    found = jobs_of(config(pools={"seeds": 2}), "seed=0", "seed=1", "seed=2 generate.seed=40")
    assert found == [
        "seed=0 generate.seed=7 pools.number=0",
        "seed=1 generate.seed=8 pools.number=1",
        "seed=2 generate.seed=40 pools.number=0",
    ]
    listed = jobs_of(config(pools={"seeds": [3, 9]}), "seed=0", "seed=1")
    assert listed == ["seed=0 generate.seed=3 pools.number=0", "seed=1 generate.seed=9 pools.number=1"]


def test_given_pools_differ_in_their_folders():
    given = OmegaConf.create(
        {"folds": {"count": None}, "pools": {"seeds": ["a", "b"]}, "generate": {"root": "a"}, "seed": 0}
    )
    assert jobs_of(given, "seed=0", "seed=1") == [
        "seed=0 generate.root=a pools.number=0",
        "seed=1 generate.root=b pools.number=1",
    ]
    given.pools.seeds = 2
    with pytest.raises(InputError, match=r"in their folders, generate.seeds=\[<folder>,<folder>\]"):
        jobs_of(given, "seed=0", "seed=1")


def test_pools_that_no_seed_would_use_are_refused():
    with pytest.raises(
        InputError, match=r"asks for 3 pools, of which the seeds of this sweep use 2.*seed=0,1,2"
    ):
        jobs_of(config(pools={"seeds": 3}), "seed=0", "seed=1")


@pytest.mark.parametrize(("key", "said"), [("folds.count", "folds is one value"), ("pools.seeds", "generate.seeds is one value")])  # fmt: skip
def test_they_are_one_for_a_whole_sweep(key: str, said: str):
    with pytest.raises(InputError, match=said):
        jobs_of(config(), f"{key}=2", f"{key}=3")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"folds": {"count": 1}}, "folds=1: it is a whole number of at least 2"),
        ({"folds": {"count": "five"}}, "folds=five"),
        ({"pools": {"seeds": 0}}, "generate.seeds=0: it is how many pools"),
        ({"pools": {"seeds": "many"}}, "generate.seeds=many"),
        ({"pools": {"seeds": []}}, "generate.seeds="),
        ({"pools": {"seeds": [1, 1]}}, "a list of different seeds"),
        ({"pools": {"seeds": [1, "a"]}}, "a list of different seeds"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict, said: str):
    with pytest.raises(InputError) as refused:
        check_repeats(config(**values))
    assert said in str(refused.value)


def test_a_single_job_has_one_pool():
    with pytest.raises(InputError, match="add -m"):
        refuse_pools_without_sweep(config(pools={"seeds": 3}))
    refuse_pools_without_sweep(config(pools={"seeds": 3, "number": 1}))
