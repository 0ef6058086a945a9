"""`skinaug <stage> --help`: the stage's groups, options and values with a line each, as the comments of the configurations tell them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from skinaug.launch import configs
from skinaug.launch.described import MACHINERY, MACHINERY_GROUPS, groups, option_values, options, values
from skinaug.launch.repeats import spelled_out
from skinaug.launch.selections import spread_sets
from skinaug.launch.words import check_words

GROUPS = {  # of the configuration, that decide what a command makes
    "dataset": ("dataset",),
    "finetune": ("base", "finetune"),
    "generate": ("prompts", "generate"),
    "curate": ("filter", "curate", "features"),
    "audit": ("audit", "features"),
    "test": ("test",),
    "mix": ("mix",),
    "classify": ("backbone", "augmentation", "classify"),
    "report": ("report",),
    "prompts": ("prompts",),
    "review": ("review",),
}
EVERYWHERE = ("experiment", "scale", "trainer", "logger", "hydra/launcher", "hydra/sweeper")
OWN = ("preview", "predictions", "real", "synthetic")  # values of the root that one command takes
LONGEST = 40  # letters of a value that are shown
WIDEST = 34  # columns of a name and its value, before what is said of it


def print_help(stage: str, about: str, overrides: Sequence[str]) -> None:
    """Print what a command can be told; values are those that the overrides compose.

    Raises:
        HydraException: the overrides compose nothing.
        InputError: or sets among them are named twice.
    """
    configs.register()
    check_words(stage, overrides)
    asked = spread_sets(spelled_out(overrides))
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3", job_name="skinaug"):
        loader = GlobalHydra.instance().config_loader()
        cfg = loader.load_configuration("config", list(asked), RunMode.RUN, validate_sweep_overrides=False)
        for line in _lines(
            stage, about, cfg, {name: told.comment for name, told in values(loader, asked).items()}
        ):
            print(line)


def _lines(stage: str, about: str, cfg: DictConfig, comments: Mapping[str, str]) -> Iterator[str]:
    known, chosen = groups(), cfg.hydra.runtime.choices
    own = GROUPS.get(stage, ())
    yield f"skinaug {stage}: {about}\n\nusage: skinaug {stage} [<group>=<option> ...] [<key>=<value> ...]"
    for group in own:
        yield f"\n{group}=   {known.get(group, '')}"
        taken = str(chosen.get(group))
        for name, told in options(group).items():
            yield _row(f"{'*' if name in _several(taken) else ' '} {name}", told)
    for group in own:
        rows = list(_flat(cfg[group], f"{group}."))
        if rows:
            yield f"\nvalues of {group}:"
        for name, value in rows:
            yield _row(f"  {name}={_shown(value)}", comments.get(name, ""))
    if not own:
        yield f"\nIt takes the groups of all stages: {', '.join(name for name in known if name not in EVERYWHERE and '/' not in name)}."
    yield "\nof every command:"
    for group in EVERYWHERE:
        names = ", ".join(options(group))
        yield _row(f"  {group}=", f"{known[group]}: {names}" if known[group] else names)
    for group in MACHINERY_GROUPS:
        for name, own_values in option_values(group).items():
            if keys := ", ".join(own_values):
                yield _row(f"  {group}={name}", f"its values are {group.replace('/', '.')}.<key>: {keys}")
    for name, value in _flat(cfg):
        if "." not in name and name not in (*known, *OWN):
            yield _row(f"  {name}={value}", comments.get(name, ""))
    yield (
        "\nOptions that are chosen have a *; -m sweeps over comma-separated values. Groups of other stages: skinaug <stage> --help. All "
        f"values: skinaug {stage} --cfg job."
    )


def _several(taken: str) -> list[str]:
    """The options that a group's choice names: one, or a list."""
    return [name.strip(" '") for name in taken.strip("[]").split(",")]


def _flat(node: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of a configuration, as overrides have them, without those that only say which function is called;
    interpolations stay as they are written."""
    if not isinstance(node, DictConfig) or node._is_missing() or node._is_none():
        return
    for key in map(str, node):
        name, value = f"{prefix}{key}", node._get_node(key)
        if key in MACHINERY:
            continue
        if isinstance(value, DictConfig) and not value._is_interpolation() and len(value):
            yield from _flat(value, f"{name}.")
        else:
            plain = OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=False)
            yield name, _written(plain["value"])  # type: ignore[index, call-overload]


def _written(value: object) -> str:
    """A value as an override has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return str(value)


def _shown(value: str) -> str:
    return value if len(value) <= LONGEST or _whole() else f"{value[: LONGEST - 4]} ..."


def _whole() -> bool:
    """Whether nothing is cut: where no terminal shows the lines, such as in a pipe or a file."""
    return not sys.stdout.isatty()


def _row(name: str, told: str) -> str:
    """One line, of the terminal's width where there is one."""
    if _whole():
        return f"{name:<{WIDEST}}  {told}".rstrip()
    room = max(shutil.get_terminal_size((110, 24)).columns, 80)
    name = f"{name:<{WIDEST}}  "
    return f"{name}{shorten(told, max(room - len(name), 24), placeholder=' ...')}".rstrip()
