"""SIGTERM, by which schedulers and shutdowns end a process: what can be saved is saved, and the same command goes on from there."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

STATUS = 128 + signal.SIGTERM  # the exit status of a process that SIGTERM ends
RETRY = 1.0  # seconds

asked = False  # whether a SIGTERM has come


def stop_at_sigterm() -> None:
    """From now on a SIGTERM raises SystemExit(STATUS), so that locks are given back and runs are marked as ended."""
    signal.signal(signal.SIGTERM, _stop)


def defer_sigterm() -> None:
    """From now on a SIGTERM is only noted, in `asked`, until somebody puts another handler in place."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _note)


def ask_again() -> None:
    """Send this process a SIGTERM in a while: one was deferred, and not obeyed."""
    again = threading.Timer(RETRY, os.kill, (os.getpid(), signal.SIGTERM))
    again.daemon = True
    again.start()


def _note(number: int, frame: FrameType | None) -> None:
    global asked
    asked = True


def _stop(number: int, frame: FrameType | None) -> None:
    _note(number, frame)
    if signal.getsignal(signal.SIGTERM) is not _stop:
        ask_again()  # Lightning called this beside its own handler, for the moment between its start and its first batch
        return
    raise SystemExit(STATUS)
