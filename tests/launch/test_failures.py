"""What is told of a `_target_` of one's own that is not there, or whose module fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from skinaug.launch.failures import fault_of_input

OWN = "class Brightness:\n    def __init__(self, fails=False):\n        if fails:\n            raise ValueError('dark')\n"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("own_filter.Brightnes", "own_filter.Brightnes: there is no own_filter.Brightnes. Nearest: Brightness."),
        ("own_filtr.Brightness", "own_filtr.Brightness: there is no own_filtr. Code of your own is installed, or lies in the folder"),
        ("broken_filter.Brightness", "cannot be imported: ZeroDivisionError: division by zero (broken_filter.py, line 2)."),
        ("needing_filter.Brightness", "cannot be imported: ModuleNotFoundError: No module named 'nowhere' (needing_filter.py, line 1)."),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_found_is_told_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, told: str
):
    for name, code in (("own", OWN), ("broken", "x = 1\nx / 0\n"), ("needing", "import nowhere\n")):
        (tmp_path / f"{name}_filter.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InstantiationException) as caught:
        instantiate(OmegaConf.create({"filter": {"scorer": {"_target_": target}}}).filter.scorer)
    message = fault_of_input(caught.value)
    assert message is not None
    assert message.startswith(f"filter.scorer._target_={target}")
    assert told in message


def test_an_error_of_code_that_was_found_is_no_fault_of_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "failing_filter.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": "failing_filter.Brightness", "fails": True})
    assert fault_of_input(caught.value) is None
