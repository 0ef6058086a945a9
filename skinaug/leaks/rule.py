"""What counts as a near-copy: where the data set says it, the leak certificate goes by the same rule."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

COPY_OF = "copy of a picture of the split {}"  # why a data set has dropped pictures that its own splits share


def copies_settings(cfg: DictConfig) -> DictConfig:
    """`audit.copies` with the threshold and the network of `dataset.duplicates`, so that no copy that the data set knows of escapes
    the certificate, and none stands in its way that the data set could not have dropped.

    Without `dataset.duplicates` it is `audit.copies` itself; where these look for no near-copies (`max_hamming=null`), the
    certificate still does, within its own `max_hamming`.
    """
    settings: Any = OmegaConf.to_container(cfg.audit.copies, resolve=True)
    if cfg.dataset.duplicates:
        rule: Any = OmegaConf.to_container(cfg.dataset.duplicates, resolve=True)
        own = {name: rule[name] for name in ("max_hamming", "min_cosine", "embed") if name in rule}
        if own.get("max_hamming") is None:
            own.pop("max_hamming", None)
        if "embed" in own and own["embed"] is None:
            own["min_cosine"] = None  # the hashes alone decide
        settings |= own
    return OmegaConf.create(settings)
