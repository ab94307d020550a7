"""Sealed calls to another device: to the key of the grant that its certificate proved (R13, R15).

A neighbour's word costs nobody a right: that another lives with this device's key is the server's to say, since any
pupils' PC could take a teacher's laptop its rights with it. Who answers with that very key needs no witness
(docs/protocol.md, "Clones").
"""

from __future__ import annotations

from dataclasses import replace

from protocol.errors import Code, PeerFault
from protocol.limits import MAX_CREDENTIALS
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.lives import Twin
from protocol.model.entry import Entry
from protocol.rights.door import Authority
from sync_agent.app import Agent
from sync_agent.transport.interface import Transport
from sync_agent.transport.sealed_calls import SealedCalls, credentials_that_fit


class PeerCalls(SealedCalls):
    """As `SealedCalls`, with one device in the server's place."""

    def __init__(self, agent: Agent, transport: Transport, device: Authority) -> None:
        super().__init__(agent, transport)
        self._device = device

    async def server(self) -> Authority:
        """The device that answers."""
        return self._device

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """As to a server; the request says which certificate was shown, so that nobody in between ends TLS."""
        return await super().sync(replace(request, certificate=self._device.tls_sha256))

    async def _credentials(self, first: bytes | None) -> tuple[Entry, ...]:
        """This device's grants; before them those that open `first` to the other one, which may not know them yet."""
        own = await super()._credentials(first)
        if first is None:
            return own
        replica = self._agent.replica
        theirs = [each for each in await replica.authorities(self._device.key) if replica.door.opens(each, first)]
        shown = {entry.id: entry for entry in (*await credentials_that_fit(replica, theirs), *own)}
        return tuple(shown.values())[:MAX_CREDENTIALS]

    async def _grants_to_show(self) -> list[Authority]:
        """Those of what the other one may read, if there are any: how a class elsewhere is called is none of its."""
        grants, door = await super()._grants_to_show(), self._agent.replica.door
        theirs = (await self._agent.replica.readable(self._device.key)).keys() - {door.territory}
        near = [grant for grant in grants if any(door.opens(grant, space) for space in theirs)]
        return near or grants

    def _heard(self, payload: bytes) -> SyncAnswer:
        answer = SyncAnswer.parse(payload)
        if answer.twin is not Twin.NONE and self._device.key == self._agent.device:
            self._agent.on_twin_nearby(answer.twin)
        return answer

    async def _meet(self, chain: bytes) -> None:
        """A device that does not hold the key of its grant has been set up anew: it must be met again."""
        del chain
        raise PeerFault(Code.WRONG_KEY, "the device does not hold the key that its grant names; it will be met again")
