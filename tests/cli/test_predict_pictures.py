"""What prediction says of the pictures that it is given, before a network is loaded."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from skinaug.cli import predict


def test_what_is_not_read_and_how_pictures_are_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "clinic").mkdir()
    for number in range(3):
        profile = b"no profile" if number else None
        Image.effect_noise((40, 40), 50).save(
            tmp_path / "clinic" / f"{number}.jfif", "JPEG", icc_profile=profile
        )
    (tmp_path / "clinic" / "moving.gif").write_bytes(b"GIF89a")
    files = predict._files([str(tmp_path / "clinic")])
    assert len(files) == 3
    predict._tell_unread([str(tmp_path / "clinic")])
    predict._readable(files, ["acne"])
    out = capsys.readouterr().out
    assert "which are not read: 1 .gif." in out
    assert "so that values are taken for sRGB: 2 (" in out


def test_the_rate_that_is_proposed_is_the_smallest_that_works():
    assert [predict.least_rate(count) for count in (1, 2, 6, 9, 19, 48, 199)] == [
        0.5,
        0.34,
        0.15,
        0.1,
        0.05,
        0.021,
        0.005,
    ]
    for count in range(1, 3000):
        rate = predict.least_rate(count)
        assert predict._enough(count, float(f"{rate:g}"))
        assert rate * (count + 1) < 1.1, "two digits leave less than a tenth"


def test_probabilities_of_a_few_pictures_are_printed_the_highest_first(capsys: pytest.CaptureFixture[str]):
    columns = {"acne": "p:acne", "nevus": "p:nevus"}
    table = pl.DataFrame({"image": ["a.png", "b.png"], "p:acne": [0.2, 0.75], "p:nevus": [0.8, 0.25]})
    predict._tell_few(table, columns)
    assert capsys.readouterr().out.splitlines() == [
        "a.png: nevus 80%, acne 20%",
        "b.png: acne 75%, nevus 25%",
    ]
    predict._tell_few(pl.concat([table] * 6), columns)
    assert capsys.readouterr().out == ""
