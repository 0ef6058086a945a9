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
from collections.abc import Callable
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
