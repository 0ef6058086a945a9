"""The stages wired together: one pool for a sweep, nothing built twice, kills survived, no test image where it must not be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import capture
import commands
import polars as pl
import pytest
from commands import Command
from diffusion_components import save_tiny_pipeline
from hydra import compose, initialize_config_dir

from skinaug import pipeline
from skinaug.__main__ import main
from skinaug.cli.plan import Plan, plan_of, print_plan
from skinaug.curate.stage import build_score
from skinaug.launch import configs
from skinaug.leaks.seen import read_seen
from skinaug.manifest import Manifest
from skinaug.stage import Build

SMALL = [
    "scale.phantom_per_class=24",
    "scale.phantom_test_fraction=0.6",
    "scale.real_limit=6",
    "scale.finetune_steps=2",
    "scale.finetune_batch_size=6",
    "scale.generate_per_class=4",
    "scale.num_inference_steps=2",
    "scale.classifier_steps=2",
    "scale.classifier_val_every_steps=1",
    "scale.ensemble_steps=1",
    "finetune.sample_prompts=[a photo of skin]",
    "prompts=plain",
    "curate=none",
    "finetune=textual_inversion",
    "finetune.method.num_vectors=1",
    "finetune.captions.templates=['a photo of {label}']",
]
SWEEP = ["classify", "-m", "mix=real_small,hybrid", "seed=0,1", "name=study"]


def start(*arguments: str, cwd: Path) -> Command:
    environment = {**os.environ, "COLUMNS": "160"}
    environment.pop("SKINAUG_STORE", None)
    base = f"base.path={cwd.parent / 'base'}"
    return Command(*arguments, *SMALL, base, cwd=cwd, env=environment, piped=True)


def skinaug(*arguments: str, cwd: Path) -> str:
    process = start(*arguments, cwd=cwd)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-4000:]
    return output


def records(folder: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for path in sorted((folder / "store").glob("*/*/artifact.json")):
        found.setdefault(path.parent.parent.name, []).append(json.loads(path.read_text()))
    return found


def predictions(folder: Path) -> dict[str, pl.DataFrame]:
    return {
        path.parent.name: pl.read_parquet(path)
        for path in (folder / "store/classify").glob("*/predictions.parquet")
    }


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished sweep: its folder and what it printed."""
    root = tmp_path_factory.mktemp("sweep")
    save_tiny_pipeline(root / "base", size=64)
    folder = root / "run"
    folder.mkdir()
    return folder, skinaug(*SWEEP, cwd=folder)


def test_a_sweep_shares_everything_but_mix_and_classifier(sweep: tuple[Path, str]):
    folder, output = sweep
    counts = {stage: len(found) for stage, found in records(folder).items()}
    assert counts == {
        "dataset": 1,
        "copies": 1,
        "finetune": 1,
        "generate": 1,
        "curate": 1,
        "audit": 1,
        "mix": 4,
        "classify": 4,
        "report": 1,
    }
    assert "real_small" in output
    assert "report.html" in output
    assert not list((folder / "store").rglob("*.partial"))
    assert not list((folder / "store").rglob("*.lock"))


def test_the_report_lies_with_the_sweep_and_its_numbers_are_the_runs(sweep: tuple[Path, str]):
    folder, _ = sweep
    (reports,) = (folder / "outputs/study").glob("*/report")
    arms = pl.read_csv(reports / "arms.csv")
    assert arms["arm"].to_list() == ["real_small", "hybrid"]
    metrics = {}
    for path in (folder / "outputs/study").glob("*/*/run.json"):
        run = json.loads(path.read_text())
        test = json.loads((Path(run["artifacts"]["classify"]) / "metrics.json").read_text())["test"]
        metrics.setdefault(run["arm"], []).append(test["top1"])
    assert arms["top1"].to_list() == pytest.approx([sum(metrics[arm]) / 2 for arm in arms["arm"]])
    html = (reports / "report.html").read_text()
    assert "http-equiv" in html
    assert html.count("<script") == html.count("<script>") == 1, "its own, inside the page"


def test_a_real_mix_needs_no_pool(sweep: tuple[Path, str]):
    folder, _ = sweep
    needs = [sorted(record["inputs"]) for record in records(folder)["mix"]]
    assert sorted(map(tuple, needs)) == [("copies", "curate", "dataset")] * 2 + [("copies", "dataset")] * 2


def test_the_same_command_again_builds_nothing(sweep: tuple[Path, str]):
    folder, _ = sweep
    before = records(folder)
    output = skinaug(*SWEEP, cwd=folder)
    assert "building" not in output
    assert records(folder) == before


def test_why_and_mix_answer_without_building(sweep: tuple[Path, str]):
    folder, _ = sweep
    before = records(folder)
    output = skinaug("why", "classify", "mix=hybrid", "classify.label_smoothing=0.3", cwd=folder)
    assert "config.label_smoothing: 0.1 -> 0.3" in output
    assert output.count("would run") == 1
    output = skinaug("mix", "mix=synthetic", "generate.seed=5", "mix.synthetic_ratio=0.5", cwd=folder)
    assert "planned" in output
    assert records(folder) == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mix.real_per_class=500", ["asked 500", "acne"]),
        ("mix.synthetic_per_class=50", ["asked 50", "generate.per_class"]),
        ("+prompts.labels.melanoma=mole", ["melanoma", "the data lacks", "acne"]),
        ("report.groups={bad:[melanoma]}", ["names the classes melanoma", "the data have acne"]),
    ],
)
def test_what_the_data_cannot_serve_is_refused_before_training(
    sweep: tuple[Path, str], override: str, expected: list[str]
):
    folder, _ = sweep
    before = records(folder)
    process = start("classify", "mix=hybrid", "generate.seed=9", override, cwd=folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert all(text in output for text in expected), output
    assert records(folder) == before


def test_wandb_runs_tell_stage_group_metrics_and_lineage(sweep: tuple[Path, str]):
    folder, _ = sweep
    files = sorted((folder / "outputs/wandb").glob("offline-run-*/*.wandb"))
    stages = [path.stem.removeprefix("run-").partition("-")[0] for path in files]
    assert sorted(set(stages)) == [
        *("audit", "classify", "curate", "dataset", "finetune", "generate", "mix", "report")
    ]
    assert stages.count("classify") == 4
    tool = [sys.executable, "-m", "wandb", "leet", "inspect"]
    classify = files[stages.index("classify")]
    summary = subprocess.run(
        [*tool, "--summary", str(classify)], capture_output=True, text=True, check=True
    ).stdout
    assert "test/top1" in summary
    report = files[stages.index("report")]
    summary = subprocess.run(
        [*tool, "--summary", str(report)], capture_output=True, text=True, check=True
    ).stdout
    assert "hybrid/harms" in summary
    log = subprocess.run([*tool, "--json", str(classify)], capture_output=True, text=True, check=True).stdout
    assert '"study"' in log
    assert '"classify"' in log
    (run,) = {record["key"] for record in records(folder)["classify"] if record["key"] in classify.stem}
    used = next(record["inputs"] for record in records(folder)["classify"] if record["key"] == run)
    assert all(f"{stage}-{key}" in log for stage, key in used.items() if stage in ("mix", "dataset"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dataset", "finetune", "generate", "classify"])
def test_a_killed_sweep_goes_on_to_the_same_predictions(sweep: tuple[Path, str], stage: str):
    folder, _ = sweep
    killed = folder.parent / f"killed-{stage}"
    killed.mkdir()
    process = start(*SWEEP, cwd=killed)
    for line in process.stdout:
        if line.startswith(stage) and "building" in line:
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    skinaug(*SWEEP, cwd=killed)
    expected, found = predictions(folder), predictions(killed)
    assert expected.keys() == found.keys()
    assert all(found[key].equals(expected[key]) for key in expected)


def test_fine_tuning_and_filters_see_training_images_only(tmp_path: Path, monkeypatch):
    configs.register()
    stub = ["finetune=none", "finetune._target_=capture.note_splits", "~finetune.captions", "logger=none"]
    overrides = [*SMALL[:1], *stub, f"store={tmp_path}", f"output={tmp_path}"]
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", overrides)
    made = pipeline.run(cfg, "finetune")
    assert json.loads((made["finetune"].path / "splits.json").read_text()) == {"manifest": ["train"]}
    assert set(Manifest.read(made["dataset"].path).table["split"]) == {"train", "val", "test"}
    (tmp_path / "score").mkdir()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose(
            "config",
            ["filter=[non_skin]", "filter.non_skin.scorer={_target_: capture.NoteSplits}", *overrides],
        )
    made["generate"] = made["dataset"]  # any manifest serves as the pool here
    build_score("non_skin", Build(cfg, made, tmp_path / "score"))
    assert pl.read_parquet(tmp_path / "score" / "scores.parquet")["only_train"].all()
    assert set(read_seen(tmp_path / "score")["image_id"]) == set(
        Manifest.read(made["dataset"].path).split("train").table["image_id"]
    )
    monkeypatch.setattr(capture.NoteSplits, "exposure", "off_the_shelf", raising=False)
    build_score("non_skin", Build(cfg, made, tmp_path / "score"))
    assert read_seen(tmp_path / "score").height == 0, "a filter that says it knows no photograph gets none"


def test_dreambooth_draws_the_bases_own_pictures_once(tmp_path: Path):
    configs.register()
    save_tiny_pipeline(tmp_path / "base", size=64)
    sizes = [
        "finetune=dreambooth",
        "finetune.prior.generate.per_class=3",
        "finetune.method.rank=2",
        "logger=none",
    ]
    folders = [f"store={tmp_path}", f"output={tmp_path}", f"base.path={tmp_path / 'base'}", "trainer=cpu"]
    names = []
    for rate in (1e-3, 2e-3):
        with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
            cfg = compose("config", [*SMALL[:-3], *sizes, *folders, f"finetune.optimizer.lr={rate}"])
        made = pipeline.run(cfg, "finetune")
        names.append((made["generate.prior"].path.name, made["finetune"].path.name))
    (prior, one), (same, other) = names
    assert prior == same
    assert one != other
    drawn = Manifest.read(made["generate.prior"].path)
    assert drawn.classes == ("skin",)
    assert len(drawn) == 3
    assert set(drawn.table["source"]) == {"synthetic"}
    assert (made["finetune"].path / "lora" / "pytorch_lora_weights.safetensors").is_file()
    assert "research" in (made["finetune"].path / "README.md").read_text().lower()


def plan(folder: Path, *overrides: str) -> Plan:
    return plan_of("classify", [*overrides, *SMALL, f"base.path={folder.parent / 'base'}"])


def test_a_plan_names_the_artifacts_that_the_sweep_built(sweep: tuple[Path, str], monkeypatch, capsys):
    folder, _ = sweep
    monkeypatch.chdir(folder)
    found = plan(folder, *SWEEP[1:])
    built = {stage: {record["key"] for record in told} for stage, told in records(folder).items()}
    assert {stage: {recipe.key for recipe in made} for stage, made in found.recipes.items()} == built
    assert found.jobs == 4
    assert not found.seconds, "all are kept"
    again = plan(folder, *SWEEP[1:], "generate.seed=5", "controls=[label_permuted]")
    print_plan(again)
    new = {stage: sum(r.key in again.seconds for r in made) for stage, made in again.recipes.items()}
    assert new == {
        "dataset": 0,
        "copies": 0,
        "finetune": 0,
        "generate": 1,
        "curate": 1,
        "audit": 1,
        "mix": 4,
        "classify": 4,
        "report": 1,
    }
    assert again.jobs == 6, "and two controls"
    (key,) = (recipe.key for recipe in again.recipes["generate"])
    assert again.seconds[key] == records(folder)["generate"][0]["seconds"]
    assert "6 jobs, 12 artifacts to build" in capsys.readouterr().out


def test_a_plan_tells_what_would_be_refused(sweep: tuple[Path, str], monkeypatch, capsys):
    folder, _ = sweep
    monkeypatch.chdir(folder)
    before = files(folder)
    jobs = ["-m", "mix=real_small,hybrid", "mix.synthetic_per_class=0,50"]
    assert main(["plan", *jobs, *SMALL, f"base.path={folder.parent / 'base'}"]) == 2
    told = capsys.readouterr().out
    assert "2 of 4 jobs would be refused" in told
    assert "mix=hybrid mix.synthetic_per_class=50" in told
    assert "acne: asked 50" in told
    assert main(["plan", "controls=[oracle]"]) == 2
    assert "this is a single job" in capsys.readouterr().err
    assert files(folder) == before


def test_a_plan_of_a_first_run_imports_no_torch(tmp_path: Path):
    probe = "import sys; from skinaug.__main__ import main; assert main(['plan', '-m', 'mix=real,hybrid', 'seed=0,1']) == 0; "
    probe += "print([m for m in sys.modules if m in ('torch', 'lightning', 'diffusers', 'timm')])"
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.rstrip().endswith("[]")
    assert "4 jobs" in done.stdout
    assert "no earlier run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def artifacts(folder: Path, *stages: str) -> list[str]:
    """Folders of finished artifacts: of some stages, or of all."""
    found = sorted((folder / "store").glob("*/*/artifact.json"))
    return [str(path.parent) for path in found if path.parent.parent.name in stages or not stages]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_rerun_is_bit_equal_and_changes_nothing(sweep: tuple[Path, str], capsys):
    folder, _ = sweep
    asked = [artifacts(folder, stage)[0] for stage in ("copies", "curate", "mix", "report")]
    before = files(folder / "store")
    assert main(["rerun", *asked]) == 0
    assert "4 rerun, all are equal" in capsys.readouterr().out
    assert files(folder / "store") == before


def test_a_rerun_finds_a_changed_prediction(sweep: tuple[Path, str], capsys):
    folder, _ = sweep
    classifier = Path(artifacts(folder, "classify")[0])
    predictions = classifier / "predictions.parquet"
    content, table = predictions.read_bytes(), pl.read_parquet(predictions)
    moved = pl.col("p:acne") + 0.25 * (pl.int_range(pl.len()) == 3)
    changed = table.with_columns(moved.cast(table.schema["p:acne"]))
    changed.write_parquet(predictions, compression="uncompressed")  # no smaller, or it were taken for cut off
    try:
        assert main(["rerun", classifier.name, "--store", str(folder / "store")]) == 1
    finally:
        predictions.write_bytes(content)
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"p:acne: 1 of {table.height} rows differ, at most 0.25 apart" in told
    assert told.count(" differs ") == 1
    assert told.count(" equal ") == len(list(classifier.iterdir())) - 1
    assert "left out: train.seconds, train.images_per_second" in told


@pytest.mark.parametrize(
    ("edit", "status", "told"),
    [
        (lambda record: record["config"].update(subgroup="sex"), 1, "config.subgroup: sex -> None"),
        (
            lambda record: record["job"]["curate"].update(subgroup="sex"),
            2,
            "config.subgroup: None -> sex",
        ),
        (lambda record: record.update(version=0), 1, "version: 0 -> "),
        (lambda record: record["inputs"].update(generate=16 * "0"), 2, f"generate/{16 * '0'}"),
        (lambda record: record.pop("job"), 2, "lacks job"),
    ],
)
def test_an_edited_record_is_found(sweep: tuple[Path, str], capsys, edit, status: int, told: str):
    (curated,) = artifacts(sweep[0], "curate")
    path = Path(curated, "artifact.json")
    content = path.read_text()
    record = json.loads(content)
    edit(record)
    path.write_text(json.dumps(record))
    try:
        assert main(["rerun", curated]) == status
    finally:
        path.write_text(content)
    printed = capsys.readouterr()
    assert told in " ".join((printed.out + printed.err).replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.parametrize("finetune", [SMALL[-3:], ["finetune=lora_per_class", "finetune.method.rank=2"]])
def test_every_artifact_is_rerun_bit_equal(tmp_path: Path, finetune: list[str], capsys):
    save_tiny_pipeline(tmp_path / "base", size=64)
    store = [
        f"base.path={tmp_path / 'base'}",
        f"store={tmp_path / 'store'}",
        f"output={tmp_path / 'outputs'}",
    ]
    filters = ["filter.non_skin.keep.real_pass_rate=1", "filter.ensemble.keep.min_per_class=4"]
    steps = [override for override in SMALL[:-4] if "=curate" not in override and "curate=" not in override]
    job = ["classify", "-m", "mix=real_small,hybrid", *steps, *finetune, *filters, *store]
    commands.skinaug(*job, "scale.finetune_class_steps=2", check=True)
    assert main(["rerun", *artifacts(tmp_path)]) == 0
    stages = {Path(artifact).parent.name for artifact in artifacts(tmp_path)}
    assert stages >= {
        "dataset",
        "copies",
        "finetune",
        "generate",
        "score",
        "curate",
        "audit",
        "mix",
        "classify",
    }
    assert "report" in stages


@pytest.mark.slow
def test_a_search_maximises_the_validation_score(sweep: tuple[Path, str]):
    folder, _ = sweep
    space = ["mix.synthetic_ratio=choice(0.5,1.0)", "hydra.sweeper.trials=3", "hydra.sweeper.seeds=[0,1]"]
    job = ["classify", "-m", "hydra/sweeper=optuna", "mix=hybrid", "classify=probe", "name=search", *space]
    output = skinaug(*job, cwd=folder)
    scores: dict[str, list[float]] = {}
    for path in (folder / "outputs/search").glob("*/*/run.json"):
        run = json.loads(path.read_text())
        val = json.loads((Path(run["artifacts"]["classify"]) / "metrics.json").read_text())["val"]
        ratio = run["overrides"]["mix.synthetic_ratio"]
        scores.setdefault(ratio, []).append(val["balanced_accuracy"])
    means = [sum(values) / len(values) for values in scores.values()]
    assert f"{max(means):.4f}" in output.partition("best on validation images")[2].splitlines()[0]
