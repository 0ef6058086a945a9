"""A sweep's folders as the stages leave them, with plausible random content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.leaks.seen import write_seen
from skinaug.manifest import Manifest
from skinaug.report.collect import Study, make_study, read_runs
from skinaug.store.digest import sha256_file

CLASSES = ("acne", "eczema", "nevus", "psoriasis", "tinea", "vitiligo")
ARMS = {
    "real_small": (10, 0, 0.0),
    "real": (20, 0, 0.5),
    "hybrid": (10, 10, 0.25),
    "synthetic": (0, 20, -0.4),
}
STEPS = (20, 40, 60, 80, 100)
SCORES = ("non_skin", "ensemble")


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a sweep of a name and returns its folder; see `write_sweep`."""
    return lambda name="sweep", **options: write_sweep(tmp_path / name, tmp_path / f"{name}-store", **options)


@pytest.fixture(scope="session")
def drawn_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of one drawn sweep, for tests that only read it."""
    place = tmp_path_factory.mktemp("drawn")
    return make_study(read_runs(write_sweep(place / "sweep", place / "store", tests=60, size=8)))


def write_sweep(
    folder: Path,
    store: Path,
    arms: dict[str, tuple[int, int, float]] = ARMS,  # real and synthetic a class, strength of the classifier
    overrides: Callable[[str], dict[str, Any]] = lambda arm: {"mix": arm},
    seeds: int = 3,
    classes: tuple[str, ...] = CLASSES,
    tests: int = 30,  # a class
    size: int = 64,  # pixels
    licence: str = "CC0-1.0",
) -> Path:
    rng = np.random.default_rng(0)
    real, pool = _dataset(store / "dataset", classes, tests, size, licence, rng), None
    shared = {"dataset": store / "dataset"}
    if any(synthetic for _, synthetic, _ in arms.values()):
        pool = _pool(store, real, classes, size, rng)
    difficulty = rng.normal(size=real.split("test").table.height)
    for job, (arm, seed) in enumerate((arm, seed) for seed in range(seeds) for arm in arms):
        per_class_real, per_class_synthetic, strength = arms[arm]
        artifacts = {**shared, "mix": store / f"mix{job}", "classify": store / f"classify{job}"}
        if per_class_synthetic and pool is not None:
            artifacts |= {
                stage: store / stage
                for stage in ("finetune", "generate", "score.ensemble", "curate", "audit")
            }
        write_mix(artifacts["mix"], classes, per_class_real, per_class_synthetic)
        artifacts["classify"].mkdir(parents=True)
        _certificate(artifacts["classify"])
        _classify(artifacts["classify"], real, difficulty, strength, np.random.default_rng((seed, job)))
        run = {
            "experiment": "akrout2023",
            "arm": arm,
            "seed": seed,
            "overrides": {**overrides(arm), "seed": seed},
            "config": {
                "seed": seed,
                "scale": "demo",
                "classify": {"steps": STEPS[-1], "learning_rate": 3e-4},
            },
            "artifacts": {stage: str(path) for stage, path in artifacts.items()},
        }
        (folder / str(job)).mkdir(parents=True)
        (folder / str(job) / "run.json").write_text(json.dumps(run))
    return folder


def _record(folder: Path, stage: str, seconds: float, **config: Any) -> None:
    record = {
        "stage": stage,
        "key": folder.name,
        "config": config,
        "inputs": {},
        "packages": {"skinaug": "0.1.0", "torch": "2.15.0", "numpy": np.__version__},
        "git_revision": "0123456789abcdef0123456789abcdef01234567",
        "device": "x86_64 CPU, 2 cores",
        "seconds": seconds,
        "created": "2026-01-02T03:04:05+00:00",
    }
    (folder / "artifact.json").write_text(json.dumps(record))


def _draw(path: Path, size: int, kind: int, rng: np.random.Generator) -> None:
    """A skin-coloured square with a blob whose colour and size go with the class."""
    y, x = np.mgrid[:size, :size] / size - 0.5 + rng.normal(0, 0.08, (2, 1, 1))
    tone = np.array([224, 178, 150]) * rng.uniform(0.45, 1.05)
    blob = np.exp(-((x**2 + y**2) / (0.02 + 0.01 * kind)))[..., None]
    colour = np.array(
        [[190, 60, 60], [200, 90, 80], [80, 50, 40], [215, 140, 130], [180, 90, 60], [245, 235, 225]]
    )[kind % 6]
    pixels = tone * (1 - 0.8 * blob) + colour * 0.8 * blob + rng.normal(0, 5, (size, size, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def _images(
    folder: Path, rows: list[dict[str, Any]], classes: tuple[str, ...], size: int, rng: np.random.Generator
) -> list:
    (folder / "images").mkdir(parents=True)
    for row in rows:
        path = folder / "images" / f"{row['image_id']}.png"
        _draw(path, size, classes.index(row["label"]), rng)
        row |= {"path": f"images/{path.name}", "width": size, "height": size, "sha256": sha256_file(path)}
    return rows


def _dataset(
    folder: Path, classes: tuple[str, ...], tests: int, size: int, licence: str, rng: np.random.Generator
) -> Manifest:
    rows = []
    for c, label in enumerate(classes):
        for split, count in {"train": 20, "val": 6, "test": tests}.items():
            groups = np.sort(rng.integers(max(1, count // 2), size=count))  # about two images a patient
            ids = [
                (f"real_{c}_{split}_{i:03d}", f"patient_{c}_{split}_{g:03d}") for i, g in enumerate(groups)
            ]
            rows += [
                {"image_id": i, "label": label, "split": split, "group_id": g, "source": "real", **_person(g)}
                for i, g in ids
            ]
    table = pl.DataFrame(_images(folder, rows, classes, size, rng))
    manifest = Manifest(table, folder, classes, licence=licence, citation="Nobody, A. (2026), Drawn images.")
    manifest.write(folder)
    _record(folder, "dataset", 4.2)
    return manifest


def _person(group: str) -> dict[str, Any]:
    """What a patient's name stands for: one in four has no age, few have skin type VI."""
    number = crc32(group.encode())
    return {
        "skin_type": ("I", "II", "III", "IV", "V")[number % 5] if number % 41 else "VI",
        "sex": ("female", "male")[number // 5 % 2],
        "age": None if number // 10 % 4 == 0 else float(number // 40 % 90),
    }


def _pool(
    store: Path, real: Manifest, classes: tuple[str, ...], size: int, rng: np.random.Generator
) -> Manifest:
    (store / "finetune" / "textual_inversion").mkdir(parents=True)
    write_seen(real.split("train"), store / "finetune")
    (store / "finetune" / "labels.json").write_text(json.dumps({label: f"<{label}>" for label in classes}))
    _record(store / "finetune", "finetune", 61.0, steps=200)
    rows = []
    for c, label in enumerate(classes):
        for i in range(25):
            image = f"synthetic_{c}_{i:03d}"
            about = {"prompt": f"a photo of {label}", "prompt_set": "plain", "seed": i, "weights": "abc"}
            sampling = {"guidance_scale": 2.5, "num_inference_steps": 20, "scheduler": "DDIMScheduler"}
            row = {
                "image_id": image,
                "label": label,
                "split": "train",
                "group_id": image,
                "source": "synthetic",
            }
            rows.append({**row, **about, **sampling})
    pool = Manifest(
        pl.DataFrame(_images(store / "generate", rows, classes, size, rng)), store / "generate", classes
    )
    pool.write(store / "generate")
    _record(store / "generate", "generate", 120.5)
    _curate(store / "curate", pool, classes)
    _score(store / "score.ensemble", real)
    _audit(store / "audit", pool, real, np.random.default_rng(1))
    return pool


def _score(folder: Path, real: Manifest) -> None:
    folder.mkdir()
    write_seen(real.split("train"), folder)
    _record(folder, "score", 2.0)


def _curate(folder: Path, pool: Manifest, classes: tuple[str, ...]) -> None:
    folder.mkdir()
    kept = pool.where(pl.col("image_id").str.slice(-1) != "0")
    kept.with_table(kept.table.with_columns(exposure=pl.lit("real"))).write(folder)
    rows = []
    for c, label in enumerate(classes):
        about, lost = (label, "plain", ""), 2 + c
        rows.append((*about, "generated", True, "", 25))
        for i, step in enumerate(SCORES, start=1):
            rows.append((*about, step, False, "blurred" if i == 1 else step, lost))
            filled = 3 if step == "ensemble" else 0
            rows.append((*about, step, True, "", 25 - i * lost - filled))
            rows += [(*about, step, True, "fills its class up", filled)] * bool(filled)
    schema = ["label", "prompt_set", "subgroup", "step", "kept", "reason", "images"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(folder / "funnel.csv")
    _record(folder, "curate", 9.0)


def _audit(
    folder: Path, pool: Manifest, real: Manifest, rng: np.random.Generator, worth: float = 0.0
) -> None:
    """An audit's files; `worth` makes every measure better."""
    folder.mkdir()
    signs = {
        "fid": -9,
        "kid": -1,
        "cmmd": -1,
        "precision": 0.1,
        "recall": 0.1,
        "density": 0.1,
        "coverage": 0.1,
        "vendi": 1,
    }
    rows = [
        (
            name,
            label,
            metric,
            base + worth * sign,
            base + worth * sign - 0.01,
            base + worth * sign + 0.01,
            30,
            60,
            "",
        )
        for name, base in {"raw": 20.0, "curated": 21.0, "real, held out": 22.0}.items()
        for label in ("all", *pool.classes)
        for metric, sign in signs.items()
    ]
    columns = ["set", "label", "metric", "value", "low", "high", "images", "real_images", "warning"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    few = (pl.col("metric") == "fid") & (pl.col("label") == "all")
    frame.with_columns(
        warning=pl.when(few).then(pl.lit("FID of 30 images is biased.")).otherwise(pl.lit(""))
    ).write_csv(folder / "fidelity.csv")
    photographs = real.split("train").table["image_id"].to_list()
    ids = pool.table["image_id"]
    pl.DataFrame(
        {
            "image_id": ids,
            "nearest": rng.choice(photographs, len(ids)),
            "similarity": rng.uniform(0.5, 1, len(ids)),
            "ratio": rng.uniform(size=len(ids)),
            "copy_p": rng.uniform(size=len(ids)),
            "label": pool.table["label"],
            "kept": ids.str.slice(-1) != "0",
        }
    ).write_parquet(folder / "memorisation.parquet")
    share = {
        "share": 0.02,
        "low": 0.01,
        "high": 0.05,
        "real_share": 0.01,
        "real_low": 0.005,
        "real_high": 0.02,
    }
    found = {"images": len(ids), "copies": 3, **share, "false_positive_rate": 0.01, "accused": False}
    (folder / "memorisation.json").write_text(
        json.dumps({"raw": {**found, "accused": True}, "curated": found})
    )
    asked = [
        (label, site, tone, n % 6 + 1, "small", 2, 1) for n, (label, site, tone) in enumerate(_asked(pool))
    ]
    schema = ["label", "body_site", "skin_type", "tone", "size", "images", "kept"]
    pl.DataFrame(asked, schema=schema, orient="row").write_csv(folder / "attributes.csv")
    _record(folder, "audit", 3.0)


def _asked(pool: Manifest) -> list[tuple[str, str, str]]:
    return [(label, site, tone) for label in pool.classes for site in ("arm", "face") for tone in ("I", "VI")]


def _certificate(folder: Path, holds: bool = True) -> None:
    counts = {"photographs": 60, "image": 0, "patient": 0, "lesion": 0, "near-copy": 0, "unknown": 0}
    held_out = {"val": {"images": 36, "patients": 18}, "test": {"images": 180, "patients": 90}}
    content = {
        "holds": holds,
        "held_out": held_out,
        "places": {"finetune": counts, "training": counts},
        "faults": [],
        "not_covered": ["what the base model was trained on before it came here"],
    }
    (folder / "certificate.json").write_text(json.dumps(content))


def write_mix(folder: Path, classes: tuple[str, ...], real: int, synthetic: int, repeated: int = 0) -> None:
    """A mix's table and what a report reads of its manifest; `repeated` of the real images are copies."""
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"label": classes, "real": real, "synthetic": synthetic}).write_csv(folder / "table.csv")
    source = ["real"] * real + ["synthetic"] * synthetic
    distinct = real - repeated
    rows = [
        {"label": label, "source": name, "sha256": f"{label}-{name}-{i % distinct if name == 'real' else i}"}
        for label in classes
        for i, name in enumerate(source)
    ]
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    _record(folder, "mix", 0.1)


def _rows(images: Manifest, probabilities: np.ndarray) -> pl.DataFrame:
    names = np.array(images.classes)
    return images.table.select("image_id", "group_id", "split", "label").with_columns(
        pl.Series("prediction", names[probabilities.argmax(1)]),
        *(pl.Series(f"p:{name}", probabilities[:, c]) for c, name in enumerate(names)),
    )


def _classify(
    folder: Path, real: Manifest, difficulty: np.ndarray, strength: float, rng: np.random.Generator
) -> None:
    test = real.split("test")
    num_classes = len(real.classes)
    labels = np.array(test.labels())
    logits = rng.normal(size=(len(test), num_classes))
    logits[np.arange(len(test)), labels] += 1.2 + strength + difficulty + rng.normal(0, 0.05)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    val = real.split("val")
    chance = rng.spawn(1)[0]
    votes = chance.normal(size=(len(val), num_classes)) + (1.2 + strength) * np.eye(num_classes)[val.labels()]
    validation = _rows(val, np.exp(votes) / np.exp(votes).sum(1, keepdims=True))
    pl.concat([_rows(test, probabilities), validation]).write_parquet(folder / "predictions.parquet")
    train = {
        "images": 120,
        "real": 60,
        "synthetic": 60,
        "steps": 100,
        "best_step": 80,
        "seconds": 12.5,
        "images_per_second": 310.0,
    }
    top1 = float((probabilities.argmax(1) == labels).mean())
    scores = {"top1": top1, "balanced_accuracy": top1}
    (folder / "metrics.json").write_text(json.dumps({"val": scores, "test": scores, "train": train}))
    with (folder / "curves.csv").open("w") as file:
        file.write("step,epoch,train/loss,val/loss,val/top1\n")
        for i, step in enumerate(STEPS):
            loss = 1.8 * np.exp(-i / 3) + rng.normal(0, 0.03)
            file.write(
                f"{step},{i},{loss:.4f},,\n{step},{i},,{loss + 0.3:.4f},{top1 - 0.2 * np.exp(-i):.4f}\n"
            )
    _record(folder, "classify", 14.0)
