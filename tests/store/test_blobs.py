"""What is kept of pictures comes back as it was, whatever happened to the file meanwhile; or it counts as not there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinaug.store.blobs import read_blobs, write_blobs

KEPT = {f"{number:064x}": np.random.default_rng(number).bytes(6000) for number in range(12)}


def kept(cache: Path) -> dict[str, bytes]:
    return read_blobs(cache, "pixels", list(KEPT))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    cache = tmp_path_factory.mktemp("whole") / "pictures.sqlite"
    write_blobs(cache, "pixels", KEPT)
    assert kept(cache) == KEPT
    return cache.read_bytes()


@settings(max_examples=60)
@given(share=st.floats(0, 1), zeros=st.booleans(), length=st.integers(1, 9000))
def test_a_broken_file_gives_nothing_wrong_and_is_written_anew(
    whole: bytes, tmp_path_factory, share: float, zeros: bool, length: int
):
    cache = tmp_path_factory.mktemp("broken") / "pictures.sqlite"
    cut = int(share * len(whole))
    rest = bytes(min(length, len(whole) - cut)) + whole[cut + length :] if zeros else b""
    cache.write_bytes(whole[:cut] + rest)
    found = kept(cache)
    assert all(KEPT[name] == data for name, data in found.items())
    write_blobs(cache, "pixels", KEPT)
    assert kept(cache) == KEPT


def test_what_was_rolled_back_is_not_played_into_a_new_file(whole: bytes, tmp_path: Path):
    cache = tmp_path / "pictures.sqlite"
    cache.write_bytes(b"no database at all, of some length" * 400)
    (tmp_path / "pictures.sqlite-journal").write_bytes(whole[:4096])
    assert kept(cache) == {}
    assert not (tmp_path / "pictures.sqlite-journal").exists()
    write_blobs(cache, "pixels", KEPT)
    assert kept(cache) == KEPT


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "pictures.sqlite").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        write_blobs(tmp_path / "pictures.sqlite", "pixels", KEPT)
