"""Hydra takes launchers from the name space hydra_plugins alone: this is where it finds skinaug's."""

from skinaug import launchers


class SlurmLauncher(launchers.SlurmLauncher):
    """skinaug.launchers.SlurmLauncher."""


class JoblibLauncher(launchers.JoblibLauncher):
    """skinaug.launchers.JoblibLauncher."""
