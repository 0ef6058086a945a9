"""The stage `generate`: the pool of synthetic images, drawn by a model, rendered, or made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from skinaug.leaks.seen import write_seen
from skinaug.manifest import Manifest
from skinaug.models.base import RENDERERS, check_base_settings, folder_at_hand, local_files, local_folder
from skinaug.models.phrases import write_phrases
from skinaug.models.published import rules_of
from skinaug.stage import (
    RESERVE,
    SEVERAL,
    Build,
    Plan,
    Stage,
    Step,
    build,
    copies_settings,
    named_files,
    plain,
    teacher,
    without_later,
)

if TYPE_CHECKING:
    from skinaug.generate.settings import Settings

TAKES_POOL = "skinaug.generate.given.take_pool"
LATER = {"quantize": None, "offload": None}


@dataclass(frozen=True)
class Variant:
    """A way to make the pool: the members of `Stage` that differ."""

    steps: Callable[[DictConfig], Iterator[Step]]
    check: Callable[[DictConfig], None]
    check_parts: Callable[[DictConfig], None]
    check_data: Callable[[DictConfig, Manifest], None]
    tags: Callable[[DictConfig], dict[str, Any]]


def drawn_steps(cfg: DictConfig) -> Iterator[Step]:
    """The pool that the fine-tuned model draws; and, where prior preservation asks for it, one of its base's own pictures."""
    base = {"base": plain(cfg.base), "precision": cfg.trainer.precision}
    files = local_files(cfg.base.get("path"))
    if prior := plain(cfg.finetune.get("prior")):
        config = {**without_later(prior["generate"], LATER), "prompts": prior["prompts"], **base}
        yield Step("generate.prior", config, build_prior, files=files, after=["copies"], devices=SEVERAL)
    asked = settings(cfg)
    if asked.inpaint and asked.inpaint.folder:
        files = files | {"masks": asked.inpaint.folder}
    yield Step(
        "generate",
        {**without_later(plain(cfg.generate), LATER), "prompts": plain(cfg.prompts), **base},
        build_drawn,
        ["finetune", teacher(cfg)] if asked.from_parents else ["finetune"],
        files=files,
        devices=SEVERAL,
        images_per_class=cfg.generate.per_class,
    )


def settings(cfg: DictConfig) -> Settings:
    from skinaug.generate.settings import check_settings

    inpaint = cfg.generate.get("inpaint")
    return check_settings(**{**plain(cfg.generate), "inpaint": build(inpaint) if inpaint else None})


def check_drawn(cfg: DictConfig) -> None:
    from skinaug.generate.inpaint import check_folder_of_masks
    from skinaug.generate.settings import check_folder

    asked, base = settings(cfg), plain(cfg.base)
    if asked.inpaint:
        check_folder_of_masks(asked.inpaint)
    build(cfg.prompts)
    check_base_settings(base)
    if folder := folder_at_hand(base.get("path"), base.get("hub_ids") or (), base.get("revision")):
        check_folder(asked, folder)


def check_drawn_parts(cfg: DictConfig) -> None:
    from skinaug.generate.families import check_scheduler

    if folder := local_folder(cfg.base.path):
        check_scheduler(folder, settings(cfg))


def check_drawn_data(cfg: DictConfig, data: Manifest) -> None:
    from skinaug.generate.plan import check_real, check_templates

    check_templates(build(cfg.prompts), data.classes)
    check_real(settings(cfg), data.split("train"), data.classes)


def drawn_tags(cfg: DictConfig) -> dict[str, Any]:
    return {"prompts": cfg.prompts.name, "guidance_scale": cfg.generate.guidance_scale}


def build_prior(job: Build) -> None:
    """Pictures of the base as it is."""
    write_phrases({"skin": "skin"}, job.out)
    write_seen(None, job.out)
    prior = build(job.cfg.finetune.prior)
    draw(job, prior.generate, classes=["skin"], weights=job.out, prompts=prior.prompts)


def build_drawn(job: Build) -> None:
    data = job.manifest(teacher(job.cfg))
    real = write_seen(data.split("train") if settings(job.cfg).from_parents else None, job.out)
    weights, prompts = job.made["finetune"].path, build(job.cfg.prompts)
    draw(job, build(job.cfg.generate), classes=data.classes, real=real, weights=weights, prompts=prompts)


def draw(job: Build, generate: Callable[..., None], **asked: Any) -> None:
    base, trainer = build(job.cfg.base), build(job.cfg.trainer)
    generate(base=base, trainer=trainer, logger=job.logger, out=job.out, **asked)


def rendered_steps(cfg: DictConfig) -> Iterator[Step]:
    """The pool that the truth itself renders; nothing is taught to it."""
    config = {"base": plain(cfg.base), **render_settings(cfg)}
    pool = cfg.generate.per_class
    data = (
        RESERVE if teacher(cfg) == RESERVE else "dataset"
    )  # one pool for all folds; nothing is taught to it
    yield Step("generate", config, build_rendered, [data], after=["copies"], images_per_class=pool)


def check_rendered(cfg: DictConfig) -> None:
    settings(cfg)
    build(cfg.base)(**render_settings(cfg))


def build_rendered(job: Build) -> None:
    from skinaug.generate.oracle import generate_oracle

    write_seen(None, job.out)
    data = RESERVE if RESERVE in job.made else "dataset"
    settings, classes = render_settings(job.cfg), job.manifest(data).classes
    generate_oracle(build(job.cfg.base), **settings, classes=classes, out=job.out)


def render_settings(cfg: DictConfig) -> dict[str, Any]:
    """What of `generate` a renderer takes."""
    return {name: cfg.generate[name] for name in ("per_class", "image_size", "seed")}


def given_steps(cfg: DictConfig) -> Iterator[Step]:
    """The pool that somebody else made. As of the photographs, the folder's place and its files' names, sizes and times count."""
    from skinaug.sources.root import check_root, root_digest

    given = cfg.generate
    source = build(given.source)
    root = check_root(source, given.root, "generate")
    copies = copies_settings(cfg)
    config = {**plain(given), "copies": copies}
    yield Step(
        "generate",
        config,
        build_given,
        ["dataset"],
        digests={"root": f"{root} {root_digest(root, source)}"} if root else {},
        files=named_files(copies),
        after=["copies"],
    )


def check_given(cfg: DictConfig) -> None:
    from skinaug.generate.given import check_settings

    check_settings(**plain(cfg.generate))


def check_given_data(cfg: DictConfig, data: Manifest) -> None:
    from skinaug.generate.given import given_table
    from skinaug.sources.root import check_root
    from skinaug.sources.told import telling

    given = cfg.generate
    source = build(given.source)
    root = check_root(source, given.root, "generate")
    with telling():  # the build tells it
        given_table(source, root or Path(), given.name, plain(given.labels), data.classes, given.on_bad)


def build_given(job: Build) -> None:
    import polars as pl

    given, data = job.cfg.generate, job.manifest("dataset")
    write_seen(data.split("train") if given.seen == "train" else None, job.out)
    build(given)(
        data=data,
        hashes=pl.read_parquet(job.made["dataset"].path / "hashes.parquet"),
        find_copies=partial(
            build(copies_settings(job.cfg)),
            cache=job.cache,
            device=lambda: build(job.cfg.trainer)().strategy.root_device,
        ),
        out=job.out,
    )


def given_tags(cfg: DictConfig) -> dict[str, Any]:
    return {"pool": cfg.generate.name, "seen": cfg.generate.seen}


DRAWN = Variant(drawn_steps, check_drawn, check_drawn_parts, check_drawn_data, drawn_tags)
RENDERED = Variant(rendered_steps, check_rendered, lambda cfg: None, lambda cfg, data: None, drawn_tags)
GIVEN = Variant(given_steps, check_given, lambda cfg: None, check_given_data, given_tags)


def variant(cfg: DictConfig) -> Variant:
    """How this configuration's pool is made: who draws it tells."""
    if cfg.generate["_target_"] == TAKES_POOL:
        return GIVEN
    return RENDERED if cfg.base["_target_"] in RENDERERS else DRAWN


def steps(cfg: DictConfig) -> Iterator[Step]:
    return variant(cfg).steps(cfg)


def check_suits(cfg: DictConfig) -> None:
    """Refuse what a base is known not to draw, before anybody is asked for its weights."""
    from skinaug.generate.settings import check_fit

    if variant(cfg) is DRAWN and (rules := rules_of(**plain(cfg.base))):
        check_fit(settings(cfg), rules.family, rules.factor, rules.guidance)


def check(cfg: DictConfig) -> None:
    variant(cfg).check(cfg)


def check_parts(cfg: DictConfig) -> None:
    variant(cfg).check_parts(cfg)


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    variant(cfg).check_data(cfg, data)


def tags(cfg: DictConfig) -> dict[str, Any]:
    return variant(cfg).tags(cfg)


STAGE = Stage("generate", 3, steps, check, check_parts, check_data, tags, check_suits=check_suits)
