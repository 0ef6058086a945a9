"""The report's words and tables as Markdown, for an issue, a wiki or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skinaug.report.parts import Part
from skinaug.report.tables import Table

ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;"} | {mark: f"\\{mark}" for mark in "\\|_*`[]~#"})
STARTS = re.compile(  # of quotes, lists, rules
    r"^( ?\d+(?=[.)](\s|$))|( ?)(?=>|[-+](\s|$)|-{3,}\s*$))"
)
SPACES = "\u00a0\u2009\u202f"  # that are meant: not broken, or narrow


def markdown(content: Mapping[str, Any]) -> str:
    """GitHub Markdown of everything but figures and pictures."""
    return "\n\n".join(block for block in _blocks(content) if block) + "\n"


def _blocks(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {escape(content['experiment'])}"
    for sentences in (content["headline"], content["paired_headline"]):
        if sentences:
            yield " ".join(f"**{escape(arm)}**{escape(rest)}" for arm, rest in sentences)
    if content["failed"]:
        yield f"**{escape(content['failed'].headline)}**"
        yield "\n".join(f"- **{escape(arm)}**{escape(rest)}" for arm, rest in content["failed"].lines)
    if notes := [*content["notes"], *content["left_out"]]:
        yield "\n".join(f"- {escape(note)}" for note in notes)
    yield from _scores(content)
    yield from _further(content)
    yield from _exchange(content)
    yield from _published(content)
    yield from _pools(content)
    yield from _classifiers(content)
    yield from _sources(content)
    yield content["research_use_only"]


def _scores(content: Mapping[str, Any]) -> Iterator[str]:
    """Each arm's scores, and what is shown to differ."""
    yield "## Arms\n\nScore on real test images in per cent: mean over seeds, 95 % interval over seeds and test patients."
    yield markdown_table(content["arms_table"])
    if content["failed"]:
        yield escape(content["failed"].beside_arms)
    if content["differences_table"]:
        yield f"## Differences to {escape(content['baseline'])}\n\nIn points, paired by test patient and seed; 95 % intervals and p-values are adjusted for the number of arms."
        yield markdown_table(content["differences_table"])
        yield escape(content["margin_note"])
    if content["matched_table"]:
        yield (
            "## Matched exposure\n\nGains in points with 95 % intervals, where generator and filters have seen all training photographs, and where "
            "they have seen those of the arm alone; the rest is what photographs bring that the arm was not given."
        )
        yield markdown_table(content["matched_table"])
    if content["chance_table"]:
        yield "## Where the chance comes from\n\nOf top-1: the standard error in points, and the shares of its square."
        yield markdown_table(content["chance_table"])
    if content["paired_table"]:
        yield f"## What {escape(content['compare'])} changes\n\nPair by pair, in points, adjusted for the number of pairs."
        yield markdown_table(content["paired_table"])


def _further(content: Mapping[str, Any]) -> Iterator[str]:
    """Scores and gains on further test sets."""
    if content["further"]:
        yield (
            "## Further test sets\n\nThe same classifiers on photographs from elsewhere. Differences are to "
            f"{escape(content['baseline'])}, in points; carried over is what of the difference on the own test set is found here."
        )
    for name, told in content["further"].items():
        yield f"### {escape(name)}\n\n{escape(' '.join(told['facts']))}"
        yield markdown_table(told["scores"])
        if told["gains"]:
            yield markdown_table(told["gains"])


def _exchange(content: Mapping[str, Any]) -> Iterator[str]:
    """What synthetic images are worth in real ones, where it can be told."""
    if content["exchange_table"] or content["exchange_notes"]:
        yield (
            "## What one synthetic image is worth\n\nIn real images, from the top-1 of arms without synthetic ones: "
            "estimate and 95 % interval."
        )
        if content["exchange_table"]:
            yield markdown_table(content["exchange_table"])
        yield "\n".join(f"- {escape(note)}" for note in content["exchange_notes"])


def _published(content: Mapping[str, Any]) -> Iterator[str]:
    """Results of others."""
    if content["published"]:
        yield f"## Published results beside ours\n\n{escape(content['published']['citation'])}"
        yield markdown_table(content["published_table"])
        yield escape(content["published_reading"])


def _pools(content: Mapping[str, Any]) -> Iterator[str]:
    """What filters kept, what audits found, and what leaks were looked for."""
    for name, funnel in content["funnels"].items():
        yield f"## Images kept by the filters: {escape(name)}"
        yield from (markdown_table(table) for table in funnel.values() if table is not None and table.rows)
    for name, told in content["readers"].items():
        yield f"## Can readers tell synthetic images from photographs? {escape(name)}\n\n{escape(content['readers_about'])}"
        yield escape(told["verdict"])
        yield markdown_table(told["table"])
    for name, audit in content["audits"].items():
        yield f"## Fidelity and memorisation: {escape(name)}"
        yield markdown_table(audit["fidelity"])
        yield "\n".join(f"- {escape(text)}" for text in audit["warnings"])
        yield markdown_table(audit["memorisation"])
        others = [audit[table] for table in ("fidelity_by_class", "obedience", "tones", "sizes", "coverage")]
        yield from (markdown_table(table) for table in others if table is not None)
    if content["validity_table"]:
        yield "## Does fidelity rank the pools as the classifiers do?"
        yield markdown_table(content["validity_table"])
    if content["certificates_table"]:
        yield "## Leak certificate"
        yield markdown_table(content["certificates_table"])
    if content["not_covered"]:
        yield f"Not covered: {escape('; '.join(content['not_covered']))}."


def _classifiers(content: Mapping[str, Any]) -> Iterator[str]:
    """Beyond the scores: classes, confidences, synthetic against real images, subgroups."""
    yield "## Recall of each class"
    yield markdown_table(content["recall_table"])
    yield "## Calibration and selective risk"
    yield markdown_table(content["calibration_table"])
    if content["operating_points_table"]:
        yield "## Each class against the rest\n\nAt thresholds with the largest Youden index on validation images, in per cent."
        yield markdown_table(content["operating_points_table"])
    yield from _parts(content["class_parts"])
    if content["groups"]:
        yield from _groups(content)
    if content["temperature_table"]:
        yield "## Temperature scaling on validation images\n\nScores at that temperature, and what it changes."
        yield markdown_table(content["temperature_table"])
    if content["gap_table"]:
        yield "## Synthetic images against real ones\n\nTop-1 on held-out synthetic and on real validation images, in per cent."
        yield markdown_table(content["gap_table"])
    if content["worst_table"]:
        yield f"## Worst subgroup of each arm\n\n{escape(content['caution'])}"
        yield markdown_table(content["worst_table"])
        yield markdown_table(content["top1_table"])
    yield from _parts(content["gap_parts"])


def _groups(content: Mapping[str, Any]) -> Iterator[str]:
    """The scores of groups of classes."""
    yield "## Groups of classes\n\nA group’s probability is the sum of its classes’."
    yield "\n".join(f"- {escape(name)}: {escape(own)}" for name, own in content["group_names"].items())
    yield markdown_table(content["groups"]["arms"])
    if content["groups"]["differences"]:
        yield markdown_table(content["groups"]["differences"])
    yield from _parts([*content["groups"]["parts"], *content["groups"]["gaps"]])


def _parts(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        yield f"### {escape(part.title)}\n\n{escape(part.about)}"
        yield markdown_table(part.table)


def _sources(content: Mapping[str, Any]) -> Iterator[str]:
    """What the figures were made from, and what that took."""
    if content["data_tables"]:
        yield "## Data"
    yield from (markdown_table(table) for table in content["data_tables"])
    yield from (f"Licence: {escape(licence)}. {escape(cite)}" for licence, cite in content["licences"])
    for shown in content["real_labels_tables"]:
        yield f"## Labels of the real photographs\n\n{escape(content['real_labels_caution'])}"
        yield markdown_table(shown)
    if content["exposure_table"]:
        yield "## What generator and filters have seen"
        yield markdown_table(content["exposure_table"])
    yield "## Runs"
    yield markdown_table(content["runs_table"])
    if content["cost_table"]:
        yield f"## Cost\n\n{escape(content['cost'])}"
        yield markdown_table(content["stages_table"])
        yield markdown_table(content["cost_table"])
    packages = ", ".join(f"{name} {version}" for name, version in content["record"]["packages"].items())
    yield escape(f"Git revision {content['record']['git_revision']}; {packages}")


def markdown_table(table: Table) -> str:
    """A GitHub table; headings over the header become part of it."""
    over = [f"{name}: " if name else "" for name, width in table.groups for _ in range(width)] or [""] * len(
        table.header
    )
    header = [escape(group + text) for group, text in zip(over, table.header, strict=True)]
    align = ["---" if i < table.words else "---:" for i in range(len(table.header))]
    lines = [header, align, *([escape(str(cell)) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no emphasis, link, picture, HTML, code or cell of a table, and no heading or list where
    a line starts with it; line breaks become spaces."""
    line = "".join(letter if letter.isprintable() or letter in SPACES else " " for letter in text)
    return STARTS.sub(r"\g<0>\\", re.sub("^ +", " ", line.translate(ESCAPES)))
