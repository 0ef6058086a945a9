"""Groups of which several options are chosen, where each option is to bring something of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from skinaug.errors import InputError


def refuse_repeated_sets(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse `test=[...]` of which one option takes another's place: Hydra would merge the two into one set.

    Args:
        cfg: the composed configuration.
        overrides: from which it was composed.

    Raises:
        InputError: an option is named twice, or several options call their sets by one name.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        chosen = override.value() if override.key_or_group == "test" else None
        if isinstance(chosen, list) and len(chosen) != len(cfg.test):
            raise InputError(
                f"test=[{','.join(map(str, chosen))}] names {len(chosen)} options, which make {len(cfg.test)} test sets: "
                f"{', '.join(cfg.test) or 'none'}. Name each option once, and each set in its file by a name of its own."
            )
