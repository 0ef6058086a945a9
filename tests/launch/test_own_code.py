"""Code of one's own that a configuration names and that is not there: one message, before anything is built, whatever the command."""

from __future__ import annotations

import textwrap
from pathlib import Path

import commands
import pytest

from skinaug.errors import InputError
from skinaug.targets import check_targets, missing

COMMANDS = (["plan"], ["classify"], ["classify", "-m", "seed=0,1"])


def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))


FILES = {
    "conf/backbone/own.yaml": "_target_: no_such_networks.make\n_partial_: true\n",
    "conf/backbone/misspelt.yaml": "_target_: networks_here_a.mkae_network\n_partial_: true\n",
    "conf/backbone/needy.yaml": "_target_: networks_here_b.make\n_partial_: true\n",
    "conf/filter/own.yaml": """\
        own:
          scorer: {_target_: no_such_filters.Own}
          keep: {}
        """,
    "conf/dataset/own.yaml": "defaults: [_defaults, _self_]\nsource: {_target_: no_such_sources.Own}\nroot: .\n",
    "networks_here_a.py": "def make_network(num_classes):\n    return None\n",
    "networks_here_b.py": "import a_package_that_nobody_has\n",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (
            "backbone=own",
            "_target_=no_such_networks.make cannot be used: there is no module 'no_such_networks'",
        ),
        ("backbone=misspelt", "networks_here_a has no 'mkae_network'. Nearest: make_network."),
        ("backbone=needy", "No module named 'a_package_that_nobody_has'"),
        ("filter=[own]", "_target_=no_such_filters.Own cannot be used"),
        ("dataset=own", "_target_=no_such_sources.Own cannot be used"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], word: str, expected: str
):
    lay(tmp_path, FILES)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    done = commands.here(*command, word, cwd=tmp_path)
    told = done.stdout if command == ["plan"] else done.stderr
    assert done.returncode == 2, done.stderr
    assert expected in told, told
    assert str(tmp_path) in told  # where it was looked for
    assert "Traceback" not in done.stderr
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


def test_names_of_packages_are_found_or_told():
    assert missing("json.decoder.JSONDecoder") == ""
    assert missing("xml.etree.ElementTree.parse") == ""  # a module below one that has not imported it
    assert missing("json.zzz") == "json has no 'zzz'"
    assert missing("json.decoder.JSONDecodr.x").startswith("json.decoder has no 'JSONDecodr'. Nearest: ")
    check_targets("step", {"a": [{"_target_": "json.decoder.Nothing"}]})  # what is installed is not imported
    with pytest.raises(InputError, match=r"step\.a\.0\._target_=json\.decoder\.Nothing"):
        check_targets("step", {"a": [{"_target_": "json.decoder.Nothing"}]}, installed=True)
