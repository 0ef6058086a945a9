"""What systems, programs and this program itself leave in a folder is no image of the user's, and changes no key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import skinaug
from PIL import Image

from skinaug.sources.files import list_images, metadata_files
from skinaug.sources.root import root_digest
from skinaug.sources.sources import Csv, Folder, ImageFolder, PadUfes20, Source
from skinaug.sources.walk import leave_out, walk

LEAVINGS = [
    "Thumbs.db",
    "acne/desktop.ini",
    ".DS_Store",
    "acne/.DS_Store",
    "__MACOSX/acne/._a.png",
    "acne/@eaDir/a.png/SYNOFILE_THUMB_M.jpg",
    ".ipynb_checkpoints/a-checkpoint.png",
    "look.ipynb",
    "README.md",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("acne/a.png", "eczema/b.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("path,label\nacne/a.png,acne\neczema/b.jpg,eczema\n")
    (tmp_path / "metadata.jsonl").write_text("")
    return tmp_path


SOURCES = {
    "folder": Folder(),
    "csv": Csv({"path": "path", "label": "label"}),
    "imagefolder": ImageFolder(),
    "pad_ufes_20": PadUfes20(),
}
TABLES = {
    "folder": [],
    "csv": ["metadata.csv"],
    "imagefolder": ["metadata.csv", "metadata.jsonl"],
    "pad_ufes_20": ["metadata.csv"],
}


def of(root: Path, *names: str) -> str:
    """As root_digest did when all files counted."""
    stats = [(name, (root / name).stat().st_size, (root / name).stat().st_mtime_ns) for name in names]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()


@pytest.mark.parametrize("kind", SOURCES)
def test_only_what_a_source_reads_changes_its_key(root: Path, kind: str):
    source: Source = SOURCES[kind]
    before = root_digest(root, source)
    assert before == of(root, "acne/a.png", "eczema/b.jpg", *TABLES[kind]), "keys of clean folders stay"
    for name in LEAVINGS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((root / "acne/a.png").read_bytes())
    assert root_digest(root, source) == before
    for name in ["acne/a.png", *TABLES[kind]]:
        os.utime(root / name, (1, 1))
        after = root_digest(root, source)
        assert after != before
        before = after


def test_what_a_table_names_counts_whatever_its_suffix(root: Path):
    source = SOURCES["csv"]
    (root / "metadata.csv").write_text(
        "path,label\nacne/a.png,acne\nacne/scan,acne\n../up.png,acne\n/etc/hosts,acne\n"
    )
    before = root_digest(root, source)
    shutil.copy(root / "acne/a.png", root / "acne/scan")
    assert root_digest(root, source) != before


class OfMyOwn:
    """A source that does not tell what it reads."""


def test_of_an_unknown_source_all_files_of_the_user_count(root: Path):
    before = root_digest(root, OfMyOwn())
    (root / ".DS_Store").write_text("")
    assert root_digest(root, OfMyOwn()) == before
    (root / "labels.xlsx").write_text("")
    assert root_digest(root, OfMyOwn()) != before


def test_the_programs_own_folders_are_left_out_below_a_root(root: Path):
    before = sorted(walk(root))
    for name in ("made here", "eczema/deep"):
        (root / name / "dataset").mkdir(parents=True)
        shutil.copy(root / "acne/a.png", root / name / "dataset")
        shutil.copy(root / "metadata.csv", root / name / "dataset")
    link = root.parent / f"{root.name} by another name"
    link.symlink_to(root)
    leave_out(link / "made here", root / "eczema" / "deep")
    for place in (root, link):
        assert sorted(walk(place)) == before
        assert list_images(place) == ["acne/a.png", "eczema/b.jpg"]
        assert metadata_files(place) == [place / "metadata.csv", place / "metadata.jsonl"]
    assert list_images(root / "made here") == ["dataset/a.png"], "asked for by name, it is read"


def test_a_study_in_the_folder_of_its_photographs_is_made_once(tmp_path: Path):
    for number in range(8):
        place = tmp_path / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(place)
    words = (
        "dataset",
        "dataset=folder",
        "dataset.root=.",
        "dataset.duplicates=null",
        "store=made here",
        "output=seen",
    )
    first = skinaug(*words, cwd=tmp_path, check=True)
    assert "building" in first.stdout
    (tmp_path / "seen").mkdir(exist_ok=True)
    for name in ("seen/figure.png", "made here/figure.png", ".DS_Store"):
        shutil.copy(tmp_path / "a/0.png", tmp_path / name)
    again = skinaug(*words, cwd=tmp_path, check=True)
    assert "kept" in again.stdout
    assert "building" not in again.stdout
