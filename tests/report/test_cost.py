"""What a sweep cost, against sums by hand over the drawn records."""

from __future__ import annotations

import json

import pytest

from skinaug.report import collect, cost

SHARED = {
    "dataset": 4.2,
    "finetune": 61.0,
    "generate": 120.5,
    "score.ensemble": 2.0,
    "curate": 9.0,
    "audit": 3.0,
}
OWN = {"mix": 0.1, "classify": 14.0}


@pytest.fixture
def study(make_sweep):
    arms = {"real": (10, 0, 0.0), "hybrid": (10, 10, 0.0), "alone": (0, 10, 0.0)}
    return collect.make_study(collect.read_runs(make_sweep(arms=arms, seeds=2, size=16)), "real")


def test_each_artifact_is_counted_once(study):
    stages = cost.stages_frame(study)
    assert stages["stage"].to_list() == [*SHARED, *OWN]
    seconds = dict(stages.select("stage", "seconds").iter_rows())
    assert seconds == pytest.approx({**SHARED, "mix": 6 * 0.1, "classify": 6 * 14.0})
    rates = dict(stages.select("stage", "images_per_second").iter_rows())
    assert rates["generate"] == pytest.approx(6 * 25 / 120.5)  # 25 images of each of six classes
    assert rates["classify"] == pytest.approx(310.0)
    assert {rates[stage] for stage in SHARED if stage != "generate"} == {None}


def test_arms_pay_for_what_they_need(study):
    rows = {row["arm"]: row for row in cost.arms_frame(study).iter_rows(named=True)}
    own = 2 * sum(OWN.values())  # two seeds
    assert rows["real"]["seconds_alone"] == pytest.approx(SHARED["dataset"] + own)
    assert rows["real"]["seconds_shared"] == pytest.approx(SHARED["dataset"])
    for arm in ("hybrid", "alone"):
        assert rows[arm]["seconds_alone"] == pytest.approx(sum(SHARED.values()) + own)
        assert rows[arm]["seconds_shared"] == pytest.approx(sum(SHARED.values()))
        assert rows[arm]["seconds_own"] == pytest.approx(own)


def test_the_summary_adds_up(study):
    stages, arms = cost.stages_frame(study), cost.arms_frame(study)
    once, alone = sum(SHARED.values()) + 6 * sum(OWN.values()), float(arms["seconds_alone"].sum())
    assert cost.summary(stages, arms) == (
        f"The sweep took {once / 60:.1f} device-minutes on x86_64 CPU, 2 cores. Its arms one by one would have taken "
        f"{alone / 60:.1f} device-minutes: what they share was made once."
    )


def test_devices_are_told_apart(study):
    folder = study.runs[0].artifacts["classify"]
    record = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps({**record, "device": "NVIDIA H100", "seconds": 7200}))
    stages = cost.stages_frame(study)
    assert stages.filter(stage="classify").select("device", "artifacts", "seconds").rows() == [
        ("NVIDIA H100", 1, 7200),
        ("x86_64 CPU, 2 cores", 5, 70),
    ]
    assert "2.0 device-hours on NVIDIA H100" in cost.summary(stages, cost.arms_frame(study))
    assert "device-hours" in cost.arms_table(cost.arms_frame(study)).header[2]
