"""What `doctor` says of DIR as a folder, of the service over it, and of a store that does not open."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.console.ownership import acquire
from protocol.replica.private_file import write_private
from protocol.replica.service.definition import AGENT, Scope, ServiceDefinition
from protocol.replica.service.installation import Ran, System, install
from sync_agent.upkeep.surroundings import problems_around, problems_of_service, why_not_opened, with_more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    (made / "replica.db").write_bytes(b"")
    return made


def test_a_private_folder_of_one_account_is_well(folder: Path) -> None:
    assert problems_around(folder) == []


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_in_which_others_may_write_is_told_with_the_command_that_ends_it(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    problem = problems_around(folder)[0]
    assert problem["code"] == "no-right"
    assert problem["remedy"].endswith(f"chmod go-w {folder}")


def test_names_that_everybody_may_read_are_told(folder: Path) -> None:
    folder.chmod(0o711)
    (folder / "replica.db").chmod(0o600)
    assert problems_around(folder) == [], "a folder that others may walk through is no harm by itself"
    (folder / "replica.db").chmod(0o644)
    (problem,) = problems_around(folder)
    assert "pupils' names" in problem["message"]


def installed(folder: Path, shown: str) -> System:
    def answer(words: Sequence[str]) -> Ran:
        return Ran(0, shown if "show" in words else "", "")

    system = System("linux", folder.parent / "root", folder.parent / "home", 1000, answer, booted=True)
    service = ServiceDefinition(AGENT, "relais-agent", Scope.SYSTEM, ("/bin/true",), folder, "nobody")
    install(service, system, print)
    return system


def test_a_service_that_does_not_run_is_told(folder: Path) -> None:
    system = installed(folder, "ActiveState=failed\nSubState=failed\nResult=exit-code\nUnitFileState=enabled\n")
    (problem,) = problems_of_service(folder, system)
    assert (problem["code"], "exit-code" in problem["message"]) == ("service-failed", True)
    running = installed(folder, "ActiveState=active\nUnitFileState=enabled\n")
    assert problems_of_service(folder, running) == []
    assert problems_of_service(folder.parent, system) == [], "it is the service of another folder"


@pytest.mark.parametrize(
    "code", [Code.DAMAGED, Code.DISK_FULL, Code.READ_ONLY, Code.STORE_LOCKED, Code.STORAGE_FAILED, Code.INTERNAL]
)
def test_a_store_that_does_not_open_is_a_problem_with_a_remedy(code: Code) -> None:
    verdict = with_more({"ok": True, "problems": []}, [why_not_opened(LocalFailure(code, "it does not open"))])
    assert verdict["ok"] is False
    assert verdict["problems"][0]["remedy"]  # type: ignore[index,call-overload]


def test_a_disk_that_may_only_be_read_is_not_called_somebody_elses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.open", read_only)
    with pytest.raises(LocalFailure, match="may only be read") as raised:
        acquire(folder)
    assert raised.value.code is Code.READ_ONLY
    assert "disk" in why_not_opened(raised.value)["remedy"]
    with pytest.raises(LocalFailure, match="may only be read"):
        write_private(folder / "key", b"")
