"""`skinaug --install-completion bash|zsh|fish`: the Tab key completes commands, groups, options, keys and values.

The shells ask `skinaug --complete <line>`, which composes the configuration as the line has it so far, and loads nothing heavy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinaug.errors import InputError, nearest
from skinaug.store.artifact import RECORD

BASH = r"""
_skinaug() {
    local typed="${COMP_LINE:0:COMP_POINT}" word="${COMP_WORDS[COMP_CWORD]}" last before
    last="${typed##* }"
    # Readline may take "=" for the end of a word: what it counts to earlier words is no part of an answer.
    [[ $word == "=" ]] && word=""
    before="${last%"$word"}"
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" --complete "$typed" 2>/dev/null | cut -f 1)
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} != *[=./,] ]] || compopt -o nospace
}
complete -F _skinaug skinaug
"""
ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_skinaug() {
    local line; local -a found shown
    for line in "${(@f)$("${words[1]}" --complete "${(j: :)words[1,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        found+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    compadd -Q -S '' -l -d shown -- "${found[@]}"
}
compdef _skinaug skinaug
"""
FISH = """
complete -c skinaug -f -a '(skinaug --complete (commandline -cp | string collect) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
FIRST = ("--help", "--version", "--install-completion", "--show-completion")
FLAGS = {
    "--help": "groups, options and values, a line each",
    "--multirun": "sweep over comma-separated values",
    "--cfg": "job: print the configuration",
}
TAKE_ARTIFACTS = ("export", "push", "predict", "rerun", "audit")
WORDS = {"store": ("ls", "gc")}
BOOLEAN = ("true", "false")
LONGEST = 60  # letters of what is said of an answer


@dataclass(frozen=True)
class Commands:
    """What a command line may begin with.

    Attributes:
        stages, tools: what each is for, by name.
        unconfigured: tools whose words are no overrides.
    """

    stages: Mapping[str, str]
    tools: Mapping[str, str]
    unconfigured: Sequence[str]


def main(option: str, words: Sequence[str], commands: Commands) -> int:
    """Install, print or answer; returns the exit status.

    Raises:
        InputError: no shell that is known.
    """
    if option == "--complete":
        for name, told in answers(" ".join(words), commands):
            print(f"{name}\t{told}" if told else name)
        return 0
    shell = words[0] if words else Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        raise InputError(
            f"{option} {shell}: there is a completion for {', '.join(SCRIPTS)}.{nearest(shell, SCRIPTS)}"
        )
    if option == "--show-completion":
        print(SCRIPTS[shell].strip())
        return 0
    for place in install(shell):
        print(f"written: {place}")
    print(f"New {shell}s complete skinaug by the Tab key.")
    return 0


def install(shell: str) -> Iterator[Path]:
    """Write a shell's script where it looks for it, or a line into its start-up file that reads it; the files that were written.
    What is there already is not written again."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        yield from _write(config / "fish" / "completions" / "skinaug.fish", SCRIPTS[shell].lstrip())
        return
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    script = data / "skinaug" / f"completion.{shell}"
    yield from _write(script, SCRIPTS[shell].lstrip())
    start = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    line, before = f'source "{script}"', start.read_text() if start.exists() else ""
    if line not in before.splitlines():
        yield from _write(
            start, f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n"
        )


def _write(file: Path, text: str) -> Iterator[Path]:
    try:
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            yield file
    except OSError as error:
        raise InputError(
            f"{file} cannot be written: {error}. `skinaug --show-completion` prints the script instead."
        ) from error


def answers(line: str, commands: Commands) -> Iterator[tuple[str, str]]:
    """What may stand in the place of the last word of a command line, and what is said of it.

    line: up to the cursor, with the program's own name; a space at its end begins a new word.
    """
    words = line.split()[1:] + ([""] if line.endswith(" ") else [])
    if not words:
        return
    *before, word = words
    command = before.pop(0) if before else None
    if command is None:
        yield from _begins({**commands.stages, **commands.tools, **dict.fromkeys(FIRST, "")}, word)
    elif command in ("why", "plan") and not before and "=" not in word:
        yield from _begins(commands.stages, word)
    elif command in WORDS:
        yield from _begins(dict.fromkeys(WORDS[command], ""), word)
    elif command in TAKE_ARTIFACTS and not before and "=" not in word:
        yield from _begins(_artifacts(), word)
    elif word.startswith("-"):
        yield from _begins(FLAGS, word)
    elif command == "plan" or command not in commands.unconfigured:
        yield from dict(_overrides(before, word)).items()


def _begins(names: Mapping[str, str], word: str) -> Iterator[tuple[str, str]]:
    return ((name, told[:LONGEST]) for name, told in names.items() if name.startswith(word))


def _artifacts() -> dict[str, str]:
    store = Path(os.environ.get("SKINAUG_STORE", "store"))
    return {
        f"{record.parent.parent.name}/{record.parent.name}": ""
        for record in sorted(store.glob(f"*/*/{RECORD}"))
    }


def _overrides(before: Sequence[str], word: str) -> Iterator[tuple[str, str]]:
    """Groups and keys, or options and values after a "=": of the configuration that the words before compose."""
    from skinaug.launch.described import choices, groups, options, settings

    group, equals, value = word.partition("=")
    if equals and group in groups():
        taken = re.match(r"\[?(?:[^,\[\]]*,)*", value)[0]  # type: ignore[index]  # earlier options of a list or a sweep
        there = {name: told for name, told in options(group).items() if name not in re.split(r"[\[,]", taken)}
        yield from _begins({f"{group}={taken}{name}": told for name, told in there.items()}, word)
        return
    if not equals and "." not in word:
        yield from _begins({f"{name}=": told for name, told in groups().items()}, word)
    keys = settings([name for name in before if "=" in name and not name.startswith("-")])
    if not equals:
        depth, named = word.count(".") + 1, dict[str, str]()
        for key, told in keys.items():  # of a deeper one, the part up to the next dot
            more = key.count(".") >= depth or told.written is None
            part = ".".join(key.split(".")[:depth])
            if key == part or f"{part}." not in named:
                named[f"{part}{'.' if more else '='}"] = told.comment if key == part else ""
        yield from _begins(named, word)
    elif group in keys:
        told = keys[group]
        found = choices(told.comment) or (BOOLEAN if told.written in BOOLEAN else [told.written or ""])
        yield from _begins({f"{group}={choice}": "" for choice in found}, word)
