"""A sweep whose outputs and store came from another folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from skinaug.errors import InputError
from skinaug.report.collect import make_study, read_runs


def test_artifacts_of_a_store_that_was_moved_are_found_by_stage_and_key(
    make_sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sweep = make_sweep(seeds=1)
    there, here = tmp_path / "sweep-store", tmp_path / "elsewhere" / "store"
    for run in read_runs(sweep):  # as stages leave them: <stage>/<key>, and a record
        for folder in run.artifacts.values():
            (folder / "artifact.json").write_text("{}")
            (here / folder.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, here / folder.parent.name / folder.name, dirs_exist_ok=True)
    scores = [p.probabilities.sum() for p in make_study(read_runs(sweep)).predictions]
    os.rename(there, tmp_path / "gone")
    monkeypatch.delenv("SKINAUG_STORE", raising=False)
    with pytest.raises(
        InputError, match=r"None of the 4 runs has finished(?s:.*)is not there. .* SKINAUG_STORE=<folder>"
    ):
        make_study(read_runs(sweep))
    study = make_study(read_runs(sweep, here))
    assert [p.probabilities.sum() for p in study.predictions] == scores
    assert {run.artifacts["classify"].parent.parent for run in study.runs} == {here}
    monkeypatch.setenv("SKINAUG_STORE", str(here))
    assert len(make_study(read_runs(sweep)).runs) == 4
