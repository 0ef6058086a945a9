"""What becomes of a sweep of which jobs fail: the others run, there is a report of those, and the failed ones are named at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from skinaug.errors import Ended, InputError, plural


def causes(error: BaseException) -> list[BaseException]:
    """An error and those that led to it: Hydra wraps what a constructor raises."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def fault_of_input(error: BaseException) -> str | None:
    """What to tell of bad input, and of a value that has to be given; None where an error comes of neither."""
    for link in causes(error):
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, MissingMandatoryValue):
            key = link.full_key or link.key
            return f"{key} has no value: give it one with {key}=<value>."
    return None


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
    lines = [f"{len(errors)} of {plural(len(results), 'job')} failed:"]
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
