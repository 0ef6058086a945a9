"""What messages show of other people's names."""

from __future__ import annotations

import pytest

from skinaug.errors import listing, printable


@pytest.mark.parametrize(
    "name", ["acné.png", "皮膚.png", "جلد‌ها.png", "🧴.png", "👩‍⚕️.png", "त्वचा.png", "-rf.png", "a b.png"]
)
def test_letters_of_all_scripts_stay(name: str):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb", r"a\nb"), ("\x1b[2J", r"\x1b[2J"), ("\u202egnp.exe", r"\u202egnp.exe"), ("\udcff", r"\xff")],
)
def test_what_would_change_the_terminal_is_written_out(name: str, shown: str):
    assert printable(name) == shown


def test_a_listing_has_a_line_an_item():
    assert listing(["a\nb", "c", "d"], most=2) == "  a\\nb\n  c\n  ... and 1 more"
