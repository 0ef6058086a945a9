"""One measured run in a process of its own, so that its peak memory is its own. Imports nothing heavy.

`python -m tests.bench.process <part> <function> '<keywords as JSON>'`, as in
`python -m tests.bench.process finetuning ours '{"method": "lora", "base": "tiny", "folder": "/tmp/bench"}'`.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Run = Callable[..., dict[str, Any]]  # run(part, function, **keywords)
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def run(part: str, function: str, **keywords: Any) -> dict[str, Any]:
    """The figures that `tests.bench.<part>.<function>` returns in a new process, and that process's peak memory, `peak_gb`."""
    words = [part, function, json.dumps(keywords, default=str)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.process", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return json.loads(done.stdout.splitlines()[-1])


def turns(
    run: Run, part: str, ways: Mapping[str, Mapping[str, Any]], times: int, **common: Any
) -> list[dict[str, Any]]:
    """Several ways to do the same work, one after the other and then all again, so that a machine's slow minutes fall on each.

    Args:
        ways: keywords by the function's name and, where several have one, a word after it: `plain`, `plain 32`.
        times: how often each runs.
        common: keywords of all.

    Returns:
        of each way the figures of its middle run, by rate; of the slower one of two.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(times):
        for name, keywords in ways.items():
            found[name].append(run(part, name.split()[0], **common, **keywords))
    return [sorted(runs, key=lambda figures: figures["rate"])[(times - 1) // 2] for runs in found.values()]


def run_here(part: str, function: str, **keywords: Any) -> dict[str, Any]:
    """What `run` does, in this process."""
    given = json.loads(json.dumps(keywords, default=str))
    figures = getattr(import_module(f"tests.bench.{part}"), function)(**given)
    return {**figures, "peak_gb": peak_bytes() / 1e9}


def peak_bytes() -> int:
    """Of this process: of the GPU where it has computed on one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # Linux counts in `ru_maxrss` what the process held that started this one.
    if (status := Path("/proc/self/status")).is_file() and (found := PEAK.search(status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    part, function, keywords = sys.argv[1:]
    print(json.dumps(run_here(part, function, **json.loads(keywords))))
