"""The pages of published sets: their command lines are run on drawn sets, and their options are those of the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import commands
import published_sets
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from skinaug.launch import configs

PAGES = {page.stem: page.read_text() for page in (Path(__file__).parents[1] / "docs/datasets").glob("*.md")}
RUN = """
import shlex, sys
from skinaug.__main__ import main
for line in sys.stdin_lines:
    print("$", line)
    assert main(shlex.split(line)[1:]) == 0, line
"""


def lines(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGES[page], re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_published_set_has_a_page():
    published = {file.stem for file in (configs.folder("conf") / "dataset/published").glob("*.yaml")}
    assert published | {"pad_ufes_20"} == set(PAGES) == set(published_sets.SETS)


def test_the_commands_of_the_pages(tmp_path: Path):
    """One process for all of them: what a command loads takes longer than a drawn set."""
    for name, draw in published_sets.SETS.items():
        draw(tmp_path / "data" / name)
    told = [line.replace("/data/", f"{tmp_path}/data/") for page in sorted(PAGES) for line in lines(page)]
    assert len(told) >= len(PAGES)
    done = commands.skinaug(code=RUN.replace("sys.stdin_lines", repr(told)), cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    made = list((tmp_path / "store/dataset").glob("*/manifest.parquet"))
    assert len(made) == len(told)
    assert "dropped 12: copy" in done.stdout
    assert "left out acrochordon" not in done.stdout, "only where the label is the disease"


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"pad_ufes_20"}))
def test_the_options_of_the_pages(page: str):
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg: DictConfig = compose(f"dataset/{page}", ["+folds.count=null"])
    told = re.findall(r"^\| `(dataset\.[\w.]+)` \| (`.*?`|.*?) \|", PAGES[page], re.MULTILINE)
    assert told
    for option, default in told:
        value = OmegaConf.select(cfg, option, throw_on_missing=True)
        assert value is not None
        if default.startswith("`"):
            assert (
                OmegaConf.create(default.strip("`")) == value
                if "{" in default
                else default == f"`{value}`".replace("True", "true")
            )
    dois = re.findall(r"doi (10\.[^\s;,]+)", cfg.dataset.source.citation)
    assert [doi for doi in dois if doi not in PAGES[page]] == []
