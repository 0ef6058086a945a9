"""The page of `skinaug dashboard --local`: how sweeps stand, their runs as a table, and their charts (`sweeps_charts`).

What sweeps are called comes from files: it is escaped where it becomes HTML, and never a key of what NiceGUI hands to a browser, for
a key that begins with a colon would be run there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from skinaug.cli.sweeps import Row, Sweep, curves, keys_of, page_of, read_sweeps, scores_of
from skinaug.cli.sweeps_charts import arms_options, curves_options, parallel_axes, parallel_options
from skinaug.curate.page import Elements
from skinaug.curate.review import HEADERS, serve
from skinaug.errors import InputError

STYLE = Path(__file__).with_name("sweeps_page.css")
REFRESH = 5.0  # seconds between looks at the folder
FIRST = "balanced_accuracy"  # of the scores, where reports have it
COLUMNS = (
    "seed",
    "jobs",
    "status",
    "images",
    "real",
    "synthetic",
    "seconds",
)  # of a run, beside settings and scores
MOST_GROUPS = 30  # that have a button each
# A report is a page with scripts, from a file: it may not act for whoever looks at it here.
REPORT_HEADERS = {**HEADERS, "Content-Security-Policy": "sandbox allow-scripts allow-downloads allow-popups"}


def serve_sweeps(root: Path, host: str, port: int, open_browser: bool) -> None:
    """Serve the page until Ctrl-C, to whoever has the token in the address that is printed.

    Nothing is served but the page and each sweep's report.html.

    root: a folder that `read_sweeps` takes.
    """
    import nicegui
    from fastapi import HTTPException
    from fastapi.responses import FileResponse

    @nicegui.app.get("/report/{name:path}")
    def report(name: str) -> FileResponse:
        if (place := page_of(root, name)) is None:
            raise HTTPException(404)
        return FileResponse(place, headers=REPORT_HEADERS)

    @nicegui.ui.page("/", title="Sweeps", language="en-US")
    def page() -> None:
        SweepsPage(nicegui.ui, root).build()

    serve(nicegui, f"Sweeps of {root}", host, port, open_browser)


class SweepsPage(Elements):
    """The page of one browser tab."""

    def __init__(self, ui: Any, root: Path) -> None:
        super().__init__(ui)
        self.root, self.sweeps = root, read_sweeps(root)
        self.group: str | None = None  # the value whose runs are shown alone

    def build(self) -> None:
        """Make the elements."""
        ui, scores = self.ui, scores_of(self.sweeps)
        ui.add_css(STYLE.read_text())
        with self.box("page", "main"):
            with self.box("top", "header"):
                ui.html("<h1>Sweeps</h1>", sanitize=False)
                ui.html(Markup("<span>{}</span>").format(self.root), sanitize=False)
                self.news = self.text("news").props("aria-live=polite")
            self.standing = self.text("standing")
            ui.html("<h2>Runs</h2>", sanitize=False)
            with self.box("asked"):
                self.by = ui.select(
                    ["arm"], value="arm", label="Group by", with_input=True, on_change=self.regroup
                )
                self.score = ui.select(
                    scores or [FIRST],
                    value=FIRST if FIRST in scores or not scores else scores[0],
                    label="Score",
                    on_change=self.update,
                )
            self.groups = self.box("groups", "nav")
            self.runs = ui.aggrid(
                {
                    "columnDefs": [],
                    "rowData": [],
                    "defaultColDef": {"filter": True, "sortable": True, "resizable": True},
                    "enableCellTextSelection": True,
                },
                auto_size_columns=False,
            ).classes("runs")
            self.about_arms = self.text("about")
            self.arms = ui.echart({}).classes("chart arms")
            self.about_curves = self.text("about")
            self.curves = ui.echart({}).classes("chart curves").style("height: 380px")
            self.about_parallel = self.text("about")
            with self.box("scroll"):
                self.parallel = ui.echart({}).classes("chart parallel").style("height: 380px")
        self.update()
        ui.timer(REFRESH, self.refresh, immediate=False)

    def refresh(self) -> None:
        """Look at the folder again; what has not changed stays as it is."""
        try:
            sweeps = read_sweeps(self.root)
        except InputError as error:
            self.news.content = Markup.escape(error)
            return
        self.news.content = ""
        self.standing.content = standing_html(sweeps)
        if [sweep.rows for sweep in sweeps] != [sweep.rows for sweep in self.sweeps] or [
            sweep.arms for sweep in sweeps
        ] != [sweep.arms for sweep in self.sweeps]:
            self.sweeps = sweeps
            self.update()

    def regroup(self) -> None:
        self.group = None
        self.update()

    def choose(self, group: str | None) -> None:
        self.group = group
        self.update()

    def update(self) -> None:
        """Show what the folder holds, as it is asked for."""
        keys, scores = keys_of(self.sweeps), scores_of(self.sweeps)
        names = ["arm", "sweep", *keys]
        self.by.set_options(names, value=self.by.value if self.by.value in names else names[0])
        if scores:
            self.score.set_options(
                scores, value=self.score.value if self.score.value in scores else scores[0]
            )
        rows = flat_rows(self.sweeps)
        groups = grouped(rows, self.by.value)
        if self.group not in groups:
            self.group = None
        self.standing.content = standing_html(self.sweeps)
        self.update_groups(groups, len(rows))
        shown = {name: found for name, found in groups.items() if self.group in (None, name)}
        columns = table_columns(rows, keys, [self.score.value, *scores], self.by.value)
        self.runs.options["columnDefs"] = [
            {"field": f"c{number}", **column} for number, column in enumerate(columns)
        ]
        self.runs.options["rowData"] = [
            {f"c{number}": row.get(column["headerName"]) for number, column in enumerate(columns)}
            for found in shown.values()
            for row in found
        ]
        self.runs.update()
        self.show_arms()
        self.show_curves()
        axes = parallel_axes(rows, keys, self.score.value, self.by.value)
        self.about_parallel.content = Markup(
            "<h2>Parallel coordinates</h2><p>A line a run, coloured by {}. Drag along an axis to keep the runs that pass there.</p>"
        ).format(self.by.value)
        self.parallel.style(f"min-width: {130 * len(axes)}px")
        self.show(self.parallel, parallel_options(shown, axes))

    def update_groups(self, groups: dict[str, list[Row]], total: int) -> None:
        self.groups.clear()
        with self.groups:
            names: list[str | None] = [None, *list(groups)[:MOST_GROUPS]]
            for name in names:
                told = f"All ({total})" if name is None else f"{name} ({len(groups[name])})"
                button = self.button(told, self.choose, name)
                button.props["aria-pressed"] = "true" if name == self.group else "false"
            if len(groups) > MOST_GROUPS:
                self.ui.html(f"and {len(groups) - MOST_GROUPS} more: filter in the table", sanitize=False)

    def show_arms(self) -> None:
        options, count = arms_options(self.sweeps, self.score.value)
        self.about_arms.content = Markup(
            "<h2>{} of each arm</h2><p>With the 95% intervals of its report; differences, paired and tested, are there.</p>"
        ).format(self.score.value)
        self.arms.style(f"height: {90 + 26 * count}px")
        self.arms.set_visibility(count > 0)
        self.show(self.arms, options)

    def show_curves(self) -> None:
        found, left_out = curves(self.sweeps, self.score.value)
        told = (
            f"In no curve, for they have no real images or not one count of images a class: {left_out}."
            if left_out
            else ""
        )
        if not found:
            told = f"No report has arms with a ratio yet. {told}"
        self.about_curves.content = Markup("<h2>{} against ratio</h2><p>{}</p>").format(
            self.score.value, told
        )
        self.curves.set_visibility(bool(found))
        self.show(self.curves, curves_options(found, self.score.value))

    def show(self, chart: Any, options: dict[str, Any]) -> None:
        chart.options.clear()
        chart.options.update(options)
        chart.update()


def standing_html(sweeps: Sequence[Sweep]) -> Markup:
    """How each sweep stands, its report, and what is wrong with its files."""
    return Markup("").join(_standing(sweep) for sweep in sweeps)


def _standing(sweep: Sweep) -> Markup:
    parts = [Markup('<b>{}</b><span class="words">{}</span>').format(sweep.name, sweep.words())]
    if sweep.has_page:
        parts.append(
            Markup('<a href="/report/{}" target="_blank" rel="noopener">Report</a>').format(quote(sweep.name))
        )
    standing = sweep.standing
    if standing and standing.total and not standing.ended:
        parts.append(
            Markup(
                '<span class="bar"><span style="width: {:.1f}%"></span><span class="failed" style="width: {:.1f}%"></span></span>'
            ).format(100 * standing.done / standing.total, 100 * len(standing.failed) / standing.total)
        )
    failed = [f"{name}: {reason}" for name, reason in standing.failed] if standing else []
    for lines, what in ((failed, "jobs that failed"), (sweep.faults, "files that cannot be read")):
        if lines:
            items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
            parts.append(
                Markup("<details><summary>{}: {}</summary><ul>{}</ul></details>").format(
                    what.capitalize(), len(lines), items
                )
            )
    return Markup('<div class="sweep">{}</div>').format(Markup("").join(parts))


def flat_rows(sweeps: Sequence[Sweep]) -> list[Row]:
    """All runs as flat rows of settings, scores and the sweep's name."""
    return [
        {
            **row["config"],
            **{name: value for name, value in row.items() if name not in ("config", "named")},
            "sweep": sweep.name,
        }
        for sweep in sweeps
        for row in sweep.rows
    ]


def grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    """Rows by their value of a key, in the order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row.get(key, "not set")), []).append(row)
    return found


def table_columns(rows: Sequence[Row], keys: Sequence[str], scores: Sequence[str], by: str) -> list[Row]:
    """Column definitions: what the runs are grouped by first, then settings that differ, scores and the rest; columns of one value
    alone are left out."""
    names = dict.fromkeys([by, "arm", "seed", *scores, "sweep", "run", *COLUMNS, *keys])
    kept = [name for name in names if name == by or len({str(row.get(name)) for row in rows}) > 1]
    columns = []
    for name in kept:
        number = all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        column: Row = {
            "headerName": name,
            "width": max(110, 70 + 8 * len(name)) if number else 270 if name == "sweep" else 170,
        }
        if number:
            column |= {"filter": "agNumberColumnFilter", "type": "rightAligned"}
        if name in scores:
            column |= {":valueFormatter": "p => p.value == null ? '' : p.value.toFixed(3)"}
        columns.append(column)
    return columns
