"""What the comments of configurations say: of a file, of each of its values, and of each group in `config.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode

from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.launch.repeats import spelled_out
from skinaug.launch.selections import spread_sets

MACHINERY = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "defaults", "hydra"})
MACHINERY_GROUPS = ("hydra/launcher", "hydra/sweeper")  # whose options have keys of their own below `hydra`
SENTENCE = re.compile(r"(?<!al\.)(?<=[.?!])\s+")  # "Hu et al. 2021" is one
CHOICES = re.compile(r"[\w.-]+(?: \([^()]*\))?(?: \| [\w.-]+(?: \([^()]*\))?)+")  # a | b (more of it) | c


@dataclass(frozen=True)
class Value:
    """A value of a YAML file.

    Attributes:
        comment: what stands beside it; "" where nothing does.
        written: as it is written; None where further values stand below it.
    """

    comment: str
    written: str | None


def sentence(text: str) -> str:
    """The first sentence of the comment above everything else of a YAML file, which is not read as such: it may be anything."""
    above = takewhile(lambda line: line.startswith("#"), text.splitlines())
    told = [line.removeprefix("#").strip() for line in above if not line.startswith("# @package")]
    return SENTENCE.split(" ".join(told))[0].rstrip(".")


def read_values(text: str) -> dict[str, Value]:
    """The values of a YAML file that has been checked (`yaml_check`), by dotted name."""
    root = yaml.compose(text, yaml.SafeLoader)
    return dict(_values(root, text.splitlines())) if root else {}


def _values(node: yaml.Node, lines: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Value]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style and bool(value.value)
        start, end = value.start_mark, value.end_mark
        one_line = lines[start.line][start.column : end.column] if start.line == end.line else ""
        comment = "" if node.flow_style else _beside(lines, key.end_mark if nested else end)
        yield name, Value(comment, None if nested else one_line)
        yield from _values(value, lines, f"{name}.")


def _beside(lines: Sequence[str], mark: Any) -> str:
    """The comment that begins on the line on which a value ends, with the lines below that go on with it."""
    found = re.match(r"[^#]*?(?<=\s)#(.*)", lines[mark.line][mark.column :] if mark.line < len(lines) else "")
    if found is None:
        return ""
    column, told = mark.column + found.start(1) - 1, [found[1].strip()]
    for line in lines[mark.line + 1 :]:
        if line.find("#") != column or line[:column].strip():
            break
        told.append(line[column + 1 :].strip())
    return " ".join(told)


def groups() -> dict[str, str]:
    """Every group of the defaults list, in its order, with its comment. Those of sweeps, `hydra/launcher`, are among them."""
    text = (configs.folder("conf") / "config.yaml").read_text()
    pattern = r"^  - (?:override )?([\w/]+): \S.*?(?:\s# (.*))?$"
    found = dict(re.findall(pattern, text, re.MULTILINE))
    return {group: comment for group, comment in found.items() if group != "hydra/job_logging"}


def options(group: str) -> dict[str, str]:
    """The options of a group, one's own among them, with the first sentence of what their files say."""
    names = {file.stem for place in places(group) for file in place.glob("[!_]*.yaml")}
    return {name: sentence(_text(f"{group}/{name}")) for name in sorted(names)}


def option_values(group: str) -> dict[str, dict[str, Value]]:
    """The values that each option of a group has in its file, by their names there; of files that cannot be read, none."""
    found: dict[str, dict[str, Value]] = {}
    for name in options(group):
        try:
            told = read_values(_text(f"{group}/{name}"))
        except yaml.YAMLError:
            told = {}
        found[name] = {key: value for key, value in told.items() if not MACHINERY & {*key.split(".")}}
    return found


def places(group: str) -> list[Path]:
    """The folders in which Hydra looks for a group's options: one's own before ours."""
    if group == "experiment":
        return [Path.cwd() / "experiments", configs.folder("experiments")]
    return [Path.cwd() / "conf" / group, configs.folder("conf") / group]


def _text(config_path: str) -> str:
    """The YAML that Hydra takes for `<group>/<name>`; "" of what is in none of these folders, such as a timm name."""
    group, _, name = config_path.rpartition("/")
    files = (place / f"{name}.yaml" for place in places(group))
    return next(
        (file.read_text(encoding="utf-8-sig", errors="replace") for file in files if file.is_file()), ""
    )


def values(loader: ConfigLoader, overrides: Sequence[str]) -> dict[str, Value]:
    """What the files say of each value of the configuration that overrides compose, by dotted name. A file without a comment of its
    own leaves that of the file on which it stands."""
    found: dict[str, Value] = {}
    for part in loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults:
        if part.config_path.startswith("hydra/"):
            continue
        package = f"{part.package}." if part.package else ""
        for name, value in read_values(_text(part.config_path)).items():
            earlier = found.get(f"{package}{name}", value)
            found[f"{package}{name}"] = replace(value, comment=value.comment or earlier.comment)
    return found


def settings(overrides: Sequence[str]) -> dict[str, Value]:
    """Every setting of the configuration that overrides compose, by dotted name, without what only says which function is called.
    Where they compose none, those that there are without overrides."""
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        try:
            found = values(loader, spread_sets(spelled_out(overrides)))
        except (HydraException, InputError):
            found = values(loader, [])
    return {key: told for key, told in found.items() if not MACHINERY & {*key.split(".")}}


def choices(comment: str) -> list[str]:
    """The words between which a comment lets one choose: `a | b (said of it) | c`."""
    found = CHOICES.search(comment)
    words = [re.sub(r" \(.*\)$", "", word) for word in found[0].split(" | ")] if found else []
    return [word for word in words if len(word) > 1]  # "a" is of "a count"
