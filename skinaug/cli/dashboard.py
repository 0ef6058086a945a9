"""`skinaug dashboard entity/project`: a W&B workspace and report, defined in code, for runs that were sent there; and
`skinaug dashboard --local`: the sweeps of a folder of outputs as a page of this machine, without an account.

Names of scores and settings are those that `tracking` writes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from skinaug.errors import InputError

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

STEP = "trainer/global_step"
SCORES = ("test/top1", "test/balanced_accuracy", "test/auroc")
MIX, RATIO = "mix_name", "mix_synthetic_ratio"
SETTINGS = (
    MIX,
    "mix_real_ratio",
    RATIO,
    "prompts",
    "guidance_scale",
    "filters",
    "finetune",
    "backbone",
    "seed",
)
HOST, PORT = "127.0.0.1", 8322  # of the local page
MOST_RUNS = 100  # drawn in one plot
ABOUT = """\
One point a run. Means over runs here have no interval and no test: the verdict of a sweep, paired by patient and seed, is in
the `report.html` that `skinaug report` writes beside it. Research use only: not a medical device."""


def main(arguments: list[str]) -> int:
    """Save the workspace and the report in a project and print where they are, or serve the local page. Returns the exit status.

    Raises:
        InputError: no library, no account, no such project or folder, or nothing in it.
    """
    parser = argparse.ArgumentParser(prog="skinaug dashboard", description=__doc__)
    parser.add_argument(
        "place",
        metavar="entity/project",
        nargs="?",
        help="where `wandb sync` has sent the runs; with --local a folder of outputs (the value `output`, $SKINAUG_OUTPUT, else outputs)",
    )
    parser.add_argument("--group", help="the runs of this experiment only, at W&B")
    parser.add_argument("--local", action="store_true", help="a page of this machine, without an account")
    parser.add_argument("--port", type=int, help=f"of the local page ({PORT})")
    parser.add_argument("--no-browser", action="store_true", help="print the local page's address alone")
    options = parser.parse_args(arguments)
    if options.local:
        if options.group is not None:
            raise InputError("--group is for W&B: the local page has all sweeps, and groups them itself.")
        return local(options.place, PORT if options.port is None else options.port, not options.no_browser)
    if options.port is not None or options.no_browser:
        raise InputError("--port and --no-browser are for the local page: add --local.")
    if options.place is None:
        raise InputError("Name a W&B project as entity/project, or add --local for a page of this machine.")
    entity, _, project = options.place.partition("/")
    if not entity or not project or "/" in project:
        raise InputError(f"{options.place!r} is not entity/project, such as my-team/skinaug.")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise InputError(
            "skinaug dashboard needs the library wandb-workspaces: pip install 'skinaug[dashboards]'."
        ) from error
    import wandb

    try:
        classes = judged_classes(wandb.Api().runs(options.place, _wanted(options.group)))
    except wandb.errors.UsageError as error:
        raise InputError(
            f"skinaug dashboard needs a W&B account: run `wandb login` first. ({error})"
        ) from error
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(f"W&B shows no runs of {options.place}: {error}") from error
    if not classes:
        raise InputError(
            f"There is no finished classifier in {options.place}{f', group {options.group}' if options.group else ''}. Send "
            "runs with `wandb sync <output>/wandb` first."
        )
    for made in (
        make_workspace(entity, project, classes, options.group),
        make_report(entity, project, classes, options.group),
    ):
        made.save()
        print(made.url)
    return 0


def local(place: str | None, port: int, open_browser: bool) -> int:
    """Serve the sweeps of a folder of outputs to this machine until Ctrl-C."""
    from skinaug.cli.sweeps import read_sweeps
    from skinaug.cli.sweeps_page import serve_sweeps
    from skinaug.curate.review import check_address

    root = Path(os.path.expanduser(place)) if place else _outputs()
    read_sweeps(root)
    check_address("dashboard --local", HOST, port, ("host ", "--port "))
    serve_sweeps(root, HOST, port, open_browser)
    return 0


def _outputs() -> Path:
    """The folder of outputs of the configuration."""
    from hydra import compose, initialize_config_dir

    from skinaug.launch import configs

    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        return Path(str(compose("config").output))


def _wanted(group: str | None) -> dict[str, Any]:
    wanted = {"jobType": "classify", "state": "finished"}
    return {**wanted, "group": group} if group else wanted


def judged_classes(runs: Any) -> list[str]:
    """The classes that the first of some classifiers' runs has a test recall of, in its order; none for no runs."""
    names = next((list(run.summary.keys()) for run in runs), [])
    return [name.removeprefix("test/recall/") for name in names if name.startswith("test/recall/")]


def make_workspace(entity: str, project: str, classes: Sequence[str], group: str | None = None) -> Workspace:
    """The workspace, not yet saved: a section a question. Without a group it takes the runs of all experiments."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=_title(group),
        sections=[
            ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections(classes).items()
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(filters=[expr.Metric("Group") == group] if group else []),
    )


def make_report(entity: str, project: str, classes: Sequence[str], group: str | None = None) -> Report:
    """The report, not yet saved: the workspace's sections under headings."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.P(ABOUT)]
    for name, panels in sections(classes).items():
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=group or "all experiments",
            filters=[expr.Metric("Group") == group] if group else [],
        )
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=entity, project=project, title=_title(group), blocks=blocks, width="fluid")


def _title(group: str | None) -> str:
    return f"skinaug: {group or 'all experiments'}"


def sections(classes: Sequence[str]) -> dict[str, list[Any]]:
    """The panels of each section."""
    import wandb_workspaces.reports.v2 as wr

    def curve(name: str, by: str) -> Any:
        return wr.LinePlot(
            title=f"{name} by {by}",
            x=STEP,
            y=[name],
            groupby=wr.Config(by),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=MOST_RUNS,
        )

    def bars(title: str, name: str, by: Any, aggregate: Literal["mean", "sum"]) -> Any:
        return wr.BarPlot(
            title=title,
            metrics=[name],
            groupby=by,
            groupby_aggfunc=aggregate,
            groupby_rangefunc="minmax",
            max_runs_to_show=MOST_RUNS,
        )

    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name)) for name in SETTINGS]
    columns += [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(name)) for name in SCORES]
    scores = [wr.ScatterPlot(title=name, x=wr.Config(RATIO), y=wr.SummaryMetric(name)) for name in SCORES]
    return {
        "Score against ratio": scores,
        "What the runs differ in": [
            wr.ParallelCoordinatesPlot(title="Settings and scores", columns=columns),
            wr.ParameterImportancePlot(with_respect_to=SCORES[0]),
        ],
        "Recall of each class": [
            bars(label, f"test/recall/{label}", wr.Config(MIX), "mean") for label in classes
        ],
        "Learning curves": [
            curve(name, by)
            for by in (MIX, RATIO)
            for name in ("val/balanced_accuracy", "val/loss", "train/loss")
        ],
        "Generated images": [
            wr.WeavePanelSummaryTable(table_name="pool"),
            wr.MediaBrowser(title="While fine-tuning", media_keys=["samples"]),
        ],
        "Predictions": [wr.WeavePanelSummaryTable(table_name="predictions")],
        "Cost": [
            bars("Seconds a stage, sum", "cost/seconds", wr.Metric("JobType"), "sum"),
            bars("Training images a second", "train/images_per_second", wr.Config("backbone"), "mean"),
            wr.ScatterPlot(
                title="Score against seconds",
                x=wr.SummaryMetric("cost/seconds"),
                y=wr.SummaryMetric(SCORES[0]),
            ),
        ],
    }
