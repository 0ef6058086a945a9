"""Hydra takes sweepers from the name space hydra_plugins alone: this is where it finds skinaug's search."""

from skinaug.launch import search


class SearchSweeper(search.SearchSweeper):
    """skinaug.launch.search.SearchSweeper."""
