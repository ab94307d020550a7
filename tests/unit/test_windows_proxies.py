"""What Windows says about proxies, asked through WinHTTP's functions as a test holds them: memory, freeing, order."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sync_agent.network import platform_settings
from sync_agent.network.platform_settings import read_settings


@dataclass
class WinHttp:
    """`winhttp.dll` and `kernel32.dll`: what a person and the machine have set, as wide strings that are lent out."""

    person: tuple[int, str, str, str] | None = (0, "", "", "")
    machine: tuple[int, str, str] | None = (1, "", "")
    discovered: str = ""
    lent: dict[int, Any] = field(default_factory=dict)

    def _lend(self, text: str) -> int | None:
        if not text:
            return None
        buffer = ctypes.create_unicode_buffer(text)
        self.lent[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def WinHttpGetIEProxyConfigForCurrentUser(self, place: Any) -> int:  # noqa: N802
        if self.person is None:
            return 0
        config = place._obj
        config.detects = self.person[0]
        config.script, config.server, config.override = map(self._lend, self.person[1:])
        return 1

    def WinHttpDetectAutoProxyConfigUrl(self, _how: Any, place: Any) -> int:  # noqa: N802
        place._obj.value = self._lend(self.discovered)
        return int(bool(self.discovered))

    def WinHttpGetDefaultProxyConfiguration(self, place: Any) -> int:  # noqa: N802
        if self.machine is None:
            return 0
        config = place._obj
        config.access = self.machine[0]
        config.server, config.override = map(self._lend, self.machine[1:])
        return 1

    @property
    def GlobalFree(self) -> Callable[[int], None]:  # noqa: N802
        def free(place: int) -> None:
            del self.lent[place]

        return free


def said_by(monkeypatch: pytest.MonkeyPatch, windows: WinHttp) -> Any:
    monkeypatch.setattr(platform_settings, "_library", lambda _name: windows)
    monkeypatch.setattr("sync_agent.network.platform_settings.sys.platform", "win32")
    found = read_settings({}, Path("/"))
    assert windows.lent == {}, "everything that Windows lent has been given back, once"
    return found


def test_what_the_person_set_counts_with_its_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = said_by(monkeypatch, WinHttp(person=(0, "", "proxy.ecole:3128", "*.local;<local>")))
    assert (found.proxies["all"].host, found.proxies["all"].port) == ("proxy.ecole", 3128)
    assert set(found.exceptions) >= {"*.local", "<local>"}


def test_a_script_that_the_person_named_counts_before_one_that_would_be_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "http://wpad.ecole/proxy.pac"
    assert said_by(monkeypatch, WinHttp(person=(0, script, "", ""))).script == script
    assert said_by(monkeypatch, WinHttp(person=(1, "", "", ""), discovered=script)).script == script


def test_a_service_of_which_no_person_said_anything_takes_what_the_machine_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = said_by(monkeypatch, WinHttp(machine=(3, "rectorat:8080", "")))
    assert found.proxies["all"].host == "rectorat"
    none = said_by(monkeypatch, WinHttp(machine=(1, "left.over:8080", "")))
    assert not none.says_something, "“no proxy” is said of what is left there"


def test_windows_that_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not said_by(monkeypatch, WinHttp(person=None, machine=None)).says_something
    monkeypatch.setattr(platform_settings, "_library", lambda _name: object())
    assert not read_settings({}, Path("/")).says_something
