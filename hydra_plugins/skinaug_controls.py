"""Hydra takes sweepers from the name space hydra_plugins alone: this is where it finds skinaug's."""

from skinaug.launch import controls


class ControlSweeper(controls.ControlSweeper):
    """skinaug.launch.controls.ControlSweeper."""
