"""The stage `generate`: the pool of synthetic images, drawn by a model or rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from skinaug.leaks.seen import write_seen
from skinaug.manifest import Manifest
from skinaug.models.base import RENDERERS, check_base_settings, local_files, local_folder
from skinaug.models.phrases import write_phrases
from skinaug.stage import SEVERAL, Build, Plan, Stage, Step, build, plain

if TYPE_CHECKING:
    from skinaug.generate.settings import Settings


@dataclass(frozen=True)
class Variant:
    """A way to make the pool: the members of `Stage` that differ."""

    steps: Callable[[DictConfig], Iterator[Step]]
    check: Callable[[DictConfig, Settings], None]
    check_data: Callable[[DictConfig, Settings, Manifest], None]


def drawn_steps(cfg: DictConfig) -> Iterator[Step]:
    """The pool that the fine-tuned model draws; and, where prior preservation asks for it, one of its base's own pictures."""
    base = {"base": plain(cfg.base), "precision": cfg.trainer.precision}
    files = local_files(cfg.base.get("path"))
    if prior := plain(cfg.finetune.get("prior")):
        config = {**prior["generate"], "prompts": prior["prompts"], **base}
        yield Step("generate.prior", config, build_prior, files=files, after=["copies"], devices=SEVERAL)
    yield Step(
        "generate",
        {**plain(cfg.generate), "prompts": plain(cfg.prompts), **base},
        build_drawn,
        ["finetune", "dataset"] if cfg.generate.mode == "image" else ["finetune"],
        files=files,
        devices=SEVERAL,
        images_per_class=cfg.generate.per_class,
    )


def check_drawn(cfg: DictConfig, settings: Settings) -> None:
    from skinaug.generate.settings import check_folder

    build(cfg.prompts)
    check_base_settings(plain(cfg.base))
    if folder := local_folder(cfg.base.path):
        check_folder(settings, folder)


def check_drawn_data(cfg: DictConfig, settings: Settings, data: Manifest) -> None:
    from skinaug.generate.plan import check_real, check_templates

    check_templates(build(cfg.prompts), data.classes)
    check_real(settings, data.split("train"), data.classes)


def build_prior(job: Build) -> None:
    """Pictures of the base as it is."""
    write_phrases({"skin": "skin"}, job.out)
    write_seen(None, job.out)
    prior = build(job.cfg.finetune.prior)
    draw(job, prior.generate, classes=["skin"], weights=job.out, prompts=prior.prompts)


def build_drawn(job: Build) -> None:
    data = job.manifest("dataset")
    real = write_seen(data.split("train") if job.cfg.generate.mode == "image" else None, job.out)
    weights, prompts = job.made["finetune"].path, build(job.cfg.prompts)
    draw(job, build(job.cfg.generate), classes=data.classes, real=real, weights=weights, prompts=prompts)


def draw(job: Build, generate: Callable[..., None], **asked: Any) -> None:
    base, trainer = build(job.cfg.base), build(job.cfg.trainer)
    generate(base=base, trainer=trainer, logger=job.logger, out=job.out, **asked)


def rendered_steps(cfg: DictConfig) -> Iterator[Step]:
    """The pool that the truth itself renders; nothing is taught to it."""
    config = {"base": plain(cfg.base), **render_settings(cfg)}
    pool = cfg.generate.per_class
    yield Step("generate", config, build_rendered, ["dataset"], after=["copies"], images_per_class=pool)


def check_rendered(cfg: DictConfig, settings: Settings) -> None:
    build(cfg.base)(**render_settings(cfg))


def build_rendered(job: Build) -> None:
    from skinaug.generate.oracle import generate_oracle

    write_seen(None, job.out)
    settings, classes = render_settings(job.cfg), job.manifest("dataset").classes
    generate_oracle(build(job.cfg.base), **settings, classes=classes, out=job.out)


def render_settings(cfg: DictConfig) -> dict[str, Any]:
    """What of `generate` a renderer takes."""
    return {name: cfg.generate[name] for name in ("per_class", "image_size", "seed")}


DRAWN = Variant(drawn_steps, check_drawn, check_drawn_data)
RENDERED = Variant(rendered_steps, check_rendered, lambda cfg, settings, data: None)


def variant(cfg: DictConfig) -> Variant:
    """How this configuration's pool is made: who draws it tells."""
    return RENDERED if cfg.base["_target_"] in RENDERERS else DRAWN


def settings(cfg: DictConfig) -> Settings:
    from skinaug.generate.settings import check_settings

    return check_settings(**plain(cfg.generate))


def steps(cfg: DictConfig) -> Iterator[Step]:
    return variant(cfg).steps(cfg)


def check(cfg: DictConfig) -> None:
    variant(cfg).check(cfg, settings(cfg))


def check_data(cfg: DictConfig, data: Manifest, plan: Plan) -> None:
    variant(cfg).check_data(cfg, settings(cfg), data)


def tags(cfg: DictConfig) -> dict[str, Any]:
    return {"prompts": cfg.prompts.name, "guidance_scale": cfg.generate.guidance_scale}


STAGE = Stage("generate", 3, steps, check, check_data=check_data, tags=tags)
