"""Skin types on other scales than Fitzpatrick's, wherever they are read: counted apart, in their scale's order, under its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.audit.folders import compared, sentences
from skinaug.audit.obedience import Obedience
from skinaug.curate.filters.prompt_agreement import PromptAgreement
from skinaug.finetune.text import caption_rows
from skinaug.manifest import Manifest, read_once
from skinaug.prompts import PromptSet
from skinaug.report import artifacts, audits, collect, measure, subgroups, tables
from skinaug.report.folders import _compared
from skinaug.report.given import read_given
from skinaug.store.digest import sha256_file
from tests.report.conftest import write_mix


def images(types: list[str | None], folder: Path = Path("/nowhere"), **columns: list) -> Manifest:
    rows = {
        "image_id": [f"i{n}" for n in range(len(types))],
        "path": [f"{n}.png" for n in range(len(types))],
        "split": ["val" if n % 3 == 0 else "train" for n in range(len(types))],
        "skin_type": types,
    }
    table = pl.DataFrame({**rows, **columns}, schema_overrides={"skin_type": pl.String})
    same = {"label": "acne", "source": "real", "width": 48, "height": 48, "sha256": "0"}
    same = {name: value for name, value in same.items() if name not in columns}
    return Manifest(
        table.with_columns(pl.lit(value).alias(name) for name, value in same.items()).with_columns(
            group_id="image_id"
        ),
        folder,
        ("acne",),
    )


@pytest.fixture
def told_by_both(make_sweep: Callable[..., Path]) -> collect.Study:
    """A sweep whose patients have Monk tones of dermatologists and Fitzpatrick types of their own."""
    study = collect.make_study(collect.read_runs(make_sweep()))
    folder = study.runs[0].artifacts["dataset"]
    data = Manifest.read(folder)
    ours = dict(zip(("I", "II", "III", "IV", "V"), ("Monk 10", "Monk 2", "Monk 9", "II", "I"), strict=True))
    word = pl.col("skin_type").replace(ours)
    monk = word.str.starts_with("Monk")
    table = data.table.with_columns(
        skin_type=word,
        skin_type_told_by=pl.when(monk).then(pl.lit("dermatologist")).otherwise(pl.lit("self")),
    )
    data.with_table(table).write(folder)
    read_once.cache_clear()
    return study


def test_subgroups_name_the_scale_and_who_told_it(told_by_both: collect.Study):
    names, inside = subgroups.members(told_by_both)
    shown = ["I, self-told", "II, self-told", "VI, self-told"]
    shown += [f"Monk {n}, by a dermatologist" for n in (2, 9, 10)]
    assert [value for name, value in names if name == "skin_type"] == shown
    test = Manifest.read(told_by_both.runs[0].artifacts["dataset"]).split("test").table
    place = names.index(("skin_type", "Monk 9, by a dermatologist"))
    assert inside[0][:, place].sum() == (test["skin_type"] == "Monk 9").sum() > 0
    frame = subgroups.subgroups_frame(told_by_both, measure.draw(told_by_both.predictions, 20, 0))
    words = [row[0].text for row in subgroups.subgroups_table(frame, told_by_both.arms).rows]
    assert words[:1] == ["Skin type (Fitzpatrick): I, self-told"]
    assert words[5] == "Skin type (Monk): Monk 10, by a dermatologist"


def test_tables_of_audits_and_filters_are_in_the_order_of_the_scale(tmp_path: Path):
    schema = ["label", "body_site", "skin_type", "tone", "size", "images", "kept"]
    rows = [("0", "arm", tone, 3, "small", 2, 1) for tone in ("Monk 10", "Monk 2", "Monk 1")]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(tmp_path / "attributes.csv")
    tones, coverage = audits.tones_table(tmp_path), audits.coverage_table(tmp_path)
    assert tones.header[0] == "Asked (Monk)"
    assert [row[0].text for row in tones.rows] == ["Monk 1", "Monk 2", "Monk 10"]
    assert coverage.header == [
        "Asked body site, skin type (Monk)",
        "Monk 1",
        "Monk 2",
        "Monk 10",
    ]
    funnel = [("0", "plain", word, "generated", True, "", 4) for word in ("V-VI", "Monk 2", "I-II", "")]
    names = ["label", "prompt_set", "subgroup", "step", "kept", "reason", "images"]
    pl.DataFrame(funnel, schema=names, orient="row").write_csv(tmp_path / "funnel.csv")
    table = tables.subgroups_table(tmp_path)
    assert table.header[1] == "Asked skin type (Fitzpatrick, pairs of types; Monk)"
    assert [row[1].text for row in table.rows] == ["I-II", "V-VI", "Monk 2", "unsaid"]


def test_classes_of_digits_are_counted_in_a_mix(tmp_path: Path):
    write_mix(tmp_path, ("0", "1"), real=3, synthetic=2)
    assert artifacts._mix_table(tmp_path).rows() == [("0", 3, 0, 2), ("1", 3, 0, 2)]


def test_two_folders_on_two_scales_are_counted_apart(tmp_path: Path):
    real, made = images(["Monk 10", "Monk 2", None]), images(["IV", "II", "II"])
    measured = pl.DataFrame({"tone": [1], "size": ["small"], "images": [3]})
    found = compared(real, made, measured, measured)
    rows = found.filter(attribute="skin_type").select("value", "real", "synthetic").rows()
    assert rows == [("II", 0, 2), ("IV", 0, 1), ("Monk 2", 1, 0), ("Monk 10", 1, 0), ("not stated", 1, 0)]
    found.write_csv(tmp_path / "compared.csv")
    assert [row[0].text for row in _compared(tmp_path).rows[:3]] == [
        "skin_type (Fitzpatrick)",
        "skin_type (Fitzpatrick)",
        "skin_type (Monk)",
    ]
    counts = dict.fromkeys(
        ("reference_images", "held_out_images", "patients_known", "test_images_left_out", "dropped", "copies_of_real",
         "identical_to_real", "repeated_in_synthetic", "identical_in_synthetic"), 1,
    )  # fmt: skip
    sides = {"real": "Monk", "synthetic": "Fitzpatrick"}
    about = {"synthetic": {"images": 3}, "classes": {kind: ["acne"] for kind in sides}, "scales": sides}
    assert any(
        "stand on the scale Monk, those of the synthetic ones on Fitzpatrick" in line
        for line in sentences(counts | about)
    )
    same = about | {"scales": dict.fromkeys(sides, "Monk")}
    assert not any("stand on the scale" in line for line in sentences(counts | same))


def test_obedience_says_that_scales_differ(capsys: pytest.CaptureFixture[str]):
    data, pool = images(["Monk 1", "Monk 2"] * 30), images(["I", "II"] * 30)

    def fit(**_):
        raise AssertionError("nothing can be learned")

    found = Obedience(fit, attributes=["skin_type"])(data, pool, None, None)  # type: ignore[arg-type]
    assert found.is_empty()
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "obedience of skin_type is not measured: prompts ask on the scale Fitzpatrick, and the photographs' is Monk"
        in said
    )


def test_the_tone_filter_judges_no_other_scale_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pixels = np.full((48, 48, 3), (90, 60, 50), np.uint8)
    for n in range(4):
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    sha256 = [sha256_file(tmp_path / f"{n}.png") for n in range(4)]
    pool = images(["VI", "I", "Monk 1", None], tmp_path, sha256=sha256)
    tone = PromptAgreement(48)
    scores = tone.score(pool, pool, trainer=None, cache=None)  # type: ignore[arg-type]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "1 of 4 pictures ask for a skin type on another scale than Fitzpatrick's (Monk): their tone is not judged"
        in said
    )
    assert tone.keep(scores)["keep"].to_list() == [True, False, True, True]


def test_captions_call_no_other_scale_fitzpatricks(capsys: pytest.CaptureFixture[str]):
    data = images(["Monk 2", "I-II", "VI", "MILK10k 0"])
    template = "acne[, Fitzpatrick skin type {skin_type}]"
    caption = caption_rows(data, PromptSet("c", [template], {"skin_type": {"I": 1}}), {})
    rng = np.random.default_rng(0)
    told = [caption(row, rng) for row in range(4)]
    assert told == ["acne", "acne, Fitzpatrick skin type I-II", "acne, Fitzpatrick skin type VI", "acne"]
    said = " ".join(capsys.readouterr().out.split())
    assert "captions leave out 2 skin types on the scale Monk; MILK10k, 0 very dark to 5 very light" in said
    words = {"Monk 2": ["light skin"], "MILK10k 0": ["very dark skin"]}
    caption = caption_rows(
        data, PromptSet("c", ["acne[ on {skin_type}]"], {"skin_type": {"I": 1}}, words), {}
    )
    assert [caption(row, rng) for row in (0, 3)] == ["acne on light skin", "acne on very dark skin"]
    assert not capsys.readouterr().out


def test_predictions_of_others_keep_scale_and_teller(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {"image_id": str(n), "label": "0", "0": 0.6, "1": 0.4, "skin_type": word, "skin_type_told_by": "self"}
        for n, word in enumerate(["Monk 7", "V-VI", "12", "12"])
    ]
    for seed in (0, 1):
        pl.DataFrame(rows).write_csv(tmp_path / f"a_seed{seed}.csv")
    table = read_given(tmp_path).table
    assert table["skin_type"].to_list() == ["Monk 7", "V-VI", None, None] * 2
    assert set(table["skin_type_told_by"]) == {"self"}
    assert {"p:0", "p:1"} <= set(table.columns)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("skin_type: 2 of 4 values are not understood") == 1
    assert table["label"].to_list() == ["0"] * 8
