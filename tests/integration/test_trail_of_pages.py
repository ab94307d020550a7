"""What the administrators' pages note of who did what, and the page that shows it."""

from __future__ import annotations

import html
from base64 import b32decode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import LocalFailure
from protocol.limits import MAX_FAILED_SIGN_INS_PER_DAY
from protocol.replica.office.acts import ACT_MARKS, TOLD_BROKEN
from sync_server.handlers.accounts.second_factor import STEP_S, code_at
from sync_server.web.acts_shown import ROWS
from tests.harness.administration import NAME, ask, cookie_of, sign_in, ticket_in, with_account
from tests.harness.fleet import pages_over
from tests.harness.server_in_process import Office, office

ANNE = f"pages: {NAME}"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as opened:
        await with_account(opened)
        yield opened


async def of_pages(made: Office) -> list[tuple[str, str, bool]]:
    """What was done, about what, and whether it failed: by `NAME`."""
    acts = [line.act for line in await made.server.acts.lines()]
    return [(act.what, act.about, act.failed) for act in acts if act.by == ANNE]


async def post(url: str, path: str, cookie: str, **form: str) -> int:
    return (await ask(url, path, method="POST", form=form, Cookie=cookie, Origin=url)).status


async def test_a_sign_in_says_with_what_and_so_does_one_that_failed(made: Office) -> None:
    given = await made.do("administrator second-factor", name=NAME)
    secret = b32decode(given["uri"].partition("secret=")[2].partition("&")[0])
    async with pages_over(made, clock_s=lambda: 0.0) as (url, _):
        asked = await sign_in(url)
        assert await of_pages(made) == [], "a passphrase alone is no sign-in"
        step = made.clock() // 1000 // STEP_S
        for code in (code_at(secret, step + 5), code_at(secret, step)):
            form = {"ticket": ticket_in(asked), "code": code}
            await ask(url, "/admin/sign-in/code", method="POST", form=form, Origin=url)
    assert await of_pages(made) == [("sign-in failed", "code", False), ("sign-in", "passphrase, code", False)]


async def test_what_somebody_does_is_noted_with_what_it_is_about_and_that_it_was_refused(made: Office) -> None:
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        assert await post(url, "/admin/waiting", cookie, id="ab" * 32, say="accept") == 200
        assert await post(url, "/admin/waiting", cookie, id="<b>Léa</b>", say="refuse") == 200
        assert await post(url, f"/admin/devices/{'cd' * 32}/confirm", cookie) == 404
        assert await post(url, "/admin/passkeys", cookie, code="wrong") == 403
    assert (await of_pages(made))[1:] == [
        (what, about, failed)
        for what, about in (("accept", "ab" * 32), ("refuse", ""), ("confirm", "cd" * 32), ("add a passkey", ""))
        for failed in (False, True)
    ]


async def test_who_looks_at_names_and_fetches_lists_is_noted_once_an_hour(made: Office) -> None:
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        for _ in range(2):
            for path in ("", "devices", "schools", "waiting", "audit", "devices.csv", "devices.json"):
                assert (await ask(url, f"/admin/{path}", Cookie=cookie)).status == 200
    assert [what for what, _, _ in await of_pages(made)] == ["sign-in", "look at what waits", "export of devices"]


async def test_what_a_stranger_asks_for_leaves_no_line(made: Office) -> None:
    lines = await made.server.acts.lines()
    async with pages_over(made) as (url, _):
        assert await post(url, "/admin/waiting", "", id="ab" * 32, say="accept") == 303
        for path in ("waiting", "devices.csv", "audit"):
            assert (await ask(url, f"/admin/{path}")).status in (303, 401)
    assert await made.server.acts.lines() == lines


async def test_the_page_shows_the_newest_first_in_both_languages_and_older_ones_behind(made: Office) -> None:
    for number in range(ROWS):
        await made.server.acts.note("sync-server person retire", "command line: root", f"{number:08x}", with_kit=True)
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        page = (await ask(url, "/admin/audit", Cookie=cookie, Accept_Language="fr")).body.decode()
        assert page.index("S&#39;est connecté") < page.index("000000c7") < page.index("00000001")
        assert "avec le kit de récupération" in page
        assert f">{NAME}<" in page
        assert "ligne de commande\N{NO-BREAK SPACE}: root" in page
        assert ">avec la phrase secrète<" in page
        assert "00000000" not in page
        older = page.partition('href="/admin/audit?before=')[2].partition('"')[0]
        page = (await ask(url, f"/admin/audit?before={older}", Cookie=cookie, Accept_Language="en")).body.decode()
        assert "00000000" in page
        assert "<code>sync-server init</code>" in page
        assert "?before=" not in page
        for odd in ("x", "-1", "9" * 400, "1"):
            page = (await ask(url, f"/admin/audit?before={odd}", Cookie=cookie, Accept_Language="en")).body.decode()
            assert ("Nothing has been noted yet" in page) == (odd == "1")


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        (
            "fr",
            (
                "élève ab",
                "enseignant ab",
                "Portable d'enseignant 0180",
                "Est prévenu de lignes qui ne se",
                "et 7 autres<",
            ),
        ),
        ("en", ("pupil ab", "teacher ab", "Teacher's laptop 0180", "Is told of lines that do not", "and 7 more<")),
    ],
)
async def test_roles_and_the_ends_of_long_lines_are_in_the_words_of_who_reads(
    made: Office, language: str, shown: tuple[str, ...]
) -> None:
    note = made.server.acts.note
    for what, about in (
        ("sync-server person add", "pupil ab"),
        ("sync-server person add", "teacher ab"),
        ("sync-server invite", "teacher 0180"),
        ("sync-server administrator add", "teacher"),
        ("sync-server erase", "ab cd and 7 more"),
        (TOLD_BROKEN, "12"),
    ):
        await note(what, "command line: root", about)
    async with pages_over(made) as (url, _):
        answer = await ask(url, "/admin/audit", Cookie=cookie_of(await sign_in(url)), Accept_Language=language)
    page = html.unescape(answer.body.decode()).replace("\N{NO-BREAK SPACE}", " ")
    for words in shown:
        assert words in page
    assert ">teacher<" in page, "what an account is called"
    assert TOLD_BROKEN not in page


async def test_the_page_says_where_the_chain_does_not_hold(made: Office) -> None:
    await made.add_person("Léa", "pupil")
    last, _ = await made.server.acts.end()
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        assert 'role="alert"' not in (await ask(url, "/admin/audit", Cookie=cookie)).body.decode()
        await made.server.store.set_marks({f"{ACT_MARKS}{last:016x}": None})
        page = (await ask(url, "/admin/audit", Cookie=cookie, Accept_Language="en")).body.decode()
        assert f"does not follow the line before: {last + 1}." in page


async def fill(made: Office, size: int) -> None:
    """Leave no room for so many bytes beside the last line: what is written sorts right behind it. Raises."""
    for number in range(9_999, 0, -1):
        await made.server.store.set_marks({f"act0/{size}/{number:04}": bytes(size)})


async def test_where_nothing_can_be_written_who_signs_in_reads_why_and_the_log_says_that_it_is_not_noted(
    made: Office, caplog: pytest.LogCaptureFixture
) -> None:
    async with pages_over(made) as (url, _):
        database = made.server.store.database
        await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
        for size in (2_000, 20):
            with pytest.raises(LocalFailure):
                await fill(made, size)
        answer = await sign_in(url)
        assert (await ask(url, "/admin/", Cookie=cookie_of(answer))).status == 200
        assert await of_pages(made) == []
        assert "could not be noted" in caplog.text
        assert await post(url, "/admin/waiting", cookie_of(answer), id="ab" * 32, say="accept") >= 500
        await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())


async def test_of_sign_ins_that_failed_the_page_says_with_what_and_that_no_more_are_noted(made: Office) -> None:
    for _ in range(MAX_FAILED_SIGN_INS_PER_DAY):
        await made.server.acts.note_failed_sign_in("pages: ?", "passphrase")
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        page = (await ask(url, "/admin/audit", Cookie=cookie, Accept_Language="en")).body.decode()
    assert page.count("with the passphrase, no more of this day are noted") == 1
    assert page.count("no account of that name") == MAX_FAILED_SIGN_INS_PER_DAY
