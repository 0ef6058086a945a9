"""Whether the folders right below a root are splits or classes: told by their names, else asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from skinaug.errors import InputError, listing, plural
from skinaug.sources.tables import SPLIT_WORDS
from skinaug.sources.told import tell

Tops = Mapping[str, Mapping[str, int]]  # folder right below the root -> label -> images


class UnclearFolders(InputError):
    """Folders that may be splits or classes; `why` without what to do."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(f"{why}\n{advice}")
        self.why = why


def splits_of(root: Path, tops: Tops, given: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """The split of each folder right below the root, None where it is left out; {}: they are classes.

    Args:
        root: for messages.
        tops: the folders, with what their images would be labelled if the folders were splits.
        given: what the user says of each; None: names like train, val and test tell.

    Raises:
        InputError: `given` names other folders or no split.
        UnclearFolders: nothing is given and the names leave it open.
    """
    if given is not None:
        return _checked(root, tops, given)
    if unclear := why_unclear(root, tops):
        proposal = ", ".join(f"{top}: {_hint(top) or 'null'}" for top in tops)
        raise UnclearFolders(
            unclear,
            f"Say what each is: train, val, test, or null to leave it out, as in\n  'dataset.source.splits={{{proposal}}}'\n"
            "(+generate.source.splits of a pool, +test.<name>.source.splits of a further test set). If they are classes, give "
            "dataset.source.splits={}.",
        )
    exact = {top: SPLIT_WORDS.get(top.lower()) for top in tops}
    return exact if all(exact.values()) else {}


def why_unclear(root: Path, tops: Tops) -> str:
    """What leaves it open whether folders are splits or classes, in words; "" where their names tell.

    It is open where some sound like splits, not all are called so, and the same labels come again below them.
    """
    if all(top.lower() in SPLIT_WORDS for top in tops):
        return ""
    if len(tops) == 1:
        ((top, labels),) = tops.items()
        if len(labels) > 1 and all(_hint(label) for label in labels):
            return (
                f"{root} holds the one folder {top}, and that holds {', '.join(labels)}, which sound like splits: is "
                f"{root / top} the folder that is meant?"
            )
        return ""
    sounding = [top for top in tops if _hint(top)]
    again = {
        label
        for top in sounding
        for other in tops
        if other != top
        for label in tops[top].keys() & tops[other].keys()
    }
    if not again:
        return ""
    lines = [
        f"{top}: {sum(labels.values())} images in {', '.join(labels) or 'no folder'}"
        for top, labels in tops.items()
    ]
    return (
        f"Some folders under {root} sound like splits ({', '.join(sounding)}), others do not, and {', '.join(sorted(again))} "
        f"come again below them, so they may be splits or classes:\n{listing(lines)}"
    )


def tops_of(images: Iterable[tuple[str | None, str | None]]) -> dict[str, Counter[str]]:
    """Folders right below a root, from the folder (None: the root itself) and the label of each image."""
    found: dict[str, Counter[str]] = {}
    for top, label in images:
        if top is not None:
            found.setdefault(top, Counter()).update([label] if label is not None else [])
    return found


def tell_left_out(splits: Mapping[str, str | None], tops: Sequence[str | None]) -> list[bool]:
    """Whether each image, by the folder right below the root that it lies in, is to be read; the others are counted and told."""
    without = {top for top, split in splits.items() if split is None}
    for top in sorted(without):
        tell(f"left out {plural(tops.count(top), 'image')} in {top}/, as source.splits says")
    return [top not in without for top in tops]


def _checked(root: Path, tops: Tops, given: Mapping[str, str | None]) -> dict[str, str | None]:
    if not given:
        return {}
    absent, unsaid = (
        [name for name in one if name not in other] for one, other in ((given, tops), (tops, given))
    )
    if absent or unsaid:
        raise InputError(
            f"source.splits tells of {', '.join(given)}; the folders under {root} are {', '.join(tops) or 'none'}. Tell train, "
            "val, test or null (left out) of each."
        )
    words = {top: SPLIT_WORDS.get(str(word).lower()) for top, word in given.items()}
    if bad := [
        f"{top}: {given[top]}" for top, split in words.items() if split is None and given[top] is not None
    ]:
        raise InputError(f"source.splits has {', '.join(bad)}: choose train, val, test or null (left out).")
    return words


def _hint(name: str) -> str | None:
    """The split that a name sounds like: train_sep, Test-Set, ValidationData."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    stems = [re.sub("(set|data|images)$", "", word.lower()) for word in words]
    return next((SPLIT_WORDS[stem] for stem in stems if stem in SPLIT_WORDS), None)
