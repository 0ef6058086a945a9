"""docs/bases.md says of every base and every family what the code does."""

from __future__ import annotations

from pathlib import Path

import yaml

from skinaug.launch import configs
from skinaug.models.families.family import FULL, LORA, TEXTUAL_INVERSION
from skinaug.models.families.table import FAMILIES

PAGE = Path(__file__).parents[1] / "docs" / "bases.md"


def table(first: str) -> list[list[str]]:
    """Rows of the page's table whose first column has that name."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_base_is_there_with_its_licence():
    told = {row[0].strip("`"): (row[3], row[4]) for row in table("base")}
    files = {
        file.stem: yaml.safe_load(file.read_text())
        for file in (configs.folder("conf") / "base").glob("*.yaml")
    }
    assert told.keys() == files.keys() - {"oracle"}
    for name, (licence, commercial) in told.items():
        assert licence == files[name]["licence"].replace("[", "").replace("]", "")
        assert (commercial == "**no**") is not files[name].get("commercial", True)


def test_every_family_is_there_with_what_it_takes():
    told = {row[0]: row[1:8] for row in table("family")}
    assert told.keys() == {family.name for family in FAMILIES.values()}
    for family in FAMILIES.values():
        ways = [way in family.methods for way in (TEXTUAL_INVERSION, LORA)]
        takes = [*ways, ways[1] and bool(family.lora_encoders), FULL in family.methods]
        takes += [bool(family.image_schedulers), bool(family.inpaint_schedulers)]
        assert told[family.name] == ["yes" if able else "no" for able in takes] + [
            ", ".join(family.schedulers)
        ]
