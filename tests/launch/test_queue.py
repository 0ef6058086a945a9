"""What is asked of Slurm, with a squeue that stands for one of before 20.02, and jobs that nobody hears of again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus

from skinaug.errors import Ended
from skinaug.launch import slurm

OLD = """#!/bin/sh
[ "$1" = "--me" ] && { echo "squeue: unrecognized option '--me'" >&2; exit 1; }
case "$1" in --user=?*) ;; *) exit 1 ;; esac
printf '7_0 RUNNING\\n8_1 PENDING\\n'
"""


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "bin" / "squeue"
    file.parent.mkdir()
    file.write_text(OLD)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(file.parent), prepend=":")
    return file


def test_a_slurm_that_knows_no_me_is_asked_by_name(squeue: Path):
    assert slurm.queue() == {"7_0": "RUNNING", "8_1": "PENDING"}


def test_a_job_that_is_in_no_queue_is_told_as_lost(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slurm, "GRACE", 0.05)
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    handle = SimpleNamespace(paths=SimpleNamespace(result_pickle=tmp_path / "none.pkl"))
    ((job, result),) = slurm.wait({"9_0": ("the job", handle)}, lambda told: None)
    assert (job, result.status) == ("the job", JobStatus.FAILED)
    assert isinstance(result._return_value, Ended)
    assert "ended without a result" in result._return_value.message


def test_a_silent_slurm_is_told_and_no_job_is_given_up(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slurm, "GRACE", 0.05)
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    squeue.write_text("#!/bin/sh\nexit 1\n")
    result_file, told = tmp_path / "result.pkl", []

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            result_file.touch()

    handle = SimpleNamespace(paths=SimpleNamespace(result_pickle=result_file), result=lambda: "done")
    assert list(slurm.wait({"9_0": ("the job", handle)}, tell)) == [("the job", "done")]
    assert told[:3] == ["squeue does not answer"] * 3
