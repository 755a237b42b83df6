"""Print the script that completes commands, options and file names in bash, zsh or fish."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tyro

from kinesphere.cli._commands import command_sources
from kinesphere.cli._options import Option, options_of

_PROGRAM = "kinesphere"
_LONGEST_DESCRIPTION = 76
_OF_PROGRAM = (("--help", "List the commands."), ("--version", "Print the version."))
_OF_EVERY_COMMAND = (
    ("--help", "List the common options."),
    ("--help-all", "List all options."),
)


@dataclass(frozen=True)
class CompletionOptions:
    """Options of `kinesphere completion`."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Your shell. Load the script now with `source <(kinesphere completion bash)`, or write it once
    to where the shell looks: docs/completion.md."""


@dataclass(frozen=True)
class Described:
    """A command as completion knows it."""

    name: str
    summary: str
    options: tuple[Option, ...]


def run(options: CompletionOptions) -> None:
    """Print the script."""
    sys.stdout.write(script(options.shell))


def script(shell: Literal["bash", "zsh", "fish"]) -> str:
    """Write the script for one shell; all that it offers is in it, so that Tab starts no Python."""
    commands = [
        Described(name, source.summary(), options_of(source.load().options_class))
        for name, source in command_sources().items()
    ]
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)
    return "\n".join(lines) + "\n"


def _flags(command: Described) -> list[str]:
    named = [flag for option in command.options for flag in option.flags]
    return [*named, *(flag for flag, _ in _OF_EVERY_COMMAND)]


def _bash(commands: list[Described]) -> Iterator[str]:
    """Complete with bash's own means; where nothing is offered, readline offers file names."""
    names = " ".join((*(command.name for command in commands), *(flag for flag, _ in _OF_PROGRAM)))
    yield from (
        f"# Completion of {_PROGRAM} for bash, written by `{_PROGRAM} completion bash`.",
        f"_{_PROGRAM}() {{",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local several="" flags="" choices="" free="" i',
        "    COMPREPLY=()",
        "    if ((COMP_CWORD == 1)); then",
        f'        COMPREPLY=($(compgen -W "{names}" -- "$current"))',
        "        return",
        "    fi",
        "    # --option=value arrives as three words",
        '    [[ "$current" == "=" ]] && current=""',
        '    [[ "$previous" == "=" ]] && previous="${COMP_WORDS[COMP_CWORD-2]}"',
        "    # the option that several values may follow",
        "    for ((i = COMP_CWORD - 1; i > 1; i--)); do",
        '        [[ "${COMP_WORDS[i]}" == --* ]] && several="${COMP_WORDS[i]}" && break',
        "    done",
        '    case "${COMP_WORDS[1]}" in',
    )
    for command in commands:
        yield f"    {command.name})"
        yield f'        flags="{" ".join(_flags(command))}"'
        yield from _bash_values(command)
        yield "        ;;"
    yield from (
        "    esac",
        '    if [[ -n "$choices" ]]; then',
        '        COMPREPLY=($(compgen -W "$choices" -- "$current"))',
        '    elif [[ -z "$free" && "$current" == -* ]]; then',
        '        COMPREPLY=($(compgen -W "$flags" -- "$current"))',
        "    fi",
        "}",
        f"complete -o default -F _{_PROGRAM} {_PROGRAM}",
    )


def _bash_values(command: Described) -> Iterator[str]:
    """Say what follows an option that takes values: one of its choices, or anything."""
    for option in command.options:
        if option.is_positional and option.choices:
            yield f'        [[ "$several" == "" && "$current" != -* ]] && {_bash_choices(option)}'
    with_value = [option for option in command.options if option.flags and not option.is_switch]
    free = [option.flags[0] for option in with_value if not option.choices]
    yield '        case "$previous" in'
    for option in with_value:
        if option.choices:
            yield f"        {option.flags[0]}) {_bash_choices(option)} ;;"
    if free:
        yield f"        {'|'.join(free)}) free=yes ;;"
    yield "        esac"
    for option in _several_choices(command):
        condition = f'"$several" == {option.flags[0]} && "$current" != -*'
        yield f"        [[ {condition} ]] && {_bash_choices(option)}"


def _bash_choices(option: Option) -> str:
    return f'choices="{" ".join(option.choices)}"'


def _several_choices(command: Described) -> list[Option]:
    """List the options that more than one of a few values may follow."""
    return [o for o in command.options if o.flags and o.choices and o.takes_several]


def _zsh(commands: list[Described]) -> Iterator[str]:
    """Describe the commands to zsh's `_arguments`."""
    yield f"#compdef {_PROGRAM}"
    yield f"# Completion of {_PROGRAM} for zsh, written by `{_PROGRAM} completion zsh`."
    yield f"_{_PROGRAM}() {{"
    yield "    local -a commands"
    yield "    commands=("
    for command in commands:
        yield f"        {shlex.quote(f'{command.name}:{_short(command.summary)}')}"
    yield from (
        "    )",
        "    if ((CURRENT == 2)); then",
        "        _describe command commands",
        *(f"        compadd -- {flag}" for flag, _ in _OF_PROGRAM),
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    # the option that several values may follow",
        "    local several=${${(M)words[3,CURRENT-1]:#--*}[-1]}",
        "    shift words",
        "    ((CURRENT--))",
        "    case $command in",
    )
    for command in commands:
        yield f"    {command.name})"
        for option in _several_choices(command):
            condition = f'"$several" == {option.flags[0]} && "$PREFIX" != -*'
            offer = f"compadd -- {' '.join(option.choices)}"
            yield f"        [[ {condition} ]] && {offer} && return"
        yield "        _arguments \\"
        yield from (f"            {shlex.quote(spec)} \\" for spec in _zsh_specs(command))
        yield "        ;;"
    yield "    esac"
    yield "}"
    yield f'if [[ "$funcstack[1]" == _{_PROGRAM} ]]; then'
    yield f'    _{_PROGRAM} "$@"'
    yield "else"
    yield f"    compdef _{_PROGRAM} {_PROGRAM}"
    yield "fi"


def _zsh_specs(command: Described) -> Iterator[str]:
    for option in command.options:
        text = _for_zsh(_short(option.help))
        if option.choices:
            action = f"({' '.join(option.choices)})"
        else:
            action = "_files" if option.is_path else " "
        if option.is_positional:
            place = "*" if option.takes_several else ""
            yield f"{place}:{_for_zsh(option.name)}:{action}"
        elif option.is_switch:
            yield from (f"{flag}[{text}]" for flag in option.flags)
        else:
            yield f"{option.flags[0]}=[{text}]:{option.name}:{action}"
    yield from (f"{flag}[{_for_zsh(text)}]" for flag, text in _OF_EVERY_COMMAND)


def _for_zsh(text: str) -> str:
    """Take from a text what `_arguments` would read as its own punctuation."""
    return text.translate({ord("["): "(", ord("]"): ")", ord(":"): ",", ord("\\"): "/"})


def _fish(commands: list[Described]) -> Iterator[str]:
    """Write one `complete` for each command and option."""
    start = f"complete -c {_PROGRAM}"
    yield f"# Completion of {_PROGRAM} for fish, written by `{_PROGRAM} completion fish`."
    yield f"{start} -f"
    for command in commands:
        described = f"-a {command.name} -d {_for_fish(_short(command.summary))}"
        yield f"{start} -n __fish_use_subcommand {described}"
    for flag, text in _OF_PROGRAM:
        yield f"{start} -n __fish_use_subcommand -l {flag[2:]} -d {_for_fish(text)}"
    for command in commands:
        after = f"{start} -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            yield from (f"{after} {what}" for what in _fish_option(option))
        for option in _several_choices(command):
            given = f"{after} -n '__fish_contains_opt {option.flags[0][2:]}'"
            yield f"{given} -a {_for_fish(' '.join(option.choices))}"
        for flag, text in _OF_EVERY_COMMAND:
            yield f"{after} -l {flag[2:]} -d {_for_fish(text)}"


def _fish_option(option: Option) -> Iterator[str]:
    if option.choices:
        values = f"-x -a {_for_fish(' '.join(option.choices))}"
    else:
        values = "-r -F" if option.is_path else "-x"
    text = _for_fish(_short(option.help))
    if option.is_positional:
        yield f"-a {_for_fish(' '.join(option.choices))}" if option.choices else "-F"
    elif option.is_switch:
        yield from (f"-l {flag[2:]} -d {text}" for flag in option.flags)
    else:
        yield f"-l {option.flags[0][2:]} {values} -d {text}"


def _for_fish(text: str) -> str:
    """Quote a text for fish, in whose quotes only the backslash and the quote are special."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _short(text: str) -> str:
    """Cut a help text to its first sentence, and that to what fits beside an option."""
    sentence = text.split(". ", maxsplit=1)[0].rstrip(".")
    if len(sentence) <= _LONGEST_DESCRIPTION:
        return sentence
    return sentence[: _LONGEST_DESCRIPTION - 1].rsplit(" ", 1)[0] + "…"
