"""The server gets new keys under the same root, and its old ones are cut off: by the kit, in memory (§5).

Rules:
- the new keys are durable beside the old before an entry names them, and take their place after it: whatever is cut
  short, the next opening finds which of the two the set names;
- what the old key had written stays, its grants included; what turns up under it later is held back;
- devices meet the new certificate at their next call, and never believe an older one again.
"""

from __future__ import annotations

from protocol.entry import Kind
from protocol.errors import BadInput, Code
from protocol.identity import SEED_BYTES
from protocol.kit import Kit
from protocol.replica.replica import Draft
from protocol.structure import MAX_HEADS, Certificate, Revocation
from sync_server.app import Server
from sync_server.data_folder import NEXT_KEYS_FILE
from sync_server.handlers.rewrapping import check_kit, write_as_root
from sync_server.keys import CAPABILITY_KEY_BYTES, ServerKeys


async def rotate_server(server: Server, kit: Kit) -> bytes:
    """New keys for the server; its new id. Raises `BadInput(BAD_KIT)`, `LocalFailure`."""
    check_kit(server, kit)
    old = server.keys.signing.public
    heads = [tip for space in server.replica.door.spaces() for tip in await server.replica.tips(space, old)]
    if len(heads) > MAX_HEADS:
        raise BadInput(
            Code.USAGE, f"this version can rotate the key of a server with at most {MAX_HEADS} spaces in use"
        )
    keys = ServerKeys.create(
        server.entropy(SEED_BYTES), server.entropy(SEED_BYTES), server.entropy(CAPABILITY_KEY_BYTES)
    )
    keys.write(server.folder, NEXT_KEYS_FILE)
    territory = server.replica.territory
    certificate = Certificate(keys.signing.public, keys.agreement.public).encode()
    await write_as_root(
        server,
        kit,
        [
            Draft(territory, Kind.CERTIFICATE, None, certificate),
            Draft(territory, Kind.REVOKE, None, Revocation(old, tuple(heads)).encode()),
        ],
    )
    await server.take_next_keys()
    await server.space_keeper.tend(server.replica.door.spaces())
    return keys.signing.public
