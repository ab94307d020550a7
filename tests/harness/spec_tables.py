"""The parts of docs/protocol.md that follow from the code: tables of errors and limits, and a worked exchange.

`python -m tests.harness.spec_tables` writes them into the page, between the headings and the next; a test holds them
true.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from protocol import errors, limits
from protocol.identity import AgreementKey, SigningKey
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.reconcile.checkpoint import Cursor
from protocol.trust.envelope import open_answer, open_request, seal_answer, seal_request

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
ERRORS_HEAD = (
    "Codes are stable; the sentence beside a code may change. A peer MUST NOT decide by the sentence. "
    "A code that the caller does not know is\n"
    "`unknown-format` to it: a fault of who answers, or of the line, and none of its own machine.\n"
)
LIMITS_HEAD = (
    "A bound is checked before reading and at the first byte too many. Sizes in bytes unless the name says otherwise.\n"
)
_WIDTH = 96


def error_table() -> str:
    """The codes by whose fault they are, as `protocol.errors` groups them."""
    rows = ["| whose fault | codes |", "|---|---|"]
    source = inspect.getsource(errors.Code)
    for group in re.split(r"\n    # ", source)[1:]:
        title, _, body = group.partition("\n")
        codes = " ".join(f"`{code}`" for code in re.findall(r'= "([a-z-]+)"', body))
        rows.append(f"| {title} | {codes} |")
    rows += ["", "| family | HTTP status | exit code |", "|---|---|---|"]
    for family in (
        errors.BadInput, errors.Refused, errors.NoAnswer, errors.LocalFailure, errors.PeerFault, errors.TooLarge,
    ):  # fmt: skip
        rows.append(f"| {family.__name__} | {family.http_status} | {family.exit_status} |")
    return "\n".join(rows) + "\n"


def limit_table() -> str:
    """Every bound of `protocol.limits`."""
    rows = ["| name | value |", "|---|---|"]
    for name, value in vars(limits).items():
        if isinstance(value, int) and name.isupper():
            rows.append(f"| `{name}` | {value:,} |".replace(",", " "))
    return "\n".join(rows) + "\n"


def worked_exchange() -> str:
    """A quiet sync, byte by byte, from fixed keys; whoever implements the envelope can reproduce it."""
    device, server = SigningKey(bytes(range(32))), SigningKey(bytes(range(32, 64)))
    recipient, reply = AgreementKey(bytes(range(64, 96))), AgreementKey(bytes(range(96, 128)))
    message = SyncRequest(
        generation=bytes.fromhex("0123456789abcdef"),
        cursors=(Cursor(bytes.fromhex("c1a55001"), 300, bytes.fromhex("00112233445566aa"), complete=True),),
    ).encode()
    request = seal_request(
        "sync", message, device=device, recipient_public=recipient.public, reply=reply, ephemeral=bytes([7]) * 32
    )
    opened = open_request(request, [recipient])
    payload = SyncAnswer(time_ms=1_795_000_000_000).encode()
    answer = seal_answer(payload, opened, server=server, ephemeral=bytes([8]) * 32)
    if open_answer(answer, request, reply=reply, server_public=server.public) != payload:
        raise AssertionError
    rows = [
        "A quiet sync of one space. Seeds: device `000102…1f`, server's signing key `2021…3f`, server's agreement key",
        "`4041…5f`, reply key `6061…7f`; ephemeral secrets 32 × `07` and 32 × `08`.",
        "",
        "```",
        *_block("sync request, the message", message),
        *_block("sealed request, POST /v1/sync", request),
        *_block("sync answer, the message", payload),
        *_block("sealed answer", answer),
        "```",
    ]
    return "\n".join(rows) + "\n"


def _block(title: str, data: bytes) -> list[str]:
    text = data.hex()
    return [f"{title} ({len(data)} bytes)"] + [
        "  " + text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)
    ]


def with_tables(page: str) -> str:
    """The page with its three sections made anew."""
    sections = (
        ("A worked exchange", worked_exchange()),
        ("Errors", ERRORS_HEAD + "\n" + error_table()),
        ("Limits", LIMITS_HEAD + "\n" + limit_table()),
    )
    for title, body in sections:
        before, rest = page.split(f"\n## {title}\n\n")
        _, heading, after = rest.partition("\n## ")
        page = f"{before}\n## {title}\n\n{body}{heading}{after}"
    return page.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
