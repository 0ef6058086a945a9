"""Mappings whose names are the user's own, such as columns of a table: overrides may add to them, as to no others.

Everywhere else Hydra refuses a name that the configuration does not have, so that a mistyped option is told.
"""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

# Where the names come from:
FREE = frozenset(
    {
        *("columns", "labels", "phrases", "path"),  # the user's data
        *(
            "scales",
            "told_by",
            "splits",
            "reject",
            "groups",
            "prevalence",
        ),  # columns, folders, words and classes in them
        *("attributes", "synonyms", "prompt_sets", "size", "redness"),  # prompts and the words in them
        "pools",  # the store
        *("options", "augmentation"),  # peft and timm, which refuse those that they do not know
        "real_pass_rate",  # the filter quality, which does so too
        "slurm_additional_parameters",  # sbatch
        "params",  # the configuration itself, of what is swept
    }
)


def free_names(node: Any, name: str = "") -> None:
    """Let overrides add names to a configuration's mappings of free names, in place.

    Args:
        node: as it was read from its file.
        name: under which it stands.
    """
    if not OmegaConf.is_dict(node) or node._is_none() or node._is_missing() or node._is_interpolation():
        return
    if name in FREE:
        OmegaConf.set_struct(node, False)  # and all below it
        return
    for key, value in node.items_ex(resolve=False):
        free_names(value, str(key))
