"""The command line: `skinaug <stage> [Hydra overrides]`. Imports nothing heavy before it must."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from skinaug.errors import nearest

STAGES = {
    "dataset": "read, check, de-duplicate and split the real photographs",
    "finetune": "teach the diffusion model the classes, on training photographs only",
    "generate": "make the pool of synthetic images from prompts",
    "curate": "filter the pool",
    "audit": "fidelity and memorisation of the pool, or of two folders (real=, synthetic=); `skinaug audit <artifact>`: its leak certificate",
    "test": "read and check further test sets, on which classifiers are judged once more: test=[...]",
    "mix": "show the mix of real and synthetic images, without training anything",
    "classify": "train a classifier on the mix and judge it on real photographs; -m sweeps",
    "report": "tables, figures and intervals of a finished sweep (by itself after a sweep), or of tables (predictions=<folder>)",
}
TOOLS = {
    "prompts": "preview the texts that the pool is asked for with",
    "review": "a page in the browser on which people keep or reject the pool's images, for filter=[...,human]",
    "compare": "`skinaug compare <runs> <runs> ...`: sweeps or runs beside each other, with a paired test",
    "why": "`skinaug why <stage> ...`: what would run, and which value changed",
    "plan": "`skinaug plan [stage] ...`: what a command would build, reuse and cost",
    "memory": "what each base takes of a GPU's memory for training and drawing, and which holds it (docs/memory.md)",
    "rerun": "`skinaug rerun <artifact> ...`: build artifacts of the store again, and compare them file by file",
    "export": "`skinaug export <artifact or sweep> <folder> --to imagefolder|csv|isic`: pictures or predictions for others to read",
    "push": "`skinaug push <artifact> <owner>/<name>`: pictures, weights or a classifier to the Hugging Face hub",
    "predict": "`skinaug predict <classifier> <folder or images>`: a CSV of predictions; tells images unlike the training ones",
    "dashboard": "`skinaug dashboard <entity>/<project>`: a W&B workspace and report of the runs sent there; `--local`: a page of all sweeps here",
    "doctor": "what is installed, which devices there are, whether hub and dashboard answer, and what fits this machine",
    "store": "`skinaug store ls` lists the artifacts, `skinaug store gc` removes those that nobody uses",
}
# Their words are no overrides.
WITHOUT_CONFIGURATION = (
    "compare",
    "dashboard",
    "doctor",
    "export",
    "memory",
    "plan",
    "predict",
    "push",
    "rerun",
    "store",
)
SHELL = ("--install-completion", "--show-completion", "--complete")
HELP = """\
skinaug: what is a synthetic skin image worth?

usage: skinaug <stage> [overrides]

Stages, in data order; each builds what it needs and reuses what is there:
{stages}

Tools:
{tools}

Overrides are Hydra's: group=option, group.key=value; -m sweeps over comma-separated values.
  skinaug classify mix=synthetic seed=1
  skinaug classify -m mix.synthetic_ratio=0,1,2 seed=0,1
  skinaug classify experiment=akrout2023 dataset=folder dataset.root=/path/to/photographs
  skinaug <stage> --help       its groups, options and values, a line each
  skinaug <stage> --cfg job    the resolved configuration
  skinaug --install-completion bash|zsh|fish    the Tab key completes all of these

Research use only: not a medical device."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0 done, 1 a job of a sweep failed, 2 bad input, 130 interrupted, 141 nobody
    reads on, 143 ended by SIGTERM."""
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as `| head` leaves it; Python itself would write once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str]) -> int:
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(
            here
        )  # own code may lie beside own configurations; behind installed packages, it hides none
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(stages=_rows(STAGES), tools=_rows(TOOLS)))
        return 0
    command, *rest = arguments
    if command in ("-V", "--version"):
        from importlib.metadata import version

        print(version("skinaug"))
        return 0
    if command in SHELL:
        return _told(lambda: _complete(command, rest))
    if command not in {**STAGES, **TOOLS}:
        near = nearest(command, [*STAGES, *TOOLS])
        return _refuse(
            f"unknown stage {command!r}.{near} Stages: {', '.join(STAGES)}. Tools: {', '.join(TOOLS)}."
        )
    if {"-h", "--help"} & {*rest} and (command == "plan" or command not in WITHOUT_CONFIGURATION):
        return _told(lambda: _help(command, rest), rest)
    if command in WITHOUT_CONFIGURATION or (command == "audit" and _names_artifacts(rest)):
        return _told(lambda: import_module(f"skinaug.cli.{command}").main([*rest]), rest)
    if command == "why" and (not rest or rest[0] not in STAGES):
        near = nearest(rest[0], STAGES) if rest else ""
        return _refuse(f"usage: skinaug why <stage> [overrides], with a stage of {', '.join(STAGES)}.{near}")
    return _hydra(command, rest)


def _complete(option: str, words: list[str]) -> int:
    from skinaug.cli.completion import Commands, main

    return main(option, words, Commands(STAGES, TOOLS, WITHOUT_CONFIGURATION))


def _help(command: str, words: list[str]) -> int:
    from skinaug.cli.help import print_help

    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    print_help(command, {**STAGES, **TOOLS}[command], overrides)
    return 0


def _rows(commands: dict[str, str]) -> str:
    return "\n".join(f"  {name:<10}{text}" for name, text in commands.items())


def _refuse(message: str) -> int:
    print(f"skinaug: {message}", file=sys.stderr)
    return 2


def _told(command: Callable[[], int], words: Sequence[str] = ()) -> int:
    """Run a command that needs no configuration; bad input is told in one message."""
    try:
        return command()
    except Exception as error:
        if (message := _message(error, words)) is None:
            raise
        return _refuse(message)


def _names_artifacts(words: list[str]) -> bool:
    """Whether the first word after the command is no override and no option."""
    return bool(words) and "=" not in words[0] and not words[0].startswith("-")


def _hydra(command: str, overrides: list[str]) -> int:
    """Compose the configuration and run one command on it, or on each job of a sweep."""
    import os

    import hydra

    from skinaug import termination
    from skinaug.errors import Ended, InputError
    from skinaug.launch import configs
    from skinaug.launch.repeats import spelled_out
    from skinaug.launch.selections import spread_sets
    from skinaug.launch.words import check_words

    termination.stop_at_sigterm()
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # errors come here whole; what a user may have caused is told in one message
    )
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    stage = overrides.pop(0) if command == "why" else command
    if command not in STAGES or command == "report":
        overrides = [*overrides, "hydra.mode=RUN"]  # one answer, also where the experiment is a sweep
    configs.register()
    if (unknown := _unknown_flag(overrides)) is not None:
        return _refuse(unknown)
    try:
        check_words(stage, overrides)
        overrides = spread_sets(spelled_out(overrides))
    except InputError as error:
        return _refuse(str(error))

    def task(cfg):
        from skinaug.cli.execute import execute

        try:
            return execute(cfg, command, stage)
        except Exception as error:
            if (message := _message(error, overrides)) is None:
                raise
            raise Ended(2, message) from None

    task.stage = stage  # type: ignore[attr-defined]  # for launchers
    sys.argv = ["skinaug", *overrides]
    try:
        hydra.main(
            version_base="1.3", config_path=str(configs.folder("conf").resolve()), config_name="config"
        )(task)()
    except Ended as ended:
        print(f"skinaug: {ended.message}", file=sys.stderr)
        return ended.code
    except SystemExit as ended:
        if termination.asked:
            print("skinaug: ended by SIGTERM. Run the same command again to go on.", file=sys.stderr)
            return termination.STATUS
        return int(ended.code or 0)
    except KeyboardInterrupt:
        print("skinaug: interrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := _message(error, overrides)) is None:
            raise
        return _refuse(message)
    return 0


def _unknown_flag(words: Sequence[str]) -> str | None:
    """What to tell of a word with a dash that is no option of Hydra's."""
    from hydra._internal.utils import get_args_parser

    flags = [*get_args_parser()._option_string_actions]
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("-") and not any(flag.startswith(name) for flag in flags):
            return f"unknown option {name!r}.{nearest(name, flags)} Options: --help, --multirun, --cfg; all: --hydra-help."
    return None


def _message(error: BaseException, words: Sequence[str]) -> str | None:
    """What to tell of an error that the user may have caused; None for a fault of the program's own.

    words: of the command line after the command.
    """
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    from skinaug.launch.failures import causes, fault_of_input

    if (fault := fault_of_input(error)) is not None:
        return fault
    if isinstance(error, InstantiationException):
        return None
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        from skinaug.launch.suggestions import suggestion

        message = "\n".join(dict.fromkeys(str(link).strip() for link in causes(error)))
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        return suggestion(message, overrides) or message
    return str(error) if isinstance(error, OSError) and error.__traceback__ and _from_hydra(error) else None


def _from_hydra(error: OSError) -> bool:
    """Whether Hydra itself failed to write its folders: the output folder cannot be used."""
    import traceback

    return "hydra" in traceback.extract_tb(error.__traceback__)[-2].filename


if __name__ == "__main__":
    sys.exit(main())
