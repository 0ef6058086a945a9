"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinaug.store.files import strays, write_text


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


def test_paths_that_leave_a_folder_are_told(tmp_path: Path):
    root, other = tmp_path / "root", tmp_path / "root-2"
    for folder in (root / "in", other):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (root / "link").symlink_to(other)
    (root / "out.png").symlink_to(other / "a.png")
    (root / "in.png").symlink_to("in/a.png")
    (root / "loop.png").symlink_to("loop.png")
    (tmp_path / "alias").symlink_to(root)
    inside = [
        "in/a.png",
        "in/../in/a.png",
        "in.png",
        "absent/b.png",
        "a\nb",
        "\udcff.png",
        "a\0b",
        "loop.png",
        "..a",
        "in/",
    ]
    outside = [
        "../root-2/a.png",
        str(other / "a.png"),
        "link/a.png",
        "out.png",
        "..",
        "",
        ".",
        "in/../..",
        "link/absent",
    ]
    for place in (root, tmp_path / "alias"):
        assert strays(place, inside) == []
        assert strays(place, outside) == list(range(len(outside)))
