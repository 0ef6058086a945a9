"""Where Hydra finds configurations: conf/, experiments/, the user's own folders, and every timm name as a backbone.

A configuration is code: `_target_` names what is called. Only one's own, or those of people one trusts with one's account, are
to be run; `yaml_check` keeps out what breaks the reader itself.
"""

from __future__ import annotations

import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from skinaug.errors import InputError
from skinaug.launch.free_names import free_names
from skinaug.launch.yaml_check import check_yaml

PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """`conf` or `experiments`: inside the package when installed from a wheel, beside it in a clone."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


_read: dict[
    tuple[Any, ...], ConfigResult
] = {}  # each file once a process: every job of a sweep is composed of the same


class CheckedSource(FileConfigSource):
    """Hydra's folders of YAML files, each checked before it is read, and read again when it has changed."""

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path) / self._normalize_file_name(config_path)
        if not file.is_file():
            return self._load(file, config_path)
        state = file.stat()
        version = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        key = (self.scheme(), self.provider, str(file.absolute()), config_path, version)
        if key not in _read:
            check_yaml(file)
            _read[key] = self._load(file, config_path)
        return deepcopy(_read[key])  # Hydra changes what it is given

    def _load(self, file: Path, config_path: str) -> ConfigResult:
        try:
            loaded = super().load_config(config_path)
        except (yaml.YAMLError, OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{file} cannot be used as a configuration: {error}.") from error
        _refuse_repeated_options(file, loaded.config)
        free_names(loaded.config, Path(config_path).parent.name)  # the group's, under which it will stand
        return loaded

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Without what options share, such as `_defaults`: `mix=glob(*)` is every option."""
        return [name for name in super().list(config_path, results_filter) if not name.startswith("_")]


def _refuse_repeated_options(file: Path, config: Any) -> None:
    """Refuse a defaults list that names an option of a group twice, as in `override /test: [mine, mine]`: Hydra would merge the two."""
    for entry in (OmegaConf.is_dict(config) and config.get("defaults")) or ():
        for group, options in entry.items_ex(resolve=False) if OmegaConf.is_dict(entry) else ():
            named = list(options) if OmegaConf.is_list(options) else []
            if len(named) != len(set(named)):
                group = str(group).rpartition(" ")[2].strip("/")
                raise InputError(
                    f"{file} names an option twice in {group}: [{', '.join(map(str, named))}]. Name each once."
                )


class UserSource(CheckedSource):
    """The groups of conf/ in the folder that one works in. Its own files, such as the config.yaml of another project, are not read."""

    @staticmethod
    def scheme() -> str:
        return "user"

    def is_config(self, config_path: str) -> bool:
        return "/" in config_path and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        own = self._normalize_file_name(config_path)
        if (folder("conf") / own).is_file() and own not in _told:
            _told.add(own)
            print(
                f"skinaug: conf/{own} of this folder stands in the place of skinaug's own.", file=sys.stderr
            )
        return super().load_config(config_path)


_told: set[str] = set()  # files that this process has spoken of


class ExperimentSource(CheckedSource):
    """A folder of studies as the group `experiment`, so that experiments/x.yaml is `experiment=x`."""

    @staticmethod
    def scheme() -> str:
        return "experiments"

    def load_config(self, config_path: str) -> ConfigResult:
        return super().load_config(config_path.removeprefix("experiment/"))

    def is_config(self, config_path: str) -> bool:
        return config_path.startswith("experiment/") and super().is_config(
            config_path.removeprefix("experiment/")
        )

    def is_group(self, config_path: str) -> bool:
        return config_path in ("", "experiment")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else ["experiment"]
        return (
            []
            if results_filter == ObjectType.GROUP
            else sorted(p.stem for p in Path(self.path).glob("[!_]*.yaml"))
        )


class TimmSource(ConfigSource):
    """Any timm name as a member of the group `backbone`. The name itself is checked before anything is built."""

    NAME = re.compile(r"backbone/([A-Za-z0-9_.\-]+)")

    @staticmethod
    def scheme() -> str:
        return "timm"

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removeprefix("backbone/").removesuffix(".yaml")
        config = OmegaConf.create(
            {
                "_target_": "skinaug.models.backbone.create_backbone",
                "_partial_": True,
                "name": name,
                "pretrained": True,
                "weights": None,
            }
        )
        header = ConfigSource._get_header_dict("")
        return ConfigResult(config=config, path="timm://", provider=self.provider, header=header)

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "backbone"

    def is_config(self, config_path: str) -> bool:
        return self.NAME.fullmatch(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []


class SearchPath(SearchPathPlugin):
    """The user's own conf/ and experiments/ come first, then the project's, then timm's names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = Path.cwd() / "conf"
        if own.is_dir() and own.resolve() != folder("conf").resolve():
            search_path.prepend("user", f"user://{own}")
        for studies in dict.fromkeys([Path.cwd() / "experiments", folder("experiments")]):
            if studies.is_dir():
                search_path.append("experiments", f"experiments://{studies}")
        search_path.append("timm", "timm://")


def register() -> None:
    """Make the sources known to Hydra; once a process."""
    for plugin in (ExperimentSource, UserSource, TimmSource, SearchPath):
        Plugins.instance().register(plugin)
    SourcesRegistry.instance().types["file"] = (
        CheckedSource  # in the place of Hydra's own, --config-dir included
    )
