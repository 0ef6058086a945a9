"""Bad inputs by property and fuzz: each is refused with an InputError, or read right. Nothing half-written stays."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.imagefolder import from_imagefolder, to_imagefolder
from skinaug.errors import InputError
from skinaug.images import load_pixels, open_image
from skinaug.manifest import REQUIRED, Manifest
from skinaug.prompts import PromptSet
from skinaug.sources.check import check_images
from skinaug.sources.sources import Csv, Folder
from skinaug.store.artifact import Recipe
from skinaug.store.digest import sha256_file
from skinaug.store.store import Store

pytestmark = pytest.mark.chaos

COLUMNS = {"path": "file", "label": "dx", "group_id": "patient"}
LETTERS = (
    "abcXYZ019 _-.'\"`$%&;,|<>[]{}()#!?*=+~^@\\"
    "éßøłžΩжшאבגعربफलகனไทย皮膚病질환🧴👩‍⚕️\u202e\u200f\u0301\t\n\r\x1b"
)
UNKNOWN = ("", "nan", "<na>", "na", "n/a", "null")


@pytest.fixture
def rng(chaos_seed: int, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{chaos_seed} {request.node.name}")


def word(rng: random.Random, longest: int = 12) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, longest)))


def picture(rng: random.Random, mode: str = "RGB", size: tuple[int, int] = (40, 36)) -> Image.Image:
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Cut off, with changed, lost or repeated bytes, or followed by others."""
    at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    kind = rng.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:end] + content[at:]
    return content + rng.randbytes(rng.randint(1, 99))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand; `rows` is compressed already."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bomb(side: int) -> bytes:
    """A picture of `side` x `side` black points in few bytes."""
    packer = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 1)
    return png(side, side, 1, 0, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


# Pictures


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_pictures_are_read_or_refused(format: str, rng: random.Random, tmp_path: Path, tally):
    names = []
    for number in range(60):
        modes = (
            ["RGB", "L", "CMYK"]
            if format == "JPEG"
            else ["RGB"]
            if format == "WEBP"
            else ["RGB", "L", "P", "1"]
        )
        whole = encoded(picture(rng, rng.choice(modes)), format)
        names.append(f"{number}.{rng.choice(['png', 'jpg', 'tif', 'webp', 'bmp'])}")
        (tmp_path / names[-1]).write_bytes(damaged(rng, whole))
    read, reasons = check_images(tmp_path, names)
    for row, name in enumerate(names):
        if read[row] is None:
            assert reasons[row].split(":")[0] in ("unreadable", "not an image", "tiny")
        else:
            assert open_image(tmp_path / name).size == (read[row].width, read[row].height)
    assert format != "GIF" or len(reasons) == len(names), (
        "a format that is not ours is refused whatever its name"
    )
    tally.inputs += len(names)


def odd_pictures(rng: random.Random) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Name, file and the pixels that must be read of it."""
    grey = np.random.default_rng(rng.getrandbits(32)).integers(0, 65536, (36, 40)).astype(np.uint16)
    scaled = np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, 2)
    yield "16.png", encoded(Image.fromarray(grey), "PNG"), scaled
    yield "16.tif", encoded(Image.fromarray(grey), "TIFF"), scaled
    colour = np.random.default_rng(rng.getrandbits(32)).integers(0, 65536, (36, 40, 3)).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    yield "rgb16.png", png(40, 36, 16, 2, zlib.compress(rows)), (colour >> 8).astype(np.uint8)
    cmyk = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (36, 40, 4), np.uint8)
    ink = cmyk.astype(float) / 255
    rgb = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    yield "cmyk.tif", encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"), rgb.round().astype(np.uint8)
    base = np.asarray(picture(rng))
    alpha = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (36, 40, 1), np.uint8)
    over = base * (alpha / 255) + 255 * (1 - alpha / 255)
    rgba = Image.fromarray(np.concatenate([base, alpha], 2), "RGBA")
    for format, name in (("PNG", "alpha.png"), ("TIFF", "alpha.tif")):
        yield name, encoded(rgba, format), over.round().astype(np.uint8)
    index = np.random.default_rng(rng.getrandbits(32)).integers(0, 4, (36, 40), np.uint8)
    palette = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (4, 3), np.uint8)
    paletted = Image.fromarray(index, "P")
    paletted.putpalette(palette.tobytes())
    seen = palette[index].copy()
    yield "palette.png", encoded(paletted, "PNG"), seen.copy()
    seen[index == 2] = 255
    yield "hole.png", encoded(paletted, "PNG", transparency=2), seen
    turns = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        6: lambda x: np.rot90(x, -1),
    }
    turns |= {5: lambda x: x.transpose(1, 0, 2), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2), 8: np.rot90}
    for number, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = number
        yield f"turned{number}.png", encoded(Image.fromarray(base), "PNG", exif=exif), turn(base)
    exif = Image.Exif()
    exif[0x0112] = 99
    yield "turned99.png", encoded(Image.fromarray(base), "PNG", exif=exif), base
    more: dict[str, Any] = {"save_all": True, "append_images": [picture(rng), picture(rng)]}
    for format, name in (("PNG", "many.png"), ("TIFF", "many.tif"), ("WEBP", "many.webp")):
        options = more | ({"lossless": True} if format == "WEBP" else {})
        yield name, encoded(Image.fromarray(base), format, **options), base
    yield "one.jpg", encoded(Image.fromarray(base), "PNG"), base  # another name than its content's
    yield (
        "mono.png",
        encoded(Image.fromarray(base).convert("1"), "PNG"),
        np.asarray(Image.fromarray(base).convert("1").convert("RGB")),
    )
    telephone = encoded(Image.fromarray(base), "MPO", **more)
    yield "telephone.jpg", telephone, np.asarray(Image.open(io.BytesIO(telephone)).convert("RGB"))


def test_odd_pictures_are_read_right(rng: random.Random, tmp_path: Path, tally):
    for name, content, expected in odd_pictures(rng):
        (tmp_path / name).write_bytes(content)
        read = np.asarray(open_image(tmp_path / name))
        assert read.shape == expected.shape, name
        assert abs(read.astype(int) - expected).max() <= 1, name
        found, bad = check_images(tmp_path, [name])
        assert not bad, name
        assert (found[0].height, found[0].width) == expected.shape[:2]
        tally.inputs += 1


def strange_files(rng: random.Random) -> dict[str, bytes]:
    """Files that are no pictures, or none that can be used."""
    html = b"<html><script>alert(1)</script></html>"
    huge = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    text = png(40, 36, 8, 0, zlib.compress(b"\0" * 41 * 36))
    note = b"k\0\0" + zlib.compress(b"x" * 80_000_000)
    chunk = struct.pack(">I", len(note)) + b"zTXt" + note + struct.pack(">I", zlib.crc32(b"zTXt" + note))
    return {
        "empty.png": b"",
        "page.png": html,
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(x) run\n",
        "program.png": b"\x7fELF" + rng.randbytes(500),
        "pickle.png": b"\x80\x04\x95cos\nsystem\n",
        "archive.jpg": b"PK\x03\x04" + rng.randbytes(500),
        "noise.tif": rng.randbytes(3000),
        "bomb.png": bomb(30_000),
        "wide.png": png(2**31 - 1, 1, 8, 2, zlib.compress(b"\0" * 100)),
        "nothing.png": png(0, 0, 8, 2, zlib.compress(b"")),
        "bomb.bmp": huge,
        "text-bomb.png": text[:33] + chunk + text[33:],
        "one.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "thin.png": encoded(Image.new("RGB", (5000, 1)), "PNG"),
        "real-numbers.tif": encoded(Image.new("F", (40, 40), 0.5), "TIFF"),
        "whole-numbers.tif": encoded(Image.new("I", (40, 40), 70_000), "TIFF"),
        "cut.jpg": encoded(picture(rng, size=(400, 400)), "JPEG")[:9000],
        "cut.png": encoded(picture(rng, size=(400, 400)), "PNG")[:9000],
        "cut.webp": encoded(picture(rng, size=(400, 400)), "WEBP")[:9000],
    }


def test_strange_files_are_all_named_at_once_and_cheaply(rng: random.Random, tmp_path: Path, tally):
    root, files = tmp_path / "root", strange_files(rng)
    (root / "acne").mkdir(parents=True)
    for name, content in files.items():
        (root / "acne" / name).write_bytes(content)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputError) as refused:
        build_dataset(Folder(), str(root), tmp_path)
    spent = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert f"{len(files)} of {len(files)} images" in str(refused.value)
    assert all(name in str(refused.value) for name in list(files)[:20])
    assert spent < 300, f"{spent} MB"
    assert time.monotonic() - started < 20
    assert [path.name for path in tmp_path.iterdir()] == ["root"], "nothing is written"
    tally.inputs += len(files)


# Names and paths


def photographs(root: Path, rng: random.Random, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(rng).save(root / name, "PNG")


def test_names_in_any_script_are_read(rng: random.Random, tmp_path: Path, tally):
    names = {f"acne/x{word(rng)}{number}.png" for number in range(60)}
    names |= {f"acne/-rf{number}.png" for number in range(3)} | {"acne/ x .png", "acne/a\\b.png"}
    names |= {
        f"{name.replace('acne', 'ec/zema' if '/' not in name else 'eczema')}" for name in list(names)[:30]
    }
    photographs(tmp_path / "root", rng, sorted(names))
    out = tmp_path / "out"
    out.mkdir()
    build_dataset(Folder(), str(tmp_path / "root"), out)
    manifest = Manifest.read(out)
    assert set(manifest.table["path"]) == names
    assert load_pixels(manifest, 8, tmp_path / "pixels.sqlite").shape == (len(names), 8, 8, 3)
    exported = from_imagefolder(to_imagefolder(manifest, tmp_path / "export"))
    assert sorted(exported.table["sha256"]) == sorted(manifest.table["sha256"])
    tally.inputs += len(names)


def test_paths_that_climb_are_never_read(rng: random.Random, tmp_path: Path, tally):
    root, secret = tmp_path / "root", tmp_path / "secret"
    photographs(root, rng, ["acne/a.png"])
    photographs(secret, rng, ["s.png"])
    (root / "out.png").symlink_to(secret / "s.png")
    (root / "away").symlink_to(secret)
    (root / "up").symlink_to("..")
    (root / "chain.png").symlink_to("out.png")
    (root / "loop.png").symlink_to("loop.png")
    climbing = [
        "../secret/s.png",
        str(secret / "s.png"),
        "out.png",
        "away/s.png",
        "up/secret/s.png",
        "chain.png",
    ]
    climbing += [
        "acne/../../secret/s.png",
        "./../secret/s.png",
        "..\\secret\\s.png",
        "/etc/passwd",
        "acne/../..",
    ]
    absent = [
        "loop.png",
        "acne/a.png/b.png",
        "x" * 300,
        "a\0.png",
        "~/s.png",
        "$HOME/s.png",
        "file:///etc/passwd",
    ]
    pictures, bad = check_images(
        root, [name.replace("\\", "/") for name in climbing] + absent + ["acne/a.png"]
    )
    assert list(bad.values())[: len(climbing)] == ["leads out of the root"] * len(climbing)
    assert len(bad) == len(climbing) + len(absent)
    assert pictures[-1] is not None
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "dx", "patient"], *([name, "acne", "1"] for name in climbing + absent)]
        )
    with pytest.raises(InputError, match="images cannot be used"):
        build_dataset(Csv(COLUMNS), str(root), tmp_path)
    for name in [*climbing[:2], "/etc/passwd", "acne/../..", "..", "", ".", "a\0"]:
        with pytest.raises(InputError, match="not inside the root"):
            Manifest(table(root).with_columns(path=pl.lit(name)), root, ("acne",))
    for name in ["out.png", "away/s.png", "up/secret/s.png", "chain.png"]:
        manifest = Manifest(table(root).with_columns(path=pl.lit(name)), root, ("acne",))
        with pytest.raises(InputError, match=r"leads? out of its root"):
            load_pixels(manifest, 8)
    tally.inputs += 2 * len(climbing + absent) + 12


def test_names_that_are_no_utf8(rng: random.Random, tmp_path: Path, tally):
    names = [f"acne/{rng.randbytes(3).hex()}\udcff{chr(0xDC80 + rng.randrange(128))}.png" for _ in range(20)]
    photographs(tmp_path, rng, names)
    with pytest.raises(InputError, match=r"(?s)20 names.*\\xff"):
        Folder().load(tmp_path)
    tally.inputs += len(names)


# Tables


def csv_file(rng: random.Random, rows: list[dict[str, str]]) -> bytes:
    """The rows as some program writes them."""
    text = io.StringIO(newline="")
    ends, quoting = rng.choice(["\n", "\r\n"]), rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.DictWriter(text, rows[0], lineterminator=ends, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(rng.choice(["utf-8", "utf-8-sig"]))


def test_tables_are_read_as_python_reads_them(rng: random.Random, tmp_path: Path, tally):
    for _ in range(80):
        rows = [
            {"file": word(rng), "dx": word(rng), "patient": word(rng, 4)} for _ in range(rng.randint(1, 9))
        ]
        rows = [{name: text.replace("\r", "") for name, text in row.items()} for row in rows]
        (tmp_path / "metadata.csv").write_bytes(csv_file(rng, rows))
        bad = [row for row in rows if not row["file"].strip() or row["dx"].strip().lower() in UNKNOWN]
        tally.inputs += 1
        if bad:
            with pytest.raises(InputError, match=f"{len(bad)} rows? of the table"):
                Csv(COLUMNS).load(tmp_path)
            continue
        read = Csv(COLUMNS).load(tmp_path)
        assert read["label"].to_list() == [row["dx"].strip() for row in rows]
        assert read["path"].to_list() == [row["file"].strip().replace("\\", "/") for row in rows]


def test_damaged_tables_are_read_or_refused(rng: random.Random, tmp_path: Path, tally):
    rows = [
        {"file": f"{number}.png", "dx": rng.choice(["acne", "ekzém"]), "patient": "7"} for number in range(30)
    ]
    for _ in range(150):
        (tmp_path / "metadata.csv").write_bytes(damaged(rng, csv_file(rng, rows)))
        with contextlib.suppress(InputError):
            assert set(Csv(COLUMNS).load(tmp_path).columns) == set(COLUMNS)
        tally.inputs += 1


TABLES = {  # content: what is told of it
    b"": "cannot be read as a CSV",
    b"\n\n\n": "cannot be read as a CSV",
    b"\xef\xbb\xbf": "cannot be read as a CSV",
    b"file,dx,patient\n": "found no images",
    b"file,dx\na.png,acne\n": "patient",
    b"file,dx,dx,patient\na.png,acne,acne,1\n": "several columns named dx",
    b"file,dx,patient\na.png,n\xe6vus,1\n": "line 2",
    "file,dx,patient\na.png,acne,1\n".encode("utf-16"): "not UTF-8",
    b"file,dx,patient\na.png,acne,1,2,3\n": "cannot be read as a CSV",
    b"file,dx,patient\na.png\n": "1 row of the table",
    b"file,dx,patient\na.png,NaN,1\nb.png,,1\n,acne,1\n": "3 rows of the table",
    b'file,dx,patient\n"a.png,acne,1\n': "cannot be read as a CSV",
    b"file;dx;patient\na.png;acne;1\n": "lacks columns",
    b"file\tdx\tpatient\na.png\tacne\t1\n": "lacks columns",
    b"\x00\x01\x02\x03": "lacks columns",
    b"file,dx,patient\nabsent.png,acne,1\n": "no such file",
    b"file,dx,patient\n../a.png,acne,1\n": "leads out of the root",
    b"file,dx,patient\na.png,acne,1\n": "Each of train, val, test needs",  # one class, one photograph
    b"file,dx,patient\na.png,acne,1\na.png,acne,1\n": "repeats an image_id|Each of train",
    b"file,dx,patient\n"
    + b"".join(b"%d.png,acne,1\n" % n for n in range(9)): "Too few in:\n  acne: 1",  # one patient
    b"file,dx,patient\n"
    + b"".join(b"%d.png,acne,%d\n" % (n, n) for n in range(8))
    + b"8.png,rare,8\n": "rare: 1",
}


@pytest.mark.parametrize("content", TABLES, ids=[str(number) for number in range(len(TABLES))])
def test_bad_tables_are_told_and_leave_nothing(content: bytes, rng: random.Random, tmp_path: Path, tally):
    photographs(tmp_path / "root", rng, ["a.png", *(f"{number}.png" for number in range(9))])
    (tmp_path / "root" / "metadata.csv").write_bytes(content)
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match=TABLES[content]):
        store.get(
            Recipe("dataset", 1, {}, {}), lambda out: build_dataset(Csv(COLUMNS), str(tmp_path / "root"), out)
        )
    assert not store.root.exists()
    tally.inputs += 1


def test_labels_of_any_text_are_classes(rng: random.Random, tmp_path: Path, tally):
    labels = sorted(
        {word(rng).strip() for _ in range(12)} | {"[/red]", "[bold]", "<b>", "../x", "p:q", "%s{0}"}
    )
    labels = [label for label in labels if label.lower() not in UNKNOWN and "\r" not in label]
    rows = [
        {"file": f"{at}-{n}.png", "dx": label, "patient": f"{at}{n}"}
        for at, label in enumerate(labels)
        for n in range(4)
    ]
    photographs(tmp_path, rng, [row["file"] for row in rows])
    (tmp_path / "metadata.csv").write_bytes(csv_file(rng, rows))
    build_dataset(Csv(COLUMNS), str(tmp_path), tmp_path)
    assert Manifest.read(tmp_path).classes == tuple(sorted(labels))
    tally.inputs += len(labels)


MILLION = """
import resource, sys, time
from pathlib import Path
from skinaug.dataset.dataset import build_dataset
from skinaug.sources.sources import Csv
from skinaug.errors import InputError

try:
    build_dataset(Csv({"path": "file", "label": "dx", "group_id": "patient"}), sys.argv[1], Path(sys.argv[1]))
except InputError as error:
    print(str(error)[:60])
print(round(time.process_time()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
"""


def test_a_million_rows_take_bounded_time_and_memory(rng: random.Random, tmp_path: Path, tally):
    photographs(tmp_path, rng, [f"{number}.png" for number in range(9)])
    with (tmp_path / "metadata.csv").open("w") as file:
        file.write("file,dx,patient\n")
        file.writelines(f"{number}.png,{number % 5},p{number // 2}\n" for number in range(1_000_000))
    command = [sys.executable, "-c", MILLION, str(tmp_path)]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=600
    ).stdout.splitlines()
    seconds, megabytes = map(int, said[-1].split())
    print(f"a million rows: {seconds} s of one core, {megabytes} MB")
    assert "999991 of 1000000 images cannot be used" in "\n".join(said)
    assert seconds < 120
    assert megabytes < 1500
    tally.inputs += 1


# Manifests


def table(root: Path) -> pl.DataFrame:
    row = {
        "image_id": "a",
        "path": "acne/a.png",
        "label": "acne",
        "split": "train",
        "group_id": "g",
        "source": "real",
    }
    return pl.DataFrame([row | {"width": 40, "height": 36, "sha256": sha256_file(root / "acne" / "a.png")}])


@pytest.fixture
def written(rng: random.Random, tmp_path: Path) -> Path:
    """A manifest of one photograph."""
    photographs(tmp_path, rng, ["acne/a.png"])
    return Manifest(table(tmp_path), tmp_path, ("acne",), "CC0", "nobody").write(tmp_path)


def test_damaged_manifests_are_read_or_refused(rng: random.Random, written: Path, tally):
    whole, expected = written.read_bytes(), Manifest.read(written).table
    for _ in range(100):
        written.write_bytes(damaged(rng, whole))
        with contextlib.suppress(InputError):
            assert Manifest.read(written).table.columns == expected.columns
        tally.inputs += 1


def rewritten(
    path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], about: dict[bytes, bytes] | None = None
) -> None:
    """The manifest as somebody has edited it by hand."""
    metadata = pq.read_schema(path).metadata
    edited = change(pl.read_parquet(path)).to_arrow()
    pq.write_table(edited.replace_schema_metadata({**metadata, **(about or {})}), path)


def test_edited_manifests_are_refused(written: Path, tally):
    whole = written.read_bytes()
    values = [None, "text", 3, 2.5, True, ["a"], {"a": 1}, b"bytes"]
    changes = [lambda t, name=name: t.drop(name) for name in REQUIRED]
    changes += [
        lambda t, name=name, value=value: t.with_columns(pl.Series(name, [value]))
        for name in ("width", "height", "label", "split", "source")
        for value in values
        if not (name in ("width", "height") and value in (3, 2.5, True))
    ]
    changes += [
        lambda t, name=name, value=value: t.with_columns(pl.Series(name, [value]))
        for name in ("image_id", "path", "group_id", "sha256")
        for value in (None, {"a": 1}, ["a"])
    ]
    changes += [
        lambda t, path=path: t.with_columns(path=pl.lit(path))
        for path in ("/etc/passwd", "../a.png", "a/../../b.png", "..", "", ".", "a\0")
    ]
    changes += [
        lambda t: pl.concat([t, t]),
        lambda t: t.with_columns(width=pl.lit(-1)),
        lambda t: t.with_columns(width=pl.lit(2**40)),
        lambda t: t.with_columns(age=pl.lit("old")),
        lambda t: t.with_columns(parents=pl.lit("a")),
        lambda t: t.with_columns(source=pl.lit("synthetic")),
    ]
    for number, change in enumerate(changes):
        written.write_bytes(whole)
        rewritten(written, change)
        with pytest.raises(InputError):
            pytest.fail(f"change {number}: {Manifest.read(written).table}")
        tally.inputs += 1
    for name in ("root", "classes", "licence", "citation", "schema_version"):
        for value in (b"\xff\xfe", b"[1]", b'{"a": 1}', b'"acne"', b"["):
            if name in ("licence", "citation", "root") and value != b"\xff\xfe":
                continue
            written.write_bytes(whole)
            rewritten(written, lambda t: t, {name.encode(): value})
            with pytest.raises(InputError):
                pytest.fail(f"{name} {value!r}: {Manifest.read(written)}")
            tally.inputs += 1


def test_an_edited_digest_is_found_when_the_picture_is_read(written: Path, tmp_path: Path, tally):
    for digest in ("0" * 64, "", "../../x", "g" * 64):
        rewritten(written, lambda t, digest=digest: t.with_columns(sha256=pl.lit(digest)))
        with pytest.raises(InputError, match="SHA-256"):
            load_pixels(Manifest.read(written), 8, tmp_path / "pixels.sqlite")
        tally.inputs += 1
    assert not (tmp_path / "pixels.sqlite").exists()


def test_damaged_exports_are_read_or_refused(rng: random.Random, written: Path, tmp_path: Path, tally):
    folder = to_imagefolder(Manifest.read(written), tmp_path / "export")
    files = [folder / "dataset_info.yaml", folder / "train" / "metadata.jsonl"]
    whole = [file.read_bytes() for file in files]
    for _ in range(60):
        at = rng.randrange(2)
        files[at].write_bytes(damaged(rng, whole[at]))
        with contextlib.suppress(InputError):
            from_imagefolder(folder)
        files[at].write_bytes(whole[at])
        tally.inputs += 1
    files[1].write_text(json.dumps(json.loads(whole[1]) | {"file_name": "../../acne/a.png"}))
    with pytest.raises(InputError, match="not inside the root"):
        from_imagefolder(folder)
    tally.inputs += 1


# Prompts


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A value that YAML can hold."""
    plain = [
        None,
        True,
        0,
        -3,
        2.5,
        float("nan"),
        float("inf"),
        "",
        " ",
        "{label}",
        "[x]",
        "{",
        "\ud800",
        "\0",
        word(rng),
    ]
    if depth > 2 or rng.random() < 0.5:
        return rng.choice(plain)
    if rng.random() < 0.5:
        return [anything(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    keys = [None, True, 3, 2.5, "face", "label", "seed", "body_site", word(rng)]
    return {rng.choice(keys): anything(rng, depth + 1) for _ in range(rng.randint(0, 4))}


def test_prompt_sets_of_anything_work_or_are_refused(rng: random.Random, tally):
    good: dict[str, Any] = {
        "name": "mine",
        "templates": ["a photo of {label}[ on the {body_site}]"],
        "attributes": {"body_site": {"face": 1, "arm": 2.5, 3: 1}},
        "synonyms": {"face": ["cheek"], "acne": "spots"},
        "labels": {"acne": "acne vulgaris"},
    }
    worked = 0
    for _ in range(400):
        tried = dict(good)
        for name in rng.sample(sorted(good), rng.randint(1, 2)):
            tried[name] = anything(rng)
        tally.inputs += 1
        try:
            prompts = PromptSet(**tried)
            rows = prompts.sample("acne", 5, 0)
            prompts.check_labels(["acne"])
        except InputError:
            continue
        worked += 1
        for row in rows:
            assert row["prompt"].encode()
            assert not set("{}") & set(row["prompt"]) - set("".join(map(str, tried["synonyms"] or {})))
        prompts.caption({"label": "acne", "body_site": "face"}, np.random.default_rng(0))
    assert worked > 5


def test_unknown_placeholders_and_long_lists(tally):
    templates = [f"{{slot{number}}}" for number in range(300)] + ["a {label}"]
    with pytest.raises(InputError) as refused:
        PromptSet("mine", templates)
    assert all(f"{{slot{number}}}" in str(refused.value) for number in range(300))
    started = time.monotonic()
    many = PromptSet("mine", [f"photo {number} of {{label}}" for number in range(19_000)])
    assert len({row["prompt"] for row in many.sample("acne", 1000, 0)}) > 900
    assert time.monotonic() - started < 20
    tally.inputs += len(templates) + 1


# The command line

LAUGHS = "templates: &a0 [ha]\n" + "".join(
    f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
YAMLS = {
    LAUGHS: "aliases written out",
    "name: mine\ntemplates: !!python/object/apply:os.system ['touch owned']\n": "tag",
    "name: mine\ntemplates: ['a {lable}']\n": "did you mean {label}",
    "templates: [a\n": "not YAML",
    "name: mine\ntemplates:\n" + "- a {label}\n" * 30_000: "more than 20,000 values",
}


def told(folder: Path, *words: str) -> str:
    """What a refused command says; it must end with 2, quickly and without a trace of the program."""
    command = [sys.executable, "-m", "skinaug", *words, "logger=none"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("text", YAMLS, ids=["laughs", "tag", "slot", "broken", "long"])
def test_bad_prompt_files_end_a_command_with_2(text: str, tmp_path: Path, tally):
    (tmp_path / "conf" / "prompts").mkdir(parents=True)
    (tmp_path / "conf" / "prompts" / "mine.yaml").write_text(text)
    prefix = ["prompts", "prompts=mine", "dataset=phantom"]
    if "lable" in text:
        (tmp_path / "conf" / "prompts" / "mine.yaml").write_text(
            f"_target_: skinaug.prompts.PromptSet\n{text}"
        )
    assert YAMLS[text] in told(tmp_path, *prefix)
    assert [path.name for path in tmp_path.iterdir()] == ["conf"], "nothing is built, nothing was run"
    tally.inputs += 1


def test_bad_photographs_end_a_command_with_2(rng: random.Random, tmp_path: Path, tally):
    photographs(tmp_path / "root", rng, [f"acne/{number}.png" for number in range(6)])
    root = [f"dataset.root={tmp_path / 'root'}", "dataset=folder"]
    assert "one class" in told(tmp_path, "classify", *root, "mix=real", "backbone.pretrained=false")
    (tmp_path / "root" / "acne" / "bad\n\x1b[2J.png").write_bytes(b"<html>")
    said = told(tmp_path, "dataset", *root)
    assert "bad\\n\\x1b[2J.png: not an image" in said
    assert not (tmp_path / "store" / "dataset").exists() or not list((tmp_path / "store").rglob("*.partial"))
    tally.inputs += 2
