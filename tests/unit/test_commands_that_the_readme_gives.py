"""Whoever types what README gives is understood: each line is a command of ours, with all that it asks for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import sync_agent.cli
import sync_server.cli
from protocol.replica.console.frame import Parsed, Program
from protocol.replica.console.parser import Parser

ROOT = Path(__file__).parents[2]
PROGRAMS = {"sync-server": sync_server.cli.PROGRAM, "sync-agent": sync_agent.cli.PROGRAM}


def lines_of_the_readme() -> list[list[str]]:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(tuple(PROGRAMS))]
    return [shlex.split(line, comments=True) for line in lines]


def parser_of(program: Program) -> Parser:
    return Parser(program.name, "", lambda: "", program._prefix, program._commands)


def test_every_line_of_the_readme_is_a_command_with_all_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_SERVER_DATA", str(tmp_path))
    monkeypatch.setenv("SYNC_AGENT_DATA", str(tmp_path))
    lines = lines_of_the_readme()
    assert {line[0] for line in lines} == set(PROGRAMS)
    for program, *typed in lines:
        understood = parser_of(PROGRAMS[program]).parse(typed)
        assert isinstance(understood, Parsed), (program, *typed, understood)


def test_the_kit_that_the_readme_makes_has_its_passphrase_beside_it_wherever_it_is_given() -> None:
    with_kit = [line for line in lines_of_the_readme() if "--kit" in line]
    assert len(with_kit) > 1
    for line in with_kit:
        assert "--passphrase-file" in line, line


def test_what_is_handed_in_is_given_to_the_assignment_that_the_readme_has_published() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"publish .*--kind assignment .*# prints its id: \$ASSIGNMENT$", text, re.MULTILINE)
    assert re.findall(r"hand-in (\S+)", text)[0] == "$ASSIGNMENT"
