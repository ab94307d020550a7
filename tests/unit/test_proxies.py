"""Which proxy leads to the server: what people, environments and systems write."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.errors import BadInput
from sync_agent.network import pac
from sync_agent.network.pac_functions import functions, in_dates, in_times, in_weekdays, matches
from sync_agent.network.pac_program import answer
from sync_agent.network.platform_settings import gnome_settings, kde_settings, macos_settings
from sync_agent.network.proxies import (
    Proxy,
    Settings,
    Wish,
    excepted,
    fixed_choices,
    from_environment,
    from_windows,
    script_choices,
    wish_of,
)
from sync_agent.network.route import Route

URL = "https://relais.example.org"
PROXY = Proxy("http", "proxy.lan", 3128)


@pytest.mark.parametrize(
    ("given", "proxy"),
    [
        ("proxy.lan:8080", Proxy("http", "proxy.lan", 8080)),
        ("http://proxy.lan", PROXY),
        ("https://proxy.lan", Proxy("https", "proxy.lan", 443)),
        ("http://Prof%40lycee:se%3Acret@proxy.lan:8080/", Proxy("http", "proxy.lan", 8080, "Prof@lycee", "se:cret")),
        ("http://[2001:db8::1]:8080", Proxy("http", "2001:db8::1", 8080)),
    ],
)
def test_a_proxy_may_be_given_in_the_usual_ways_and_is_kept_in_one(given: str, proxy: Proxy) -> None:
    assert wish_of(given).proxy == proxy
    assert wish_of(wish_of(given).text) == wish_of(given)


@pytest.mark.parametrize("given", ["ftp://x", "socks5://x:1080", "http://", "http://x:99999", "a b", "pac+ftp://x/p"])
def test_what_is_no_proxy_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(BadInput) as raised:
        wish_of(given)
    assert raised.value.exit_status == 2
    with pytest.raises(BadInput) as raised:
        wish_of("socks5://name:secret@x")
    assert "secret" not in raised.value.message


def test_scripts_the_direct_way_and_the_system_can_be_asked_for() -> None:
    assert wish_of("pac+http://wpad/wpad.dat").script == "http://wpad/wpad.dat"
    assert wish_of("http://intra.lan/proxy.pac").script == "http://intra.lan/proxy.pac"
    assert wish_of("pac+/etc/proxy.pac").script == "file:///etc/proxy.pac"
    assert wish_of("DIRECT").direct
    assert wish_of(None).is_system
    assert wish_of("system").is_system


def test_a_password_is_never_shown() -> None:
    proxy = wish_of("http://name:secret@x:1").proxy
    assert proxy is not None
    assert "secret" not in f"{proxy} {proxy.url} {proxy.authority}"


def test_the_environment_names_proxies_and_exceptions() -> None:
    found = from_environment({"HTTPS_PROXY": "http://proxy.lan:3128", "no_proxy": "localhost, .lan"})
    assert fixed_choices(found, URL) == (PROXY,)
    assert fixed_choices(found, "https://server.lan") == (None,)
    assert fixed_choices(found, "http://relais.example.org") == (None,)
    assert fixed_choices(from_environment({"all_proxy": "proxy.lan:3128"}), URL) == (PROXY,)
    assert not from_environment({"HTTP_PROXY": " "}).says_something


@pytest.mark.parametrize(
    ("host", "patterns", "is_one"),
    [
        ("relais.example.org", ["example.org"], True),
        ("relais.example.org", [".example.org"], True),
        ("relais.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], True),
        ("badexample.org", ["example.org"], False),
        ("relais", ["<local>"], True),
        ("relais.lan", ["<local>"], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.*"], True),
        ("2001:db8::7", ["2001:db8::/32"], True),
        ("relais.example.org", ["*"], True),
        ("relais.example.org", ["relais.example.org:443"], True),
        ("relais.example.org", ["relais.example.org:8443"], False),
        ("relais.example.org", ["", "."], False),
    ],
)
def test_exceptions_are_honoured_as_systems_write_them(host: str, patterns: Sequence[str], is_one: bool) -> None:
    assert excepted(host, 443, patterns) is is_one


def test_windows_writes_one_proxy_or_one_for_each_scheme() -> None:
    assert fixed_choices(from_windows("proxy.lan:3128", "", None), URL) == (PROXY,)
    split = from_windows("http=a.lan:1;https=proxy.lan:3128;socks=s.lan:2", "<local>;*.intra", "")
    assert fixed_choices(split, URL) == (PROXY,)
    assert fixed_choices(split, "https://x.intra") == (None,)
    (socks,) = fixed_choices(from_windows("socks=s.lan:1080", "", None), URL)
    assert socks is not None
    assert not socks.is_spoken
    assert from_windows("", "", "http://wpad/wpad.dat").script == "http://wpad/wpad.dat"


SCUTIL = """<dictionary> {
  ExceptionsList : <array> {
    0 : *.local
    1 : 169.254/16
  }
  ExcludeSimpleHostnames : 1
  HTTPSEnable : 1
  HTTPSPort : 3128
  HTTPSProxy : proxy.lan
  ProxyAutoConfigEnable : 0
  ProxyAutoConfigURLString : http://old/proxy.pac
}
"""


def test_macos_says_what_scutil_prints() -> None:
    found = macos_settings(SCUTIL)
    assert found == Settings({"https": PROXY}, None, False, ("*.local", "169.254/16", "<local>"), "macOS")
    assert macos_settings(SCUTIL.replace("Enable : 0", "Enable : 1")).script == "http://old/proxy.pac"
    assert not macos_settings("").says_something


GNOME = """org.gnome.system.proxy autoconfig-url 'http://intra/proxy.pac'
org.gnome.system.proxy ignore-hosts ['localhost', '127.0.0.0/8', '::1']
org.gnome.system.proxy mode 'manual'
org.gnome.system.proxy.https host 'proxy.lan'
org.gnome.system.proxy.https port 3128
org.gnome.system.proxy.socks host ''
org.gnome.system.proxy.socks port 0
"""


def test_gnome_says_what_its_settings_hold() -> None:
    found = gnome_settings(lambda _: GNOME)
    assert (found.proxies, found.exceptions) == ({"https": PROXY}, ("localhost", "127.0.0.0/8", "::1"))
    assert gnome_settings(lambda _: GNOME.replace("manual", "auto")).script == "http://intra/proxy.pac"
    assert not gnome_settings(lambda _: GNOME.replace("manual", "none")).says_something
    assert not gnome_settings(lambda _: "").says_something


def test_kde_says_what_its_file_holds() -> None:
    text = "[Proxy Settings]\nProxyType=1\nhttpsProxy=http://proxy.lan 3128\nNoProxyFor=.lan,localhost\n"
    found = kde_settings(text)
    assert (found.proxies, found.exceptions) == ({"https": PROXY}, (".lan", "localhost"))
    assert (
        kde_settings("[Proxy Settings]\nProxyType=2\nProxy Config Script=http://x/p.pac\n").script == "http://x/p.pac"
    )
    assert kde_settings("[Proxy Settings]\nProxyType=3\n").discovers
    assert not kde_settings("no file of this kind").says_something


# --- proxy scripts ----------------------------------------------------------------------------------------------------

SCRIPT = """
var domains = [".gouv.fr", ".example.org"];
function FindProxyForURL(url, host) {
  if (isPlainHostName(host) || shExpMatch(url, "http://intra*")) return "DIRECT";
  if (isInNet(host, "10.0.0.0", "255.0.0.0")) return "DIRECT";
  const found = domains.filter(d => dnsDomainIs(host, d));
  return found.length ? "PROXY proxy.lan:3128; DIRECT" : `SOCKS socks.lan:1080`;
}
"""


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("relais.example.org", "PROXY proxy.lan:3128; DIRECT"),
        ("relais", "DIRECT"),
        ("10.2.3.4", "DIRECT"),
        ("relais.example.net", "SOCKS socks.lan:1080"),
    ],
)
def test_a_script_of_a_school_is_understood(host: str, says: str) -> None:
    assert answer(SCRIPT, f"https://{host}/", host) == says


@pytest.mark.parametrize("script", ["syntax error(", "var a = 1;", "function FindProxyForURL() { return nothing; }"])
def test_a_script_that_is_broken_says_so(script: str) -> None:
    with pytest.raises(Exception, match=r"."):
        answer(script, URL, "relais.example.org")


def test_a_script_whose_answer_nobody_could_read_to_the_end_is_broken() -> None:
    endless = "function FindProxyForURL() { return 'PROXY proxy.lan:3128;'.repeat(1e6); }"
    with pytest.raises(ValueError, match="longer"):
        answer(endless, URL, "relais.example.org")


def test_what_a_script_returns_is_tried_in_its_order() -> None:
    assert script_choices("PROXY proxy.lan:3128; DIRECT") == (PROXY, None)
    assert script_choices("HTTPS s.lan:443;PROXY proxy.lan:3128") == (Proxy("https", "s.lan", 443), PROXY)
    assert script_choices("") == (None,)
    assert script_choices("NONSENSE x; ; PROXY proxy.lan:3128;PROXY proxy.lan:3128") == (PROXY,)


async def test_a_script_is_not_fetched_from_another_machines_share() -> None:
    with pytest.raises(pac.ScriptFailed, match="another machine"):
        await pac.choices("file:////files.lan/share/proxy.pac", URL)


def test_patterns_of_scripts_are_shell_patterns() -> None:
    assert matches("http://a.b/c", "*.b/*")
    assert matches("abc", "a?c")
    assert not matches("abxc", "a?c")
    assert not matches("a[1]", "a[0-9]")


MONDAY = dt.datetime(2026, 11, 23, 10, 30, 15, tzinfo=dt.timezone(dt.timedelta(hours=1)))


def test_scripts_may_ask_for_day_and_hour() -> None:
    assert in_weekdays(["MON", "FRI"], MONDAY)
    assert not in_weekdays(["TUE"], MONDAY)
    assert in_weekdays(["SAT", "TUE"], MONDAY)
    assert in_dates([23.0], MONDAY)
    assert in_dates(["NOV"], MONDAY)
    assert in_dates([1.0, "SEP", 5.0, "JUL"], MONDAY)
    assert not in_dates([1.0, "JUL", 31.0, "AUG"], MONDAY)
    assert in_dates([2026.0, 2027.0], MONDAY)
    assert in_times([8.0, 17.0], MONDAY)
    assert not in_times([10.0, 31.0, 11.0, 0.0], MONDAY)
    assert in_times([9.0, "GMT"], MONDAY)
    assert in_times([22.0, 11.0], MONDAY)


def test_addresses_in_scripts_are_looked_up_once_they_are_names() -> None:
    offered = functions({"relais.lan": "10.0.0.7"}.get, "10.0.0.9", MONDAY)
    assert offered["isInNet"]("relais.lan", "10.0.0.0", "255.255.255.0") is True
    assert offered["isInNet"]("nobody.lan", "10.0.0.0", "255.255.255.0") is False
    assert offered["isInNetEx"]("2001:db8::7", "2001:db8::/32") is True
    assert offered["convert_addr"]("1.2.3.4") == 0x01020304
    assert offered["isResolvable"]("nobody.lan") is False


async def test_the_way_is_told_when_it_changes_and_not_at_every_try_of_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    settings = Settings()
    route = Route(URL, Wish(), lambda: settings, lambda: 0.0)
    for _ in range(3):
        assert await route.choices() == (None,)
        route.failed()
    settings = Settings({"all": PROXY}, source="GNOME")
    assert await route.choices() == (PROXY, None)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"the way to {URL}: direct", f"the way to {URL}: http://proxy.lan:3128, direct (GNOME)"]


async def test_the_way_to_a_neighbour_which_is_always_direct_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await Route(URL, Wish(direct=True), Settings, lambda: 0.0).choices() == (None,)
    assert caplog.records == []


async def test_a_script_that_cannot_be_had_is_told_once_while_that_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "proxy.pac"
    route = Route(URL, Wish(script=script.as_uri()), Settings, lambda: 0.0)
    for there in (False, False, True, False):
        if there:
            script.write_text('function FindProxyForURL(url, host) { return "DIRECT"; }', encoding="utf-8")
        else:
            script.unlink(missing_ok=True)
        assert await route.choices() == (None,)
        assert (route.problem is None) == there
        route.failed()
    told = [record for record in caplog.records if "proxy script is not used" in record.getMessage()]
    assert len(told) == 2, "once, and once more after it had been there"
