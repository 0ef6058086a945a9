"""Pages that are served by a process of their own, as people start them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Served:
    """The page of one person in a process of its own. script: called with folder, name and port."""

    def __init__(self, folder: Path, reviewer: str, script: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        tests = str(script.parent)
        environment = {**os.environ, "PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would take itself for a test's own
        self.address = ""
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder), reviewer, str(self.port)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> None:
        while not self.address:  # printed when the page is about to open
            line = self.process.stdout.readline()
            assert line, "it ended"
            self.address = re.findall(r"http://\S+", line)[0] if "token=" in line else ""
        for _ in range(600):
            assert self.process.poll() is None, self.process.communicate()[0]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the page did not open in a minute")

    def end(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        return self.process.communicate(timeout=30)[0]

    @property
    def cookie(self) -> str:
        return f"skinaug-review-{self.port}={self.address.partition('token=')[2]}"

    def status(self, path: str, **headers: str) -> int:
        return ask(self.port, path, headers={"Cookie": self.cookie} | headers)[0]


def ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Status and headers of one request, sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}
