"""The local dashboard over files that are written by hand: what it reads, what it serves and what it shows in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_dashboard
import pytest
from serving import Served, ask

from skinaug.__main__ import main
from skinaug.cli.sweeps import curves, keys_of, page_of, read_sweeps, scores_of
from skinaug.cli.sweeps_charts import arms_options, parallel_axes
from skinaug.cli.sweeps_page import flat_rows, grouped, standing_html
from skinaug.launch.standing import Standing, read_standing
from skinaug.report.unfinished import STANDING

SWEEP = "study/2026-12-01"
EVIL = "<img src=x onerror=alert(1)>"
ARMS = [  # arm, real and synthetic images a class, score
    ("real", 10, 0, 0.5),
    ("hybrid", 10, 10, 0.6),
    ("more", 10, 20, 0.65),
    ("synthetic", 0, 20, 0.4),
]


def write_run(folder: Path, arm: str, seed: int, **overrides: Any) -> None:
    folder.mkdir(parents=True)
    about = {
        "experiment": "study",
        "arm": arm,
        "seed": seed,
        "overrides": {"mix": arm, "seed": str(seed), **overrides},
        "config": {"mix": {"name": arm}, "seed": seed, "classify": {"lr": 0.1}},
        "artifacts": {"classify": str(folder / f"classify-{arm}-{seed}")},
    }
    (folder / "run.json").write_text(json.dumps(about))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A finished sweep of four arms and two seeds with a report; and one that runs, with an evil name, a failure and a broken file."""
    root = tmp_path / "outputs"
    sweep, running = root / SWEEP, root / "study" / "2026-12-02"
    for number, (arm, seed) in enumerate((arm, seed) for arm, *_ in ARMS for seed in (0, 1)):
        write_run(sweep / str(number), arm, seed)
    report = sweep / "report"
    report.mkdir()
    lines = [
        "arm,seeds,real_min,real_max,synthetic_min,synthetic_max,top1,top1_low,top1_high,balanced_accuracy"
    ]
    lines += [
        f"{arm},2,{real},{real},{made},{made},{top},{top - 0.1},{top + 0.1},{top}"
        for arm, real, made, top in ARMS
    ]
    (report / "arms.csv").write_text("\n".join(lines) + "\n")
    runs = ["experiment,arm,seed,status,top1,folder"]
    runs += [
        f"study,{arm},{seed},finished,{top + seed / 100},elsewhere/{2 * n + seed}"
        for n, (arm, _, _, top) in enumerate(ARMS)
        for seed in (0, 1)
    ]
    (report / "runs.csv").write_text("\n".join(runs) + "\n")
    (report / "report.html").write_text("<!doctype html><title>the report</title>")
    write_run(running / "0", EVIL, 0)
    (running / "1").mkdir()
    (running / "1" / "run.json").write_text('{"arm": ')
    now = time.time()
    Standing(total=5, done=1, failed=[("job 2 seed=2", EVIL)], started=now - 20).write(running)
    (root / "wandb" / "x").mkdir(parents=True)
    (root / "wandb" / "x" / "run.json").write_text("no run")
    return root


def test_runs_have_the_scores_of_their_report(outputs: Path):
    running, finished = read_sweeps(outputs)
    assert [running.name, finished.name] == ["study/2026-12-02", SWEEP]
    assert [(row["arm"], row["seed"], row["top1"]) for row in finished.rows][:3] == [
        ("real", 0, 0.5),
        ("real", 1, 0.51),
        ("hybrid", 0, 0.6),
    ]
    assert len(finished.rows) == 8
    assert finished.has_page
    assert not running.has_page
    assert scores_of([running, finished]) == ["top1"], "a score without an interval is none to draw"
    assert keys_of([finished]) == ["mix", "seed", "mix.name"]
    assert {name: len(rows) for name, rows in grouped(flat_rows([finished]), "mix").items()} == {
        arm: 2 for arm, *_ in ARMS
    }


def test_broken_files_are_counted_and_named(outputs: Path):
    running = read_sweeps(outputs)[0]
    assert len(running.rows) == running.jobs == 1
    (fault,) = running.faults
    assert fault.startswith("study/2026-12-02/1/run.json: ")
    (outputs / SWEEP / "report" / "arms.csv").write_bytes(b"\xff\xfe,\x00")
    (outputs / SWEEP / STANDING).write_text('{"total": 3}')
    told = " ".join(read_sweeps(outputs)[1].faults)
    assert "arms.csv" in told
    assert STANDING in told


def test_curves_are_the_report_s_own_figures(outputs: Path):
    found, left_out = curves(read_sweeps(outputs), "top1")
    assert left_out == 1, "of synthetic images only there is no ratio"
    (points,) = found.values()
    assert [point[:2] for point in points] == [(0, 0.5), (1, 0.6), (2, 0.65)]
    assert points[1][2:] == (0.5, 0.7)
    options, count = arms_options(read_sweeps(outputs), "top1")
    assert count == 4
    assert options["yAxis"]["data"] == [arm for arm, *_ in ARMS]


def test_axes_that_divide_the_runs_alike_are_one(outputs: Path):
    sweeps = read_sweeps(outputs)[1:]
    axes = parallel_axes(flat_rows(sweeps), keys_of(sweeps), "top1", "arm")
    assert [axis["name"] for axis in axes] == ["arm", "seed", "top1"], (
        "mix and mix.name divide them as the arm does"
    )


def test_folds_are_one_run(tmp_path: Path):
    for fold in (0, 1):
        write_run(tmp_path / "sweep" / str(fold), "real", 0, **{"dataset.fold": str(fold)})
        file = tmp_path / "sweep" / str(fold) / "run.json"
        file.write_text(file.read_text().replace("classify-real-0", f"classify-{fold}"))
    (sweep,) = read_sweeps(tmp_path)
    assert [row["jobs"] for row in sweep.rows] == [2]
    assert sweep.jobs == 2


def test_how_a_sweep_stands(tmp_path: Path):
    now = time.time()
    standing = Standing(total=10, done=3, failed=[("job 3", "no memory")], started=now - 400)
    standing.write(tmp_path)
    read = read_standing(tmp_path)
    assert read is not None
    assert read.words() == "running: 3 of 10 jobs done, 1 failed, about 10 minutes left"
    standing.pid = 2**22 + 1  # more than any process's
    assert standing.words() == "interrupted: 3 of 10 jobs done, 1 failed"
    standing.ended = True
    assert standing.words().startswith("ended: ")
    assert read_standing(tmp_path / "nothing") is None


def test_names_are_escaped(outputs: Path):
    html = standing_html(read_sweeps(outputs))
    assert EVIL not in html
    assert "&lt;img src=x" in html


@pytest.mark.parametrize(
    "name", ["../outside", "study/../../outside", "/etc", "study", "x\0y", "linked", "study/linked"]
)
def test_no_page_from_elsewhere(outputs: Path, name: str):
    outside = outputs.parent / "outside" / "report"
    outside.mkdir(parents=True)
    (outside / "report.html").write_text("secret")
    (outputs / "linked").symlink_to(outside.parent)
    inside = outputs / "study" / "linked" / "report"
    inside.mkdir(parents=True)
    (inside / "report.html").symlink_to(outside / "report.html")
    assert page_of(outputs, name) is None
    assert page_of(outputs, SWEEP) is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--local", "nowhere"], "no folder of outputs at nowhere"),
        (["--local", "."], "No sweep lies below"),
        (["--local"], "no folder of outputs at other"),
        (["--local", "--group", "x"], "--group is for W&B"),
        (["team/skin", "--port", "1"], "add --local"),
        ([], "entity/project"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKINAUG_OUTPUT", "other")
    assert main(["dashboard", *words]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_without_nicegui_it_tells_what_to_install(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert main(["dashboard", "--local", str(outputs)]) == 2
    assert "pip install 'skinaug[review]'" in capsys.readouterr().err


@pytest.fixture
def served(outputs: Path) -> Iterator[Served]:
    pytest.importorskip("nicegui", reason="NiceGUI is not installed")
    page = Served(outputs, "-", Path(local_dashboard.__file__))
    yield page
    page.process.kill()
    page.process.communicate()


def test_the_page_in_a_browser(served: Served, browser, outputs: Path):
    served.wait()
    assert {ask(served.port, path, {})[0] for path in ("/", f"/report/{SWEEP}", "/?token=x")} == {403}
    assert served.status(f"/report/{SWEEP}") == 200
    headers = ask(served.port, f"/report/{SWEEP}", {"Cookie": served.cookie})[1]
    assert headers["content-security-policy"].startswith("sandbox")
    assert "allow-same-origin" not in headers["content-security-policy"]
    (outputs.parent / "report").mkdir()
    (outputs.parent / "report" / "report.html").write_text("secret")
    for path in (
        "/report/..",
        "/report/%2e%2e",
        "/report/study/..%2f..",
        "/report//etc",
        "/report/study",
        "/outputs",
    ):
        assert served.status(path) == 404, path
    assert served.status("/", Host="evil.example") == 400

    faults: list[str] = []
    requests: list[str] = []
    for width in (1280, 412):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(served.address)
        page.wait_for_selector(".ag-row")
        page.wait_for_selector(".arms canvas")
        page.wait_for_selector(".curves canvas")
        page.wait_for_selector(".parallel canvas")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
        standing = page.inner_text(".page")
        assert "running: 1 of 5 jobs done, 1 failed" in standing
        assert "Files that cannot be read: 1" in standing
        page.click("text=hybrid (2)")
        page.wait_for_function("document.querySelectorAll('.ag-center-cols-container .ag-row').length == 2")
        assert page.inner_text(".ag-center-cols-container .ag-row >> nth=0").split()[0] == "hybrid"
        if width == 412:  # a job ends while the page is open
            write_run(outputs / "study" / "2026-12-02" / "3", "late", 3)
            Standing(total=5, done=2, pid=os.getpid()).write(outputs / "study" / "2026-12-02")
            page.wait_for_selector("text=running: 2 of 5 jobs done", timeout=15_000)
            page.wait_for_selector("text=late (1)")
        page.close()
    assert not faults
    assert not [url for url in requests if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:)", url)]
    said = served.end(signal.SIGINT)
    assert served.process.returncode == 0
    assert "Traceback" not in said
