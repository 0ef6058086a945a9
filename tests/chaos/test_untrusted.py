"""Files of others run no code: not as weights, YAML, pictures, reports or pages."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import skinaug
from skinaug.errors import InputError
from skinaug.manifest import FILE_NAME, Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.base import check_base, load_pipeline
from skinaug.models.given_features import read_features
from skinaug.report import collect
from skinaug.report.report import report
from tests.report.conftest import write_sweep

pytestmark = pytest.mark.chaos

PACKAGE = Path(skinaug.__file__).parent
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "hydra_plugins").rglob("*.py")])

# What runs code that lies in a file or a text

BUILTINS = {"eval", "exec", "__import__"}
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "code", "imp"}
CALLS = {  # name of a function or method: whether these keywords make it harmless
    "torch.load": lambda given: given.get("weights_only") is True,
    "np.load": lambda given: given.get("allow_pickle", False) is False,
    "numpy.load": lambda given: given.get("allow_pickle", False) is False,
    "joblib.load": lambda given: False,
    "pd.read_pickle": lambda given: False,
    "yaml.load": lambda given: False,
    "yaml.unsafe_load": lambda given: False,
    "yaml.full_load": lambda given: False,
    "yaml.load_all": lambda given: False,
    "os.system": lambda given: False,
    "os.popen": lambda given: False,
    "torch.hub.load": lambda given: False,
    "OmegaConf.register_new_resolver": lambda given: False,
}


def faults(source: str) -> list[str]:
    """What of a module's source reads code from files, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            found.append(f"{line}: {node.id}")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            found += [f"{line}: import {name}" for name in names if name.partition(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
            if name in CALLS and not CALLS[name](given):
                found.append(f"{line}: {name}")
            if given.get("trust_remote_code", False) is not False or given.get("shell", False) is not False:
                found.append(f"{line}: {name} with trust_remote_code or a shell")
            if "ckpt_path" in given and given.get("weights_only") is not True:
                found.append(f"{line}: {name} reads a checkpoint as a pickle")
            if name.endswith(".from_pretrained") and given.get("use_safetensors") is not True:
                found.append(f"{line}: {name} may read pickles")
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "eval('1')",
        "run = exec",
        "__import__(name)",
        "import pickle",
        "from pickle import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=True)",
        "trainer.fit(module, ckpt_path=last)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_search_below_finds(bad: str):
    assert len(faults(bad)) == 1


def test_the_package_reads_no_code_from_files():
    assert len(SOURCES) > 100
    found = {path.name: faults(path.read_text("utf-8")) for path in SOURCES}
    tokenizers = re.compile(r"\d+: \w*Tokenizer\w*\.from_pretrained|\d+: \w*Processor\w*\.from_pretrained")
    found = {name: [fault for fault in own if not tokenizers.match(fault)] for name, own in found.items()}
    assert {name: own for name, own in found.items() if own} == {}


# Weights and tables that are pickles


class Bomb:
    """Makes a folder when it is loaded as a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that must never be loaded."""
    marker = tmp_path / "owned"
    yield pickle.dumps(Bomb(marker))
    assert not marker.exists(), "the pickle was loaded"


def test_the_bomb_goes_off_where_it_is_loaded(tmp_path: Path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "owned")))
    assert (tmp_path / "owned").is_dir()


def test_pickles_are_weights_of_no_backbone(bomb: bytes, tmp_path: Path, tally):
    for name in ("w.safetensors", "w.pth", "w.bin", "w.pkl"):
        (tmp_path / name).write_bytes(bomb)
        with pytest.raises(InputError):
            create_backbone("test_resnet", 3, pretrained=False, weights=str(tmp_path / name))
        tally.inputs += 1


def test_pickles_are_no_part_of_a_base(bomb: bytes, tmp_path: Path, tally):
    tiny = PACKAGE / "weights" / "tiny"
    weights = sorted(path.relative_to(tiny) for path in tiny.rglob("*.safetensors"))
    assert len(weights) == 3
    for number, name in enumerate(weights):
        for suffix in (".safetensors", ".bin"):
            folder = tmp_path / f"{number}{suffix}"
            shutil.copytree(tiny, folder)
            (folder / name).unlink()
            (folder / name).with_suffix(suffix).write_bytes(bomb)
            for look in (
                lambda folder: check_base(str(folder), []),
                lambda folder: load_pipeline(str(folder)),
            ):
                with pytest.raises(InputError, match="safetensors"):
                    look(folder)
            tally.inputs += 1


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": ["pipeline", "Mine"]},
        {"_class_name": "os.system"},
        {"unet": ["mine", "Model"]},
        {"vae": ["subprocess", "Popen"]},
        {"custom": ["os", "system"]},
        {"scheduler": [["diffusers"], "DDIMScheduler"]},
    ],
    ids=str,
)
def test_a_base_names_no_code_of_its_own(change: dict[str, Any], tmp_path: Path, tally):
    folder, marker = tmp_path / "base", tmp_path / "owned"
    shutil.copytree(PACKAGE / "weights" / "tiny", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | change))
    code = f"import os\nos.mkdir({str(marker)!r})\nclass Model: pass\nclass Mine: pass\n"
    for place in (folder / "pipeline.py", folder / "unet" / "mine.py", folder / "mine.py"):
        place.write_text(code)
    with pytest.raises(InputError):
        load_pipeline(str(folder))
    assert not marker.exists()
    tally.inputs += 1


def test_pickles_are_no_tables(bomb: bytes, tmp_path: Path, tally):
    (tmp_path / FILE_NAME).write_bytes(bomb)
    with pytest.raises(InputError):
        Manifest.read(tmp_path)
    with pytest.raises(InputError):
        read_features(str(tmp_path / FILE_NAME))
    tally.inputs += 2


# The report

SCRIPT = "<script>window.owned = 1; alert(1)</script>"
HOSTILE = [
    SCRIPT,
    "<img src=x onerror='window.owned = 2'>",
    '"><svg onload="window.owned = 3">',
    "</title></style></script><script>window.owned = 4</script>",
    "javascript:alert(5)",
    "' onmouseover='window.owned = 6' x='",
    "{{ 7 * 191 }}{% raw %}",
    "&lt;script&gt;&#60;b&#62;",
    "]]><b>8</b><!-- -->",
    "$x_1$ \\input{/etc/passwd} \\write18{ls} ^^M",
    "[click](javascript:alert(9)) ![x](http://127.0.0.1:9/x.png)",
    "\u202egnp.exe 皮膚 🧴",
    '</text><g id="tip:%3Cscript%3Ealert(10)%3C/script%3E"><use onload="alert(10)"/>',
    "tip:<b>",
]


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a sweep in which every name that data can give is a try to run a script."""
    folder = tmp_path_factory.mktemp("report")
    arms = {text: (10, 10, 0.2 * number) for number, text in enumerate(HOSTILE)}
    sweep = write_sweep(
        folder / "sweep",
        folder / "store",
        arms,
        overrides=lambda arm: {"mix": arm, "prompts": arm, "generate.guidance_scale": HOSTILE.index(arm)},
        seeds=1,
        classes=tuple(HOSTILE[:6]),
        tests=8,
        size=16,
        licence=SCRIPT,
    )
    for file in sweep.rglob("run.json"):
        run = json.loads(file.read_text())
        file.write_text(
            json.dumps(run | {"experiment": SCRIPT, "config": {**run["config"], SCRIPT: HOSTILE}})
        )
    failed = sweep / "failed" / "run.json"  # a job that did not finish is named too
    failed.parent.mkdir()
    failed.write_text(json.dumps(run | {"arm": SCRIPT + " failed", "artifacts": {}}))
    for stage in ("generate", "curate"):
        pool = Manifest.read(folder / "store" / stage)
        prompts = pl.Series("prompt", [HOSTILE[row % len(HOSTILE)] for row in range(len(pool))])
        pool.with_table(pool.table.with_columns(prompts, prompt_set=prompts)).write(folder / "store" / stage)
    packages = {"packages": {SCRIPT: HOSTILE[1]}, "git_revision": HOSTILE[2]}
    for record in folder.glob("store/classify*/artifact.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | packages))
    row = {"real": 10, "synthetic": 10, "top1": 50.0, "top2": 60.0, "top3": 70.0}
    published = {
        "citation": SCRIPT,
        "test_images": 100,
        "rows": [{"arm": text, **row} for text in HOSTILE[:3]],
    }
    out = folder / "out"
    out.mkdir()
    runs = collect.read_runs(sweep)
    report(runs, published, compare="prompts", num_resamples=50, samples_per_class=9, out=out)
    return out


def test_the_report_shows_scripts_as_text(hostile_report: Path, browser: Any, tmp_path: Path, tally):
    whole = (hostile_report / "report.html").read_text("utf-8")
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(whole)
    (tmp_path / "open.html").write_text(policy.sub("", whole), "utf-8")  # escaping alone must do
    for file in (hostile_report / "report.html", tmp_path / "open.html"):
        page, dialogs, requests, errors = browser.new_page(), [], [], []
        page.on("dialog", lambda dialog, dialogs=dialogs: (dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request, requests=requests: requests.append(request.url))
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.goto(file.as_uri())
        for place in ("th.arm", "h3", "figure svg", "img", "[role=button]"):
            page.locator(place).first.hover(force=True)
            page.locator(place).first.click(force=True)
        page.wait_for_timeout(300)
        assert page.evaluate("window.owned") is None
        assert (dialogs, errors) == ([], [])
        assert all(url.startswith(("file:", "data:")) for url in requests), requests
        assert page.locator("script").count() == 1
        handlers = "all => all.flatMap(e => e.getAttributeNames()).filter(name => name.startsWith('on'))"
        assert page.locator("*").evaluate_all(handlers) == []
        assert page.locator("a[href], iframe, object, embed, base, link, form").count() == 0
        shown = page.locator("body").evaluate("body => body.textContent")
        assert SCRIPT in page.title()
        assert "1337" not in shown, "a template of the data was filled"
        for text in HOSTILE:
            assert re.sub(r"\s+", "", text) in re.sub(r"[\s\u200b]+", "", shown).replace("‑", "-"), text
        titles = page.locator("img").evaluate_all("all => all.map(img => img.title)")
        assert set(HOSTILE) <= set(titles), "prompts"
        page.close()
    tally.inputs += 2 * len(HOSTILE)


def test_markdown_and_latex_show_scripts_as_text(hostile_report: Path, tally):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    reader = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    page = reader.render((hostile_report / "report.md").read_text("utf-8"))
    plain = {"h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", page)) <= plain
    for file in (hostile_report / "tex").glob("*.tex"):
        commands = set(re.findall(r"\\([A-Za-z]+)", file.read_text("utf-8")))
        assert not commands & {"input", "write", "include", "immediate", "def", "catcode"}, file.name
    assert "textbackslash" in (hostile_report / "tex" / "arms.tex").read_text("utf-8")
    tally.inputs += 2 * len(HOSTILE)


# The review page

REVIEW = """
import sys
from pathlib import Path

import polars as pl
from reviewing import small_pool

from skinaug.curate.review import review

folder, port, hostile = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
pool = small_pool(folder)
prompts = pl.Series("prompt", [hostile[row % len(hostile)] for row in range(len(pool))])
pool = pool.with_table(pool.table.with_columns(prompts))
scores = pl.DataFrame({"image_id": pool.table["image_id"], hostile[0]: hostile[1]})
near = {"nearest": [str(pool.paths()[0])] * len(pool), "nearest_label": hostile[2], "similarity": 0.5}
nearest = pl.DataFrame({"image_id": pool.table["image_id"], **near})
review(pool, scores, nearest, folder / "reviews", "ana", port=port, open_browser=False)
"""


def test_the_review_page_shows_scripts_as_text(browser: Any, tmp_path: Path, tally):
    pytest.importorskip("nicegui", reason="NiceGUI is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would take itself for a test's own
    served = subprocess.Popen(
        [sys.executable, "-c", REVIEW, str(tmp_path), str(port), repr(HOSTILE)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    try:
        lines = iter(served.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://\S+token=\S+", line)))
        page, dialogs, requests = browser.new_page(), [], []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        for _ in range(100):  # the address is printed when the page is about to open
            try:
                page.goto(address)
                break
            except Exception:
                page.wait_for_timeout(100)
        picture = "document.querySelector('.picture img')"
        seen = set()
        for number in range(6):
            page.wait_for_function(
                f"{picture} && {picture}.src.endsWith('/pool/{number}') && {picture}.naturalWidth"
            )
            seen.add(page.locator(".prompt q").text_content())
            page.wait_for_timeout(100)
            page.keyboard.press("k")
        assert seen <= set(HOSTILE)
        assert len(seen) > 4
        assert HOSTILE[0].replace(".", " · ") in page.locator(".scores").text_content()
        assert HOSTILE[2] in page.locator(".likeness").text_content()
        assert page.evaluate("window.owned") is None
        assert dialogs == []
        assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")) for url in requests)
        page.close()
    finally:
        served.send_signal(signal.SIGKILL)
        served.communicate()
    tally.inputs += len(seen) + 2


def test_the_review_page_listens_to_this_machine_alone():
    config = (PACKAGE.parent / "conf" / "review" / "default.yaml").read_text()
    assert re.search(r"^host: 127\.0\.0\.1", config, re.MULTILINE)
