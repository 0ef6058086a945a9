"""Pictures that are not skin, told by a pretrained network's features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skinaug.curate.thresholds import because, check_share
from skinaug.errors import InputError, listing, plural
from skinaug.images import open_image
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.neighbours import nearest, nearest_of_other_groups
from skinaug.sources.files import list_images
from skinaug.store.digest import sha256_file

FOLDS = 5


class NonSkin:
    """Keeps what resembles the real training images.

    Typicality is the mean cosine similarity to the k nearest real training images; with `negatives`, a logistic
    regression's log-odds of "real" against the user's pictures of other things. `real_percentile` is the share of real
    training images that are less typical, each judged without its own patient: so a threshold of 0.02 on it passes
    98 % of real skin, and can be moved without scoring again.

    Args:
        backbone: makes a pretrained network from `num_classes=0`.
        image_size: pixels a side at which the network sees the pictures.
        neighbours: k.
        negatives: folder of pictures that are not skin, at any depth.
        batch_size: images a forward pass.
    """

    exposure: ClassVar[str] = "real"  # even with negatives: the real training images are the other side

    def __init__(
        self,
        backbone: Callable[..., nn.Module],
        image_size: int,
        neighbours: int = 5,
        negatives: str | None = None,
        batch_size: int = 64,
    ) -> None:
        self.backbone, self.image_size, self.neighbours = backbone, image_size, neighbours
        self.negatives, self.batch_size = negatives, batch_size

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `typicality` (in [-1, 1], or log-odds with negatives) and `real_percentile` in [0, 1]."""
        negatives = None if self.negatives is None else folder_manifest(Path(self.negatives))
        device = trainer().strategy.root_device

        def features(images: Manifest, kept: Path | None = cache) -> np.ndarray:
            return embed(images, self.backbone, self.image_size, self.batch_size, kept, device)

        patients = real.table["group_id"].to_numpy()
        if negatives is None:
            typicality, expected = by_neighbours(features(pool), features(real), patients, self.neighbours)
        else:
            typicality, expected = by_classifier(
                features(pool), features(real), patients, features(negatives, None)
            )
        percentile = np.searchsorted(np.sort(expected), typicality, side="left") / len(expected)
        return pl.DataFrame(
            {"image_id": pool.table["image_id"], "typicality": typicality, "real_percentile": percentile}
        )

    def keep(self, scores: pl.DataFrame, real_pass_rate: float = 0.98) -> pl.DataFrame:
        """Those at least as typical as the least typical of the share `real_pass_rate` of real training images."""
        check_share("non_skin", "real_pass_rate", real_pass_rate)
        return because(scores["real_percentile"] >= 1 - real_pass_rate - 1e-9, "not like photographs of skin")


def by_neighbours(
    pool: np.ndarray, real: np.ndarray, patients: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine similarity to the k nearest real images: of the pool [M], and of the real ones [N] to other patients'."""
    return nearest(pool, real, k)[0].mean(1), nearest_of_other_groups(real, patients, k).mean(1)


def by_classifier(
    pool: np.ndarray, real: np.ndarray, patients: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of "real" against "negative": of the pool [M], and of the real images [N] by models without their patient."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    )
    vectors = np.concatenate([real, negatives])
    is_real = np.arange(len(vectors)) < len(real)
    _, patient = np.unique(patients, return_inverse=True)
    groups = np.concatenate([patient, patient.max() + 1 + np.arange(len(negatives))])
    held_out = cross_val_predict(
        model, vectors, is_real, groups=groups, cv=GroupKFold(FOLDS), method="decision_function"
    )
    return model.fit(vectors, is_real).decision_function(pool), held_out[is_real]


def folder_manifest(folder: Path) -> Manifest:
    """All pictures below a folder as rows of one class.

    Raises:
        InputError: fewer than five pictures, or unreadable ones.
    """
    paths = [folder / name for name in list_images(folder)]
    if len(paths) < FOLDS:
        raise InputError(
            f"filter.non_skin.scorer.negatives={folder} holds {plural(len(paths), 'picture')}: at least {FOLDS} are needed."
        )
    rows, bad = [], []
    for path in paths:
        try:
            width, height = open_image(path).size
        except OSError:
            bad.append(str(path))
            continue
        name = path.relative_to(folder).as_posix()
        rows.append(
            {
                "image_id": name,
                "path": name,
                "group_id": name,
                "width": width,
                "height": height,
                "sha256": sha256_file(path),
            }
        )
    if bad:
        raise InputError(
            f"{plural(len(bad), 'picture')} of filter.non_skin.scorer.negatives cannot be read:\n{listing(bad)}"
        )
    table = pl.DataFrame(rows).with_columns(
        label=pl.lit("negative"), split=pl.lit("train"), source=pl.lit("real")
    )
    return Manifest(table, folder, ("negative",))
