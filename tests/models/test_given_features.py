"""Features that were computed elsewhere: how they are read, found and refused."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from skinaug.errors import InputError
from skinaug.metrics.features import embed
from skinaug.models.given_features import given_features, read_features
from skinaug.pools import join_pools

IDS = ["c", "a", "b"]
VECTORS = np.array([[5, 6], [1, 2], [3, 4]], np.float64)


def as_lists(path: Path) -> None:
    pl.DataFrame({"image_id": IDS, "note": ["x"] * 3, "vector": VECTORS.tolist()}).write_parquet(path)


def as_arrays(path: Path) -> None:
    vectors = pl.Series(VECTORS.tolist(), dtype=pl.Array(pl.Float32, 2))
    pl.DataFrame({"image_id": IDS, "features": vectors, "boxes": [[1]] * 3}).write_parquet(path)


def as_columns(path: Path) -> None:
    pl.DataFrame({"f0": VECTORS[:, 0], "image_id": IDS, "f1": [6, 2, 4]}).write_parquet(path)


def as_npz(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), image_id=IDS, embeddings=VECTORS, labels=np.arange(3))


def as_half(path: Path) -> None:
    """With ids as bytes, compressed, and another array of two dimensions."""
    vectors = VECTORS.astype(np.float16)
    np.savez_compressed(
        path.with_suffix(".npz"), image_id=np.array(IDS, "S"), features=vectors, boxes=np.ones((3, 4))
    )


@pytest.mark.parametrize("write", [as_lists, as_arrays, as_columns, as_npz, as_half])
def test_vectors_are_found_by_the_ids_of_images(write, tmp_path: Path, make_manifest):
    write(tmp_path / "features.parquet")
    (file,) = tmp_path.iterdir()
    images = make_manifest([{"label": "x", "image_id": name} for name in "abc"])
    found = embed(images, lambda num_classes: given_features(str(file), num_classes), 64)
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert read_features(str(file))(images.with_table(images.table[[2, 0]])).tolist() == [[5, 6], [1, 2]]
    assert embed(images.with_table(images.table.clear()), given(file), 64).shape == (0, 2)


def given(file: Path):
    return lambda num_classes: given_features(str(file), num_classes)


def test_several_files_and_whole_numbers_as_ids(tmp_path: Path, make_manifest):
    np.savez(tmp_path / "one.npz", image_id=[1, 2], features=VECTORS[:2])
    pl.DataFrame({"image_id": [3], "features": [[7.0, 8.0]]}).write_parquet(tmp_path / "two.parquet")
    images = make_manifest([{"label": "x", "image_id": name} for name in "321"])
    files = [str(tmp_path / "one.npz"), str(tmp_path / "two.parquet")]
    assert read_features(files)(images).tolist() == [[7, 8], [1, 2], [5, 6]]
    np.savez(tmp_path / "one.npz", image_id=[1, 2, 3], features=VECTORS)
    with pytest.raises(InputError, match=r"names 1 image more than once:\n  3\n"):
        read_features(files)
    assert read_features(files[0])(images).tolist() == [[3, 4], [1, 2], [5, 6]], "a changed file is read anew"
    np.savez(tmp_path / "one.npz", image_id=[1, 2], features=VECTORS[:2, :1])
    with pytest.raises(InputError, match=r"different lengths:\n  .*one\.npz: 1\n  .*two\.parquet: 2\n"):
        read_features(files)


def test_images_that_a_mix_has_renamed_are_still_found(tmp_path: Path, make_manifest):
    """Repeated photographs, and images of pools that were joined; of pools that call images alike, each under its own name."""
    pools = {
        name: make_manifest([{"label": "x", "image_id": "a"}], tmp_path / f"images-{name}", size=8 + number)
        for number, name in enumerate(("curate/1", "curate/2"))
    }
    joined = join_pools(pools)
    assert joined.table["image_id"].to_list() == ["curate/1/a", "curate/2/a"]
    repeated = make_manifest([{"label": "x", "image_id": "b~2"}])
    np.savez(tmp_path / "plain.npz", image_id=["a", "b"], features=VECTORS[:2])
    plain = read_features(str(tmp_path / "plain.npz"))
    assert plain(repeated).tolist() == [[1, 2]]
    assert plain(joined.with_table(joined.table[:1])).tolist() == [[5, 6]]
    with pytest.raises(InputError, match=r"one vector for several pictures(.|\n)*  curate/1/a\n  curate/2/a"):
        plain(joined)
    np.savez(tmp_path / "named.npz", image_id=["a", "curate/2/a"], features=VECTORS[:2])
    assert read_features(str(tmp_path / "named.npz"))(joined).tolist() == [[5, 6], [1, 2]]


def test_missing_images_are_counted_and_named(tmp_path: Path, make_manifest):
    as_npz(tmp_path / "features")
    features = read_features(str(tmp_path / "features.npz"))
    images = make_manifest([{"label": "x", "image_id": name} for name in ["a", "d", *map(str, range(24))]])
    with pytest.raises(InputError, match=r"has no features of 25 of 26 images:\n  d\n  0\n(.|\n)*and 5 more"):
        features.check(images)
    with pytest.raises(InputError, match="has no features of 25 images"):
        features(images)
    features.check(images.with_table(images.table[:1]))
    with pytest.raises(InputError, match="has no features of 1 of 1 images"):
        features.check(make_manifest([{"label": "x", "image_id": "a~1"}]))


def table(**columns) -> dict:
    return {"image_id": ["a", "b"], **columns}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": ["a"], "features": [[1.0]]}, r"has no column image_id .*; its columns are id, features"),
        ({"image_id": [1.5], "features": [[1.0]]}, "has no column image_id of text or integers"),
        (table(label=["x", "y"], f0=[1.0, 2.0]), r"neither a column of lists .* image_id: label\."),
        (table(), "neither a column of lists"),
        (table(one=[[1.0]] * 2, two=[[2.0]] * 2), "several columns of lists, one, two: call the one that"),
        (table(features=[["x"], ["y"]]), "neither a column of lists of numbers"),
        (table(features=[[1.0, 2.0], [1.0]]), r"different lengths, 1, 2; .* 1 images"),
        (table(features=[[1.0], None]), r"different lengths, 0, 1; .* 1 images:\n  b"),
        (table(features=[[1.0], [None]]), r"1 vectors with values that are missing, .*:\n  b"),
        (table(features=[[float("nan")], [1.0]]), r"1 vectors with values that are missing, .*:\n  a"),
        (table(features=[[1.0], [float("inf")]]), r"1 vectors with values .*:\n  b"),
        (table(features=[[1.0], [1e300]]), r"1 vectors with values .*:\n  b"),
        (table(f0=[1.0, None]), r"1 vectors with values that are missing, .*:\n  b"),
        ({"image_id": ["a", "a"], "features": [[1.0]] * 2}, r"names 1 image more than once:\n  a"),
        ({"image_id": ["a", None], "features": [[1.0]] * 2}, "1 row without an image_id"),
        (
            {
                "image_id": pl.Series([], dtype=pl.String),
                "features": pl.Series([], dtype=pl.List(pl.Float32)),
            },
            "holds 0 vectors",
        ),
        (table(features=pl.Series([[], []], dtype=pl.List(pl.Float32))), "holds 2 vectors of 0 numbers"),
    ],
)
def test_parquet_that_holds_no_features_is_refused(columns: dict, said: str, tmp_path: Path):
    pl.DataFrame(columns).write_parquet(tmp_path / "features.parquet")
    with pytest.raises(InputError, match=said):
        read_features(str(tmp_path / "features.parquet"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"ids": ["a"], "features": [[1.0]]},
            r"has no array image_id \[M\] .*; it holds ids <U1 \[1\], features",
        ),
        ({"image_id": [["a"]], "features": [[1.0]]}, r"has no array image_id \[M\]"),
        (
            {"image_id": ["a"], "features": [1.0]},
            r"has no array of vectors \[M, D\] .*features float64 \[1\]",
        ),
        ({"image_id": ["a"], "one": [[1.0]], "two": [[1.0]]}, "several arrays .*, one, two"),
        ({"image_id": ["a", "b"], "features": [[1.0]]}, "2 ids and 1 vectors"),
        ({"image_id": ["a"], "features": [[np.nan]]}, "1 vectors with values"),
        ({"image_id": ["a", "a"], "features": [[1.0], [2.0]]}, "names 1 image more than once"),
        ({"image_id": np.array([b"\xff"]), "features": [[1.0]]}, "are no UTF-8"),
        ({"image_id": np.array(["a"], object), "features": [[1.0]]}, "pickles are not read"),
    ],
)
def test_npz_that_holds_no_features_is_refused(arrays: dict, said: str, tmp_path: Path):
    np.savez(tmp_path / "features.npz", **arrays)
    with pytest.raises(InputError, match=said):
        read_features(str(tmp_path / "features.npz"))


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def test_files_that_are_no_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / "whole.npz"
    np.savez(whole, image_id=["a"], features=[[1.0]])
    contents = {
        "pickle.npz": pickle.dumps(Bomb()),
        "cut.npz": whole.read_bytes()[:-30],
        "empty.npz": b"",
        "text.npz": b"image_id,features",
        "pickle.parquet": pickle.dumps(Bomb()),
        "empty.parquet": b"",
        "text.csv": b"image_id,features",
    }
    np.savez("objects.npz", image_id=np.array(["a"]), features=np.array([[Bomb()]], object))
    np.save("one.npy", np.ones((2, 2)))
    Path("one.npy").rename("one.npz")
    for name, content in contents.items():
        Path(name).write_bytes(content)
    for name in [*contents, "objects.npz", "one.npz"]:
        with pytest.raises(InputError, match=rf"{name} is no (NPZ|Parquet) file"):
            read_features(name)
    assert not Path("owned").exists(), "nothing was unpickled"
    with pytest.raises(InputError, match=r"There is no features file missing\.npz"):
        read_features(["whole.npz", "missing.npz"])
    with pytest.raises(InputError, match="No features file is named"):
        read_features([])


def test_what_stands_in_a_networks_place_looks_at_no_pictures(tmp_path: Path):
    as_npz(tmp_path / "features")
    network = given_features(str(tmp_path / "features.npz"), 4)
    assert network.get_classifier()(torch.zeros(1, 2)).shape == (1, 4)
    assert deepcopy(network).look_up is network.look_up, "vectors are not copied with a network"
    with pytest.raises(InputError, match="choose a network"):
        network(torch.zeros(1, 3, 8, 8))
