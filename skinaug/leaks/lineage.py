"""The certificate of an artifact: what it is made of is walked back to the photographs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from skinaug.errors import InputError
from skinaug.leaks.certificate import certify, require, write_certificate
from skinaug.leaks.seen import photographs_of, read_seen, real_rows
from skinaug.manifest import Manifest
from skinaug.store.artifact import Artifact
from skinaug.store.store import Store

GIVEN_PHOTOGRAPHS = ("finetune", "generate", "score")  # stages that note what they were given
PLACES = {"generate": "prompts, generate"}  # the prompts' attributes are part of the stage that draws
SEEN = {  # of a pool or weights that were made elsewhere, by what its user says that its maker has seen
    "none": "whether the maker of {} has seen the study's photographs; by its user's word, none of them",
    "train": "whether the maker of {} has seen held-out photographs; by its user's word, training photographs alone",
    "unknown": "which photographs the maker of {} has seen: not shown",
}
TRAINING = "training"
COPY_OF = "copy of a picture of the split {}"  # why a data set has dropped pictures that its own splits share
COPIES = "copies.parquet"  # of the stage `copies`: pairs of a training and a held-out photograph


def check_given(stage: str, what: str, name: Any, seen: str) -> None:
    """Refuse a pool or weights that were made elsewhere and have no name, or of which it is not told what their maker has seen.

    stage: whose options they are; what: they are, for the message.

    Raises InputError.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"{stage}.name={name!r}: give the {what} a name, which reports call the {what} by.")
    if seen not in SEEN:
        raise InputError(
            f"{stage}.seen={seen}: which of the study's photographs has the maker of the {what} learned from? Choose "
            f"{', '.join(SEEN)}."
        )


def certify_training(store: Store, inputs: Mapping[str, str], mix: Manifest, out: Path) -> None:
    """Write the certificate of training on a mix to `out`/certificate.json, and stop where it does not hold.

    Args:
        store: where the lineage lies.
        inputs: what the training stands on, name -> key: the data set, its near-copies, and the curated pool or the mix.
        mix: the training images.
        out: receives the file.

    Raises:
        InputError: a leak, or something that cannot be shown.
    """
    certificate = certificate_of(store, inputs, mix)
    require(certificate, "training images and of what made them")
    write_certificate(certificate, out)


def certificate_of(
    store: Store, inputs: Mapping[str, str], training: Manifest | None = None
) -> dict[str, Any]:
    """The certificate (`certificate.certify`) of what is made of `inputs`, and of training images if there are any.

    Raises:
        InputError: an artifact of the lineage is gone, or it holds no or several data sets.
    """
    lineage = store.lineage(inputs)
    data = [artifact for artifact in lineage.values() if artifact.stage == "dataset"]
    if "dataset" in lineage and len({artifact.record["config"].get("fold") for artifact in data}) == len(
        data
    ):
        data = [lineage["dataset"]]  # of a fold; the other is that of a generator which serves all folds
    if len(data) != 1:
        raise InputError(f"What leads here holds {len(data)} data sets: a certificate speaks of one.")
    photographs = Manifest.read(data[0].path)
    return certify(
        photographs,
        _copies(store, lineage, data[0]),
        _reached(lineage, training, photographs),
        _not_covered(lineage),
    )


def certify_test_set(
    store: Store, inputs: Mapping[str, str], mix: Manifest, name: str, further: Path, out: Path
) -> None:
    """Write the certificate of a further test set to `out`/certificate.json, and stop where it does not hold.

    Args:
        store, inputs, mix: as in `certify_training`.
        name: of the set; further: the folder of its artifact.
        out: receives the file.

    Raises:
        InputError: as `certify_training`.
    """
    certificate = certificate_of_test_set(store, inputs, mix, further)
    of = "training and validation images and of what made them"
    require(certificate, of, held_out=f"photographs of the test set {name}")
    write_certificate(certificate, out)


def certificate_of_test_set(
    store: Store, inputs: Mapping[str, str], mix: Manifest, further: Path
) -> dict[str, Any]:
    """The certificate (`certificate.certify`) of a further test set, held out from training and validation photographs.

    Arguments are those of `certify_test_set`.

    Raises:
        InputError: as `certificate_of`.
    """
    lineage = store.lineage(inputs)
    data = Manifest.read(next(found for found in lineage.values() if found.stage == "dataset").path)
    learned = data.where(pl.col("split") != "test")
    known = learned.with_table(learned.table.with_columns(split=pl.lit("train")))
    reached = _reached(lineage, mix, data) | {"validation": real_rows(data.split("val"))}
    copies = further / COPIES
    return certify(
        Manifest.concat([known, Manifest.read(further)]),
        pl.read_parquet(copies) if copies.is_file() else None,
        reached,
        _not_covered(lineage),
    )


def audit_artifact(store: Store, artifact: Artifact) -> dict[str, Any]:
    """The certificate of any artifact but a report's; that of a mix or a classifier covers its training images, that of
    predictions on a further test set speaks of that set."""
    inputs = {artifact.stage: artifact.key}
    lineage = store.lineage(inputs)
    mixes = [Manifest.read(found.path) for found in lineage.values() if found.stage == "mix"]
    sets = [found.path for found in lineage.values() if found.stage == "test"]
    if mixes and sets:
        return certificate_of_test_set(store, inputs, mixes[0], sets[0])
    return certificate_of(store, inputs, mixes[0] if mixes else None)


def _reached(
    lineage: Mapping[str, Artifact], training: Manifest | None, data: Manifest
) -> dict[str, pl.DataFrame | None]:
    """The photographs that each place was given, as it noted them, and those among training images or that these show."""
    reached = {
        PLACES.get(name, name): read_seen(artifact.path)
        for name, artifact in lineage.items()
        if artifact.stage in GIVEN_PHOTOGRAPHS
    }
    return reached if training is None else reached | {TRAINING: photographs_of(training, data)}


def _copies(store: Store, lineage: Mapping[str, Artifact], data: Artifact) -> pl.DataFrame | None:
    """The near-copies that were looked for in the data set, in the lineage or else anywhere in the store."""
    known = chain(
        lineage.values(), store.artifacts()
    )  # the store is only searched where the lineage has none
    own = (
        artifact
        for artifact in known
        if artifact.stage == "copies" and artifact.record["inputs"].get("dataset") == data.key
    )
    found = next(own, None)
    return None if found is None else pl.read_parquet(found.path / COPIES)


def _not_covered(lineage: Mapping[str, Artifact]) -> list[str]:
    """What the photographs that stages noted cannot tell."""
    notes = []
    if any(artifact.stage == "finetune" for artifact in lineage.values()):
        notes.append("what the base model was trained on before it came here")
    for artifact in lineage.values():
        given = artifact.record["config"]
        if artifact.stage in ("finetune", "generate") and "seen" in given:
            notes.append(SEEN[given["seen"]].format(given["name"]))
    if any(artifact.stage in ("score", "classify") for artifact in lineage.values()):
        notes.append("what pretrained networks were trained on before they came here")
    return notes
