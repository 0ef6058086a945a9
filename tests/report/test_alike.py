"""Arms of two sweeps are paired by what the sweeps share, and what has no pair says why."""

from __future__ import annotations

from typing import Any

from skinaug.report.alike import pair
from skinaug.report.collect import Run, name_arms

LR = "classify.lr"


def sweep(*jobs: dict[str, Any], **config: Any) -> list[Run]:
    return name_arms([Run("study", job.get("mix", "hybrid"), 0, job, config) for job in jobs])


def mixes(*names: str, **values: str) -> list[dict[str, Any]]:
    return [{"mix": name, **{f"classify.{key}": value for key, value in values.items()}} for name in names]


MIXES = sweep(*mixes("real", "hybrid", "synthetic"))
BOTH = sweep(*mixes("real", "hybrid", "other", lr="1e-3"), *mixes("real", "hybrid", "other", lr="0.1"))


def test_a_setting_that_one_sweep_alone_changed_is_what_is_compared():
    found, reasons = pair(BOTH, MIXES)
    assert found == {f"{mix}, lr={lr}": mix for lr in ("1e-3", "0.1") for mix in ("real", "hybrid")}
    assert reasons == {f"other, lr={lr}": "no arm with mix=other" for lr in ("1e-3", "0.1")}


def test_a_setting_that_the_other_changed_is_told_by_the_configuration():
    found, reasons = pair(sweep(*mixes("real", "hybrid"), classify={"lr": 0.001}), BOTH)
    assert found == {"real": "real, lr=1e-3", "hybrid": "hybrid, lr=1e-3"}, "0.001 is 1e-3"
    assert reasons == {}
    fixed = sweep({LR: "1e-3"}, {LR: "0.1"}, mix={"name": "hybrid"})
    assert pair(fixed, MIXES) == ({"lr=1e-3": "hybrid", "lr=0.1": "hybrid"}, {})


def test_what_nothing_tells_is_not_guessed():
    found, reasons = pair(MIXES, BOTH)
    assert found == {}
    assert reasons["real"] == (
        f"2 arms that go with it (real, lr=0.1; real, lr=1e-3), which differ in {LR}: give that folder later"
    )
    assert reasons["synthetic"] == "no arm with mix=synthetic"


def test_arms_of_one_name_are_paired_before_all_others():
    assert pair(MIXES, MIXES)[0] == {name: name for name in ("real", "hybrid", "synthetic")}
    found, reasons = pair(MIXES, sweep({}))
    assert found == {"hybrid": "hybrid"}
    assert reasons["real"] == "no arm of this name, and no setting is changed in both"
    controls = [{"mix": "hybrid"}, {"mix": "hybrid", "mix.control": "real_alone"}]
    other = [{**job, LR: "1"} for job in controls] + [{**job, LR: "2"} for job in controls]
    assert len(pair(sweep(*other, mix={"control": None}), sweep(*controls, mix={"control": None}))[0]) == 4
