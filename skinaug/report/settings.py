"""What may be asked of a report beyond the one verdict, and what of it cannot be answered. Light: every job of a sweep asks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError, printable

if TYPE_CHECKING:
    import polars as pl

REST = "rest"  # the group of the classes that no group names
MOST_TOGETHER = 2  # attributes that make subgroups together: patients of three are too few


@dataclass(frozen=True)
class Asked:
    """Further questions to a report; nothing of them unless told.

    Attributes:
        subgroups: attributes, alone or two together, whose subgroups of patients are compared with each other.
        least_patients: of a subgroup that is scored.
        groups: classes of each group of classes.
        ordered: all classes, or all groups, in their order.
        prevalence: share of patients that have a class, or one of a group.
        decision_curves: classes or groups on whose probability somebody would act.
        temperature: whether to tell what calibration on validation images would do.
    """

    subgroups: Sequence[Any] | None = None
    least_patients: int = 10
    groups: Mapping[str, Sequence[str]] | None = None
    ordered: Sequence[str] | None = None
    prevalence: Mapping[str, float] | None = None
    decision_curves: Sequence[str] = ()
    temperature: bool = False

    @property
    def attributes(self) -> list[tuple[str, ...]] | None:
        """The attributes of `subgroups`, each as those that are taken together."""
        if self.subgroups is None:
            return None
        return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in self.subgroups]

    def grouped(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """The classes of each group; those that none names make one more, REST. Empty where no groups are asked for."""
        if not self.groups:
            return {}
        named = {str(name): list(map(str, own)) for name, own in self.groups.items()}
        left = [label for label in classes if label not in {label for own in named.values() for label in own}]
        return {**named, REST: left} if left else named

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Asked:
        """What a report's settings ask for."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def check(self, own: Collection[str] | None = ()) -> None:
        """Refuse what is wrong whatever the data.

        Args:
            own: columns of the data that may be asked for beside the attributes that all data may have; None: any, for nobody knows yet.

        Raises:
            InputError: all faults of these settings.
        """
        _refuse([*_subgroup_faults(self, own), *_group_faults(self), *_number_faults(self)])

    def check_classes(self, classes: Sequence[str], own: Collection[str] = ()) -> None:
        """Refuse names that neither the data nor the groups have.

        Args:
            own: as in `check`.

        Raises:
            InputError: all of them, with the names that there are.
        """
        self.check(own)
        there = f"the data have {printable(', '.join(classes))}"
        named = [str(label) for own in (self.groups or {}).values() for label in own]
        if lacking := [label for label in named if label not in classes]:
            _refuse([f"report.groups names the classes {', '.join(lacking)}, but {there}"])
        if self.groups and REST in self.groups and set(classes) - set(named):
            _refuse(
                [f"report.groups calls a group {REST}, which is the name of the classes that no group names"]
            )
        groups = self.grouped(classes)
        if self.groups and len(groups) < 2:
            _refuse(
                [f"report.groups puts all classes, {', '.join(classes)}, into one group: two are told apart"]
            )
        if same := [name for name in groups if name in classes and groups[name] != [name]]:
            _refuse(
                [f"report.groups gives a group the name of a class that is not all of it: {', '.join(same)}"]
            )
        both = f"{there}" + (f" and report.groups {', '.join(groups)}" if groups else "")
        faults = [
            f"report.{option} names {', '.join(unknown)}, but {both}"
            for option in ("prevalence", "decision_curves")
            if (unknown := [str(n) for n in getattr(self, option) or () if n not in (*classes, *groups)])
        ]
        if self.ordered and sorted(self.ordered) not in (sorted(classes), sorted(groups)):
            faults.append(
                f"report.ordered must name all classes or all groups once, from one end to the other; it names "
                f"{', '.join(map(str, self.ordered))}, and {both}"
            )
        _refuse(faults)

    def check_attributes(self, stated: Sequence[str]) -> None:
        """Refuse attributes of which the data say nothing.

        Args:
            stated: attributes that some test image has.

        Raises:
            InputError: all of them, with those that there are.
        """
        asked = dict.fromkeys(name for together in self.attributes or () for name in together)
        if lacking := [name for name in asked if name not in stated]:
            told = f"tell {', '.join(stated)}" if stated else "tell nothing of the patients"
            _refuse([f"report.subgroups asks for {', '.join(lacking)}, but the test images {told}"])

    def check_images(self, classes: Sequence[str], images: pl.DataFrame) -> None:
        """`check_classes` and, of test images, `check_attributes`: before anything is trained on their data."""
        if self.attributes is None:
            self.check_classes(classes)
            return
        from skinaug.report.subgroups import own_columns, stated_in

        own = own_columns(images)
        self.check_classes(classes, own)
        self.check_attributes(stated_in(images, own))

    def check_validated(self, validated: bool) -> None:
        """Refuse what takes validation images where a run has told nothing of them.

        Raises:
            InputError: all such questions.
        """
        needing = [name for name in ("prevalence", "temperature") if getattr(self, name)]
        if needing and not validated:
            named = " and ".join(f"report.{name}" for name in needing)
            _refuse(
                [f"{named} need validation images (split=val), and not all runs have predictions of them"]
            )


def _subgroup_faults(asked: Asked, own: Collection[str] | None) -> Iterator[str]:
    if asked.subgroups is None:
        return
    from skinaug.report.subgroups import ATTRIBUTES

    form = "report.subgroups is a list of attributes, alone or two together, as in [skin_type,[sex,age]]"
    if isinstance(asked.subgroups, str | Mapping) or not asked.subgroups:
        yield f"{form}; it is {asked.subgroups!r}"
        return
    for entry in asked.subgroups:
        names = [entry] if isinstance(entry, str) else entry
        if (
            isinstance(names, Mapping)
            or not isinstance(names, Sequence)
            or not 1 <= len(names) <= MOST_TOGETHER
        ):
            yield f"{form}; one entry is {entry!r}"
        elif unknown := [
            name for name in names if name not in ATTRIBUTES and own is not None and name not in own
        ]:
            known = [*ATTRIBUTES, *(name for name in own or () if name not in ATTRIBUTES)]
            yield (
                f"report.subgroups names {', '.join(map(str, unknown))}; attributes are {', '.join(known)}, and any column that "
                "dataset.source.columns maps under a name of its own"
            )
        elif len(set(names)) < len(names):
            yield f"report.subgroups takes {names[0]} together with itself"
    entries = [frozenset([entry] if isinstance(entry, str) else map(str, entry)) for entry in asked.subgroups]
    if len(set(entries)) < len(entries):
        yield "report.subgroups names the same attributes twice"


def _group_faults(asked: Asked) -> Iterator[str]:
    if asked.groups is None:
        return
    form = "report.groups gives each group its classes, as in {malignant: [MEL, BCC], benign: [NEV]}"
    if not isinstance(asked.groups, Mapping) or not asked.groups:
        yield f"{form}; it is {asked.groups!r}"
        return
    if odd := [f"{name}: {own!r}" for name, own in asked.groups.items() if isinstance(own, str) or not own]:
        yield f"{form}; it has {', '.join(odd)}"
        return
    every = [str(label) for own in asked.groups.values() for label in own]
    if twice := sorted({label for label in every if every.count(label) > 1}):
        yield f"report.groups names {', '.join(twice)} more than once"


def _number_faults(asked: Asked) -> Iterator[str]:
    if (
        isinstance(asked.least_patients, bool)
        or not isinstance(asked.least_patients, int)
        or asked.least_patients < 2
    ):
        yield f"report.least_patients is a whole number of 2 or more; it is {asked.least_patients!r}"
    shares = asked.prevalence or {}
    if not isinstance(shares, Mapping):
        yield f"report.prevalence gives classes or groups their share of patients, as in {{malignant: 0.02}}; it is {shares!r}"
    elif odd := [f"{name}: {value!r}" for name, value in shares.items() if not _is_share(value)]:
        yield f"report.prevalence has {', '.join(odd)}: shares lie between 0 and 1"
    for option in ("ordered", "decision_curves"):
        value = getattr(asked, option)
        if value is not None and (isinstance(value, str | Mapping) or not isinstance(value, Sequence)):
            yield f"report.{option} is a list of names; it is {value!r}"
    if not isinstance(asked.temperature, bool):
        yield f"report.temperature is true or false; it is {asked.temperature!r}"


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise InputError("\n".join(f"{fault}." for fault in faults))
