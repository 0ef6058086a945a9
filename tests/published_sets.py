"""Published sets as they are unpacked, drawn in small: their tables' columns and oddities, and pictures of noise.

`draw(name, root)` draws one; what a loader must find in it stands in tests/sources/test_published.py.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(path: Path, seed: str | None = None) -> None:
    """A picture of its own for each name."""
    digest = hashlib.sha256((seed or path.as_posix()).encode()).digest()
    coarse = np.random.default_rng(list(digest)).integers(60, 230, (5, 6, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((44, 40), Image.Resampling.BICUBIC).save(path)


def write(path: Path, rows: Sequence[Mapping[str, Any]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def one_hot(names: Iterable[str], chosen: str) -> dict[str, float]:
    return {name: float(name == chosen) for name in names}


def ham_rows(first: int, count: int, lesion: str, age: str) -> list[dict[str, Any]]:
    """Two images a lesion, three diagnoses."""
    return [
        {
            "lesion_id": f"{lesion}_{n // 2:07}",
            "image_id": f"ISIC_{first + n:07}",
            "dx": ("nv", "mel", "bkl")[n // 2 % 3],
            "dx_type": ("histo", "follow_up")[n % 2],
            "age": ("", "0.0", age)[n % 3],
            "sex": ("male", "female", "unknown")[n % 3],
            "localization": ("lower extremity", "unknown")[n % 2],
            "dataset": "vidir_modern",
        }
        for n in range(count)
    ]


def ham10000(root: Path) -> None:
    """As most people have it: the table without a suffix, and one part unpacked twice, in folders that differ in case alone."""
    rows = ham_rows(24300, 24, "HAM", "80.0")
    for n, row in enumerate(rows):
        picture(root / f"HAM10000_images_part_{1 + n % 2}" / f"{row['image_id']}.jpg", row["image_id"])
        if n % 2:
            picture(root / "ham10000_images_part_2" / f"{row['image_id']}.jpg", row["image_id"])
    write(root / "HAM10000_metadata", rows, "\t")


def isic2018(root: Path) -> None:
    """As Harvard Dataverse has it: HAM10000, and the test set's table of the same columns."""
    ham10000(root)
    test = ham_rows(34500, 12, "HAMTEST", "40.0")
    for row in test:
        picture(root / "ISIC2018_Task3_Test_Images" / f"{row['image_id']}.jpg")
    write(root / "ISIC2018_Task3_Test_GroundTruth.csv", test)


ISIC_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def isic2018_challenge(root: Path) -> None:
    """As the challenge has it: one-hot, folders named as their tables, lesions of the training set in a table of their own."""
    lesions = []
    for part, first, count in (("Training", 24300, 18), ("Validation", 34300, 6), ("Test", 34500, 6)):
        truth = [
            {"image": f"ISIC_{first + n:07}", **one_hot(ISIC_2018, ("MEL", "NV", "BKL")[n // 2 % 3])}
            for n in range(count)
        ]
        for row in truth:
            picture(root / f"ISIC2018_Task3_{part}_Input" / f"{row['image']}.jpg")
        write(root / f"ISIC2018_Task3_{part}_GroundTruth/ISIC2018_Task3_{part}_GroundTruth.csv", truth)
        if part == "Training":
            lesions = [
                {"image": row["image"], "lesion_id": f"HAM_{n // 2}", "diagnosis_confirm_type": "histo"}
                for n, row in enumerate(truth)
            ]
    write(root / "ISIC2018_Task3_Training_LesionGroupings.csv", lesions)


ISIC_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def isic2019(root: Path, test: bool = False) -> None:
    """Three images a lesion, but for one in twelve whose lesion is not told; the test set has images of no class."""
    parts = [("Training", 0, 36)] + [("Test", 90000, 9)] * test
    for part, first, count in parts:
        truth, meta = [], []
        for n in range(count):
            image = f"ISIC_{first + n:07}" + ("_downsampled" if n % 12 == 2 else "")
            picture(root / f"ISIC_2019_{part}_Input" / f"{image}.jpg")
            chosen = "UNK" if part == "Test" and n == 8 else ("MEL", "NV", "BCC")[n // 3 % 3]
            truth.append({"image": image, **one_hot(ISIC_2019, chosen)})
            meta.append(
                {
                    "image": image,
                    "age_approx": ("55.0", "", "0.0")[n % 3],
                    "anatom_site_general": ("head/neck", "")[n % 2],
                    "lesion_id": "" if n % 12 == 1 else f"{part}_{n // 3:07}",
                    "gender": ("female", "male", "")[n % 3],
                }
            )
        write(root / f"ISIC_2019_{part}_GroundTruth.csv", truth)
        write(root / f"ISIC_2019_{part}_Metadata.csv", meta)


def isic2020(root: Path) -> None:
    """Four images a patient; two patients share a copy; two diagnoses of one image; test images that nobody has labelled."""
    rows = []
    for n in range(40):
        melanoma = n % 8 == 0
        told = ("unknown", "nevus", "lentigo NOS", "nevus")[n % 4]
        rare = {38: "solar lentigo", 39: "cafe-au-lait macule"}
        rows.append(
            {
                "image_name": f"ISIC_{5000000 + 37 * n:07}",
                "patient_id": f"IP_{n // 4:07}",
                "sex": ("male", "female", "")[n % 3],
                "age_approx": ("45.0", "")[n % 2],
                "anatom_site_general_challenge": ("torso", "")[n % 2],
                "diagnosis": "melanoma" if melanoma else rare.get(n, told),
                "benign_malignant": "malignant" if melanoma else "benign",
                "target": int(melanoma),
            }
        )
        picture(root / "jpeg/train" / f"{rows[-1]['image_name']}.jpg")
    for n in range(3):
        picture(root / "jpeg/test" / f"ISIC_{9000000 + n}.jpg")
    write(root / "train.csv", rows)
    pairs = [(rows[1], rows[5]), (rows[1], {"image_name": "ISIC_0000000"})]
    write(
        root / "ISIC_2020_Training_Duplicates.csv",
        [{"image_name_1": one["image_name"], "image_name_2": other["image_name"]} for one, other in pairs],
    )


def isic2024(root: Path, packed: bool = False) -> None:
    """Six tiles a patient, in a folder or in one HDF5 file."""
    rows = []
    for n in range(48):
        rows.append(
            {
                "isic_id": f"ISIC_{15000 + 7 * n:07}",
                "target": int(n % 6 == 0),
                "patient_id": f"IP_{n // 6:07}",
                "age_approx": ("60.0", "")[n % 2],
                "sex": ("male", "female", "")[n % 3],
                "anatom_site_general": ("posterior torso", "")[n % 2],
                "lesion_id": f"IL_{n:07}" if n % 6 == 0 else "",
                "iddx_1": "Malignant" if n % 6 == 0 else "Benign",
            }
        )
        picture(root / "train-image/image" / f"{rows[-1]['isic_id']}.jpg", rows[-1]["isic_id"])
    write(root / "train-metadata.csv", rows)
    if packed:
        pack(root / "train-image.hdf5", root / "train-image/image")


def pack(file: Path, folder: Path) -> None:
    """JPEG files as one HDF5 file, id -> bytes, in the place of their folder."""
    import h5py

    with h5py.File(file, "w") as pictures:
        for path in sorted(folder.iterdir()):
            pictures.create_dataset(path.stem, data=np.bytes_(path.read_bytes()))
            path.unlink()
    folder.rmdir()


MILK10K = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")


def milk10k(root: Path) -> None:
    """Two images a lesion; one lesion without a label."""
    truth, meta = [], []
    for n in range(12):
        lesion = f"IL_{n:07}"
        if n != 11:
            truth.append({"lesion_id": lesion, **one_hot(MILK10K, ("BCC", "NV", "MEL")[n % 3])})
        for kind in ("clinical: close-up", "dermoscopic"):
            image = f"ISIC_{8000000 + len(meta):07}"
            picture(root / "MILK10k_Training_Input" / lesion / f"{image}.jpg")
            meta.append(
                {
                    "lesion_id": lesion,
                    "image_type": kind,
                    "isic_id": image,
                    "age_approx": ("70", "")[n % 2],
                    "sex": ("male", "female")[n % 2],
                    "skin_tone_class": (0, 5, 3)[n % 3],
                    "site": ("head_neck_face", "")[n % 2],
                }
            )
    write(root / "MILK10k_Training_Metadata.csv", meta)
    write(root / "MILK10k_Training_GroundTruth.csv", truth)


def derm7pt(root: Path) -> None:
    """Splits as numbers of rows; suffixes in both cases; a diagnosis of one case; photographs that stand in two rows: those of rows
    0 and 18, one patient in two splits, and those of rows 1 and 2, whose labels differ."""
    names = ("basal cell carcinoma", "clark nevus", "melanoma (in situ)")
    rows = []
    for n in range(24):
        clinic, derm = f"NEL/NEL{n:03}.{('JPG', 'jpg')[n % 2]}", f"Nml/Nml{n:03}.jpg"
        picture(root / "release_v0/images" / derm)
        if n not in (2, 18):
            picture(root / "release_v0/images" / clinic.replace("JPG", "jpg"))
        rows.append(
            {
                "case_num": n + 1,
                "diagnosis": "melanoma" if n == 23 else names[n % 3],
                "seven_point_score": n % 8,
                "location": ("head neck", "lower limbs")[n % 2],
                "sex": ("female", "male")[n % 2],
                "management": "excision",
                "clinic": clinic,
                "derm": derm,
                "case_id": "",
            }
        )
    rows[18]["clinic"], rows[2]["clinic"] = rows[0]["clinic"], rows[1]["clinic"]
    write(root / "release_v0/meta/meta.csv", rows)
    for split, numbers in (("train", range(12)), ("valid", range(12, 18)), ("test", range(18, 24))):
        write(root / f"release_v0/meta/{split}_indexes.csv", [{"indexes": n} for n in numbers])


def fitzpatrick17k(root: Path) -> None:
    """Files named by digest or by link, links that are dead by now, and a row that quality control rejects."""
    labels = {"psoriasis": "inflammatory", "melanoma": "malignant melanoma", "vitiligo": "inflammatory"}
    rows = []
    for n in range(30):
        label = list(labels)[n % 3]
        digest = hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()
        rows.append(
            {
                "md5hash": digest,
                "fitzpatrick_scale": (1, 4, -1)[n % 3],
                "fitzpatrick_centaur": (2, 4, -1)[n % 3],
                "label": label,
                "nine_partition_label": labels[label],
                "three_partition_label": "malignant" if label == "melanoma" else "non-neoplastic",
                "qc": {11: "3 Wrongly labelled", 9: "1 Diagnostic"}.get(n, ""),
                "url": f"https://atlas.example/{n}.jpg",
                "url_alphanum": f"httpsatlasexample{n}.jpg",
            }
        )
        if n not in (3, 17):
            picture(root / "images" / (f"{digest}.jpg" if n % 2 else rows[-1]["url_alphanum"]))
    write(root / "fitzpatrick17k.csv", rows)


def ddi(root: Path) -> None:
    """A first column without a name; a disease of one image."""
    rows = []
    for n in range(24):
        picture(root / f"{n + 1 + n // 7:06}.png")
        rows.append(
            {
                "": n,
                "DDI_ID": n + 1 + n // 7,
                "DDI_file": f"{n + 1 + n // 7:06}.png",
                "skin_tone": (12, 34, 56)[n % 3],
                "malignant": str(n % 4 == 0),
                "disease": "acrochordon"
                if n == 23
                else ("melanoma-in-situ", "melanocytic-nevi", "basal-cell-carcinoma-(nm)", "eczema")[n % 4],
            }
        )
    write(root / "ddi_metadata.csv", rows)


def scin(root: Path) -> None:
    """One to three photographs a case; labels as text of all kinds."""
    kinds = [
        (["Eczema"], {"Eczema": 1.0}),
        (["Eczema", "Psoriasis"], {"Eczema": 0.67, "Psoriasis": 0.33}),
        (["Urticaria"], {"Urticaria": 1.0}),
        ([], {}),
        (["Acne", "Eczema", "Urticaria"], {"Acne": 0.4, "Eczema": 0.35, "Urticaria": 0.25}),
        (["Eczema", "Urticaria"], {"Eczema": 0.5, "Urticaria": 0.5}),
    ]
    cases, labels = [], []
    for n in range(30):
        case = (-1) ** n * (3 * 10**18 + n)
        paths = [f"dataset/images/{-case}{k}.png" for k in range(1 + n % 3)]
        for path in paths:
            picture(root / path)
        cases.append(
            {
                "case_id": case,
                "age_group": ("AGE_18_TO_29", "AGE_UNKNOWN")[n % 2],
                "sex_at_birth": ("FEMALE", "OTHER_OR_UNSPECIFIED")[n % 2],
                "fitzpatrick_skin_type": ("FST1", "FST6", "NONE_SELECTED")[n % 3],
                "body_parts_arm": ("YES", "")[n % 2],
                "body_parts_leg": ("", "YES")[n % 3 > 0],
                **{f"image_{k + 1}_path": dict(enumerate(paths)).get(k, "") for k in range(3)},
            }
        )
        names, weights = kinds[n % 6]
        labels.append(
            {
                "case_id": case,
                "dermatologist_skin_condition_on_label_name": str(names),
                "weighted_skin_condition_label": str(weights),
                "dermatologist_fitzpatrick_skin_type_label_1": ("FST2", "")[n % 2],
                "monk_skin_tone_label_us": (3, 10, "")[n % 3],
            }
        )
    write(root / "dataset/scin_cases.csv", cases)
    write(root / "dataset/scin_labels.csv", labels)


def pad_ufes_20(root: Path) -> None:
    """Lesions that are numbered anew with each patient; rows without a skin type."""
    rows = [
        {
            "patient_id": f"PAT_{n // 2}",
            "lesion_id": n % 4,
            "age": 40 + n,
            "gender": ("MALE", "FEMALE", "")[n % 3],
            "region": ("FACE", "LOWER_LEG")[n % 2],
            "fitspatrick": ("3.0", "")[n % 2],
            "diagnostic": ("BCC", "NEV", "ACK")[n // 2 % 3],
            "img_id": f"PAT_{n // 2}_{n % 4}_{n}.png",
        }
        for n in range(24)
    ]
    for n, row in enumerate(rows):
        picture(root / f"imgs_part_{1 + n % 3}" / row["img_id"])
    write(root / "metadata.csv", rows)


SETS: dict[str, Callable[[Path], None]] = {
    drawing.__name__: drawing
    for drawing in (
        *(ham10000, isic2018, isic2019, isic2020, isic2024, milk10k, derm7pt),
        *(fitzpatrick17k, ddi, scin, pad_ufes_20),
    )
}
