"""Twenty simulated machines in three schools, each in a trouble of its own or in none, and the pages over them.

The machines enrol, call and report through the server's ordinary answers, at times of a clock that the test holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protocol.clock import DAY_MS, at_from
from protocol.identity import DeviceKeys
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Offer
from protocol.messages.wire import Call
from protocol.model.entry import Kind, compose
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.model.structure import Grant
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Draft
from protocol.replica.http.connections import Bounds, listening
from protocol.replica.office.names import NO_YEAR
from protocol.roles import Role
from sync_server.api.asker import asker_by_connection, asker_by_proxy
from sync_server.api.health import Health as HealthPages
from sync_server.api.routes import Traffic, application
from sync_server.config import run_config
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.overview.figures import store_families
from sync_server.handlers.overview.survey import Survey
from sync_server.listener_tls import listener_tls
from sync_server.metrics import Counters, Family
from sync_server.web.pages import Pages
from tests.harness.server_in_process import Member, Office, office
from tests.harness.territory import SimClock

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
GB = 1_000_000_000
FINE = Health("", "0.1.0", "Windows 10", None, 0, 0, 80 * GB)
ADMINISTRATOR = "Anne Morel"
PASSPHRASE = "une phrase bien gardée"  # noqa: S105  (of a folder that is thrown away)


@dataclass(frozen=True)
class Machine:
    """What a machine will have done by now: when it last called, what it said, whether anything was left to do.

    `state` and `says` are what the page must show; `via` who brings its report, if not itself.
    """

    name: str
    school: int
    state: str
    says: str = ""
    silent_ms: int = 20_000
    said: Health = FINE
    unfinished_ms: int = 0
    via: str | None = None
    enrols: bool = True


MACHINES = (
    Machine("Renard", 0, "À jour"),
    Machine("Hibou", 0, "Disque plein", "Libérez de la place", said=replace(FINE, trouble="disk-full", free_bytes=0)),
    Machine("Blaireau", 0, "En erreur", "sync-agent repair", said=replace(FINE, trouble="damaged")),
    Machine("Chouette", 0, "En erreur", "remplacez-le", said=replace(FINE, trouble="storage-failed")),
    Machine("Belette", 0, "En erreur", "Mettez à jour le programme", said=replace(FINE, trouble="unknown-format")),
    Machine("Castor", 0, "En erreur", "Un filtre ou un antivirus", said=replace(FINE, trouble="bad-seal")),
    Machine("Loutre", 0, "En erreur", "Redémarrez ce poste", said=replace(FINE, trouble="from-a-newer-version")),
    Machine("Martre", 1, "Silencieux", "Demandez à l'école", silent_ms=9 * DAY_MS),
    Machine("Lynx", 1, "Silencieux", "Demandez à l'école", silent_ms=40 * DAY_MS),
    Machine("Mulot", 1, "Hors ligne", silent_ms=3 * HOUR_MS),
    Machine("Loir", 1, "En retard", "vérifiez le débit", unfinished_ms=5 * HOUR_MS),
    Machine(
        "Lérot",
        1,
        "En retard",
        "vérifiez le débit",
        unfinished_ms=2 * DAY_MS,
        said=replace(FINE, backlog_entries=12, backlog_bytes=3_400_000),
    ),
    Machine("Cerf", 1, "Échange en cours", unfinished_ms=4 * MINUTE_MS),
    Machine("Biche", 1, "À jour", "d'avance", said=replace(FINE, skew_ms=3 * DAY_MS)),
    Machine("Daim", 1, "À jour", "Il ne lui reste que", said=replace(FINE, free_bytes=200_000_000)),
    Machine("Faon", 1, "Hors ligne", "Un travail rendu", silent_ms=2 * HOUR_MS),
    Machine("Geai", 1, "Hors ligne", silent_ms=12 * DAY_MS, via="Pivert"),
    Machine("Merle", 1, "Jamais vu", "près d'une connexion", enrols=False),
    Machine("Grive", 1, "Retiré"),
    Machine("Pivert", 1, "À jour"),
)


@dataclass
class Fleet:
    """The server with its machines, and where its pages are."""

    office: Office
    url: str
    members: dict[str, Member]
    classes: list[str]
    clock: SimClock
    survey: Survey
    machines: tuple[Machine, ...] = MACHINES
    calls: dict[str, int] = field(default_factory=dict)

    async def call(self, name: str, health: Health | None = None, *, unfinished: bool = False) -> None:
        """A machine calls now, with a report if it has one to make; `unfinished` leaves something to be sent."""
        member = self.members[name]
        offers = (Offer(bytes.fromhex(self.classes[0]), os.urandom(32), 1_000),) if unfinished else ()
        registers = () if health is None else (self.report(name, health),)
        await member.sync(SyncRequest(offers=offers, registers=registers))

    def report(self, name: str, health: Health) -> bytes:
        """What a machine says of itself, signed."""
        keys = self.members[name].keys.signing
        body = replace(health, name=name).encode()
        return compose_register(keys, RegisterKind.HEALTH, keys.public, self.clock(), body).data


@asynccontextmanager
async def pages_over(
    made: Office, *, clock_s: Callable[[], float] = time.monotonic, bounds: Bounds | None = None, **options: Any
) -> AsyncIterator[tuple[str, Survey]]:
    """The server's HTTP side over an opened server: its URL and its survey. `clock_s` is for sessions and waits.

    `options` are those of `run`.
    """
    survey = Survey(made.server, time.monotonic)
    counters = Counters()
    made.server.responder.add_handler(Call.ENROLL, made.enrolment.answer)
    made.server.contacts.observe_lag = counters.lag

    async def readiness() -> dict[str, str]:
        return {}

    async def families(*, per_device: bool) -> list[Family]:
        return [*await store_families(survey, "0", per_device=per_device), *counters.families()]

    config = run_config(made.server.folder, **{"listen": "127.0.0.1:0", **options})
    traffic = Traffic(asker_by_proxy if config.behind_proxy else asker_by_connection)
    traffic.on_unknown = made.server.note_unknown_caller
    app = application(
        made.server.responder,
        counters,
        HealthPages(readiness, families),
        traffic,
        _unforeseen,
        only_tls=config.binds_browsers,
    )
    pages = Pages(survey, config, entropy=os.urandom, clock_s=clock_s, on_failure=_unforeseen)
    pages.add_to(app)
    async with AsyncExitStack() as stack:
        tls = await stack.enter_async_context(listener_tls(made.server, config))
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0, grace_s=1.0, tls=tls, bounds=bounds))
        stack.push_async_callback(pages.close)
        yield url, survey


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """All twenty as they will be "now", an administrator's account, and the pages."""
    clock = SimClock()
    now_ms = clock.ms
    async with office(folder, clock) as made, pages_over(made) as (url, survey):
        server = made.server
        await add_administrator(server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))
        classes = [made.space]
        for name, school in (("CE1", "0180002E"), ("6e B", "0180003F")):
            classes.append((await made.do("space add", name=name, school=school, year=NO_YEAR))["space"])
        found = Fleet(made, url, {}, classes, clock, survey)
        clock.ms = now_ms - 60 * DAY_MS
        pupil = await made.add_person("Léa", "pupil", classes[1])
        for machine in MACHINES:
            if machine.enrols:
                code = await made.invite("relay" if machine.name == "Pivert" else "machine", classes[machine.school])
                found.members[machine.name] = await made.enrol(code, name=machine.name)
            else:
                await _grant_unseen(made, classes[machine.school])
        for at_ms, machine, unfinished in sorted(_calls(now_ms), key=lambda call: call[0]):
            clock.ms = at_ms
            await found.call(machine.name, machine.said, unfinished=unfinished)
            if machine.via is not None:
                clock.ms = now_ms - 40 * MINUTE_MS
                carried = found.report(machine.name, machine.said)
                await found.members[machine.via].sync(SyncRequest(registers=(carried,)))
        clock.ms = now_ms - 3 * DAY_MS
        await _hand_in_unsent(found, "Faon", classes[1], pupil)
        clock.ms = now_ms
        await made.do("revoke", device=found.members["Grive"].id)
        yield found


def _calls(now_ms: int) -> list[tuple[int, Machine, bool]]:
    calls = []
    for machine in MACHINES:
        if machine.enrols:
            last_ms = now_ms - machine.silent_ms
            if machine.unfinished_ms:
                calls.append((now_ms - machine.unfinished_ms, machine, False))
            calls.append((last_ms, machine, bool(machine.unfinished_ms)))
    return calls


async def _grant_unseen(made: Office, space: str) -> None:
    """What a server made anew knows of a device that has not called it yet."""
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    grant = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    await made.server.write([Draft(bytes.fromhex(space), Kind.GRANT, made.server.grant, grant.encode())])


async def _hand_in_unsent(found: Fleet, name: str, space: str, pupil: str) -> None:
    """A hand-in arrives as an entry; its content does not."""
    member = found.members[name]
    (grant,) = member.grants
    entry = compose(
        author=member.keys.signing,
        space=bytes.fromhex(space),
        kind=Kind.HAND_IN,
        grant=grant.id,
        at=at_from(found.clock()),
        payload=HandIn(ContentRef(os.urandom(32), 40_000, 1), None).encode(),
        salt=os.urandom(16),
        subject=bytes.fromhex(pupil),
        target=os.urandom(32),
    )
    now_ms = found.clock()
    await found.office.server.replica.admit([entry], source=member.keys.signing.public, now_ms=now_ms)


def _unforeseen(failure: Exception) -> None:
    raise AssertionError(failure)
