"""New keys for the server under the same root, or another root for the territory: by the kit (§5).

Rules:
- the new keys are durable beside the old before an entry names them, and take their place after it: whatever is cut
  short, the next opening finds which of the two the set names;
- what the old key had written stays, its grants included; what turns up under it later is held back, whatever leads to
  it (docs/adr/0330): so nothing is signed by it between the moment at which its heads are read and the one from which
  the new key is used;
- earlier words of the old key are named too: a server that is restored from before it, or a machine that has not heard
  the latest, goes by those that it has (docs/adr/0184);
- the keys of servers before this one (one that burnt, one that a backup was made of) are cut off with it; with a time
  each once more that was cut off before, so that it can be said later, too (`replaced_keys`);
- devices meet the new certificate at their next call, and never believe an older one again; it names those of the root
  that count beside it, so that none that somebody has kept back ever does (`servers_named`);
- of two commands at once the second begins once the first is done, and its kit is looked at then: a server that the
  old root certified after another had taken over would be no server to anybody;
- nothing that the old root has signed, and no flood of it, keeps another root from taking over;
- another root is said by the old one and agreed to by the new one, which certifies the server again in the same
  transaction; what else turns up under the old root is held back, and codes that were made before are refused;
- it may be said again, of the same root, by a server that was made anew, or that hears of it only afterwards: what any
  of the rotations to that root leaves stays (docs/adr/0326);
- so it is asked about while this server may not have heard all that the old root has said, and what keys are a server's
  beside its own is told (docs/adr/0308).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import SEED_BYTES
from protocol.limits import MAX_ROTATION_HEADS, MAX_ROTATION_LISTS
from protocol.messages.enrollment import encode_chain
from protocol.model.entry import Kind
from protocol.model.structure import Certificate, RecoveryKey
from protocol.replica.at_work.replica import Draft, Tips
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.absent import Named, named_of
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.replica.office.heads import (
    MOST_LISTED_HEADS,
    accounts_of,
    cut_by_root,
    earlier_words,
    lists_of,
    with_earlier,
)
from sync_server.handlers.by_kit.old_gaps import check_gaps
from sync_server.handlers.by_kit.replaced_keys import replaced_keys
from sync_server.handlers.by_kit.ruled_anew import counting, to_rule_anew
from sync_server.handlers.by_kit.servers_named import certificates_beside
from sync_server.handlers.store.restored import told_since, unheard_since_made
from sync_server.kit.away import KitAway, RootAway
from sync_server.kit.memory import REMEMBERED
from sync_server.kit.root_line import may_be_named, said_once
from sync_server.opened.app import Server
from sync_server.opened.data_folder import NEXT_KEYS_FILE
from sync_server.opened.keys import CAPABILITY_KEY_BYTES, ServerKeys
from sync_server.opened.own_keys import note_as_own

_PROOFS: Final = frozenset({Kind.CERTIFICATE, Kind.RECOVERY_KEY, Kind.GENERATION, Kind.ROOT_ROTATION})
MAX_TOLD: Final = 20
_NAMED_BY_ITSELF: Final = MAX_ROTATION_HEADS - MAX_ROTATION_LISTS
"""How many entries of the old root a rotation names, where the others stand in accounts."""


async def rotate_server(
    server: Server,
    kit: RootKit,
    *,
    since_ms: int | None = None,
    anyway: bool = False,
    also: Collection[bytes] = frozenset(),
) -> bytes:
    """New keys for the server; its new id. With `since_ms`, of what the old ones said that stays which was here then.

    `also` are keys of servers that count again, of which nobody here had heard in time.

    Raises `BadInput` (BAD_KIT, and as `replaced_keys` and `certificates_beside` do), `LocalFailure`.
    """
    async with server.rotating:
        new = await _rotate_server(server, kit, since_ms, also, anyway=anyway)
        if since_ms is not None:
            await server.store.set_marks(server.elsewhere.ended_since(since_ms))
        return new


async def _rotate_server(
    server: Server, kit: RootKit, since_ms: int | None, also: Collection[bytes], *, anyway: bool
) -> bytes:
    check_kit(server, kit)
    named = await certificates_beside(server, since_ms, also)
    replaced = await replaced_keys(server, since_ms, anyway=anyway, named=named)
    if not anyway:
        await check_gaps(server, replaced, since_ms)
    await note_as_own(server.store, server.keys.signing.public)
    territory = server.replica.territory
    before = {old: await _earlier(server, old, stays) for old, stays in replaced.items()}
    keys = ServerKeys.create(
        server.entropy(SEED_BYTES), server.entropy(SEED_BYTES), server.entropy(CAPABILITY_KEY_BYTES)
    )
    certificate = Certificate(keys.signing.public, keys.agreement.public, named).encode()

    async with server.changing_keys():
        keys.write(server.folder, NEXT_KEYS_FILE)
        found: dict[bytes, Named] = {}

        async def listed(old: bytes, tips: Tips) -> list[Draft]:
            spaces, known = server.replica.door.spaces(), replaced[old]
            said = await named_of(old, spaces, tips, server.store, known=known, most=MOST_LISTED_HEADS)
            staying = (word for word in before[old] if word not in said.gaps.beyond)
            found[old] = replace(said, heads=with_earlier(said.heads, staying))
            return lists_of(territory, found[old].heads)

        accounts = {old: await write_as_root(server, kit, partial(listed, old)) for old in replaced}

        async def succession(_tips: Tips) -> list[Draft]:
            drafts = [Draft(territory, Kind.CERTIFICATE, None, certificate)]
            for old, lists in accounts.items():
                # those of which the lists hold the rest: what the old key says meanwhile is in neither
                cut = cut_by_root(old, found[old].heads, lists, found[old].gaps.absent)
                drafts.append(Draft(territory, Kind.REVOKE, None, cut.encode()))
            return drafts

        await write_as_root(server, kit, succession)
        await server.take_next_keys()
    await server.space_keeper.tend(server.replica.door.spaces())
    return keys.signing.public


async def _earlier(server: Server, old: bytes, stays: Collection[bytes] | None) -> list[bytes]:
    return await earlier_words(old, server.replica.door.spaces(), server.store, stays)


async def rotate_root(server: Server, kit: KitAway, *, anyway: bool = False) -> tuple[bytes, Sequence[str]]:
    """The new root of `kit` takes over; the rotations so far, as they are sent, for the new kit, and what to tell.

    May be repeated after its answer was lost. Raises `BadInput`: BAD_KIT, USAGE, and, if not `anyway`, NOT_YET while
    this server may lack what the old root has said; `LocalFailure`.
    """
    replica = server.replica
    if kit.new_root is None or kit.new_recovery is None:
        raise BadInput(Code.USAGE, "no root is named that takes over")
    told: Sequence[str] = ()
    async with server.rotating:
        if not _has_taken_over(server, kit.new_root):
            if replica.door.roots[-2:] != (kit.root.public, kit.new_root.public):
                check_kit(server, kit)
            if not anyway and (unheard := await unheard_since_made(server)) is not None:
                raise _too_early(unheard)
            before = await counting(server)
            await _take_over(server, kit, kit.new_root, RecoveryKey(kit.new_recovery))
            told = (*await _other_servers(server), *to_rule_anew(before, await counting(server)))
    rotations = await server.store.scan_kinds([Kind.ROOT_ROTATION])
    return encode_chain(said_once(rotations, replica.door)), told


def _has_taken_over(server: Server, new: RootAway) -> bool:
    """Whether the new root is in force, and this server its own: a machine may have brought a rotation of elsewhere."""
    certificate = server.replica.door.authority(server.grant)
    return server.replica.door.root_now == new.public and certificate is not None and certificate.author == new.public


def _too_early(unheard: int) -> BadInput:
    return BadInput(
        Code.NOT_YET,
        "what the kit has signed and this server has not heard of would count no more: whom it has forgotten would be "
        "shown again, stolen keys that it cut off would be a server's, and classes could stay closed. This server may "
        f"lack some of it: it was made anew, and {told_since(unheard)} (`status` names them; `revoke` takes off the "
        "list what is gone). Call this again once they have. If the kit is in other hands, or they never will, or this "
        "was begun before the server was made again, with --anyway: then look at `waiting`, once they have called",
    )


async def _other_servers(server: Server) -> list[str]:
    """What to tell of the keys that are a server's beside this one's."""
    cut = (await server.replica.view(server.replica.territory)).roster.cut
    others = [key for key in server.replica.door.server_keys() if key not in cut and key != server.keys.signing.public]
    return [
        f"goes on counting as a server's: the key {key.hex()}. If somebody else may have it, or the kit had cut it "
        "off: `sync-server rotate server --kit KIT`, with the new kit"
        for key in others[:MAX_TOLD]
    ]


async def _take_over(server: Server, kit: KitAway, new: RootAway, recovery: RecoveryKey) -> None:
    async with server.changing_keys():
        accounts = await write_as_root(server, kit, partial(_accounts, server, kit))
        named = [entry.id for entry in accounts]
        await write_as_root(server, kit, partial(_succession, server, kit, new, recovery, named))
        await server.take_certificate()
    await server.space_keeper.tend(server.replica.door.spaces())


async def _accounts(server: Server, kit: KitAway, tips: Tips) -> list[Draft]:
    """What the old root has signed, where that is more than a rotation names by itself."""
    named = await _signed(server, kit, tips)
    rest = named[_NAMED_BY_ITSELF:] if len(named) > MAX_ROTATION_HEADS else []
    return accounts_of(server.replica.territory, rest)[:MAX_ROTATION_LISTS]


async def _signed(server: Server, kit: KitAway, tips: Tips) -> list[bytes]:
    """What the old root has signed: first this server's certificate, then what the kit remembers and looks for.

    Then what proves servers and roots, and the rest, what came first before others: so whoever stole the kit and signs
    without end crowds out nothing that was there. What kits remember is named itself in each space.
    """
    replica, old = server.replica, kit.root.public
    looked_for = await server.store.get(kit.to_name)
    # all of them where rights begin: a server that is made anew gets these one by one, and in no order
    said = [entry for entry in await server.store.authored(replica.territory, old) if may_be_named(entry)]
    own = [entry.id for entry in said if entry.id == server.grant]
    to_name = [name for name in kit.to_name if name in looked_for]
    first = [*own, *to_name, *(entry.id for entry in said if entry.header.kind in _PROOFS)]
    below = [space for space in replica.door.spaces() if space != replica.territory]
    latest = [await tips(space, old) for space in below]
    in_turn = (tip for some in zip_longest(*latest) for tip in some if tip is not None)
    remembered = (
        entry.id
        for entry in await server.store.scan_kinds(sorted(REMEMBERED))
        if entry.header.author == old and entry.header.space != replica.territory and may_be_named(entry)
    )
    listed = zip_longest((entry.id for entry in said), in_turn, remembered)
    rest = (name for some in listed for name in some if name is not None)
    return list(dict.fromkeys((*first[:_NAMED_BY_ITSELF], *rest)))


async def _succession(
    server: Server, kit: KitAway, new: RootAway, recovery: RecoveryKey, accounts: Sequence[bytes], tips: Tips
) -> list[Draft]:
    """The old root names the new one, which certifies the server: in one transaction, so that no server is without."""
    replica = server.replica
    signed = [name for name in await _signed(server, kit, tips) if name not in accounts]
    heads = (*accounts, *(signed[:_NAMED_BY_ITSELF] if accounts else signed))
    rotation = await kit.agree(replica.door.place_of_root(kit.root.public) + 1, heads)
    certificate = Certificate(server.keys.signing.public, server.keys.agreement.public)
    return [
        Draft(replica.territory, Kind.ROOT_ROTATION, None, rotation),
        Draft(replica.territory, Kind.CERTIFICATE, None, certificate.encode(), author=new),
        Draft(replica.territory, Kind.RECOVERY_KEY, None, recovery.encode(), author=new),
    ]
