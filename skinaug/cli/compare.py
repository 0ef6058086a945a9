"""`skinaug compare <runs> <runs> ...`: sweeps or runs beside each other, with a paired test."""

from __future__ import annotations

from pathlib import Path

from skinaug.report.compare import compare


def main(folders: list[str]) -> int:
    compare([Path(folder) for folder in folders])
    return 0
