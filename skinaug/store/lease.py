"""One builder an artifact: leases that work on shared file systems too."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

from skinaug.store.artifact import Artifact

LEASE = 90.0  # seconds without a sign of life after which a builder on another machine counts as dead
POLL = 1.0  # seconds between looks at somebody else's lease


@contextlib.contextmanager
def hold(artifact: Artifact) -> Iterator[SoftFileLease]:
    """Held by the builder, as a file that it refreshes: that works where `flock` does not, as on many shared file systems. A
    builder that died is replaced, at once on its own machine and after LEASE seconds on another. One that slept so long
    that others took its place is stopped.

    Whoever gets the lease has just changed the folder, so a network file system shows what was published there before.
    """
    lease = SoftFileLease(
        artifact.path.with_suffix(".lock"),
        lease_duration=LEASE,
        poll_interval=POLL,
        on_compromise=lambda _: os.kill(os.getpid(), signal.SIGTERM),
    )
    try:
        lease.acquire(timeout=0)
    except Timeout:
        owner = lease.owner
        who = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
        print(f"{artifact.stage} {artifact.key} is being built by {who}: waiting for it.", flush=True)
        _wait_for(lease)
    try:
        yield lease
    finally:
        lease.release()


def is_busy(work: Path) -> bool:
    """Whether somebody builds in a work folder: showed a sign of life lately, and is not known to be dead."""
    lease = SoftFileLease(work.with_suffix(".lock"), lease_duration=LEASE)
    try:
        if time.time() - os.stat(lease.lock_file).st_mtime > 10 * LEASE:  # clocks of machines differ
            return False
        with lease.acquire(timeout=0):
            return False
    except FileNotFoundError:
        return False
    except Timeout:
        return True


def _wait_for(lease: SoftFileLease) -> None:
    """Acquire a lease that somebody else holds, or nobody: a kill between two calls of the system, or a power cut, leaves an empty
    file, which filelock takes for that of an earlier version of its own, and never removes."""
    file = Path(lease.lock_file)
    while not lease.is_locked:
        with contextlib.suppress(FileNotFoundError):
            before = file.stat()
            if before.st_size == 0:
                time.sleep(POLL)  # its writer needs less
                after = file.stat()
                if (after.st_size, after.st_ino) == (0, before.st_ino):
                    file.unlink()
        with contextlib.suppress(Timeout):
            lease.acquire(timeout=10 * POLL)
