"""Prompt sets: templates with slots, weighted attribute values and wordings, drawn deterministically."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

from skinaug.errors import InputError
from skinaug.labels import by_class, class_named

Value = str | int | float

RESERVED = {  # columns of a manifest, which an attribute would overwrite
    *("image_id", "path", "label", "split", "group_id", "source", "width", "height", "sha256"),
    *(
        "prompt",
        "prompt_set",
        "seed",
        "guidance_scale",
        "num_inference_steps",
        "scheduler",
        "weights",
        "parents",
    ),
    *("image_size", "redraws", "flaw", "bytes", "mode", "strength", "guidance_interval"),
}

_FRAGMENT = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class PromptSet:
    """Texts that ask for a class, or describe an image, in many wordings.

    templates: texts with slots, "a photo of {label}[ on the {body_site}]". A [fragment] is left out where one of its slots
        is unknown. Slots are `label` and the names in `attributes`.
    attributes: values of each slot with weights >= 0, drawn independently. The empty value "" stands for "not said".
    synonyms: ways of writing a value, of a class or of an attribute; one is drawn wherever that value occurs. The value
        itself is written only where it is listed. Values that never occur do no harm, so a set can know many data sets' codes.
    labels: what stands for a class. Here every class named must exist in the data (`check_labels`).

    Raises InputError with everything that is wrong with the set.
    """

    name: str
    templates: Sequence[str]
    attributes: Mapping[str, Mapping[Value, float]] = field(default_factory=dict)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if problems := _shape_problems(self):
            raise InputError(f"prompts {self.name!r} cannot be used:\n  " + "\n  ".join(problems))
        plain = {
            "templates": tuple(self.templates or ()),
            "attributes": {slot: dict(weights or {}) for slot, weights in (self.attributes or {}).items()},
            "synonyms": {str(value): _as_tuple(words) for value, words in (self.synonyms or {}).items()},
            "labels": {str(label): phrase for label, phrase in (self.labels or {}).items()},
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if problems := _problems(self):
            raise InputError(f"prompts '{self.name}' cannot be used:\n  " + "\n  ".join(problems))

    def check_labels(self, classes: Sequence[str]) -> None:
        """Raise InputError where `labels` names a class that the data lacks."""
        missing = [label for label in self.labels if class_named(label, classes) not in classes]
        if missing:
            raise InputError(
                f"prompts '{self.name}' give a phrase to classes that the data lacks: {', '.join(missing)}. "
                f"The data's classes are: {', '.join(classes)}. Rename or remove them under prompts.labels."
            )

    def phrase(self, label: str) -> str:
        """The usual wording of a class: from `labels`, else its first synonym, else its name with spaces."""
        return self._given(label) or self.synonyms.get(label, (_text(label),))[0]

    def sample(self, label: str, n: int, seed: int, phrase: str | None = None) -> list[dict[str, Any]]:
        """Draw n prompts for a class: dicts of `prompt` and the attribute values that the prompt says.

        Prompt i of (set, label, seed) does not depend on n. Every slot draws from a stream of its own, so editing one
        attribute leaves the others' draws as they were. `phrase` stands for the class (default: `labels`, then synonyms).
        """
        uniform = partial(_uniform, n, self.name, label, seed)
        phrase = phrase or self._given(label)
        draws = [_pick([1.0] * len(self.templates), uniform("template"))]
        for slot, weights in self._choices(label).items():
            value = _pick(list(weights.values()), uniform(f"value:{slot}"))
            wordings = np.array([len(self._words(value)) for value in weights])
            draws += [value, (uniform(f"wording:{slot}") * wordings[value]).astype(np.int64)]
        # Most rows repeat a combination, and a text is made once for each.
        distinct, row = np.unique(np.stack(draws, axis=1), axis=0, return_inverse=True)
        made = [self._prompt(label, phrase, *draw) for draw in distinct.tolist()]
        return [dict(made[i]) for i in row.ravel()]

    def _choices(self, label: str) -> dict[str, Mapping[Any, float]]:
        """Each slot's values with their weights; the class is certain."""
        return {"label": {label: 1.0}, **self.attributes}

    def _prompt(self, label: str, phrase: str | None, template: int, *draws: int) -> dict[str, Any]:
        """The prompt of one draw: the template's number, then those of each slot's value and wording."""
        choices = self._choices(label)
        values = {
            slot: list(weights)[value]
            for (slot, weights), value in zip(choices.items(), draws[::2], strict=True)
        }
        words = {
            slot: self._words(value)[wording]
            for (slot, value), wording in zip(values.items(), draws[1::2], strict=True)
            if _known(value)
        }
        words["label"] = phrase or words["label"]
        text, said = _fill(self.templates[template], words)
        return {"prompt": text, **{slot: values[slot] for slot in self.attributes if slot in said}}

    def caption(
        self, attributes: Mapping[str, Any], rng: np.random.Generator, phrase: str | None = None
    ) -> str:
        """Describe an image by its own attributes (`label` among them) with a template drawn from those that fit.

        A template fits where every slot outside its [fragments] is known: neither absent, None, NaN nor "".
        Raises InputError where none fits.
        """
        known = {slot: value for slot, value in attributes.items() if _known(value)}
        fitting = [template for template in self.templates if _required_slots(template) <= known.keys()]
        if not fitting:
            raise InputError(
                f"prompts '{self.name}': no template fits an image with only {sorted(known)} known. "
                "Add a template whose other slots stand in [optional fragments]."
            )
        words = {slot: self._word(value, rng.random()) for slot, value in known.items()}
        if fixed := phrase or self._given(str(known.get("label"))):
            words["label"] = fixed
        return _fill(fitting[int(rng.integers(len(fitting)))], words)[0]

    def _given(self, label: str) -> str | None:
        """What `labels` has for a class."""
        return self.labels.get(label) or by_class(self.labels, [label]).get(label)

    def _word(self, value: Value, uniform: float) -> str:
        words = self._words(value)
        return words[int(uniform * len(words))]

    def _words(self, value: Value) -> Sequence[str]:
        """The ways of writing a value."""
        return self.synonyms.get(_text(value)) or self.synonyms.get(str(value)) or (_text(value),)


def preview(prompts: PromptSet, classes: Sequence[str], n: int, seed: int) -> list[dict[str, Any]]:
    """The first n prompts of every class as rows: label, prompt, and the attributes that were drawn."""
    prompts.check_labels(classes)
    return [{"label": label, **row} for label in classes for row in prompts.sample(label, n, seed)]


def slots(template: str) -> set[str]:
    """Names of the slots in a template, those in [fragments] included."""
    return set(_SLOT.findall(template))


def _required_slots(template: str) -> set[str]:
    return slots(_FRAGMENT.sub("", template))


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[tuple[str, bool], ...]:
    """Cut "a {b}[ c]" into (text, is a fragment)."""
    return tuple((text, i % 2 == 1) for i, text in enumerate(_FRAGMENT.split(template)) if text)


def _fill(template: str, words: Mapping[str, str]) -> tuple[str, set[str]]:
    """The template's text and the slots that it says."""
    kept = [text for text, optional in _parts(template) if not optional or slots(text) <= words.keys()]
    said: set[str] = set()

    def word(match: re.Match[str]) -> str:
        said.add(match[1])
        return words.get(match[1], "")

    return " ".join(_SLOT.sub(word, "".join(kept)).split()), said


def _pick(weights: Sequence[float], uniform: np.ndarray) -> np.ndarray:
    """Invert the weights' cumulative distribution at uniform numbers in [0, 1): indices, int64."""
    cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
    return np.minimum(
        np.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(cumulative) - 1
    )


def _uniform(n: int, *identity: str | int) -> np.ndarray:
    """n numbers in [0, 1), float64, of a stream that the identity names; the first k do not depend on n."""
    digest = hashlib.sha256("\0".join(str(part) for part in identity).encode()).digest()
    entropy = np.random.SeedSequence(int.from_bytes(digest[:16], "little"))
    return np.random.default_rng(entropy).random(n)


def _known(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _text(value: Value) -> str:
    """A value as words: whole floats without their point, underscores as spaces."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).replace("_", " ")


def _as_tuple(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words or ())


def _shape_problems(prompts: PromptSet) -> list[str]:
    """What is no text, list or mapping where one must be; nothing else can be told of such a set."""
    problems = [] if _is_text(prompts.name) else [f"prompts.name must be a text, got {prompts.name!r}"]
    if not isinstance(prompts.templates or (), list | tuple):
        problems.append(f"prompts.templates must be a list of texts, got {prompts.templates!r}")
    for name in ("attributes", "synonyms", "labels"):
        if not isinstance(getattr(prompts, name) or {}, Mapping):
            problems.append(f"prompts.{name} must be a mapping, got {getattr(prompts, name)!r}")
    if problems:
        return problems
    for slot, weights in (prompts.attributes or {}).items():
        if not isinstance(slot, str) or not _SLOT.fullmatch(f"{{{slot}}}"):
            problems.append(f"an attribute's name must be letters, digits and _, got {slot!r}")
        if not isinstance(weights or {}, Mapping):
            problems.append(f"attribute {slot!r} must map its values to weights, got {weights!r}")
        else:
            odd = [value for value in weights or {} if value != "" and not _is_text(_text_of(value))]
            problems += [f"values of {slot!r} must be texts or numbers, got {odd}"] * bool(odd)
    for value, words in (prompts.synonyms or {}).items():
        if not isinstance(words or (), str | list | tuple):
            problems.append(f"synonyms of {value!r} must be one or more texts, got {words!r}")
    return problems


def _text_of(value: Any) -> Any:
    """A number as text, but no truth value; anything else as it is."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _is_text(value: Any) -> bool:
    """Whether a value is a text that is not blank and can be written: half a letter ("\\ud800") cannot."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def _problems(prompts: PromptSet) -> list[str]:
    problems = [] if prompts.templates else ["it has no templates"]
    for template in prompts.templates:
        problems += _template_problems(template, {"label", *prompts.attributes})
    for slot, weights in prompts.attributes.items():
        problems += _weight_problems(slot, weights)
        outside = [template for template in prompts.templates if slot in _required_slots(str(template))]
        if outside and weights.get("", 0):
            problems.append(
                f'{slot!r} can be unsaid (its value ""), so {outside[0]!r} must have it in a [fragment]'
            )
    for value, words in prompts.synonyms.items():
        if not words or not all(map(_is_text, words)):
            problems.append(f"synonyms of {value!r} must be one or more texts, got {list(words)}")
    for label, phrase in prompts.labels.items():
        if not _is_text(phrase):
            problems.append(f"the phrase of label {label!r} must be a text, got {phrase!r}")
    return problems


def _template_problems(template: Any, known_slots: set[str]) -> list[str]:
    if not _is_text(template):
        return [f"a template must be a text, got {template!r}"]
    problems = []
    for slot in sorted(slots(template) - known_slots):
        near = difflib.get_close_matches(slot, known_slots, n=1)
        hint = f"did you mean {{{near[0]}}}?" if near else "give it values under prompts.attributes"
        problems.append(f"unknown slot {{{slot}}} in {template!r}: known are {sorted(known_slots)}; {hint}")
    bare = _SLOT.sub("", template)
    if "{" in bare or "}" in bare:
        problems.append(f"unpaired or empty braces in {template!r}: a slot is {{name}}")
    if set("[]") & set(_FRAGMENT.sub("", template)):
        problems.append(f"unpaired or nested brackets in {template!r}")
    if any(not slots(fragment) for fragment in _FRAGMENT.findall(template)):
        problems.append(
            f"a [fragment] without a slot in {template!r} would never be left out: remove its brackets"
        )
    return problems


def _weight_problems(slot: str, weights: Mapping[Value, float]) -> list[str]:
    if slot in RESERVED:
        return [f"attribute {slot!r} has the name of a column that every image has: choose another"]
    bad = {
        value: weight
        for value, weight in weights.items()
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf
    }
    if bad:
        return [f"weights of {slot!r} must be numbers >= 0, got {bad}"]
    if not sum(weights.values()) > 0:
        return [f"attribute {slot!r} needs a value with a weight above 0, got {dict(weights)}"]
    return []
