"""Reports on drawn sweeps: what stands in the files, what is refused, and that the page needs nothing from outside."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import yaml
from sklearn import metrics

from skinaug.errors import InputError
from skinaug.report import audits, collect, samples, text
from skinaug.report.report import report
from skinaug.report.terminal import print_report
from tests.report.conftest import CLASSES, write_mix

CONF = Path(__file__).parents[2] / "conf" / "report"


def published() -> dict:
    return yaml.safe_load((CONF / "akrout2023.yaml").read_text())["published"]


@pytest.fixture
def write_report(make_sweep: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Draws a sweep, reports on it and returns the report's folder."""

    def write(options: dict | None = None, **settings) -> Path:
        (tmp_path / "out").mkdir()
        runs = collect.read_runs(make_sweep(**(options or {})))
        report(runs, num_resamples=200, out=tmp_path / "out", **settings)
        return tmp_path / "out"

    return write


class Page(HTMLParser):
    """Tags, their links and the text of a page."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u200b", "").split())


def test_page_is_whole_and_needs_nothing_from_outside(write_report: Callable[..., Path]):
    out = write_report(published=published())
    page = Page((out / "report.html").read_text())
    assert page.open == []
    assert not {"link", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert page.links
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    for arm in ("real_small", "real", "hybrid", "synthetic"):
        assert arm in page.text
    for words in (
        "3,582",
        "± 1.63",
        "research use only",
        "CC0-1.0",
        "Nobody, A. (2026)",
        "textual inversion",
        "0123456789abcdef",
    ):
        assert words in page.text
    pictures = 6 * 2 * 6  # six classes, real and synthetic, six pictures
    assert page.tags.count("img") == pictures + 2 * 12  # and the nearest pairs


def test_scores_equal_scikit_learn_on_the_predictions(write_report: Callable[..., Path], tmp_path: Path):
    out = write_report()
    table = {row["arm"]: row for row in pl.read_csv(out / "arms.csv").iter_rows(named=True)}
    runs = collect.read_runs(tmp_path / "sweep")
    for arm in table:
        scores = [sklearn_scores(run) for run in runs if run.arm == arm]
        for name in scores[0]:
            assert table[arm][name] == pytest.approx(sum(score[name] for score in scores) / 3)
            assert table[arm][f"{name}_low"] < table[arm][name] < table[arm][f"{name}_high"]
    differences = pl.read_csv(out / "differences.csv")
    row = differences.row(by_predicate=(pl.col("arm") == "hybrid") & (pl.col("metric") == "top1"), named=True)
    assert row["baseline"] == "real_small"
    assert row["difference"] == pytest.approx(table["hybrid"]["top1"] - table["real_small"]["top1"])


def sklearn_scores(run: collect.Run) -> dict[str, float]:
    table = pl.read_parquet(run.artifacts["classify"] / "predictions.parquet").filter(
        pl.col("split") == "test"
    )
    truth, guess = table["label"].to_list(), table["prediction"].to_list()
    probabilities = table.select(pl.col("^p:.*$")).to_numpy()
    return {
        "top1": float(metrics.accuracy_score(truth, guess)),
        "top2": float(metrics.top_k_accuracy_score(truth, probabilities, k=2)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(truth, guess)),
        "macro_f1": float(metrics.f1_score(truth, guess, average="macro")),
        "auroc": float(metrics.roc_auc_score(truth, probabilities, multi_class="ovr")),
    }


def test_words_follow_the_intervals(write_report: Callable[..., Path]):
    arms = {"real_small": (10, 0, 0.0), "better": (20, 0, 1.5), "same": (10, 0, 0.0), "worse": (0, 20, -1.0)}
    out = write_report({"arms": arms})
    verdicts = pl.read_csv(out / "differences.csv").filter(pl.col("metric") == "top1")
    assert dict(verdicts.select("arm", "verdict").iter_rows()) == {
        "better": "improves",
        "same": "no difference shown",
        "worse": "harms",
    }
    for row in verdicts.iter_rows(named=True):
        signs = (row["low_adjusted"] > 0, row["high_adjusted"] < 0)
        assert signs == (row["verdict"] == "improves", row["verdict"] == "harms")
        assert (row["p_holm"] < 0.05) == any(signs)
    markdown = (out / "report.md").read_text()
    assert "**better** improves top-1" in markdown
    assert "**same**: no difference shown in top-1" in markdown
    assert "could have seen ±" in markdown


def test_an_arm_that_owes_its_images_to_more_real_ones_says_so(write_report: Callable[..., Path]):
    markdown = (write_report() / "report.md").read_text()
    assert "synthetic trains on no real image, but generator and filters have seen 120" in markdown
    assert "hybrid trains on 60 real images, but generator and filters have seen 120" in markdown
    assert "real trains on" not in markdown.replace("no real trains", "")


def test_audits_are_told(write_report: Callable[..., Path]):
    out = write_report()
    page, text = Page((out / "report.html").read_text()).text, (out / "report.md").read_text()
    for words in (
        "filtered with models trained on the real data",
        "3 filled up",
        "fills its class up",
        "FID of 30 images is biased.",
        "real, held out",
        "copies among them",
        "holds (3 of 3 runs)",
        "finetune 60, training 60",
        "what the base model was trained on before it came here",
    ):
        assert words in page, words
        assert words in text, words
    assert "Does fidelity rank" not in page, "one pool cannot be ranked"


@pytest.mark.parametrize("holds", [False, None])
def test_a_run_without_a_holding_certificate_is_told(make_sweep, tmp_path: Path, holds: bool | None):
    runs = collect.read_runs(make_sweep())
    file = runs[0].artifacts["classify"] / "certificate.json"
    file.unlink() if holds is None else file.write_text(
        file.read_text().replace('"holds": true', '"holds": false')
    )
    report(runs, num_resamples=50, out=tmp_path)
    assert "not shown (2 of 3 runs)" in (tmp_path / "report.md").read_text()


def pools_of_worth(make_sweep, tmp_path: Path, fidelity: list[float], strengths: list[float]) -> pl.DataFrame:
    """The validity of a sweep over four pools with these fidelities and classifiers of these strengths."""
    arms = {f"p{i}": (10, 10, strength) for i, strength in enumerate(strengths)}
    runs = collect.read_runs(make_sweep(arms=arms, overrides=lambda arm: {"prompts": arm}, tests=120))
    base = runs[0].artifacts["audit"]
    audits_of = {}
    for arm, value in zip(arms, fidelity, strict=True):
        folder = tmp_path / f"audit-{arm}"
        shutil.copytree(base, folder)
        frame = pl.read_csv(folder / "fidelity.csv")
        turn = pl.when(pl.col("metric").is_in(["fid", "kid", "cmmd"])).then(-value).otherwise(value)
        moved = [(pl.col(name) + turn).alias(name) for name in ("value", "low", "high")]
        frame.with_columns(moved).write_csv(folder / "fidelity.csv")
        audits_of[arm] = folder
    runs = [replace(run, artifacts={**run.artifacts, "audit": audits_of[run.arm]}) for run in runs]
    out = tmp_path / "out"
    out.mkdir()
    report(runs, num_resamples=200, out=out)
    assert "Does fidelity rank" in (out / "report.html").read_text()
    return pl.read_csv(out / "validity.csv")


def test_fidelity_that_ranks_as_the_classifiers_do_is_found(make_sweep, tmp_path: Path):
    validity = pools_of_worth(make_sweep, tmp_path, [0.0, 1.0, 2.0, 3.0], [-2.0, -0.7, 0.6, 2.0])
    assert validity["metric"].to_list() == list(audits.METRICS)
    assert validity["correlation"].to_list() == pytest.approx([1.0] * 8)
    assert (validity["low"] > 0).all()


def test_fidelity_that_ranks_the_other_way_is_found(make_sweep, tmp_path: Path):
    validity = pools_of_worth(make_sweep, tmp_path, [3.0, 2.0, 1.0, 0.0], [-2.0, -0.7, 0.6, 2.0])
    assert validity["correlation"].to_list() == pytest.approx([-1.0] * 8)
    assert (validity["high"] < 0).all()


def test_arms_are_compared_pair_by_pair(make_sweep, tmp_path: Path, capsys):
    arms = {
        "hybrid [raw]": (10, 10, 0.0),
        "alone [raw]": (0, 20, -0.5),
        "hybrid kept": (10, 10, 3.0),
        "alone kept": (0, 20, -0.5),
    }

    def overrides(arm: str) -> dict[str, str]:
        return {"mix": arm.split()[0], "filter": {"[raw]": "[]", "kept": "[ensemble]"}[arm.split()[1]]}

    runs = collect.read_runs(make_sweep(arms=arms, overrides=overrides, tests=60))
    report(runs, compare="filter", num_resamples=200, out=tmp_path)
    paired = pl.read_csv(tmp_path / "paired.csv").filter(pl.col("metric") == "top1")
    pairs = paired.select("arm", "baseline", "verdict").rows()
    assert pairs[0] == ("hybrid kept", "hybrid [raw]", "improves")
    assert [pair[:2] for pair in pairs] == [("hybrid kept", "hybrid [raw]"), ("alone kept", "alone [raw]")]
    top1 = pl.read_csv(tmp_path / "arms.csv").select("arm", "top1")
    scores = dict(top1.iter_rows())
    assert paired["difference"].to_list() == pytest.approx(
        [scores[arm] - scores[against] for arm, against, _ in pairs]
    )
    page = (tmp_path / "report.html").read_text()
    assert "What filter changes" in page
    verdict = page[page.index("Pair by pair, where filter alone differs:") :].partition("</p>")[0]
    assert re.search(r"hybrid kept</strong> improves top-1 against hybrid \[raw\] \(\+", verdict)
    assert re.search(r"alone kept</strong> against alone \[raw\]: no difference shown", verdict)
    print_report(tmp_path)
    assert "[raw]" in capsys.readouterr().out, "brackets in a name are no markup"
    with pytest.raises(InputError, match=r"report\.compare=prompts is not swept here: swept are filter, mix"):
        report(runs, compare="prompts", out=tmp_path)


def test_pools_are_named_by_what_tells_them_apart(make_sweep):
    runs = collect.read_runs(make_sweep(arms={"a": (10, 10, 0.0), "b": (0, 20, 0.0)}))
    one, other = (
        [replace(run, overrides={**run.overrides, "filter": name}) for run in runs] for name in ("[]", "[x]")
    )
    assert samples._pool_names([one, other]) == ["synthetic, filter=[]", "synthetic, filter=[x]"]
    assert samples._pool_names([runs[:1], runs[1:2]]) == ["synthetic, mix=a", "synthetic, mix=b"]
    assert samples._pool_names([runs, runs]) == ["synthetic, of a, b (1)", "synthetic, of a, b (2)"]


def test_what_a_synthetic_image_is_worth_is_told_or_why_not(make_sweep, tmp_path: Path):
    arms = {"few": (5, 0, -1.2), "real": (10, 0, 0.0), "many": (20, 0, 1.2), "hybrid": (10, 10, 1.2)}
    runs = collect.read_runs(make_sweep(arms=arms, tests=60))
    for folder, chosen in (("all", runs), ("two", [run for run in runs if run.arm != "few"])):
        (tmp_path / folder).mkdir()
        report(chosen, baseline="real", num_resamples=200, out=tmp_path / folder)
    row = pl.read_csv(tmp_path / "all" / "exchange.csv").row(0, named=True)
    assert (row["arm"], row["ratio"], row["least"], row["most"]) == ("hybrid", 1, -0.5, 1)
    assert row["low"] <= 1
    for file in ("report.html", "report.md"):
        measured, unknown = ((tmp_path / folder / file).read_text() for folder in ("all", "two"))
        assert "What one synthetic image is worth" in measured
        assert "One is worth" in measured
        assert "Not measurable" not in measured
        assert "One is worth" not in unknown
        assert "Not measurable for hybrid: it takes arms of real images only at 3 counts" in unknown


def test_jobs_that_share_a_classifier_are_one_run(make_sweep):
    runs = collect.read_runs(make_sweep(arms={"real": (10, 0, 0.0), "hybrid": (10, 10, 0.0)}, seeds=2))
    again = [replace(run, overrides={**run.overrides, "base.gap": "1"}) for run in runs if run.arm == "real"]
    unfinished = replace(runs[0], artifacts={"dataset": runs[0].artifacts["dataset"]}, seed=7)
    assert collect.distinct([*runs, *again, unfinished, unfinished]) == [*runs, unfinished, unfinished]


def test_published_half_widths_are_computed(write_report: Callable[..., Path]):
    smaller = {**published(), "test_images": 100}
    markdown = (write_report(published=smaller) / "report.md").read_text()
    assert "53.41 (± 9.78)" in markdown  # 1.96 sqrt(0.5341 x 0.4659 / 100)
    assert "sets no arm apart from real\\_small; it does not set apart real, hybrid, synthetic." in markdown


def test_published_difference_beyond_chance_is_named(write_report: Callable[..., Path]):
    markdown = (write_report(published=published()) / "report.md").read_text()
    assert "sets synthetic apart from real\\_small; it does not set apart real, hybrid." in markdown


def test_data_cannot_write_markup(write_report: Callable[..., Path]):
    bad = '<img src="http://example.org/x.png" onerror="alert(1)">'
    arms = {bad: (10, 10, 0.0), "$a_1$ & <b>|*": (10, 0, 0.2)}
    out = write_report({"arms": arms, "classes": ("<script>alert(1)</script>", "b&b", "c"), "licence": bad})
    page = Page((out / "report.html").read_text())
    assert page.tags.count("script") == 1, "the page's own"
    assert "b" not in page.tags
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert bad in page.text
    assert "$a_1$ & <b>|*" in page.text
    rows = (out / "report.md").read_text().split("## Arms")[1].split("##")[0].split("\n")
    assert {row.count("|") - row.count("\\|") for row in rows if row.startswith("|")} == {10}  # nine columns


def test_repeated_photographs_are_no_further_real_images(make_sweep, tmp_path: Path):
    runs = collect.read_runs(
        make_sweep(arms={"few": (10, 0, 0.0), "twice": (20, 0, 0.1), "many": (20, 0, 0.2)})
    )
    for run in runs:
        if run.arm == "twice":
            write_mix(run.artifacts["mix"], CLASSES, 20, 0, repeated=10)
    report(runs, num_resamples=50, out=tmp_path)
    counted = pl.read_csv(tmp_path / "arms.csv").select("arm", "real_max", "repeated_max").rows()
    assert counted == [("few", 10, 0), ("twice", 10, 10), ("many", 20, 0)]
    markdown = (tmp_path / "report.md").read_text()
    assert "| twice | 3 | 10 (+ 10 repeated) | 0 |" in markdown
    assert "| twice | none | none | none | 60 | 0 |" in markdown
    assert "| many | none | none | none | 120 | 0 |" in markdown


def test_hundreds_of_arms_stay_readable(write_report: Callable[..., Path]):
    arms = {f"arm {i}": (10, 0, (i - 20) / 6) for i in range(40)}
    arms["arm 20"] = (10, 0, 0.0)
    out = write_report({"arms": arms, "tests": 40, "classes": ("a", "b", "c"), "seeds": 1}, baseline="arm 20")
    markdown = (out / "report.md").read_text()
    verdict = markdown.split("\n\n")[1]
    assert len(verdict.split()) < 120
    verdicts = pl.read_csv(out / "differences.csv").filter(pl.col("metric") == "top1")
    for word, said in {"improves": "improve", "harms": "harm"}.items():
        part = verdicts.filter(pl.col("verdict") == word)
        best = part.sort("difference", descending=word == "improves")["arm"][0]
        assert part.height > 3
        assert f"**{part.height} arms** {said} top-1" in verdict
        assert f"most of all {best}," in verdict
    page = (out / "report.html").read_text()
    assert "Of 40 arms, figures show arm 20 and the 11 with the highest and the lowest top-1 each" in page
    assert page.count("<caption") == 23
    assert pl.read_csv(out / "arms.csv").height == 40


def test_marks_say_what_they_are(write_report: Callable[..., Path]):
    out = write_report()
    titles = re.findall(r"<title>(.*?)</title>", (out / "report.html").read_text())
    row = pl.read_csv(out / "arms.csv").row(by_predicate=pl.col("arm") == "hybrid", named=True)
    score, low, high = (100 * row[name] for name in ("top1", "top1_low", "top1_high"))
    assert f"hybrid: {score:.1f} ({low:.1f} to {high:.1f})" in titles
    runs = pl.read_csv(out / "runs.csv").filter(pl.col("arm") == "hybrid")
    for seed, top1 in runs.select("seed", "top1").iter_rows():
        assert f"hybrid, seed {seed}: {100 * top1:.1f}" in titles
    assert "hybrid, mean of 3 seeds" in titles


def test_missing_jobs_are_named(make_sweep: Callable[..., Path], tmp_path: Path):
    sweep = make_sweep()
    (sweep / "1" / "run.json").unlink()  # never finished
    unfinished = json.loads((sweep / "6" / "run.json").read_text())
    del unfinished["artifacts"]["classify"]
    (sweep / "6" / "run.json").write_text(json.dumps(unfinished))
    report(collect.read_runs(sweep), num_resamples=50, out=tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    assert (
        "2 jobs failed or did not finish, and no figure here counts them: hybrid (seed 1), real (seed 0)."
        in markdown
    )
    runs = pl.read_csv(tmp_path / "runs.csv")
    assert runs.filter(pl.col("status") == "missing").select("arm", "seed").rows() == [
        ("hybrid", 1),
        ("real", 0),
    ]
    seeds = dict(pl.read_csv(tmp_path / "arms.csv").select("arm", "seeds").iter_rows())
    assert seeds == {"real_small": 3, "real": 2, "hybrid": 2, "synthetic": 3}
    differences = pl.read_csv(tmp_path / "differences.csv").filter(pl.col("metric") == "top1")
    assert dict(differences.select("arm", "seeds").iter_rows()) == {"real": 2, "hybrid": 2, "synthetic": 3}


def test_one_seed_and_two_classes(write_report: Callable[..., Path]):
    out = write_report({"seeds": 1, "classes": ("benign", "malignant")})
    arms = pl.read_csv(out / "arms.csv")
    assert "top2" not in arms.columns
    assert (
        "covers the choice of test images and not the chance of training" in (out / "report.md").read_text()
    )


def test_a_single_arm_has_no_differences(
    write_report: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    out = write_report({"arms": {"adhoc": (10, 10, 0.0)}, "seeds": 1})
    assert pl.read_csv(out / "differences.csv").height == 0
    print_report(out)
    assert "adhoc" in capsys.readouterr().out


def test_a_sweep_over_a_number_is_drawn_against_it(
    write_report: Callable[..., Path], make_sweep: Callable[..., Path]
):
    arms = {f"synthetic_ratio={ratio}": (10, 10 * ratio, 0.1 * ratio) for ratio in (0, 1, 2)}
    out = write_report({"arms": arms, "overrides": lambda arm: {"mix.synthetic_ratio": arm.split("=")[1]}})
    assert "Synthetic images to a real one" in Page((out / "report.html").read_text()).text
    differences = pl.read_csv(out / "differences.csv")
    assert differences["baseline"].unique().to_list() == ["synthetic_ratio=0"]


def test_terminal_tables_fit_80_columns(
    write_report: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    arms = {
        "real_small": (10, 0, 0.0),
        "real": (20, 0, 0.5),
        "hybrid": (10, 10, 0.25),
        "synthetic": (0, 20, -1.5),
    }
    out = write_report({"arms": arms})
    print_report(out)
    printed = capsys.readouterr().out
    assert "harms" in printed
    assert str(out / "report.html") in printed.replace("\n", "")
    assert "…" not in printed


def test_reports_are_reproducible(write_report: Callable[..., Path], tmp_path: Path):
    first = write_report()
    (tmp_path / "again").mkdir()
    report(collect.read_runs(tmp_path / "sweep"), num_resamples=200, out=tmp_path / "again")
    files = [file.relative_to(first) for file in first.rglob("*") if file.is_file()]
    assert Path("tex/arms.tex") in files
    for file in files:
        assert (first / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_repeated_runs_are_refused(make_sweep: Callable[..., Path], tmp_path: Path):
    runs = collect.read_runs(make_sweep(seeds=1))
    with pytest.raises(InputError, match="same arm and seed") as error:
        report([*runs, runs[0], runs[2]], out=tmp_path)
    assert str(error.value).count("hybrid, seed 0") == 2
    assert not (tmp_path / "report.html").exists()


def test_bad_input_is_named(make_sweep: Callable[..., Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"No run\.json below"):
        collect.read_runs(tmp_path)
    sweep = make_sweep(seeds=1)
    runs = collect.read_runs(sweep)
    with pytest.raises(InputError, match="baseline 'reel' is not among the finished arms real_small, real"):
        report(runs, baseline="reel", out=tmp_path)
    with pytest.raises(InputError, match="None of the 1 runs has finished"):
        report([collect.Run("study", "arm", 0)], out=tmp_path)
    with pytest.raises(InputError, match=r"no 'test_images'; row .* has no 'top1'"):
        report(
            runs, published={"citation": "", "rows": [{"arm": "a", "real": 1, "synthetic": 1}]}, out=tmp_path
        )
    (sweep / "0" / "run.json").write_text("{}")
    (sweep / "1" / "run.json").write_text("half a fi")
    with pytest.raises(InputError, match="2 files cannot be read as runs"):
        collect.read_runs(sweep)


def test_runs_of_other_classes_are_refused(make_sweep: Callable[..., Path], tmp_path: Path):
    runs = collect.read_runs(make_sweep(seeds=1))
    file = runs[1].artifacts["classify"] / "predictions.parquet"
    pl.read_parquet(file).rename({"p:acne": "p:measles"}).write_parquet(file)
    with pytest.raises(InputError, match="real, seed 0: measles, eczema"):
        report(runs, out=tmp_path)


def test_jobs_are_read_in_their_order(make_sweep: Callable[..., Path]):
    runs = collect.read_runs(make_sweep())
    assert [run.folder.name for run in runs if run.folder] == [str(job) for job in range(12)]


def test_one_id_for_two_images_does_not_pair_them(make_sweep: Callable[..., Path]):
    runs = collect.read_runs(make_sweep(seeds=1))
    file = runs[1].artifacts["classify"] / "predictions.parquet"
    table = pl.read_parquet(file)
    table.with_columns(label=table["label"].reverse()).write_parquet(file)
    assert all("/" in image for run in collect.make_study(runs).predictions for image in run.images)


@pytest.mark.parametrize(("seeds", "arms", "warned"), [(2, 3, True), (2, 1, False), (3, 3, False)])
def test_two_seeds_promise_nothing_of_many_arms(seeds: int, arms: int, warned: bool):
    names = [f"arm {i}" for i in range(arms)]
    study: Any = SimpleNamespace(runs=(), unit="seed")
    of_arms = pl.DataFrame({"seeds": [seeds] * (arms + 1)})
    told = text._intervals(study, of_arms, pl.DataFrame({"arm": names}))
    assert any("does not hold what it promises" in note for note in told) == warned
