"""Whom a server's new certificate names: the certificates of its root that count beside it (docs/adr/0314).

Rules:
- named is what counts here, and each certificate of keys that were this server's own: whatever else the root has signed
  by then, and somebody has kept back, counts for nothing from then on, wherever it turns up;
- with a time also what counted of what had come by then: who was in a server may have had it name whom he liked since;
- a server that was made anew may not have heard yet of one that an honest hand had certified meanwhile. Until every
  machine has told it all it names none, unless a time is given, from which on what nobody had heard of waits anyway;
- one that was somebody's own, and turned up too late, is named by whoever says its key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.limits import MAX_CERTIFICATES_BESIDE
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Certificate
from protocol.replica.console.text import local_time
from protocol.replica.office.arrivals import authored_by
from protocol.rights.certified import beside, unnamed
from sync_server.handlers.store.restored import told_since, unheard_since_made
from sync_server.opened.app import Server


async def certificates_beside(
    server: Server, since_ms: int | None, also: Collection[bytes] = frozenset()
) -> tuple[bytes, ...]:
    """What new keys' certificate names; empty where it is to say nothing of others.

    Raises `BadInput(UNKNOWN_DEVICE)` where no certificate of a key in `also` is here.
    """
    said = await _certificates(server)
    if unknown := set(also) - {_key(each) for each in said}:
        raise BadInput(Code.UNKNOWN_DEVICE, f"no server's certificate of the key {min(unknown).hex()} is here")
    if since_ms is None and not also and await unheard_since_made(server) is not None:
        return ()
    meant = {*also, *server.own_keys}
    counting = {each.id for each in said} - unnamed(said)
    if since_ms is not None:
        counting |= await _counting_by_then(server, said, since_ms)
    named = tuple(each.id for each in said if each.id in counting or _key(each) in meant)
    return named if len(named) <= MAX_CERTIFICATES_BESIDE else ()


async def told_of_servers(server: Server) -> list[str]:
    """What to tell of servers' keys that nobody here had heard of, once this server's were replaced."""
    said = await _certificates(server)
    void = unnamed(said)
    counting = {_key(each) for each in said if each.id not in void}
    told = [_told_of(each) for each in said if each.id in void and _key(each) not in counting]
    if not any(each.id == server.grant and beside(each) for each in said):
        told.append(
            "if the kit has signed for a server of which nobody here has heard, that goes on counting: "
            + _why_none(await unheard_since_made(server))
        )
    return told


def _told_of(certificate: Entry) -> str:
    key, at = _key(certificate).hex(), local_time(rfc3339(certificate.timestamp_ms) or "")
    return (
        f"a server's key that nobody here had heard of, certified {at}, counts for nothing, and what it has said "
        f"waits: {key}. If that server was yours, `sync-server rotate server --kit KIT --also {key}`; if not, somebody "
        "has had a word of the kit's: docs/operate.md, “Somebody was in the server”"
    )


def _why_none(unheard: int | None) -> str:
    """Why new keys' certificate names none."""
    if unheard is None:
        return f"more than {MAX_CERTIFICATES_BESIDE} certificates of this root count; `rotate root` begins anew"
    return (
        f"this server was made anew, and {told_since(unheard)}. Once all have, call this again; with `--since TIME` "
        "it ends at once, and what an honest one has said of which nobody here has heard waits with it"
    )


async def _counting_by_then(server: Server, said: Sequence[Entry], since_ms: int) -> set[bytes]:
    by_then = await authored_by(server.store, [server.replica.door.root_now], since_ms, server.now_ms())
    early = [each for each in said if each.id in (by_then or ())]
    return {each.id for each in early} - unnamed(early)


async def _certificates(server: Server) -> list[Entry]:
    """What the root in force has certified, as far as it is here."""
    root = server.replica.door.root_now
    return [each for each in await server.store.scan_kinds([Kind.CERTIFICATE]) if each.header.author == root]


def _key(certificate: Entry) -> bytes:
    return Certificate.parse(certificate.payload or b"").signing
