"""The report's words and tables as Markdown, for an issue, a wiki or a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skinaug.report.tables import escape_markdown, markdown_table


def markdown(content: Mapping[str, Any]) -> str:
    """GitHub Markdown of everything but figures and pictures."""
    return "\n\n".join(_blocks(content)) + "\n"


def _blocks(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {escape_markdown(content['experiment'])}"
    yield escape_markdown(content["headline"])
    if content["notes"]:
        yield "\n".join(f"- {escape_markdown(note)}" for note in content["notes"])
    yield "## Arms\n\nScore on real test images in per cent: mean over seeds, 95 % interval over seeds and test patients."
    yield markdown_table(content["arms_table"])
    if content["differences_table"]:
        yield f"## Differences to {escape_markdown(content['baseline'])}\n\nIn points, paired by test image and seed."
        yield markdown_table(content["differences_table"])
    if content["published"]:
        yield f"## Published results\n\n{escape_markdown(content['published']['citation'])}"
        yield markdown_table(content["published_table"])
    for name, funnel in content["funnels"].items():
        yield f"## Images kept by the filters: {escape_markdown(name)}"
        yield markdown_table(funnel)
    yield "## Recall of each class"
    yield markdown_table(content["recall_table"])
    yield "## Data"
    yield from (markdown_table(table) for table in content["data_tables"])
    yield from (
        f"Licence: {escape_markdown(licence)}. {escape_markdown(cite)}"
        for licence, cite in content["licences"]
    )
    yield "## What generator and filters have seen"
    yield markdown_table(content["exposure_table"])
    yield "## Runs"
    yield markdown_table(content["runs_table"])
    yield "## Cost"
    yield markdown_table(content["stages_table"])
    yield f"Git revision {content['record']['git_revision']}; " + ", ".join(
        f"{name} {version}" for name, version in content["record"]["packages"].items()
    )
    yield content["research_use_only"]
