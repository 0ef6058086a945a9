"""Hydra takes launchers from the name space hydra_plugins alone: this is where it finds skinaug's."""

from skinaug.launch import local, sequential, slurm


class SequentialLauncher(sequential.SequentialLauncher):
    """skinaug.launch.sequential.SequentialLauncher."""


class SlurmLauncher(slurm.SlurmLauncher):
    """skinaug.launch.slurm.SlurmLauncher."""


class JoblibLauncher(local.JoblibLauncher):
    """skinaug.launch.local.JoblibLauncher."""
