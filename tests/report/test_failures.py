"""Jobs that failed are told, wherever a sweep's arms are: in the report and its copies, in the terminal and beside other sweeps."""

from __future__ import annotations

import json
import shutil
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from hydra import compose, initialize_config_dir

from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.launch.standing import Standing
from skinaug.report.collect import asked_runs, make_study
from skinaug.report.compare import compare
from skinaug.report.failures import failures_frame, told
from skinaug.report.report import report
from skinaug.report.stage import report_recipe
from skinaug.report.terminal import print_report
from skinaug.report.unfinished import NOT_ENDED, Asked
from tests.report.conftest import write_sweep

FEW = "Too few images in the pool for the mix:\n  acne: has 18, asked 20\n  nevus: has 9, asked 20\nRaise <generate.per_class>."
HYBRIDS = [("hybrid", seed, FEW) for seed in range(3)]
ARMS = {"real_small": (10, 0, 0.0), "real": (20, 0, 0.5)}


def tell(
    sweep: Path, *failed: tuple[str, int, str | None], finished: tuple[str, ...] = ("real_small", "real")
) -> Path:
    """The sweep's own word of its jobs: those that finished, and those that did not."""
    jobs = [(arm, seed, None) for seed in range(3) for arm in finished] + list(failed)
    asked = [Asked("akrout2023", arm, seed, {"mix": arm, "seed": str(seed)}, why) for arm, seed, why in jobs]
    Standing(total=len(jobs), done=len(jobs) - len(failed), jobs=dict(enumerate(asked)), ended=True).write(
        sweep
    )
    return sweep


def drop(sweep: Path, arm: str, seed: int) -> None:
    """A job that left nothing."""
    for file in sweep.rglob("run.json"):
        about = json.loads(file.read_text())
        if (about["arm"], about["seed"]) == (arm, seed):
            file.unlink()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two arms at three seeds, of which all ended well."""
    place = tmp_path_factory.mktemp("drawn")
    return write_sweep(place / "sweep", place / "store", arms=ARMS, tests=8, size=8)


@pytest.fixture
def whole(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "study" / "sweep")


@pytest.fixture
def sweep(whole: Path) -> Path:
    """The same, and a third arm of which every job failed, and one job of the second."""
    drop(whole, "real", 1)
    return tell(whole, ("real", 1, "RuntimeError: out of memory"), *HYBRIDS)


def reported(sweep: Path, out: Path) -> Path:
    report(asked_runs(sweep), num_resamples=50, out=out)
    return out


def test_a_report_tells_arms_and_jobs_that_failed(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = reported(sweep, tmp_path / "out")
    pages = {name: unescape((out / name).read_text()) for name in ("report.md", "report.html")}
    capsys.readouterr()
    print_report(out)
    texts = {**pages, "terminal": capsys.readouterr().out}
    for name, text in texts.items():
        text = " ".join(
            text.replace("*", "").replace("\\", "").replace("<strong>", "").replace("</strong>", "").split()
        )
        assert "4 jobs failed, and no figure here counts them" in text, name
        assert (
            "hybrid has no result of seeds 0, 1, 2: Too few images in the pool for the mix: acne: has 18, asked 20; nevus: has 9, asked 20. Raise <generate.per_class>."
            in text
        ), name
        assert "real lacks seed 1: RuntimeError: out of memory" in text, name
    for name, text in pages.items():
        assert text.index("4 jobs failed") < text.index("Arms\n" if name == "report.md" else "<h2>Arms"), name
        assert "Not in this table, because no job of it ended well: hybrid." in text, name
        assert "With fewer jobs than were asked for: real." in text, name
        assert "failed or did not finish" not in text, "each job is told once"
    runs = pl.read_csv(out / "runs.csv").filter(pl.col("status") != "finished")
    assert runs.select("arm", "seed", "status").rows() == [
        ("real", 1, "failed"),
        *(("hybrid", seed, "failed") for seed in range(3)),
    ]
    assert pl.read_csv(out / "failures.csv")["reason"].to_list() == [FEW, "RuntimeError: out of memory"]


def test_the_key_knows_failures_and_forgets_those_that_a_rerun_mends(sweep: Path):
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        settings = compose("config").report
    key = lambda: report_recipe(settings, asked_runs(sweep)).key  # noqa: E731
    before = key()
    assert before == key()
    tell(sweep, ("real", 1, "RuntimeError: out of disk"), *HYBRIDS)
    assert key() != before, "another reason is another report"
    tell(sweep, finished=("real_small",))
    whole = key()
    assert whole != before
    (sweep / "sweep.json").unlink()
    assert key() == whole, "without failures a report is what it was before there was word of them"


def test_a_later_sweep_that_finished_a_job_takes_its_failure_away(sweep: Path):
    study = sweep.parent
    runs = {run.name: run for run in asked_runs(study)}
    assert runs["hybrid, seed 1"].failure == FEW
    again = study / "later" / "0" / "run.json"
    again.parent.mkdir(parents=True)
    about = json.loads((sweep / "0" / "run.json").read_text())
    again.write_text(
        json.dumps(about | {"arm": "hybrid", "seed": 1, "overrides": {"mix": "hybrid", "seed": "1"}})
    )
    found = [run.name for run in asked_runs(study) if run.failure]
    assert found == ["real, seed 1", "hybrid, seed 0", "hybrid, seed 2"]


def test_jobs_that_have_not_ended_are_told(whole: Path):
    study = make_study(asked_runs(tell(whole, ("hybrid", 0, None), ("hybrid", 1, FEW))))
    words = told(failures_frame(study.failed, study.arms))
    assert words.headline.startswith("2 jobs failed or did not end")
    assert words.lines[0] == ("hybrid", f" has no result of seed 0: {NOT_ENDED}")


def test_a_sweep_of_which_all_failed_is_told_with_its_reasons(tmp_path: Path):
    tell(tmp_path / "sweep", *HYBRIDS, finished=())
    with pytest.raises(
        InputError,
        match="None of its jobs ended well:\n  hybrid has no result of seeds 0, 1, 2: Too few",
    ):
        asked_runs(tmp_path / "sweep")


def test_a_baseline_that_failed_is_named(sweep: Path):
    with pytest.raises(
        InputError, match="'hybrid' is not among the finished arms real_small, real: its jobs failed"
    ):
        make_study(asked_runs(sweep), "hybrid")


def test_word_of_jobs_that_cannot_be_read_is_refused(sweep: Path):
    (sweep / "sweep.json").write_text('{"jobs": {"0": {"arm": 1}}}')
    with pytest.raises(InputError, match=r"sweep\.json does not tell how its sweep stands"):
        asked_runs(sweep)
    (sweep / "sweep.json").write_text('{"total": 3}')
    assert not [run for run in asked_runs(sweep) if run.failure], "of before it told"


def test_folds_and_many_jobs_are_told_in_words(whole: Path):
    asked = [
        Asked("akrout2023", "hybrid", 0, {"mix": "hybrid", "seed": "0", "dataset.fold": str(fold)}, "lost")
        for fold in range(3)
    ]
    Standing(jobs=dict(enumerate(asked)), ended=True).write(whole)
    study = make_study(asked_runs(whole))
    ((arm, rest),) = told(failures_frame(study.failed[:1], study.arms)).lines
    assert (arm, rest) == ("hybrid", " has no result of seed 0 of fold 0: lost")
    ((arm, rest),) = told(failures_frame(study.failed * 4, study.arms)).lines
    assert rest == " has no result of 12 jobs: lost"


def test_two_sweeps_beside_each_other_tell_failures(
    sweep: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
):
    compare([sweep, drawn], num_resamples=20)
    shown = capsys.readouterr().out
    assert "A  " in shown
    assert "hybrid has no result of seeds 0, 1, 2: Too few" in shown
    assert "real lacks seed 1" in shown
