"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinaug.files import write_text


def test_the_whole_text_replaces_what_was_there(tmp_path: Path):
    file = tmp_path / "run.json"
    file.write_text("old and longer")
    write_text(file, "± 1,2 µm\n")
    assert file.read_bytes() == "± 1,2 µm\n".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path):
    file = tmp_path / "run.json"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new, then a lone surrogate \ud800")
    assert file.read_text() == "old"
