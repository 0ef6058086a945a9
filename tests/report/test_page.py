"""The page in a browser: tables that sort, marks that tell what they are, and a policy that lets nothing else run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from skinaug.report import collect
from skinaug.report.report import report
from tests.report.conftest import write_sweep

ARMS = {
    "real_small": (10, 0, 0.0),
    "real": (20, 0, 0.5),
    "hybrid 10": (10, 10, 0.25),
    "hybrid 9": (10, 9, -1.5),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    sweep = write_sweep(folder / "sweep", folder / "store", ARMS, size=32)
    report(collect.read_runs(sweep), num_resamples=100, out=folder)
    return folder


@pytest.fixture
def page(browser: Any, written: Path) -> Iterator[Any]:
    """The report at desktop width; in the end it must have run without a fault and asked for nothing."""
    opened = browser.new_page(viewport={"width": 1020, "height": 900}, has_touch=True)
    faults, requests = [], []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto((written / "report.html").as_uri())
    yield opened
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    opened.close()


def first_column(page: Any) -> list[str]:
    return (
        page.locator("table.sortable")
        .first.locator("tbody th")
        .evaluate_all(
            "cells => cells.map(cell => [...cell.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join(''))"
        )
    )


def test_a_heading_sorts_by_number_and_tells_so(page: Any, written: Path):
    arms = pl.read_csv(written / "arms.csv")
    table = page.locator("table.sortable").first
    for column, heading in (("auroc", "AUROC"), ("top1", "Top‑1")):
        button = table.get_by_role("button", name=heading)
        button.click()
        assert first_column(page) == arms.sort(column)["arm"].to_list()
        assert table.locator("[aria-sort]").evaluate_all(
            "all => all.map(th => th.getAttribute('aria-sort'))"
        ) == (["ascending"])
        button.focus()
        page.keyboard.press("Enter")
        assert first_column(page) == arms.sort(column, descending=True)["arm"].to_list()
        assert table.locator("[aria-sort='descending']").count() == 1


def test_words_sort_as_people_count(page: Any):
    page.locator("table.sortable").first.get_by_role("button", name="Arm", exact=True).click()
    assert first_column(page) == ["hybrid 9", "hybrid 10", "real", "real_small"]


@pytest.mark.parametrize(
    ("texts", "sorted_texts"),
    [
        (["1,200", "−3.5", "20", "–", "<0.001", "0.002"], ["−3.5", "<0.001", "0.002", "20", "1,200", "–"]),
        (["more than 5", "5", "less than −1", "−1"], ["less than −1", "−1", "5", "more than 5"]),
    ],
)
def test_figures_are_read_as_they_are_printed(page: Any, texts: list[str], sorted_texts: list[str]):
    found = page.evaluate(
        """texts => {
          const cells = texts.map(text => { const td = document.createElement("td"); td.textContent = text; return td; });
          return cells.sort((a, b) => order(figure(a), figure(b))).map(td => td.textContent);
        }""",
        texts,
    )
    assert found == sorted_texts


def test_totals_stay_last_and_heatmaps_stay_grids(page: Any):
    last = page.locator("table.sortable").evaluate_all(
        "all => all.map(t => t.tBodies[0].rows[t.tBodies[0].rows.length - 1].cells[0].textContent.trim())"
    )
    assert "all" not in last
    assert page.locator(".heatmap table.sortable").count() == 0


def test_marks_tell_by_mouse_and_by_touch(page: Any, written: Path):
    row = pl.read_csv(written / "arms.csv").row(by_predicate=pl.col("arm") == "real", named=True)
    said = f"real: {100 * row['top1']:.1f} ({100 * row['top1_low']:.1f} to {100 * row['top1_high']:.1f})"
    tip = page.locator(".tip")
    assert tip.is_hidden()
    point = page.locator(f'[data-tip="{said}"] use').first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.inner_text() == said
    page.mouse.move(2, 2)
    assert tip.is_hidden()
    page.touchscreen.tap(box["x"] + box["width"] / 2 - 8, box["y"] - 3)  # a finger is never on the point
    assert tip.inner_text() == said


def test_nothing_but_the_page_own_script_runs(browser: Any, written: Path, tmp_path: Path):
    text = (
        (written / "report.html").read_text().replace("</h1>", "</h1><script>document.title = 'x'</script>")
    )
    (tmp_path / "report.html").write_text(text)
    opened = browser.new_page()
    opened.goto((tmp_path / "report.html").as_uri())
    assert opened.title().endswith(": report")
    assert opened.locator("thead [role=button]").count() > 0
    opened.close()
