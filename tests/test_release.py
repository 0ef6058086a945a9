"""What is released: a wheel that needs no repository beside it, pins that are those of pyproject.toml, one version everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import commands
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: listed for name, listed in PROJECT["optional-dependencies"].items() if name != "dev"}
# A study in seconds that needs all that the package brings: configurations, a study's file and the weights of the small base.
SWEEP = [
    *("classify", "-m", "experiment=akrout2023", "mix=real_small,hybrid", "seed=0", "test=[]", "filter=[]", "finetune=none"),
    *("scale.phantom_per_class=12", "scale.phantom_test_fraction=0.25", "scale.generate_per_class=2"),
    *("scale.num_inference_steps=1", "scale.real_limit=4", "scale.classifier_size=32", "scale.classifier_steps=2"),
    *("scale.classifier_batch_size=12", "mix.real_ratio=0.5", "mix.synthetic_ratio=0.5", "mix.synthetic_per_class=null"),
    *("audit.pool.obedience=null", "trainer=cpu", "logger=none"),
]  # fmt: skip
Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `make dist`, where it asks for its test, or one that is built here."""
    folder = Path(os.environ.get("SKINAUG_DIST") or tmp_path_factory.mktemp("dist"))
    if "SKINAUG_DIST" not in os.environ:
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.resolve().glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and finds all other packages where these tests do."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = site_packages(environment)
    install = [
        "--python",
        environment / "bin" / "python",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def environ() -> dict[str, str]:
    """Without what would lead to the repository or to other people's settings."""
    ours = ("PYTHONPATH", "SKINAUG_STORE", "SKINAUG_OUTPUT", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours}


def script(environment: Path, folder: Path) -> Run:
    """Runs the environment's own `skinaug` in a folder; returns what it prints."""

    def run(*arguments: str) -> str:
        command = [environment / "bin" / "skinaug", *arguments]
        done = subprocess.run(command, cwd=folder, env=environ(), capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    return run


def check_first_look(run: Run) -> None:
    assert "usage: skinaug <stage>" in run("--help")
    assert run("--version").strip() == PROJECT["version"]
    assert "skinaug.classify.classify.classify" in run("classify", "--cfg", "job")


def check_sweep(run: Run, folder: Path) -> None:
    """A sweep and its report, of nothing but what the wheel holds."""
    said = run(*SWEEP)
    assert "next: skinaug compare outputs/akrout2023/" in said
    (report,) = folder.glob("outputs/akrout2023/*/report/report.html")
    assert "hybrid" in report.read_text()
    records = [json.loads(file.read_text()) for file in folder.glob("store/*/*/artifact.json")]
    assert {"dataset", "generate", "audit", "mix", "classify", "report"} <= {
        record["stage"] for record in records
    }
    assert {record["packages"]["skinaug"] for record in records} == {PROJECT["version"]}
    assert {record["git_revision"] for record in records} == {None}, "the wheel's code is in no repository"
    (pool,) = (record for record in records if record["stage"] == "generate")
    assert pool["job"]["base"]["path"] == "package://tiny", "drawn by the weights that the wheel brings"


def test_the_wheel_works_alone_in_an_empty_folder(installed: Path, tmp_path: Path):
    check_first_look(script(installed, tmp_path))
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    own, repository = str(site_packages(installed)), [str(ROOT), str(ROOT / "tests")]
    code = f"""
import sys
sys.path[:] = [{own!r}, *(place for place in sys.path if place not in {repository!r})]
from skinaug import __main__
assert __main__.__file__.startswith({own!r})
sys.exit(__main__.main(sys.argv[1:]))
"""

    def run(*arguments: str) -> str:
        return commands.skinaug(*arguments, code=code, cwd=tmp_path, env=environ(), check=True).stdout

    check_sweep(run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_wheel_brings_all_that_it_needs(python: str, wheel: Path, tmp_path: Path):
    """In an environment that is empty before. Takes minutes, a package index and some GB."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    interpreter = shutil.which(f"python{python}")
    works = interpreter and subprocess.run([interpreter, "--version"], capture_output=True).returncode == 0
    if uv is None or not works:
        pytest.skip(f"uv or python{python} is not on this machine")
    environment, folder = tmp_path / "environment", tmp_path / "empty"
    folder.mkdir()
    subprocess.run([uv, "venv", "--quiet", "--python", interpreter, environment], check=True)
    pins = ["--constraints", ROOT / "requirements.txt"]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", environment, *pins, wheel], check=True)
    run = script(environment, folder)
    check_first_look(run)
    check_sweep(run, folder)


def test_the_wheel_holds_every_configuration_and_no_test(wheel: Path):
    import zipfile

    held = set(zipfile.ZipFile(wheel).namelist())
    for name in ("conf", "experiments"):
        files = [file.relative_to(ROOT) for file in (ROOT / name).rglob("*.yaml")]
        assert {f"skinaug/{file}" for file in files} <= held
    package = {str(file.relative_to(ROOT)) for file in (ROOT / "skinaug").rglob("*") if is_ours(file)}
    assert package <= held
    assert {name.partition("/")[0] for name in held} == {
        "skinaug",
        "hydra_plugins",
        f"skinaug-{PROJECT['version']}.dist-info",
    }


def is_ours(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


PYTHONS = ("3.11", "3.12", "3.13")


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_satisfy_the_project(python: str):
    """`make dist` compiles requirements.txt anew, which needs a package index; what an edit of pyproject.toml leaves behind shows
    here, too."""
    place = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": "dev",
    }
    lines = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines()]
    pins = {
        canonical(line.name): str(line.specifier).removeprefix("==")
        for line in lines
        if line.marker is None or line.marker.evaluate(place)
    }
    assert all(re.fullmatch(r"[\w.+!-]+", pin) for pin in pins.values())
    for wanted in map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]):
        assert canonical(wanted.name) in pins, f"{wanted}: make requirements"
        assert wanted.specifier.contains(pins[canonical(wanted.name)]), f"{wanted}: make requirements"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_tests_have_every_extra():
    assert {wanted for listed in EXTRAS.values() for wanted in listed} <= set(
        PROJECT["optional-dependencies"]["dev"]
    )


def test_every_extra_is_explained():
    page = (ROOT / "docs" / "install.md").read_text()
    for extra in EXTRAS:
        assert f"| `{extra}` |" in page


def test_the_changelog_knows_the_version():
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    released = dict(headings[1:])
    assert PROJECT["version"] in released
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", day) for day in released.values())
    assert list(released.values()) == sorted(released.values(), reverse=True)
