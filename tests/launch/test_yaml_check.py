"""YAML files that would run code, or grow without end, are refused without being read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skinaug.errors import InputError
from skinaug.launch.yaml_check import MOST_VALUES, check_yaml

LAUGHS = "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
BAD = {
    "a: !!python/object/apply:os.system [ls]": "tag",
    "a: !!python/object/apply:pathlib.Path [x]": "tag",
    "a: !!python/name:os.system": "tag",
    "!mine {a: 1}": "tag",
    LAUGHS: "aliases written out",
    "a: &a [*a]": "stands within",
    "[" * 3000: "(levels deep|increasing flow level)",
    "- x\n" * (MOST_VALUES + 1): "more than 20,000 values",
    "a: [": "not YAML",
    "\ta: 1": "not YAML",
    "a: \x00": "not YAML",
    "a: '" + "x" * 5_000_000: "bytes",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_plain_data_is_refused(text: str, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    started = time.monotonic()
    with pytest.raises(InputError, match=f"bad.yaml cannot be used.*{BAD[text]}"):
        check_yaml(file)
    assert time.monotonic() - started < 5


def test_another_encoding_is_told_with_its_line(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes("a: 1\nb: n\xe6vus\n".encode("latin-1"))
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        check_yaml(tmp_path / "a.yaml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_plain_data_pass(value: object, tmp_path: Path):
    file = tmp_path / "good.yaml"
    file.write_text(yaml.safe_dump({"shared": value, "again": [value, value]}, allow_unicode=True), "utf-8")
    check_yaml(file)


def test_aliases_count_as_often_as_they_stand(tmp_path: Path):
    file = tmp_path / "a.yaml"
    values = ", ".join(["x"] * 999)
    file.write_text(f"a: &a [{values}]\nb: [{', '.join(['*a'] * 18)}]\n")
    check_yaml(file)
    file.write_text(f"a: &a [{values}]\nb: [{', '.join(['*a'] * 20)}]\n")
    with pytest.raises(InputError, match="aliases"):
        check_yaml(file)
