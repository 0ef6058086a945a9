"""The stage `finetune`: training photographs teach a base model the classes, or leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.leaks.seen import write_seen
from skinaug.models.base import RENDERERS, check_base_settings, folder_at_hand, local_files
from skinaug.models.published import rules_of
from skinaug.models.quantize import check_quantize
from skinaug.stage import ONE, SHARDED, Build, Stage, Step, build, plain, teacher, without_later

if TYPE_CHECKING:
    from skinaug.models.families.family import Family

TAKES_WEIGHTS = "skinaug.finetune.given.take_weights"
LATER = {"quantize": None, "prior.generate.quantize": None, "prior.generate.offload": None}


def steps(cfg: DictConfig) -> Iterator[Step]:
    """The weights. Pictures of the base's own, where prior preservation asks for them, are a step of `generate`."""
    config = {
        **without_later(plain(cfg.finetune), LATER),
        "base": plain(cfg.base),
        "precision": cfg.trainer.precision,
    }
    learned = teacher(cfg)
    inputs = [learned, "generate.prior"] if cfg.finetune.get("prior") else [learned]
    yield Step(
        "finetune",
        config,
        build_finetune,
        inputs,
        files=local_files(cfg.base.get("path")) | given_files(cfg),
        after=["copies"],
        devices=ONE if is_given(cfg) else SHARDED,
    )


def check(cfg: DictConfig) -> None:
    if cfg.base["_target_"] in RENDERERS:
        raise InputError("base=oracle renders the pool itself: there is nothing to fine-tune. Use base=tiny.")
    base = plain(cfg.base)
    check_base_settings(base)
    check_quantize(cfg.finetune.get("quantize"), "finetune.quantize")
    folder = folder_at_hand(base.get("path"), base.get("hub_ids") or (), base.get("revision"))
    if folder and cfg.finetune.get("method"):
        check_taught(cfg.finetune.method["_target_"], cfg.finetune.image_size, *known_of(folder))
    if is_given(cfg):
        from skinaug.finetune.given import check_weights

        check_weights(**plain(cfg.finetune))


def check_suits(cfg: DictConfig) -> None:
    """Refuse what a base is known not to take, before anybody is asked for its weights."""
    if cfg.finetune.get("method") and (rules := rules_of(**plain(cfg.base))):
        check_taught(cfg.finetune.method["_target_"], cfg.finetune.image_size, rules.family, rules.factor)


def check_taught(method: str, image_size: int, family: Family, factor: int | None) -> None:
    """Refuse a method, by its target, that a base's family does not take, and pictures whose size is no multiple of its `factor`."""
    from skinaug.finetune.suits import check_method, check_size
    from skinaug.models.families.family import METHODS

    name = method.split(".")[-2]  # the modules have the methods' names
    if name in METHODS:
        check_method(name, family)
    if factor:
        check_size(image_size, factor)


def known_of(folder: Path) -> tuple[Family, int | None]:
    """The family of a base's folder, and what its pictures' sides are multiples of; None where its parts do not tell."""
    from skinaug.models.base_folder import read_configurations, read_index
    from skinaug.models.families.table import family_in

    family, (vae, denoiser) = family_in(read_index(folder)), read_configurations(folder)
    return family, family.factor(vae, denoiser) if vae and denoiser else None


def is_given(cfg: DictConfig) -> bool:
    """Whether the weights were made elsewhere."""
    return bool(cfg.finetune["_target_"] == TAKES_WEIGHTS)


def given_files(cfg: DictConfig) -> dict[str, Path]:
    """Weights that were made elsewhere, whose content counts."""
    if not is_given(cfg):
        return {}
    path = plain(cfg.finetune.path)
    paths = path if isinstance(path, dict) else {"all": path}
    described = {"given config": Path(cfg.finetune.config)} if cfg.finetune.get("config") else {}
    return {f"given.{name}": Path(file) for name, file in paths.items()} | described


def check_parts(cfg: DictConfig) -> None:
    build(cfg.finetune)


def build_finetune(job: Build) -> None:
    cfg = job.cfg
    train = job.manifest(teacher(cfg)).split("train")
    learned = not is_given(cfg) or cfg.finetune.seen == "train"
    write_seen(train if learned else None, job.out)
    build(cfg.finetune)(
        manifest=train,
        prior_images=job.manifest("generate.prior") if "generate.prior" in job.made else None,
        base=build(cfg.base),
        base_name=cfg.base.path or cfg.base.hub_ids[0],
        licence=cfg.base.licence,
        drop=plain(cfg.base).get("drop", []),
        trainer=build(cfg.trainer),
        cache=Path(cfg.store) / "encoded",
        logger=job.logger,
        out=job.out,
    )


def tags(cfg: DictConfig) -> dict[str, str]:
    base = cfg.base.get("path") or next(iter(cfg.base.get("hub_ids") or []), None) or "oracle"
    return {
        "base": base,
        "finetune": (cfg.finetune.get("method") or cfg.finetune)["_target_"].rpartition(".")[2],
    }


STAGE = Stage("finetune", 3, steps, check, check_parts, tags=tags, check_suits=check_suits)
