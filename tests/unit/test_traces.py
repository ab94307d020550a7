"""The search of the leak tests finds what it is meant to find."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
import zlib
from random import Random

import pytest
import zstandard

from tests.harness.traces import traces_in

SECRET = "lettre-de-Lea-à-sa-grand-mère".encode()
SECRETS = {"it": SECRET}
BEFORE, AFTER = Random(1).randbytes(1_000), Random(2).randbytes(1_000)


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", data)
    return out.getvalue()


@pytest.mark.parametrize(
    "hidden",
    [
        SECRET,
        SECRET.decode().encode("utf-16-le"),
        SECRET.decode().encode("utf-16-be"),
        SECRET.hex().encode(),
        *(base64.b64encode(bytes(phase) + SECRET + b"more") for phase in range(6)),
        base64.urlsafe_b64encode(b"x" + SECRET),
        zlib.compress(b"words " * 50 + SECRET),
        gzip.compress(b"words " * 50 + SECRET, mtime=0),
        zipped(b"words " * 50 + SECRET),
        zstandard.compress(b"words " * 50 + SECRET),
        zstandard.compress(SECRET.decode().encode("utf-16-le") * 3),
    ],
    ids=lambda _hidden: "form",  # the bytes of an archive are new each time, and workers compare names
)
def test_a_secret_is_found_in_every_form(hidden: bytes) -> None:
    assert traces_in(BEFORE + hidden + AFTER, SECRETS) == {"it"}
    assert traces_in(BEFORE + AFTER, SECRETS) == set()
