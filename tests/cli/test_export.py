"""Out of the store: pictures and predictions in forms that others read, and to a model hub: what arrives is what was prepared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import skinaug
from hub import TOKEN, Hub, running_hub
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image
from rendered import SIZES, only, rendered_study

from skinaug.__main__ import main
from skinaug.cli.export import submission
from skinaug.dataset.imagefolder import from_imagefolder
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.classification import classification_metrics
from tests.test_extending import block


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered_study(tmp_path_factory.mktemp("study"))


def test_a_single_job_without_filters_of_the_configuration_is_recorded(study: Path):
    """What `~filter.<name>` leaves is the same study as `filter=[]`: nothing is made anew."""
    before = sorted((study / "store").glob("*/*"))
    words = [*(word for word in SIZES if word != "filter=[]"), "mix=hybrid", "base=oracle"]
    done = skinaug("classify", *words, "~filter.ensemble", "~filter.non_skin", "name=apart", cwd=study)
    assert done.returncode == 0, done.stderr
    assert sorted((study / "store").glob("*/*")) == before
    (run,) = (study / "outputs" / "apart").glob("*/run.json")
    assert json.loads(run.read_text())["overrides"]["filter.ensemble"] == "null"


def key(study: Path, stage: str) -> str:
    return f"{stage}/{only(study, stage).name}"


def export(study: Path, *words: str):
    return skinaug("export", *words, cwd=study, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.parametrize("stage", ["dataset", "generate", "curate", "mix"])
def test_pictures_go_out_with_a_card(study: Path, stage: str):
    manifest = Manifest.read(study / "store" / key(study, stage))
    done = export(study, key(study, stage), f"out-{stage}", "--to", "imagefolder")
    assert done.returncode == 0, done.stderr
    assert f"{len(manifest)} pictures to out-{stage}" in done.stdout
    assert (
        from_imagefolder(study / f"out-{stage}")
        .table["sha256"]
        .sort()
        .equals(manifest.table["sha256"].sort())
    )
    card = (study / f"out-{stage}/README.md").read_text()
    assert all(label in card for label in manifest.classes)
    assert ("show no patient" in card) == ("synthetic" in set(manifest.table["source"]))
    assert ("leak certificate**: holds" in card) == (stage != "dataset")
    assert ("exposure**: raw, no filter" in card) == (stage in ("curate", "mix"))


def test_a_table_and_files_a_class(study: Path):
    manifest = Manifest.read(study / "store" / key(study, "curate"))
    export(study, key(study, "curate"), "table")
    table = pl.read_csv(study / "table/metadata.csv")
    assert (
        table["label"]
        .value_counts()
        .sort("label")
        .equals(manifest.table["label"].value_counts().sort("label"))
    )
    for name, label, width in table.select("file_name", "label", "width").iter_rows():
        assert name.split("/")[0] == label
        assert Image.open(study / "table" / name).width == width
    again = [
        "generate=csv",
        "generate.root=table",
        "generate.name=again",
        "generate.source.columns.path=file_name",
    ]
    done = skinaug("mix", "mix=hybrid", *again, *SIZES, cwd=study)
    assert done.returncode == 0, done.stderr


def test_predictions_and_a_submission(study: Path):
    stored = pl.read_parquet(study / "store" / key(study, "classify") / "predictions.parquet")
    export(study, key(study, "classify"), "csv")
    told = pl.read_csv(study / "csv/predictions.csv")
    assert told["prediction"].to_list() == stored["prediction"].to_list()
    done = export(study, key(study, "classify"), "isic", "--to", "isic")
    text = (study / "isic/submission.csv").read_text().splitlines()
    classes = [name.removeprefix("p:") for name in stored.columns if name.startswith("p:")]
    assert text[0].split(",") == ["image", *classes]
    assert all("." in number for line in text[1:] for number in line.split(",")[1:])
    test = stored.filter(pl.col("split") == "test")
    assert f"{test.height} rows" in done.stdout
    read = {row.split(",")[0]: [float(number) for number in row.split(",")[1:]] for row in text[1:]}
    for name, prediction in test.select("image_id", "prediction").iter_rows():
        assert classes[max(range(len(classes)), key=read[name].__getitem__)] == prediction


def test_exported_predictions_give_the_sweeps_own_report(study: Path):
    """The page's commands, with the folders of this study."""
    export(study, key(study, "classify"), "theirs")
    (command, baseline) = (
        block("# Report on predictions made elsewhere", "sh").partition("#")[0].rsplit(maxsplit=1)
    )
    skinaug(*command.split()[1:], baseline.replace("=real", "=hybrid"), *SIZES, cwd=study, check=True)
    own = study / next((study / "outputs" / "adhoc").glob("*/run.json")).parent
    skinaug("report", f"report.runs={own}", *SIZES, cwd=study, check=True)
    for name in ("arms", "differences", "recall", "calibration", "operating_points", "gap"):
        frames = [pl.read_csv(at / "report" / f"{name}.csv") for at in (own, study / "outputs/adhoc/theirs")]
        one, other = (frame.drop(pl.selectors.matches("_(min|max)$")) for frame in frames)
        assert one.equals(other, null_equal=True), name


def test_two_folders_are_audited(study: Path):
    """The page's command: photographs and pool of this study as folders of files."""
    for stage, folder in (("dataset", "photographs"), ("generate", "pools/stylegan")):
        export(study, key(study, stage), folder)
    command = block("# Audit two folders", "sh").split()
    settings = [*SIZES, "audit.pool.num_replicates=2", "audit.pool.neighbours=3"]
    done = skinaug(*command[1:], *settings, cwd=study, check=True)
    assert "synthetic images are one picture with a real image" in done.stdout
    out = study / "outputs/adhoc/audit-photographs-stylegan"
    assert pl.read_csv(out / "fidelity.csv")["set"].unique().sort().to_list() == [
        "real, held out",
        "synthetic",
    ]
    assert (out / "audit.html").is_file()
    again = skinaug(*command[1:], *settings, cwd=study, check=True)
    assert "reading" not in again.stdout, "what is there is only printed"


ROWS = pl.DataFrame(
    {
        "image_id": ["acne/ISIC_1.JPG", "ISIC_2", "c.3"],
        "split": ["test", "test", "test"],
        "label": ["y", "x", "y"],
        "prediction": ["y", "x", "x"],
        "p:x": pl.Series([0.5, 1.0, 1 - 3e-12], dtype=pl.Float64),
        "p:y": pl.Series([0.5, 0.0, 3e-12], dtype=pl.Float64),
    }
)


def test_a_submission_keeps_ranks_and_breaks_ties_for_the_predicted_class():
    assert submission(ROWS).rows() == [
        ("ISIC_1", "0.5", "0.5000000000005"),
        ("ISIC_2", "1.0", "0.0"),
        ("c.3", "0.999999999997", "0.000000000003"),
    ]
    clash = ROWS.with_columns(image_id=pl.Series(["a/ISIC_1.jpg", "b/ISIC_1.jpg", "c"]))
    with pytest.raises(InputError, match=r"1 names stand for several test images.*\n  ISIC_1\n"):
        submission(clash)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the ISIC challenges' own scorer, which wants Python 3.13."""
    folder = tmp_path_factory.mktemp("scorer") / "env"
    python = sys.executable if sys.version_info[:2] == (3, 13) else "python3.13"
    uv = Path(sys.executable).with_name("uv")
    commands = [
        [python, "-m", "venv", folder],
        [uv, "pip", "install", "--python", folder, "isic-challenge-scoring"],
    ]
    environment = {
        **os.environ,
        "PYENV_VERSION": "3.13",
    }  # without it pyenv hides all Pythons but its own choice
    for command in commands:
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(
                f"isic-challenge-scoring cannot be had on Python 3.13: {str(getattr(error, 'stderr', error))[-300:]}"
            )
    return folder / "bin/python"


def scored(scorer: Path, predictions: pl.DataFrame, submitted: Path) -> dict:
    """What the challenges' scorer makes of a submission, given the labels as ground truth."""
    test = predictions.filter(pl.col("split") == "test")
    classes = [name.removeprefix("p:") for name in test.columns if name.startswith("p:")]
    names = pl.read_csv(submitted)["image"]
    truth = submitted.with_name("truth.csv")
    hot = {name: (test["label"] == name).cast(pl.Float64) for name in reversed(classes)}
    pl.DataFrame({"image": names, **hot}).reverse().write_csv(truth)
    command = [scorer, "-m", "isic_challenge_scoring", "-o", "json", "classification", truth, submitted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_challenges_scorer_takes_a_submission_and_finds_our_scores(
    study: Path, scorer: Path, tmp_path: Path
):
    artifact = study / "store" / key(study, "classify")
    export(study, key(study, "classify"), str(tmp_path / "isic"), "--to", "isic")
    predictions = pl.read_parquet(artifact / "predictions.parquet")
    ours = json.loads((artifact / "metrics.json").read_text())["test"]
    theirs = scored(scorer, predictions, tmp_path / "isic/submission.csv")
    assert theirs["overall"] == pytest.approx(ours["balanced_accuracy"], abs=1e-6)
    assert theirs["macro_average"]["auc"] == pytest.approx(ours["auroc"], abs=1e-6)


@pytest.mark.slow
def test_the_challenges_scorer_finds_no_tie_and_every_rank(scorer: Path, tmp_path: Path):
    """Chances that float32 rounds to each other or to nothing, as confident networks give them, and images that are undecided."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 40, (400, 5)).astype(np.float32)
    logits[::4] = np.round(logits[::4] / 60)
    chances = torch.from_numpy(logits).softmax(1).numpy()
    labels = (
        torch.from_numpy(chances).multinomial(1, generator=torch.Generator().manual_seed(0))[:, 0].numpy()
    )
    labels[::3] = rng.integers(0, 5, len(labels[::3]))
    assert (chances == chances.max(1, keepdims=True)).sum() > 420, "there are ties"
    classes = [f"c{number}" for number in range(5)]
    predictions = pl.DataFrame(
        {
            "image_id": [f"class/ISIC_{number:07d}.jpg" for number in range(400)],
            "split": ["test"] * 400,
            "label": [classes[c] for c in labels],
            "prediction": [classes[c] for c in chances.argmax(1)],
            **{f"p:{name}": chances[:, c] for c, name in enumerate(classes)},
        }
    )
    submission(predictions).write_csv(tmp_path / "submission.csv")
    theirs = scored(scorer, predictions, tmp_path / "submission.csv")
    ours = classification_metrics(chances, labels, classes)
    assert theirs["overall"] == pytest.approx(ours["balanced_accuracy"], abs=1e-6)
    assert theirs["macro_average"]["auc"] == pytest.approx(ours["auroc"], abs=2e-4), (
        "ties between images are broken too"
    )


def test_what_has_no_such_form_is_told(study: Path):
    for words, said in (
        ([key(study, "generate"), "x", "--to", "isic"], "cannot be exported as isic"),
        ([key(study, "classify"), "x", "--to", "imagefolder"], "cannot be exported as imagefolder"),
        ([key(study, "copies"), "x"], "other stages hold neither"),
        (["generate/0000000000000000", "x"], "There is no artifact"),
        ([key(study, "generate"), "store"], "is not empty"),
    ):
        done = export(study, *words)
        assert done.returncode == 2
        assert said in done.stderr
        assert not (study / "x").exists()
    assert json.loads((study / "store" / key(study, "mix") / "certificate.json").read_text())["holds"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def push(study: Path, hub: Hub, *words: str) -> subprocess.CompletedProcess[str]:
    """In a Python of its own: huggingface_hub reads the environment when it is imported."""
    changes = {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-m", "skinaug", "push", *words]
    return subprocess.run(
        command, cwd=study, env=os.environ | changes, capture_output=True, text=True, timeout=300
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["push", *words]) == 2
    return capsys.readouterr().err


def test_a_pool_arrives_as_it_was_prepared(study: Path, hub: Hub):
    done = push(study, hub, key(study, "curate"), "me/pool", "--prepare-only", "pool")
    assert done.returncode == 0, done.stderr
    assert "Nothing was sent" in done.stdout
    assert not hub.repositories
    done = push(study, hub, key(study, "curate"), "me/pool")
    assert done.returncode == 0, done.stderr
    (repository,) = hub.repositories.values()
    assert (repository.kind, repository.private) == ("dataset", True)
    assert repository.files == contents(study / "pool")
    assert f"{len(repository.files)} files" in done.stdout
    manifest = Manifest.read(study / "store" / key(study, "curate"))
    assert set(from_imagefolder(study / "pool").table["sha256"]) == set(manifest.table["sha256"])
    card = DatasetCard.load(study / "pool/README.md")
    assert card.data.tags == ["dermatology", "skinaug", "synthetic-data"]
    assert "leak certificate**: holds" in card.text
    again = push(study, hub, key(study, "curate"), "me/pool")
    assert again.returncode == 0, "a push that broke off is repeated by the same command"
    other = push(study, hub, key(study, "dataset"), "me/pool", "--with-photographs")
    assert other.returncode == 2
    assert "files that dataset" in other.stderr
    opened = push(study, hub, key(study, "curate"), "me/pool", "--public")
    assert opened.returncode == 2
    assert "is private already" in opened.stderr


def test_a_hub_that_refuses_is_told(study: Path, hub: Hub):
    hub.refuses = "/commit/"
    done = push(study, hub, key(study, "curate"), "me/pool")
    assert done.returncode == 2
    assert re.search(r"me/pool could not be filled: .*403.*The same command goes on", done.stderr)
    assert "Traceback" not in done.stderr
    hub.refuses, hub.repositories["me/pool"].private = "", False
    done = push(study, hub, key(study, "curate"), "me/pool")
    assert "is public already" in done.stderr
    assert not hub.repositories["me/pool"].files


def test_photographs_go_only_where_asked_for_and_with_their_licence(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make_manifest,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(study)
    for stage in ("dataset", "mix"):
        count = int((Manifest.read(study / "store" / key(study, stage)).table["source"] == "real").sum())
        said = refused(capsys, key(study, stage), "me/data", "--prepare-only", str(tmp_path / stage))
        assert f"holds {count} real photographs" in said
        assert not (tmp_path / stage).exists()
    words = [key(study, "mix"), "me/data", "--prepare-only", str(tmp_path / "mix"), "--with-photographs"]
    assert main(["push", *words]) == 0
    licence = Manifest.read(study / "store" / key(study, "mix")).licence
    assert f"licence of the photographs**: {licence}" in (tmp_path / "mix/README.md").read_text()
    nameless = make_manifest([{"label": "acne"}, {"label": "wart"}])
    folder = tmp_path / "store/dataset/0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "artifact.json").write_text(json.dumps({"stage": "dataset", "key": folder.name, "inputs": {}}))
    Manifest(nameless.table, nameless.root, nameless.classes).write(folder)
    x = ["--prepare-only", str(tmp_path / "x")]
    said = refused(capsys, str(folder), "me/data", "--with-photographs", *x)
    assert "whose licence is not told" in said
    drawn = Manifest.read(only(study, "curate"))
    parents = pl.Series([["i0"], *[[]] * (len(drawn) - 1)], dtype=pl.List(pl.String))
    drawn.with_table(drawn.table.with_columns(parents=parents)).write(folder)
    assert "holds 1 picture made from photographs" in refused(capsys, str(folder), "me/data", *x)


def test_a_classifier_is_timms_and_its_card_runs(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(study)
    artifact = only(study, "classify")
    assert (
        main(["push", f"classify/{artifact.name}", "me/classifier", "--prepare-only", str(tmp_path / "out")])
        == 0
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "config.json", "metrics.json", "model.safetensors")
    }, "predictions tell of patients"
    text = (tmp_path / "out/README.md").read_text()
    assert ModelCard(text).data.library_name == "timm"
    scores = json.loads((artifact / "metrics.json").read_text())["test"]
    assert f"| balanced\\_accuracy | {scores['balanced_accuracy']:.3f} |" in text
    stored = pl.read_parquet(artifact / "predictions.parquet").filter(pl.col("split") == "test")
    photographs = Manifest.read(only(study, "dataset"))
    monkeypatch.chdir(tmp_path / "out")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "hf-hub:me/classifier" in code
    for row in stored.head(3).iter_rows(named=True):
        (at,) = (photographs.table["image_id"] == row["image_id"]).arg_true()
        (tmp_path / "out/picture.png").write_bytes(photographs.paths()[at].read_bytes())
        names: dict = {}
        exec(code, names)
        told = dict(
            zip(names["network"].pretrained_cfg["label_names"], names["probabilities"].tolist(), strict=True)
        )
        assert told == pytest.approx({label: row[f"p:{label}"] for label in photographs.classes}, abs=2e-3)


def test_weights_go_without_what_tells_of_patients(study: Path, hub: Hub, tmp_path: Path):
    folder = tmp_path / "finetune/0123456789abcdef"
    (folder / "lora").mkdir(parents=True)
    files = {
        "README.md": "---\nlicense: mit\n---\nTaught on /home/ana/bases/ours.\n",
        "labels.json": "{}",
        "lora/x.safetensors": "weights",
        "seen.parquet": "ids",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "artifact.json").write_text(
        json.dumps(
            {"stage": "finetune", "key": folder.name, "config": {"base": {"path": "/home/ana/bases/ours"}}}
        )
    )
    done = push(study, hub, str(folder), "me/weights", "--public")
    assert done.returncode == 0, done.stderr
    (repository,) = hub.repositories.values()
    assert (repository.kind, repository.private) == ("model", False)
    files["README.md"] = "---\nlicense: mit\n---\nTaught on ours.\n"
    assert repository.files == {name: text.encode() for name, text in files.items() if name != "seen.parquet"}


def test_the_pages_commands(study: Path):
    page = (Path(__file__).parents[2] / "docs/how-to/push.md").read_text()
    commands = page[page.index("```sh\n") + 6 :].partition("```")[0].splitlines()
    for command in commands:
        words = [
            key(study, word.partition("/")[0]) if "<key>" in word else word for word in command.split()[1:]
        ]
        done = skinaug(*words, cwd=study)
        assert done.returncode == 0, done.stderr
        assert (study / words[-1] / "README.md").is_file()


def test_what_is_missing_is_told_and_nothing_is_left(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(study)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    pool = key(study, "curate")
    said = refused(capsys, pool, "me/pool")
    assert "HF_HUB_OFFLINE is set" in said
    assert "there is no token: run `hf auth login`" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for words, said in (
        ([pool, "pool"], "is no owner/name of a repository"),
        ([pool, "me/a b"], "is no owner/name of a repository"),
        ([pool, "me/pool", "--prepare-only", str(tmp_path / "full")], "is not empty"),
        ([key(study, "copies"), "me/pool"], "cannot be pushed"),
        (["curate/0000000000000000", "me/pool"], "There is no artifact"),
    ):
        assert said in refused(capsys, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
