"""What Tab offers, in the shells themselves where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Literal

import pytest

from kinesphere.cli._commands import command_names, load_command
from kinesphere.cli._options import options_of
from kinesphere.cli.completion import script
from kinesphere.cli.main import main

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")
OFFERED = [
    ("", {"demo", "inspect", "report", "--version"}),
    ("insp", {"inspect"}),
    ("inspect --pas", {"--passthrough"}),
    ("inspect --no-j", {"--no-json"}),
    ("volumes run --method ", {"both", "kernel", "decoder"}),
    ("volumes run --method k", {"kernel"}),
    ("validate run --control held-out sh", {"shuffled-poses"}),
    ("simulate --noise-f", {"--noise-frequency"}),
    ("report --help-", {"--help-all"}),
    ("completion z", {"zsh"}),
    ("select particles.star --half ", {"1", "2"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell), encoding="utf-8")
    return {shell: folder / shell for shell in SHELLS}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(
    shell: Shell, scripts: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr()
    assert printed.out == scripts[shell].read_text(encoding="utf-8")
    assert printed.err == ""


def test_an_unknown_shell_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "tcsh" in error


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(shell: Shell, scripts: dict[str, Path]) -> None:
    text = scripts[shell].read_text(encoding="utf-8")
    for name in command_names():
        assert name in text
        for option in options_of(load_command(name).options_class):
            for flag in option.flags:
                assert (f"-l {flag[2:]} " if shell == "fish" else flag) in text
    start = {"bash": "complete -o default -F _kinesphere kinesphere", "zsh": "#compdef kinesphere"}
    assert start.get(shell, "complete -c kinesphere -f") in text.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_good_syntax(shell: Shell, scripts: dict[str, Path]) -> None:
    program = shutil.which(shell)
    if program is None:
        text = scripts[shell].read_text(encoding="utf-8")
        for apostrophe in ("\\'", "'\"'\"'"):  # as fish and the other shells have it within quotes
            text = text.replace(apostrophe, "")
        assert text.count("'") % 2 == 0
    else:
        subprocess.run([program, "-n", scripts[shell]], check=True)


@pytest.mark.parametrize(("words", "expected"), OFFERED)
def test_bash_offers(words: str, expected: set[str], scripts: dict[str, Path]) -> None:
    program = """
        source "$1"; shift
        COMP_WORDS=(kinesphere "$@"); COMP_CWORD=$#
        _kinesphere
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    finished = subprocess.run(
        ["/bin/bash", "-c", program, "bash", scripts["bash"], *words.split(" ")],
        check=True,
        capture_output=True,
        text=True,
    )
    offered = finished.stdout.split()
    assert expected <= set(offered) if words == "" else expected == set(offered)
    assert finished.stderr == ""


def test_bash_knows_the_program(scripts: dict[str, Path]) -> None:
    command = ["/bin/bash", "-c", 'source "$1" && complete -p kinesphere', "bash", scripts["bash"]]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    assert finished.stdout == "complete -o default -F _kinesphere kinesphere\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("kinesphere insp", "kinesphere inspect "),
        ("kinesphere inspect part", "kinesphere inspect particles.star "),
        ("kinesphere structures run --model mo", "kinesphere structures run --model model.cif "),
        ("kinesphere volumes run --method=k", "kinesphere volumes run --method=kernel "),
    ],
)
def test_tab_completes_in_bash(
    typed: str, completed: str, scripts: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "particles.star").touch()
    (tmp_path / "model.cif").touch()
    (tmp_path / "rc").write_text(f"PS1='> '\nsource {scripts['bash']}\n", encoding="utf-8")
    here, there = pty.openpty()
    command = ["/bin/bash", "--noprofile", "--rcfile", tmp_path / "rc", "-i"]
    with subprocess.Popen(
        command,
        stdin=there,
        stdout=there,
        stderr=there,
        cwd=tmp_path,
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    ) as process:
        os.close(there)
        try:
            _read_until(here, "> ")
            os.write(here, f"{typed}\t".encode())
            assert completed in _read_until(here, completed)
        finally:
            process.kill()
            os.close(here)


def _read_until(terminal: int, words: str, patience_s: float = 20.0) -> str:
    """Read what a terminal shows until the words are there, or patience ends."""
    shown = ""
    until = time.monotonic() + patience_s
    while words not in shown and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.parametrize(("words", "expected"), OFFERED)
def test_fish_offers(words: str, expected: set[str], scripts: dict[str, Path]) -> None:
    fish = shutil.which("fish")
    text = scripts["fish"].read_text(encoding="utf-8")
    if fish is None:
        assert all(word.removeprefix("--") in text for word in expected)
        return
    program = 'source $argv[1]; complete -C "kinesphere $argv[2]"'
    finished = subprocess.run(
        [fish, "--no-config", "-c", program, scripts["fish"], words],
        check=True,
        capture_output=True,
        text=True,
    )
    offered = {line.split("\t")[0] for line in finished.stdout.splitlines()}
    assert expected - {"--version"} <= offered


def test_completing_starts_no_python(scripts: dict[str, Path]) -> None:
    for path in scripts.values():
        assert "python" not in path.read_text(encoding="utf-8").lower()
