"""Overrides by the key that they change, with Hydra's signs in front."""

from __future__ import annotations

from skinaug.launch.overrides import by_key


def test_signs_are_no_part_of_a_key():
    assert by_key(["seed=1", "+a.b=c=d", "++seed=2", "~filter.ensemble", "~x=1"]) == {
        "seed": "2",
        "a.b": "c=d",
        "filter.ensemble": "null",
        "x": "null",
    }
