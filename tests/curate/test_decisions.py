"""Reviewers' files: written whole, read with every fault named; how far reviewers agree."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from skinaug.curate import decisions
from skinaug.curate.decisions import agreement, forget, read_decisions, read_own, record
from skinaug.errors import InputError

SHA = "0" * 64
HEADER = "image_id,sha256,decision,decided\n"
TIME = "2026-01-02T03:04:05.000006+00:00"


def decided(folder: Path, reviewer: str) -> list[tuple[str, str]]:
    return read_own(folder, reviewer).select("image_id", "decision").rows()


def judge(folder: Path, **words: str) -> None:
    """Each reviewer's words about the pictures a, b, c ...: k keep, r reject, - nothing."""
    for reviewer, letters in words.items():
        for image_id, letter in zip("abcdefgh", letters, strict=False):
            if letter != "-":
                record(folder, reviewer, image_id, SHA, {"k": "keep", "r": "reject"}[letter])


def test_a_later_decision_replaces_the_earlier_and_can_be_taken_back(tmp_path: Path):
    judge(tmp_path / "reviews", ana="kkr")
    record(tmp_path / "reviews", "ana", "a", SHA, "reject")
    assert decided(tmp_path / "reviews", "ana") == [("b", "keep"), ("c", "reject"), ("a", "reject")]
    forget(tmp_path / "reviews", "ana", "c", SHA)
    forget(tmp_path / "reviews", "ana", "never judged", SHA)
    assert decided(tmp_path / "reviews", "ana") == [("b", "keep"), ("a", "reject")]
    assert os.listdir(tmp_path / "reviews") == ["ana.csv"]


def test_another_file_under_an_old_id_is_another_picture(tmp_path: Path):
    record(tmp_path, "ana", "a", SHA, "keep")
    record(tmp_path, "ana", "a", "1" * 64, "reject")
    assert decided(tmp_path, "ana") == [("a", "keep"), ("a", "reject")]


def test_a_write_that_fails_leaves_the_decisions_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    judge(tmp_path, ana="kr")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(decisions.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        record(tmp_path, "ana", "c", SHA, "keep")
    assert decided(tmp_path, "ana") == [("a", "keep"), ("b", "reject")]
    assert read_decisions(tmp_path).height == 2, "what was left half-written is no reviewer's file"


def test_all_reviewers_are_read(tmp_path: Path):
    judge(tmp_path, ana="kk", bo="r")
    table = read_decisions(tmp_path)
    assert table.columns == ["image_id", "sha256", "reviewer", "decision", "decided"]
    assert table.drop("sha256", "decided").rows() == [
        ("a", "ana", "keep"), ("b", "ana", "keep"), ("a", "bo", "reject"),
    ]  # fmt: skip
    assert read_decisions(tmp_path / "nowhere").is_empty()
    assert read_decisions(tmp_path / "nowhere").columns == table.columns


def test_every_bad_row_of_every_file_is_named(tmp_path: Path):
    rows = [f"a,{SHA},keep,{TIME}", f"b,{SHA},kep,{TIME}", f"c,{SHA},,{TIME}", f"a,{SHA},reject,{TIME}"]
    (tmp_path / "ana.csv").write_text(HEADER + "\n".join(rows) + "\n")
    (tmp_path / "bo.csv").write_text(
        HEADER + f"d,0,keep,{TIME}\ne,{SHA},keep,yesterday\n,{SHA},keep,{TIME}\n"
    )
    (tmp_path / "cy.csv").write_text("image_id,decision\na,keep\n")
    (tmp_path / "di.csv").write_text(HEADER + "a,b,c,d,e,f\n")
    with pytest.raises(InputError) as caught:
        read_decisions(tmp_path)
    message = str(caught.value)
    for part in (
        "have 9 faults",
        "ana.csv, line 2 (a, keep) repeats an image",
        "ana.csv, line 3 (b, kep) has a decision outside ['keep', 'reject']",
        "ana.csv, line 4 (c, None) has a decision",
        "ana.csv, line 5 (a, reject) repeats an image",
        "bo.csv, line 2 (d, keep) has a sha256",
        "bo.csv, line 3 (e, keep) has no ISO time",
        "bo.csv, line 4 (None, keep) has no image_id",
        "cy.csv has the columns image_id, decision and lacks sha256, decided",
        "di.csv is no CSV",
    ):
        assert part in message
    with pytest.raises(InputError, match="line 3"):
        record(tmp_path, "ana", "z", SHA, "keep")
    assert len((tmp_path / "ana.csv").read_text().splitlines()) == 5, "a damaged file is not written over"


@pytest.mark.parametrize(
    "name", ["", ".hidden", "../ana", "a/b", "a\\b", "a" * 65, "a\n", "con:", " ana", "ana."]
)
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises(InputError, match="cannot name a reviewer"):
        record(tmp_path / "reviews", name, "a", SHA, "keep")
    assert not (tmp_path / "reviews").exists()


@pytest.mark.parametrize("name", ["ana", "Dr. Ana María", "a", "ana@clinic.org", "r-2"])
def test_peoples_names_are_taken(tmp_path: Path, name: str):
    record(tmp_path, name, "a", SHA, "keep")
    assert read_decisions(tmp_path)["reviewer"].to_list() == [name]


def test_an_unknown_word_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="'maybe' is no decision"):
        record(tmp_path, "ana", "a", SHA, "maybe")


def test_agreement_is_over_what_both_judged(tmp_path: Path):
    judge(tmp_path, ana="kkrrk-", bo="krrr-k", cy="----k", di="------rr")
    pairs = {
        (row["first"], row["second"]): row
        for row in agreement(read_decisions(tmp_path)).iter_rows(named=True)
    }
    assert len(pairs) == 6
    both = pairs["ana", "bo"]
    assert (both["images"], both["agreed"]) == (4, 0.75)
    assert both["kappa"] == pytest.approx(cohen_kappa_score(list("kkrr"), list("krrr"))) == pytest.approx(0.5)
    one_word, apart = pairs["ana", "cy"], pairs["ana", "di"]
    assert (one_word["images"], one_word["agreed"], one_word["kappa"]) == (1, 1.0, None)
    assert (apart["images"], apart["agreed"], apart["kappa"]) == (0, None, None)


def test_agreement_of_one_reviewer_or_none_is_an_empty_table(tmp_path: Path):
    assert agreement(read_decisions(tmp_path)).is_empty()
    judge(tmp_path, ana="k")
    assert agreement(read_decisions(tmp_path)).columns == ["first", "second", "images", "agreed", "kappa"]
    assert agreement(read_decisions(tmp_path)).schema["kappa"] == pl.Float64
