"""The site is built as `make docs` builds it: no link, reference or heading is broken, and every option of conf/ is told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import commands
import pytest

from skinaug.launch import configs
from skinaug.launch.described import MACHINERY, read_values

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(set((ROOT / "docs").rglob("*.md")) - set((ROOT / "docs/studies").glob("*.md"))),
]
BUILD = "import sys; from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"-m sphinx (.*) docs build/docs", (ROOT / "Makefile").read_text())
    commands.skinaug(*command.split(), str(ROOT / "docs"), str(out), code=BUILD, cwd=ROOT, check=True)
    return out


def test_the_site_has_every_page_and_its_search(site: Path):
    told = [file for file in PAGES[1:] if "extensions" not in file.parts]
    assert all((site / file.relative_to(ROOT / "docs").with_suffix(".html")).is_file() for file in told)
    assert all((site / "studies" / f"{file.stem}.html").is_file() for file in ROOT.glob("experiments/*.md"))
    assert "min_patients" in (site / "searchindex.js").read_text()
    loaded = re.findall(r'(?:src|<link[^>]*href)="(https?:[^"]*)"', (site / "index.html").read_text())
    assert loaded == [], "the site needs no network"


def test_every_option_of_a_stage_is_told(site: Path):
    """With its comment, of the files that stages are made by."""
    text = {page.stem: page.read_text() for page in (site / "stages").glob("*.html")}
    for group in ("finetune", "generate", "curate", "audit", "mix", "classify", "report"):
        for name, value in (
            read_values((configs.folder("conf") / f"{group}/default.yaml").read_text()).items()
            if (configs.folder("conf") / f"{group}/default.yaml").is_file()
            else ()
        ):
            if value.comment and not MACHINERY & {*name.split(".")}:
                assert f">{group}.{name}</span>" in text[group], name
    assert "a share, from 0 to 1" in text["mix"], "what the code accepts"


def test_findings_are_told(site: Path):
    text = (site / "findings.html").read_text()
    assert all(f'id="{file.stem.replace("_", "-")}"' in text for file in ROOT.glob("findings/*.sh"))


def test_readme_is_short_and_its_links_lead_somewhere():
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_pictures_are_small_and_told_in_words():
    """And each of the folder is shown."""
    shown = [
        (alt, (page.parent / file).resolve())
        for page in PAGES
        for alt, file in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())
    ]
    assert [alt for alt, _ in shown if len(alt.split()) < 4] == []
    assert [file.name for _, file in shown if file.stat().st_size > 200_000] == []
    kept = {file for file in (ROOT / "docs/pictures").iterdir() if file.suffix != ".py"}
    assert kept <= {file for _, file in shown}


def shell_lines() -> list[str]:
    blocks = [
        block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    return sorted({line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()} - {""})


def test_other_commands_than_ours_exist():
    """`make` targets and extras; what begins with skinaug is composed by test_commands."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "".join(page.read_text() for page in PAGES)
    assert {line.split()[1] for line in shell_lines() if line.startswith("make ")} <= set(targets)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
    assert {name for names in re.findall(r"skinaug\[([\w,-]+)\]", text) for name in names.split(",")} <= set(
        extras
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_python_in_pages_compiles(page: Path):
    """Those of tutorials and how-tos are run by test_extending."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, str(page), "exec")
