"""The directive `options`: every option of a group of conf/, with its meaning, its default, and what the code accepts where it says so.

    ```{options} mix
    ```

The meaning is the comment in the YAML file. What is accepted is asked of the stages themselves: they are given a word and a negative number for each
setting, and what their refusal says is told. So neither can go stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

from skinaug.launch import configs
from skinaug.launch.described import MACHINERY, Value, choices, read_values, sentence
from skinaug.launch.failures import fault_of_input
from skinaug.pipeline import STAGES

CONF = configs.folder("conf")
NONSENSE = ("nonsense", -1)
REFUSED = re.compile(r"(?:it is|must be) (.*?)(?:, got .*)?$")
SELECTED = ("filter", "test")  # groups whose files hold named options


@cache
def composed() -> DictConfig:
    """The job that is run without a choice, with every filter."""
    filters = ",".join(sorted(file.stem for file in (CONF / "filter").glob("*.yaml")))
    configs.register()
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        return compose("config", [f"filter=[{filters}]", "logger=none"])


@cache
def accepted(name: str) -> str:
    """What the stage of a setting accepts, in the words of its refusal; "" where it refuses nothing, or the job lacks the setting."""
    group = name.partition(".")[0]
    stage = "curate" if group == "filter" else group
    if stage not in STAGES:
        return ""
    cfg = composed()
    above, _, last = name.rpartition(".")
    try:
        node = OmegaConf.select(cfg, above)
        before = node[last] if OmegaConf.is_dict(node) and last in node else None
    except OmegaConfBaseException:  # an interpolation of what another option would bring
        return ""
    if not OmegaConf.is_dict(node) or last not in node or OmegaConf.is_config(before):
        return ""
    try:
        for value in NONSENSE:
            node[last] = value
            for line in refusals(stage, cfg):
                found = REFUSED.search(line)
                if found and re.search(rf"\b{re.escape(last)}\b", line[: found.start()]):
                    return found[1].strip(" .")
    finally:
        node[last] = before
    return ""


def refusals(stage: str, cfg: DictConfig) -> list[str]:
    try:
        STAGES[stage].check(cfg)
    except Exception as error:  # a fault that is not the input's: nonsense need not be foreseen everywhere
        return (fault_of_input(error) or "").splitlines()
    return []


def files_of(group: str) -> list[Path]:
    """What all options share, the option that is taken without a choice, and the others."""
    files = sorted((CONF / group).glob("*.yaml"))
    return sorted(
        files, key=lambda file: (not file.stem.startswith("_"), file.stem not in ("default", "standard"))
    )


def settings(values: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """Those of a file that say more than which function is called."""
    for name, value in values.items():
        if not MACHINERY & {*name.split(".")} and (value.written is not None or value.comment):
            yield name, value


class Options(SphinxDirective):
    """The files of a group of configurations, or those that are named after it."""

    required_arguments = 1
    optional_arguments = 50

    def run(self) -> list[nodes.Node]:
        group, *only = self.arguments
        told: dict[str, str] = {}
        found: list[nodes.Node] = []
        for file in files_of(group):
            if not only or file.stem in only:
                self.env.note_dependency(str(file))
                found += self.of_file(group, file, told)
        return found

    def of_file(self, group: str, file: Path, told: dict[str, str]) -> list[nodes.Node]:
        text = file.read_text()
        prefix = (
            ""
            if "@package _global_" in text
            else f"{group.split('/')[-1] if '/' not in group else group.replace('/', '.')}."
        )
        shared = file.stem.startswith("_")
        title = (
            "Shared by all"
            if shared
            else f"{group}=[{file.stem}]"
            if group in SELECTED
            else f"{group}={file.stem}"
        )
        anchor = make_id(self.env, self.state.document, "", title)
        section = nodes.section("", ids=[anchor])
        section += nodes.title("", "", nodes.Text(title) if shared else nodes.literal("", title))
        if headline := sentence(text):
            section += nodes.paragraph("", f"{headline}.")
        rows = [self.row(prefix + name, value, told) for name, value in settings(read_values(text))]
        if rows:
            section += nodes.definition_list("", *rows, classes=["options"])
        return [section]

    def row(self, name: str, value: Value, told: dict[str, str]) -> nodes.definition_list_item:
        term = nodes.term("", "", nodes.literal("", name))
        if name not in told:  # of several options' settings of one name, links lead to the first
            anchor = make_id(self.env, self.state.document, "option", name)
            term["ids"].append(anchor)
            self.env.domains.standard_domain.note_object("confval", name, anchor, location=term)
        told[name] = value.comment or told.get(name, "")
        body = nodes.definition()
        if told[name]:
            body += nodes.paragraph("", told[name])
        facts = list(self.facts(name, value))
        if facts:
            body += nodes.paragraph("", "", *facts, classes=["option-facts"])
        return nodes.definition_list_item("", term, body)

    def facts(self, name: str, value: Value) -> Iterable[nodes.Node]:
        if value.written == "???":
            yield nodes.Text("It has to be given")
        elif value.written is not None:
            yield nodes.Text("Default: ")
            yield nodes.literal("", value.written or "...")
        words = choices(value.comment)
        known = accepted(name) if value.written is not None else ""
        if known:
            yield nodes.Text(f". Accepted: {known}")
        elif words:
            yield nodes.Text(f". One of: {', '.join(words)}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("options", Options)
    return {"parallel_read_safe": True}
