"""`skinaug doctor`: is what is installed what skinaug asks for, what does this machine have, and what would fit it?"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, metadata, version
from pathlib import Path

import psutil
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from rich.console import Console

from skinaug.cli.plan import plan_of
from skinaug.devices.spread import own_cores
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.manifest import SCHEMA_VERSION as MANIFEST_SCHEMA
from skinaug.models.backbone import answers, hub_reachable, hub_switched_off
from skinaug.models.base import folder_at_hand
from skinaug.models.base_folder import pipeline_files, read_index, tensor_sizes
from skinaug.pipeline import check_writable
from skinaug.store.artifact import SCHEMA_VERSION
from skinaug.store.provenance import PACKAGES
from skinaug.store.timings import duration

OK, NOTE, WRONG = "ok", "note", "wrong"
COLOURS = {OK: "green", NOTE: "yellow", WRONG: "red"}
LEAST_FREE_GB = 5  # below so much disk it is told: the demo's store is 0.3 GB, and Stable Diffusion's weights are 3 to 5 GB
CGROUP = Path("/sys/fs/cgroup/memory.max")  # of a container, where it has a limit
WANDB = "https://api.wandb.ai"
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line: a verdict (OK, NOTE or WRONG), what it is about, and what was found."""

    verdict: str
    about: str
    told: str


def main(arguments: list[str]) -> int:
    """Print what is found; returns the exit status: 0, or 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="skinaug doctor", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    store = parser.parse_args(arguments).store
    console, wrong = Console(), 0
    for finding in findings(store):
        colour = COLOURS[finding.verdict]
        console.print(
            f"[{colour}]{finding.verdict:<6}[/{colour}]{finding.about:<13}", end="", highlight=False
        )
        console.print(finding.told, highlight=False, markup=False, soft_wrap=True)
        wrong += finding.verdict == WRONG
    console.print(f"{wrong} things are wrong." if wrong else "Nothing is wrong.", highlight=False)
    return 1 if wrong else 0


def findings(store: Path) -> Iterator[Finding]:
    """All findings, as they are made."""
    yield from installed()
    yield from memory_and_devices()
    yield disk(store)
    yield from reached()
    yield from fits(store)


def installed() -> Iterator[Finding]:
    """Versions of Python, of skinaug and of what it asks for, and which extras are there."""
    asked = metadata("skinaug")["Requires-Python"]
    fitting = Requirement(f"python{asked}").specifier.contains(platform.python_version())
    yield Finding(OK if fitting else WRONG, "Python", f"{platform.python_version()} (asked for: {asked})")
    schemas = f"records of form {SCHEMA_VERSION}, manifests of schema {MANIFEST_SCHEMA}"
    yield Finding(OK, "skinaug", f"{version('skinaug')}, {schemas}")
    requirements = [Requirement(line) for line in distribution("skinaug").requires or ()]
    needed = [wanted for wanted in requirements if not wanted.marker or wanted.marker.evaluate({"extra": ""})]
    faults = list(filter(None, map(fault, needed)))
    told = ", ".join(f"{name} {found}" for name in PACKAGES[1:] if (found := version_of(name)))
    yield Finding(OK, "libraries", told)
    for text in faults:
        yield Finding(WRONG, "libraries", f"{text}. pip install 'skinaug' again, or make setup in a clone")
    yield torchvision_fits()
    there = []
    for extra in sorted({*metadata("skinaug").get_all("Provides-Extra", [])} - {"dev"}):
        own = [
            wanted for wanted in requirements if wanted.marker and wanted.marker.evaluate({"extra": extra})
        ]
        if lacking := [wanted.name for wanted in own if wanted not in needed and fault(wanted)]:
            told = f"{extra} lacks {', '.join(lacking)}: pip install 'skinaug[{extra}]' where it is wanted"
            yield Finding(NOTE, "extra", told)
        else:
            there.append(extra)
    yield Finding(OK, "extras", f"there: {', '.join(there) or 'none'}")


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def fault(wanted: Requirement) -> str | None:
    """What is wrong with an installed package; None where it is as asked for."""
    found = version_of(wanted.name)
    if found is None:
        return f"{wanted.name} is not installed (asked for: {wanted.specifier})"
    fits = wanted.specifier.contains(found, prereleases=True)
    return None if fits else f"{wanted.name} is {found} (asked for: {wanted.specifier})"


def torchvision_fits() -> Finding:
    """Whether torchvision was built for the torch that is here: another one fails when it is first used."""
    lines = map(Requirement, distribution("torchvision").requires or ()) if version_of("torchvision") else ()
    asked = next((wanted for wanted in lines if wanted.name == "torch"), None)
    if asked is None:
        return Finding(NOTE, "torchvision", "it does not tell for which torch it was built")
    if told := fault(asked):
        return Finding(
            WRONG,
            "torchvision",
            f"{version_of('torchvision')} was built for another torch: {told}. Install both together",
        )
    return Finding(OK, "torchvision", f"{version_of('torchvision')} goes with torch {version_of('torch')}")


def memory_and_devices() -> Iterator[Finding]:
    """The machine's cores, memory and GPUs."""
    total, free = memory()
    yield Finding(OK, "memory", f"{free / GB:.1f} of {total / GB:.1f} GB free, {len(own_cores())} cores")
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding(
            WRONG,
            "torch",
            f"it cannot be loaded: {error}. Install it again, in the build that fits this machine",
        )
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        yield Finding(
            OK, "GPU", f"{torch.cuda.get_device_name(number)}: {free / GB:.1f} of {total / GB:.1f} GB free"
        )
    if torch.cuda.device_count():
        return
    if torch.backends.mps.is_available():
        yield Finding(OK, "GPU", "Apple's, by trainer.accelerator=mps; it shares the machine's memory")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            WRONG,
            "GPU",
            f"there is an NVIDIA driver, and torch {torch.__version__} sees no GPU: install the build of torch that fits it",
        )
    else:
        yield Finding(NOTE, "GPU", "none: everything runs on the processor")


def memory() -> tuple[int, int]:
    """Bytes of memory in all, and free ones; a container's limit counts."""
    found = psutil.virtual_memory()
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    total = min(found.total, int(limit)) if limit.isdigit() else found.total
    return total, min(found.available, total)


def disk(store: Path) -> Finding:
    """What is left on the store's disk."""
    try:
        check_writable("store", store)
    except InputError as error:
        return Finding(WRONG, "disk", str(error))
    there = Path(os.path.abspath(store))
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / GB
    return Finding(OK if free >= LEAST_FREE_GB else NOTE, "disk", f"{free:.1f} GB free for the store {store}")


def reached() -> Iterator[Finding]:
    """Which servers answer, within two seconds each. None is needed but for what is said of it."""
    offline = "needed for weights that are not on this machine; dataset=phantom, base=tiny and local copies do without"
    if hub_switched_off():
        yield Finding(NOTE, "model hub", f"switched off by HF_HUB_OFFLINE: {offline}")
    elif hub_reachable():
        yield Finding(OK, "model hub", "answers")
    else:
        yield Finding(NOTE, "model hub", f"does not answer: {offline}")
    answered = answers(os.environ.get("WANDB_BASE_URL", WANDB))
    waits = "runs are written to files below outputs/wandb either way, and `wandb sync` sends them later"
    yield Finding(*((OK, "W&B", "answers") if answered else (NOTE, "W&B", f"does not answer: {waits}")))


def fits(store: Path) -> Iterator[Finding]:
    """Which bases' weights are here and fit the device, and what the demo would take by this store's earlier artifacts."""
    torch = sys.modules.get("torch")  # loaded for the devices, where it can be
    if torch is not None and torch.cuda.is_available():
        room, place = torch.cuda.mem_get_info()[0], "the GPU"
    else:
        room, place = memory()[1], "memory"
    absent = []
    for file in sorted((configs.folder("conf") / "base").glob("*.yaml")):
        base = OmegaConf.load(file)
        if "hub_ids" not in base:
            continue  # a renderer
        folder = folder_at_hand(base.path, base.hub_ids, base.revision)
        if folder is None:
            absent.append(file.stem)
            continue
        size = 4 * parameters(
            folder, base.variant, list(OmegaConf.select(base, "drop", default=[]))
        )  # bytes in float32
        told = f"base={file.stem}: its weights are here, {size / GB:.2f} GB in float32, and"
        verdict, end = (
            (OK, f"fit {place}")
            if size < room
            else (NOTE, f"do not fit {place}: trainer=fsdp, or a smaller base")
        )
        yield Finding(verdict, "fits", f"{told} {end}")
    if absent:
        yield Finding(
            NOTE, "fits", f"not on this machine, and downloaded when asked for: base={', '.join(absent)}"
        )
    yield demo(store)


def parameters(folder: Path, variant: str | None, drop: list[str]) -> int:
    """How many numbers a base's weights have, by their files' headers."""
    names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
    files = pipeline_files(read_index(folder), names, variant, drop)
    return sum(sum(tensor_sizes(folder / name)) for name in files if name.endswith(".safetensors"))


def demo(store: Path) -> Finding:
    """How long the demo would take, by what `skinaug plan` knows of earlier artifacts."""
    try:
        plan = plan_of("classify", ["experiment=akrout2023", "scale=demo", f"store={store}"])
    except InputError as error:
        return Finding(WRONG, "demo", str(error))
    known = [seconds for seconds in plan.seconds.values() if seconds is not None]
    if not plan.seconds:
        told = "its artifacts are all in this store"
    elif len(known) < len(plan.seconds):
        told = "no earlier run in this store tells how long it takes here: it says so itself after its first steps"
    else:
        told = f"about {duration(sum(known))} as earlier artifacts of this store took. Other studies: skinaug plan <overrides>"
    return Finding(OK, "demo", told)
