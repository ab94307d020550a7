"""What a file is for a browser."""

from __future__ import annotations

import pytest

from sync_agent.portal.files.media_types import attachment, content_type, media_of


@pytest.mark.parametrize(
    ("path", "kind", "shown"),
    [
        ("index.html", "text/html", True),
        ("a/B.HTM", "text/html", True),
        ("son.MP3", "audio/mpeg", True),
        ("clip.mp4", "video/mp4", True),
        ("schema.svg", "image/svg+xml", True),
        ("memo.pdf", "application/pdf", True),
        ("fiche.odt", "application/vnd.oasis.opendocument.text", False),
        ("virus.exe", "application/octet-stream", False),
        ("README", "application/octet-stream", False),
        ("a.html/README", "application/octet-stream", False),
        (".html", "text/html", True),
    ],
)
def test_a_type_follows_from_the_ending_and_only_what_browsers_show_is_shown(path: str, kind: str, shown: bool) -> None:
    media = media_of(path)
    assert (media.type, media.shown) == (kind, shown)


@pytest.mark.parametrize(
    ("kind", "head", "expected"),
    [
        ("text/html", "<p>été".encode(), "text/html; charset=utf-8"),
        ("text/html", "<p>été".encode("cp1252"), "text/html; charset=windows-1252"),
        ("text/html", b"<meta charset=iso-8859-1><p>\xe9", "text/html"),
        ("text/html", b'<META http-equiv="Content-Type" content="text/html; charset=x">', "text/html"),
        ("text/plain", b"\xef\xbb\xbfabc", "text/plain"),
        ("text/css", b'@charset "iso-8859-15";', "text/css"),
        ("image/png", b"\x89PNG", "image/png"),
    ],
)
def test_text_gets_the_charset_that_its_bytes_show_unless_it_says_so_itself(
    kind: str, head: bytes, expected: str
) -> None:
    assert content_type(kind, head, whole=True) == expected


def test_a_character_that_the_first_piece_cuts_in_two_says_nothing() -> None:
    cut = ("x" * 1000 + "é").encode()[:-1]
    assert content_type("text/plain", cut, whole=False) == "text/plain; charset=utf-8"
    assert content_type("text/plain", cut, whole=True) == "text/plain; charset=windows-1252"


def test_a_name_to_save_under_survives_quotes_accents_and_line_breaks() -> None:
    value = attachment('Léa "1"\r\nX: y.odt')
    assert "\r" not in value
    assert value == (
        "attachment; filename=\"L_a _1___X_ y.odt\"; filename*=UTF-8''L%C3%A9a%20%221%22%0D%0AX%3A%20y.odt"
    )
