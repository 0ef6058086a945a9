"""What becomes of a sweep of which jobs fail: the others run, there is a report of those, and the failed ones are named at the end."""

from __future__ import annotations

import re
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from skinaug.errors import Ended, InputError, nearest

LOCATING = re.compile(r"Error locating target '(?P<target>[^']+)'[^\n]*(?:\nfull_key: (?P<key>\S+))?")


def causes(error: BaseException) -> list[BaseException]:
    """An error and those that led to it: Hydra wraps what a constructor raises."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def fault_of_input(error: BaseException) -> str | None:
    """What to tell of bad input, of a value that has to be given, and of a `_target_` that is not there; None where an error comes of
    none of them."""
    for link in causes(error):
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, InstantiationException) and (told := _not_located(link)):
            return told
        if isinstance(link, MissingMandatoryValue):
            key = link.full_key or link.key
            return f"{key} has no value: give it one with {key}=<value>."
    return None


def _not_located(error: InstantiationException) -> str | None:
    """What to tell where a function or class that a configuration names cannot be found or imported; None of other errors."""
    if (found := LOCATING.match(str(error))) is None:
        return None
    key, (target, cause) = found["key"], (found["target"], causes(error)[-1])
    named = f"{key}._target_={target}" if key else f"_target_={target}"
    if isinstance(cause, ModuleNotFoundError) and f"{target}.".startswith(f"{cause.name}."):
        home, _, last = target.rpartition(".")
        near = nearest(last, dir(sys.modules[home])) if home in sys.modules else ""
        return f"{named}: there is no {cause.name}.{near} Code of your own is installed, or lies in the folder that the command is started in."
    places = traceback.extract_tb(cause.__traceback__)
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{named} cannot be imported: {type(cause).__name__}: {cause}{place}."


def failed(result: JobReturn) -> bool:
    return result.status != JobStatus.COMPLETED


def refusal(message: str) -> JobReturn:
    """What becomes of a job that is refused."""
    return JobReturn(status=JobStatus.FAILED, _return_value=InputError(message))


def message_of(result: JobReturn) -> str:
    """Why a job has failed."""
    error = result._return_value
    if isinstance(error, Ended):
        return error.message
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def raise_failures(results: Sequence[JobReturn], told: Sequence[tuple[str, str]]) -> None:
    """End a sweep of which jobs have failed.

    Args:
        results: of all jobs.
        told: name and reason of each failed one.

    Raises:
        InputError: every job was refused.
        Ended: some have failed, with status 1.
    """
    errors = [result._return_value for result in results if failed(result)]
    if not errors:
        return
    if len(errors) == len(results) and all(isinstance(error, InputError) for error in errors):
        raise InputError("\n".join(dict.fromkeys(map(str, errors))))
    lines = [f"{len(errors)} of {len(results)} jobs failed:"]
    for reason in dict.fromkeys(reason for _, reason in told):
        lines += [*(f"  {name}" for name, own in told if own == reason), reason]
    raise Ended(
        1, "\n".join([*lines, "What is done is kept: mend the cause, and run the same command again."])
    )


def forget_sweep(cfg: DictConfig) -> None:
    """Remove the folder that Hydra made for a sweep of which no job has left anything.

    Args:
        cfg: the sweep's, with Hydra's own.
    """
    sweep = Path(cfg.hydra.sweep.dir)
    if any(path.is_file() and path.name != "multirun.yaml" for path in sweep.rglob("*")):
        return
    shutil.rmtree(sweep, ignore_errors=True)
    for folder in (sweep.parent, Path(cfg.output)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
