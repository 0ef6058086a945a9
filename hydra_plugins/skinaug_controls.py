"""Hydra takes sweepers from the name space hydra_plugins alone: this is where it finds skinaug's."""

from skinaug import sweeper


class ControlSweeper(sweeper.ControlSweeper):
    """skinaug.sweeper.ControlSweeper."""
