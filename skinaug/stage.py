"""What a stage is: each `skinaug/<stage>/stage.py` fills in a `Stage`, and says there all that others need to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from skinaug.errors import InputError
from skinaug.store.artifact import Artifact
from skinaug.targets import missing, refusal

if TYPE_CHECKING:
    from skinaug.manifest import Manifest

RESERVE = "dataset.reserve"  # the step that teaches one generator for all folds
ONE, SEVERAL, SHARDED = "one", "several", "sharded"  # devices that a step computes on

# Functions that have moved, by the name under which the keys and records of artifacts know them. Keys keep the old names, so
# that nobody's store is lost; configurations may use either.
MOVED = {
    "skinaug.backbone.create_backbone": "skinaug.models.backbone.create_backbone",
    "skinaug.base.load_pipeline": "skinaug.models.base.load_pipeline",
    "skinaug.trainer.make_trainer": "skinaug.models.trainer.make_trainer",
    "skinaug.trainer.fully_sharded": "skinaug.models.trainer.fully_sharded",
    "skinaug.tracking.track_wandb": "skinaug.models.tracking.track_wandb",
    "skinaug.tracking.track_csv": "skinaug.models.tracking.track_csv",
    "skinaug.tracking.track_none": "skinaug.models.tracking.track_none",
    "skinaug.dataset.sources.Folder": "skinaug.sources.sources.Folder",
    "skinaug.dataset.sources.Csv": "skinaug.sources.sources.Csv",
    "skinaug.dataset.sources.PadUfes20": "skinaug.sources.sources.PadUfes20",
}
KEYED = {new: old for old, new in MOVED.items()}

NOT_LOCATED = re.compile(r"Error locating target '([^']*)'")  # how Hydra begins to tell it


@dataclass(frozen=True)
class Build:
    """What a step is built from.

    Attributes:
        cfg: the job's configuration, with the trainer that the step has.
        made: the artifacts so far, by step.
        out: folder that receives what is made.
        logger: Lightning's, or False for steps that nobody tracks.
    """

    cfg: DictConfig
    made: Mapping[str, Artifact]
    out: Path
    logger: Any = False

    def manifest(self, step: str) -> Manifest:
        """The images that a step has made."""
        from skinaug.manifest import Manifest  # which loads polars, and every command imports this module

        return Manifest.read(self.made[step].path)

    @property
    def cache(self) -> Path:
        """The file of what was computed of each picture, shared by all runs of a store."""
        return picture_cache(self.cfg)


@dataclass(frozen=True)
class Step:
    """One artifact of a stage, for one configuration.

    Attributes:
        name: the stage's, or `<stage>.<what>` where it makes several.
        config: values that decide the content.
        build: makes it; a function of a module, which processes on several devices can find.
        inputs: steps of which it is made.
        files: files and folders whose content decides the content, by name; those that are not there are left out.
        digests: what else does, by name: a text that changes with it, or the key of an artifact that was made before.
        after: steps that are built earlier though it is not made of them.
        then: steps that are built later wherever this one is asked for.
        devices: ONE, SEVERAL, or SHARDED where each may hold a piece of the weights.
        tracked: whether a dashboard has something to see.
        prepare: done once before `build`, by the process that started the others.
        images_per_class: of a pool, at most; None where that is not known.
        checks: by step (by stage, where another job made them before), what refuses images that this step could do nothing
            with, as soon as they are there.
    """

    name: str
    config: Mapping[str, Any]
    build: Callable[[Build], None]
    inputs: Sequence[str] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[str] = ()
    then: Sequence[str] = ()
    devices: str = ONE
    tracked: bool = True
    prepare: Callable[[Build], None] | None = None
    images_per_class: int | None = None
    checks: Mapping[str, Callable[[Manifest], None]] = field(default_factory=dict)


Plan = Mapping[str, Step]  # steps by name, in the order in which they are built


def _accept(*_: Any) -> None:
    """Refuses nothing."""


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    Attributes:
        name: also its folder in the store.
        version: raised by hand when its code changes what it makes from the same config and inputs.
        steps: what it makes of a configuration.
        check_suits: refuses settings that do not go together, whatever files and weights are there; asked of all stages before `check`.
        check: refuses a configuration that cannot work, in a second and without importing torch.
        check_parts: refuses settings that only the parts themselves can judge; asked where the stage will be built.
        check_data: refuses what the data cannot serve, given the job's steps, before anything is trained.
        tags: what a dashboard groups and filters jobs by: flat values by name.
        check_pool: refuses what the curated pool cannot serve, given the job's steps and the artifacts so far, before a classifier is
            trained.

    The checks raise InputError.
    """

    name: str
    version: int
    steps: Callable[[DictConfig], Iterable[Step]]
    check: Callable[[DictConfig], None] = _accept
    check_parts: Callable[[DictConfig], None] = _accept
    check_data: Callable[[DictConfig, Manifest, Plan], None] = _accept
    tags: Callable[[DictConfig], Mapping[str, Any]] = lambda cfg: {}
    check_suits: Callable[[DictConfig], None] = _accept
    check_pool: Callable[[DictConfig, Plan, Mapping[str, Artifact]], None] = _accept


def plain(node: Any) -> Any:
    """A config node as resolved dicts, lists and scalars."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def build(node: DictConfig | dict[str, Any]) -> Any:
    """The object or partial that a config node describes, its values as plain Python.

    Raises:
        InputError: it names code that cannot be imported.
    """
    values = plain(node)
    current = _renamed(values, MOVED)
    try:
        # The node itself where it can be: it knows its place in the configuration, of which error messages speak.
        return instantiate(node if current == values else current, _convert_="object")
    except InstantiationException as error:
        if (found := NOT_LOCATED.match(str(error))) and (why := missing(found[1])):
            raise refusal(f"_target_={found[1]}", why) from error
        raise


def keyed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values as keys and records tell them: functions that have moved under their first names."""
    return _renamed(config, KEYED)


def without_later(config: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Values but those of options that came later and say what was done before there were any: their keys stay what they were.

    later: dotted name of an option -> the value that says so.
    """
    kept = dict(config)
    for name, value in later.items():
        first, _, rest = name.partition(".")
        if first not in kept:
            continue
        if not rest and kept[first] == value:
            del kept[first]
        elif rest and isinstance(kept[first], Mapping):
            kept[first] = without_later(kept[first], {rest: value})
    return kept


def named_files(settings: Mapping[str, Any], prefix: str = "config") -> dict[str, Path]:
    """The files and folders that settings name: values with a "/", by dotted name."""
    found: dict[str, Path] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= named_files(value, f"{prefix}.{name}")
        elif isinstance(value, str) and "/" in value:
            # timm and open_clip have a prefix in front of folders.
            found[f"{prefix}.{name}"] = Path(value.removeprefix("local-dir:"))
    return found


def copies_settings(cfg: DictConfig) -> dict[str, Any]:
    """What counts as a near-copy: `audit.copies` with the threshold and the network of `dataset.duplicates`, so that no copy that the
    data set knows of escapes the leak certificate, and none stands in its way that the data set could not have dropped.

    Without `dataset.duplicates` it is `audit.copies` itself; where these look for no near-copies (`max_hamming=null`), the
    certificate still does, within its own `max_hamming`.
    """
    settings, rule = plain(cfg.audit.copies), plain(cfg.dataset.duplicates) or {}
    own = {name: rule[name] for name in ("max_hamming", "min_cosine", "embed") if name in rule}
    if own.get("max_hamming") is None:
        own.pop("max_hamming", None)
    if "embed" in own and own["embed"] is None:
        own["min_cosine"] = None  # the hashes alone decide
    return settings | own


def teacher(cfg: DictConfig) -> str:
    """The step whose training photographs generator and filters learn from: all of the data set's; with `exposure=arm` those that the
    arm itself trains on; with `folds.refit=classify`, where one generator serves all folds, those of patients who are in the test of none.

    Raises:
        InputError: another exposure, another refit, or both.
    """
    folds = cfg.get("folds") or {}
    refit = folds.get("refit", "all")
    if refit not in ("all", "classify"):
        raise InputError(
            f"folds.refit={refit}: each fold makes all of its own (all), or classifiers alone (classify)."
        )
    refitted = folds.get("count") is not None and refit == "classify"
    exposure = cfg.get("exposure", "all")  # which records of before there was a choice lack
    if exposure not in ("all", "arm"):
        raise InputError(
            f"exposure={exposure}: the photographs that generator and filters learn from are all training photographs (all), or those that "
            "the arm itself trains on (arm)."
        )
    if refitted and exposure == "arm":
        raise InputError(
            "exposure=arm teaches a generator for each arm and fold, and folds.refit=classify one for all: choose one of them."
        )
    return RESERVE if refitted else "dataset" if exposure == "all" else "exposed"


def picture_cache(cfg: DictConfig) -> Path:
    """The store's file of what was computed of each picture."""
    return Path(cfg.store) / "pictures.sqlite"


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """Plain values with other names of `_target_`s."""
    if isinstance(node, Mapping):
        return {
            key: names.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else _renamed(value, names)
            for key, value in node.items()
        }
    return [_renamed(value, names) for value in node] if isinstance(node, list) else node
