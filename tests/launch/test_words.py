"""Words that Hydra cannot read are told in one message: what came, where it breaks, and a form that can be read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import commands
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from skinaug.errors import InputError
from skinaug.launch.words import check_words, several_values


def refused(*words: str, command: str = "classify") -> str:
    with pytest.raises(InputError) as error:
        check_words(command, words)
    return str(error.value)


def proposed(message: str) -> object:
    """The value of the argument that a message proposes, as a shell and Hydra read it."""
    found = re.search(r"[Qq]uote it: (.+)$", message, re.MULTILINE)
    assert found, message
    (word,) = shlex.split(found[1])
    return OverridesParser.create().parse_overrides([word])[0].value()


@pytest.mark.parametrize(
    ("word", "breaks_at", "value"),
    [
        (r"a.b=(PAT_\d+)_", "'(', letter 5", r"(PAT_\d+)_"),
        ("a=/x/it's", '"\'", letter 8', "/x/it's"),
        ("a=naevus#2", "'#', letter 9", "naevus#2"),
        ("a=hämangiom", "'ä', letter 4", "hämangiom"),
        ("a==3", "'=', letter 3", "=3"),
        ("a=b{c}", "'{', letter 4", "b{c}"),
        ("a='b", '"\'", letter 3', "b"),
        ("a=[Crohn's disease, b]", '"\'", letter 9', ["Crohn's disease", "b"]),
        ("a=<folder>", "'<', letter 3", "<folder>"),
    ],
)
def test_a_word_is_told_with_its_place_and_in_quotes(word: str, breaks_at: str, value: object):
    message = refused("seed=1", word)
    assert message.startswith(f"The argument {word} cannot be read: it breaks at {breaks_at}.")
    assert proposed(message) == value


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("a=[b, c", "its end is missing"),
        ("a={b: c", "its end is missing"),
        ("a={b: c, d}", "it breaks at '}', letter 11"),
        ("a=[b,,c]", "it breaks at ',', letter 6"),
        ("a=f(b)", "f(...) is no function"),
        ("a:b=3", "it breaks at ':', letter 2"),
    ],
)
def test_a_word_that_quotes_do_not_mend_is_told_with_its_place(word: str, reason: str):
    assert reason in refused(word)


def test_words_without_a_value_are_told_what_may_be_meant(tmp_path: Path):
    folder = tmp_path / "my sweep"
    assert f"report.runs='{folder}'" in refused(str(folder), command="report")
    assert "dataset.root=photos/x" in refused("photos/x", command="dataset")
    assert "--help` lists them" in refused("fast")
    message = refused("prompts.template=a", "photo", "of", "x", "seed=1")
    assert message.endswith("quote them as one: 'prompts.template=a photo of x'")
    check_words(
        "classify", ["-m", "--config-dir", "some/where", "seed=0,1", "~filter.ensemble", "+a.b=1", "a=b c: d"]
    )


def test_commas_without_a_sweep_are_told():
    message = several_values("prompts.template=a photo, of x")
    assert "add -m" in message
    assert proposed(message) == "a photo, of x"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["classify", "a=it's"], "cannot be read"),
        (["plan", "a=it's"], "cannot be read"),
        (["classify", "--help", "a=it's"], "cannot be read"),
        (["report", "outputs/study"], "report.runs=outputs/study"),
        (
            ["classify", "name=a, b"],
            "add -m. If it is one list: 'name=[a, b]'. If it is one text, quote it: 'name=\"a, b\"'",
        ),
        (
            ["plan", "name=a, b"],
            "add -m. If it is one list: 'name=[a, b]'. If it is one text, quote it: 'name=\"a, b\"'",
        ),
    ],
    ids=" ".join,
)
def test_commands_refuse_them(tmp_path: Path, words: list[str], expected: str):
    done = commands.here(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())
