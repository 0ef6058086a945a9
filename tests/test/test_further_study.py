"""Further test sets through the command line, as docs/how-to/test_sets.md tells: judged without training, reported, audited; and `predict`, as
predict.md does."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import skinaug
from hydra import compose, initialize_config_dir
from PIL import Image

from skinaug import pipeline
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.manifest import Manifest

PAGES = "".join(
    (Path(__file__).parents[2] / f"docs/how-to/{name}.md").read_text() for name in ("test_sets", "predict")
)
SIZES = [
    *(
        "scale.phantom_per_class=60",
        "scale.phantom_test_fraction=0.6",
        "scale.image_size=32",
        "scale.classifier_size=32",
        "scale.real_limit=12",
    ),
    *(
        "scale.classifier_steps=80",
        "scale.classifier_batch_size=24",
        "classify=probe",
        "trainer=cpu",
        "logger=none",
    ),
]
WIDE = {**os.environ, "COLUMNS": "200"}


def blocks(language: str) -> list[str]:
    """The pages' blocks about further test sets and predictions."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES, re.DOTALL)


def hospital(root: Path) -> Path:
    """Rendered photographs in a light four stops darker, under a folder a class: acne has another name, warts are foreign."""
    root.mkdir(parents=True)
    for label, path in (
        Phantom(20, 32, seed=5, workers=1, exposure=-4).load(root).select("label", "path").iter_rows()
    ):
        folder = root / ("pimples" if label == "acne" else label)
        folder.mkdir(exist_ok=True)
        (root / path).rename(folder / Path(path).name)
    (root / "images").rmdir()
    (root / "wart").mkdir()
    Image.new("RGB", (40, 40), "tan").save(root / "wart/1.png")
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished classifiers; then judged once more by the page's command."""
    folder = tmp_path_factory.mktemp("study")
    yaml, command = blocks("yaml")[0], shlex.split(blocks("sh")[0], comments=True)
    hospital(folder / "hospital_b")
    (folder / "conf/test").mkdir(parents=True)
    (folder / "conf/test/hospital_b.yaml").write_text(yaml.replace("/data/hospital_b", "hospital_b"))
    words = [word.replace("seed=0,1,2,3,4", "seed=0") for word in command[1:]]
    without = [word for word in words if not word.startswith(("test=", "name="))]
    skinaug(*without, *SIZES, cwd=folder, check=True)
    done = skinaug(*words, *SIZES, cwd=folder, check=True, env=WIDE)
    (folder / "printed").write_text(done.stdout)
    return folder


def data(study: Path) -> Manifest:
    return Manifest.read(study / "store" / key(study, "dataset"))


def table(study: Path) -> pl.DataFrame:
    (file,) = study.glob("outputs/*/*/report/further.csv")
    return pl.read_csv(file)


def test_a_finished_sweep_is_judged_without_training(study: Path):
    printed = (study / "printed").read_text()
    assert not re.search(r"^classify +\w+ +building", printed, re.MULTILINE)
    assert len(list(study.glob("store/classify/*/artifact.json"))) == 2
    assert len(list(study.glob("store/evaluate/*/predictions.parquet"))) == 4
    assert "Left out, of no class of the data: wart 1." in printed


def test_the_change_on_other_photographs_has_its_interval(study: Path):
    """Of light and of skin, against plain counting; `tests/report/test_further.py` draws a drop that is shown."""
    top1 = table(study).filter(pl.col("metric") == "top1")
    assert set(top1["test_set"]) == {"hospital_b", "phantom_dark"}
    assert set(top1["arm"]) == {"real_small", "real"}
    assert (top1["change_low"] < top1["change"]).all()
    assert (top1["change"] < top1["change_high"]).all()
    counted = [
        (rows["label"] == rows["prediction"]).mean()
        for rows in map(pl.read_parquet, study.glob("store/evaluate/*/predictions.parquet"))
    ]
    np.testing.assert_allclose(sorted(top1["score"]), sorted(counted))  # type: ignore[type-var]
    np.testing.assert_allclose(top1["change"], top1["score"] - top1["own"])


def test_the_certificate_covers_them(study: Path):
    done = skinaug(
        "audit", *(f"evaluate/{p.name}" for p in study.glob("store/evaluate/*")), cwd=study, env=WIDE
    )
    assert done.returncode == 0
    assert done.stdout.count("The certificate holds.") == 4
    assert re.search(rf"validation\s+│\s+{len(data(study).split('val'))}\b", done.stdout), (
        "validation photographs too chose the classifier"
    )


@pytest.fixture
def composed(study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(study)
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        yield


@pytest.mark.usefixtures("composed")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test=[folder]", "test.folder.root=nowhere"], "does not exist. Set test.folder.root=<folder>"),
        (["test=[folder]", "test.folder.root=conf"], "holds no images"),
        (["test=[folder]", "test.folder.root=hospital_b", "test.folder.labels={zits: acne}"], "maps zits"),
        (
            ["test=[folder]", "test.folder.root=warts"],
            "No image of the test set folder is of a class of the data",
        ),
        (["test=[csv]", "test.csv.root=table"], "lacks columns that source.columns maps"),
        (
            ["test=[folder]", "test.folder.root=learned"],
            "that classifiers learn\nfrom|that classifiers learn from",
        ),
        (["test=[phantom]", "test.phantom.on_shared=keep"], "choose fail or drop"),
    ],
)
def test_bad_sets_are_refused_and_nothing_is_built(study: Path, words: list[str], said: str):
    for name, picture in {
        "warts": study / "hospital_b/wart/1.png",
        "learned": data(study).split("train").paths()[0],
    }.items():
        label = "wart" if name == "warts" else data(study).split("train").table["label"][0]
        (study / name / label).mkdir(parents=True, exist_ok=True)
        Image.open(picture).save(study / name / label / "1.png")
    (study / "table").mkdir(exist_ok=True)
    (study / "table/metadata.csv").write_text("path,diagnosis\n1.png,acne\n")
    Image.new("RGB", (40, 40)).save(study / "table/1.png")
    before = sorted(study.glob("store/*/*"))
    cfg = compose("config", ["mix=real", "seed=7", *SIZES, *words])
    with pytest.raises(InputError, match=said):
        pipeline.run(cfg, "classify")
    assert sorted(study.glob("store/*/*")) == before


def test_one_name_for_two_sets_is_refused(study: Path):
    done = skinaug("classify", *SIZES, "mix=real", "test=[phantom,phantom]", cwd=study)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "names 2 options, which make 1 test sets: phantom" in done.stderr


def key(study: Path, stage: str = "classify") -> str:
    return f"{stage}/{min(file.parent.name for file in study.glob(f'store/{stage}/*/artifact.json'))}"


def test_predictions_of_a_folder(study: Path):
    """The page's command: the store's classifier says what it said, warns of what is no photograph, and names what it cannot read."""
    classifier = study / "store" / key(study)
    test = data(study).split("test").table.head(20)
    folder = study / "new"
    (folder / "deep").mkdir(parents=True)
    for image, path in test.select("image_id", "path").iter_rows():
        Image.open(data(study).root / path).save(folder / f"deep/{image}.png")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (50, 60, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"noise{number}.png")
    (folder / "broken.png").write_bytes((folder / "noise0.png").read_bytes()[:300])
    command = shlex.split(blocks("sh")[1], comments=True)[1:]
    words = [
        {"classify/<key>": key(study), "/path/to/photographs": "new"}.get(word, word) for word in command
    ]
    done = skinaug(*words, cwd=study, env=WIDE)
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(study / "predictions.csv")
    assert found.columns == [
        "image",
        "prediction",
        *(f"p:{c}" for c in data(study).classes),
        "unlike",
        "typicality_p",
        "problem",
    ]
    assert found.height == 24
    told = pl.read_parquet(classifier / "predictions.parquet").with_columns(
        image=pl.format("new/deep/{}.png", "image_id")
    )
    both = found.join(told, on="image")
    assert both.height == 20
    np.testing.assert_allclose(
        both.select(f"p:{c}" for c in data(study).classes),
        both.select(f"p:{c}_right" for c in data(study).classes),
        atol=1e-4,
    )
    noise = found.filter(pl.col("image").str.contains("noise"))
    assert noise["unlike"].sum() >= 2
    assert noise["typicality_p"].max() < both["typicality_p"].min()
    assert both["unlike"].sum() <= 6, "about one in twenty"
    broken = found.filter(pl.col("image") == "new/broken.png")
    assert broken["prediction"][0] is None
    assert "truncated" in broken["problem"][0]
    for words_ in (
        "1 of 24 images cannot be read:\n  new/broken.png: ",
        f"Warning: {found['unlike'].sum()} of 23 images are unlike",
        "Research use only",
    ):
        assert words_ in done.stdout
    again = skinaug(*words, cwd=study)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify/0123456789abcdef", "hospital_b"], "There is no artifact"),
        (["dataset", "hospital_b"], "is no classifier"),
        ([None, "nowhere"], "There is no nowhere"),
        ([None, "conf"], "holds no images"),
        ([None, "conf/test/hospital_b.yaml"], "None of 1 images can be read"),
        ([None, "hospital_b", "--rate", "2"], "give a share between 0 and 1"),
        ([None, "hospital_b", "--out", "nowhere/p.csv"], "is no folder that can be written"),
    ],
)
def test_what_cannot_be_predicted_is_told(
    study: Path, words: list[str | None], said: str, monkeypatch: pytest.MonkeyPatch
):
    from skinaug.cli.predict import main

    monkeypatch.chdir(study)
    named = {None: key(study), "dataset": key(study, "dataset")}
    given = [named.get(word, word) for word in words]
    with pytest.raises(InputError, match=re.escape(said)):
        main([*given, *([] if "--out" in given else ["--out", "other.csv"])])
    assert not (study / "other.csv").exists()
