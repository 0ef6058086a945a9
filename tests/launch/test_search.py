"""Searches, through Hydra's own command line with a job whose value is known."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import commands
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

JOB = """
import json, time
from pathlib import Path
import hydra
from skinaug.launch import configs
from skinaug.errors import Ended

configs.register()

def task(cfg):
    ratio, guidance = cfg.mix.synthetic_ratio, cfg.generate.guidance_scale
    with open("jobs.jsonl", "a") as file:
        print(json.dumps([ratio, guidance, cfg.seed]), file=file)
    if guidance == 9:
        raise Ended(2, "guidance 9 is refused")
    if guidance == 8:
        raise ValueError("a fault")
    if Path("slow").exists():
        time.sleep(60)
    return -(ratio - 1.3) ** 2 - (guidance - 2) ** 2 + (cfg.seed - 0.5)

task.stage = "dataset"
hydra.main(version_base="1.3", config_path=str(configs.folder("conf").resolve()), config_name="config")(task)()
"""
QUIET = ["logger=none", "hydra.callbacks.report._target_=hydra.experimental.callback.Callback", "name=search"]
SEARCH = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.seeds=[0,1]", *QUIET]


def start(folder: Path, *overrides: str) -> commands.Command:
    return commands.Command(*SEARCH, *overrides, code=JOB, cwd=folder, piped=True)


def search(folder: Path, *overrides: str) -> str:
    process = start(folder, *overrides)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def jobs(folder: Path) -> list[list[float]]:
    return [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]


def study(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "outputs/search/search.journal")))
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


SPACE = ["mix.synthetic_ratio=interval(0,3)", "generate.guidance_scale=range(1,4)"]


def test_a_search_finds_the_best_values_and_more_trials_go_on(tmp_path: Path):
    output = search(tmp_path, *SPACE, "hydra.sweeper.trials=12", "hydra.sweeper.at_once=3")
    found = study(tmp_path)
    assert len(found.trials) == 12
    assert all(trial.value is not None for trial in found.trials)
    ran = jobs(tmp_path)
    assert [seed for _, _, seed in ran] == [0, 1] * 12
    for number, trial in enumerate(found.trials):
        ratio, guidance, _ = ran[2 * number]
        assert trial.value == pytest.approx(-((ratio - 1.3) ** 2) - (guidance - 2) ** 2), (
            "the mean over the seeds"
        )
    assert found.best_params["generate.guidance_scale"] == 2
    assert f"{found.best_value:.4f}" in output
    search(tmp_path, *SPACE, "hydra.sweeper.trials=13")
    assert len(study(tmp_path).trials) == 13
    assert len({tuple(job) for job in jobs(tmp_path)}) == 26, "the same sampler draws new values"


def test_refused_and_failed_trials_are_noted_and_the_search_goes_on(tmp_path: Path):
    output = search(
        tmp_path, "generate.guidance_scale=choice(2,8,9)", "hydra.sweeper.trials=8", "hydra.sweeper.seed=1"
    )
    states = {trial.params["generate.guidance_scale"]: trial.state.name for trial in study(tmp_path).trials}
    assert states == {"2": "COMPLETE", "8": "FAIL", "9": "FAIL"}
    assert "guidance 9 is refused" in output
    assert "8 trials" not in output


def test_a_killed_search_goes_on_with_the_trial_that_was_cut_off(tmp_path: Path):
    (tmp_path / "slow").touch()
    process = start(tmp_path, *SPACE, "hydra.sweeper.trials=3")
    while not (tmp_path / "jobs.jsonl").exists():
        time.sleep(0.2)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "slow").unlink()
    search(tmp_path, *SPACE, "hydra.sweeper.trials=3")
    (cut, *rest) = jobs(tmp_path)
    assert rest[0] == cut
    assert len(rest) == 6
    assert [trial.state.name for trial in study(tmp_path).trials] == [
        "FAIL",
        "COMPLETE",
        "COMPLETE",
        "COMPLETE",
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "nothing to search"),
        ([*SPACE, "hydra.sweeper.trials=0"], "one or more"),
        ([*SPACE, "controls=[oracle]"], "A search has no controls"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, overrides: list[str], said: str):
    done = commands.skinaug("classify", *SEARCH, *overrides, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
