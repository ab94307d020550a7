"""A teacher's reading keys, to which hand-ins of a class are wrapped ("Reading keys", K1 to K4, K13, K26 to K30).

Rules:
- each device of a teacher makes a key of its own for each class where its grant makes its person a teacher, and is
  given those of the teacher's other devices in that class once one of them has confirmed it, so that it reads what came
  before (`confirming`): the server's word alone gives it none;
- a key is durable in DIR before an entry names it; those that were given lie in the set, sealed, and in a file of DIR;
- it is said in its class alone, and sealed there alone, to each confirmed device of the same person and to the phrase
  in force that one of these drew: who is not let into a class, or was cut off there, is given its keys in no other;
- what it says it says with its own two keys, as whose it came in first: under any other grant nobody hears it;
- in a class that was closed nothing more is said;
- when a device of the same person is cut off in the class, another key is made for it, which is said in the place of
  the one before, whatever may be seen of what that device was given; of keys that are spent again and again, few are
  replaced within an hour, and where none of hers ever led to the device, within a week;
- and once for each phrase that is in force no more, and to which keys were sealed: half of the keys that a device may
  make, and of these the last within an hour, are kept for losses: for devices that are cut off, not for keys that are
  spent by what somebody says was given;
- a key that is new is said and sealed in any case; whatever others' words alone call for (that it is said again under
  another grant, seals of what was given) takes no more than half of what this device may say (docs/adr/0247);
- a key in whose place another was said is never said again; what has rotted comes back by what its device sealed to
  itself (docs/adr/0219).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import replace
from typing import Final

from protocol.identity import AgreementKey
from protocol.limits import (
    MAX_OWN_READING_KEYS,
    MAX_PARENTS,
    MAX_READING_KEYS_AT_ONCE,
    READING_KEY_LONG_PAUSE_MS,
    READING_KEY_PAUSE_MS,
)
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirmations_due
from sync_agent.keys.first_met import remember_firsts
from sync_agent.keys.key_wraps import (
    kept_alone,
    keys_of,
    keys_to_pass_on,
    lacking,
    open_given_keys,
    reading_keys,
    seals,
)
from sync_agent.keys.phrases import phrases_due
from sync_agent.keys.places import Place, draft, ever_own, mark_of_phrases_over, phrases_over_mark, places_of
from sync_agent.keys.reported import reported
from sync_agent.machine.marks import KEY_MADE_MARKS, KEYS_AT_MARKS
from sync_agent.machine.own_times import noting_times, times_in
from sync_agent.machine.reading_key_file import OwnKey

_NOTE_BYTES: Final = 16


async def tend_reading_keys(agent: Agent) -> int:
    """Say, seal and replace reading keys where that is due; how many entries that took."""
    await remember_firsts(agent)
    async with agent.writing:
        places = [place for place in await places_of(agent) if not place.is_closed]
        if not places:
            return 0
        await open_given_keys(agent)
        places = await _with_keys_due(agent, _with_keys_back(agent, places))
        asked, unasked, away = list[Draft](), phrases_due(agent, places), await reported(agent)
        for place in places:
            of_newest, others = _seals_due(agent, place, away)
            said = [*_sayings_due(place, agent.enrolment.device_name), *of_newest]
            (asked if _is_new(agent, place) else unasked).extend(said)
            unasked += others
        unasked += await confirmations_due(agent, [(place.space, place.grant, place.roster) for place in places], away)
        if asked:
            await agent.write(*asked)
        number = len(asked) + await agent.write_unasked(*unasked)
        own = {key for place in places for _, key in place.own}
        if agent.reading_keys.are_rotten() and own <= reading_keys(agent).keys():
            agent.reading_keys.end_rot()
    return number


def _is_new(agent: Agent, place: Place) -> bool:
    """Whether a place's newest key was said there under no grant yet, or nothing about keys within the pause.

    Whoever has the server lets this device in again and again, and each time it says what it has said.
    """
    said_of_wraps = (entry for entry, _ in place.wraps if entry.header.author == agent.device)
    times_ms = [entry.timestamp_ms for entry in (*(entry for entry, _ in place.own), *said_of_wraps)]
    is_first = place.current is not None and place.current.public not in {key for _, key in place.own}
    return is_first or all(abs(agent.now_ms() - at_ms) >= READING_KEY_PAUSE_MS for at_ms in times_ms)


def _with_keys_back(agent: Agent, places: Sequence[Place]) -> list[Place]:
    """The places with what has rotted of this device's keys, as far as it has sealed them to itself."""
    if not agent.reading_keys.are_rotten():
        return list(places)
    found, back = [], list[OwnKey]()
    for place in places:
        held = {each.public for each in (*place.made, *place.of_all)}
        rotten = {key for _, key in place.own} - held
        keys = [key for name, key in keys_of(agent, place).items() if name in rotten]
        back += [OwnKey(key, place.space, place.person) for key in keys]
        found.append(replace(place, made=(*place.made, *keys)))
    if back:
        agent.reading_keys.keep((), back)
    return found


async def _with_keys_due(agent: Agent, places: Sequence[Place]) -> list[Place]:
    """The places with a new key in each that has none, or whose newest one may be in wrong hands.

    For whom that was done is noted after the key is durable: in a crash a key is made too many rather than too few.
    """
    found, notes = [], dict[str, bytes | None]()
    made: list[OwnKey] = []
    for place in places:
        away, led_to = _away_of_theirs(agent, place)
        mark = KEY_MADE_MARKS + place.space.hex()
        before = _notes_in(await agent.replica.store.mark(mark) or b"")
        noted = before - _notes_of(key for device in place.devices for key in device)
        papers = _papers_open(place)
        times_mark, now_ms = KEYS_AT_MARKS + place.space.hex(), agent.now_ms()
        times_ms = times_in(await agent.replica.store.mark(times_mark))
        if _is_due(place, away - noted, led_to - noted, papers, now_ms, times_ms):
            made.append(OwnKey(AgreementKey(agent.entropy(32)), place.space, place.person))
            notes[times_mark] = noting_times([*times_ms, now_ms], MAX_READING_KEYS_AT_ONCE)
            found.append(replace(place, made=(made[-1].key, *place.made)))
            noted |= away
        else:
            found.append(place)
        if noted != before:
            notes[mark] = b"".join(sorted(noted))
        if (over := place.over_by_now) != place.over:
            notes[phrases_over_mark(place.space)] = mark_of_phrases_over(over)
    if made:
        agent.reading_keys.keep(made)
    if notes:
        await agent.replica.store.set_marks(notes)
    return found


def _is_due(
    place: Place,
    away: Collection[bytes],
    led_to: Collection[bytes],
    papers: Collection[bytes],
    now_ms: int,
    times_ms: Sequence[int],
) -> bool:
    """Whether a place has no key to say, or another is to be made for those who are `away` since the newest was.

    Or for `papers`: a lost laptop draws one after another until it is reported, and then there has to be another key.
    `times_ms` is when the last ones were made, by this device's own clock.
    """
    if place.current is None:
        return True
    is_spent = (place.person, place.current.public) in place.roster.spent
    is_over = place.is_replaced or is_spent
    pause_ms = READING_KEY_PAUSE_MS if is_over or led_to or papers else READING_KEY_LONG_PAUSE_MS
    kept, kept_at_once = _kept_for_losses()
    if away or place.is_replaced:
        kept, kept_at_once = 0, 0
    elif is_spent:
        kept_at_once = 0  # whatever spends it: until there is another one nothing is sealed to it
    is_due = is_over or bool(away) or bool(papers)
    lately = _made_lately(place, now_ms, pause_ms, times_ms)
    return is_due and _may_make_another(place, lately, kept, kept_at_once)


def _papers_open(place: Place) -> frozenset[bytes]:
    """The phrases that are in force no more, and to which the newest key was sealed: whoever has that paper opens it.

    By whomever: her other laptop may not have heard yet that the paper was replaced (docs/adr/0550).
    """
    over = place.out_of_force
    return place.current_given_to & over if over else frozenset()


def _away_of_theirs(agent: Agent, place: Place) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Notes of the devices that were ever let in as this teacher's and are away as that in the place.

    The second ones are those to which one of the teacher's devices led: whoever may let devices in invents others.
    Whatever is hidden or held back of what they were given: they may have had it. But for what was let in with the key
    that signs, or the X25519 key, of a device in use, or the latter of a phrase. To whom keys were sealed there one has
    led, whatever lists say now of whose that was.
    """
    roster, own = place.roster, place.devices
    drawn = {said.agreement for _, said in place.drawn_in_use}
    in_use = {agreement for _, agreement in own} | drawn
    away = [
        (given, given.person)
        for key in roster.cut.union(key for (key, _), _ in roster.away.back) - {key for key, _ in own}
        for given in agent.replica.door.authorities_of(key)
        if given.person is not None and given.agreement not in in_use
        if roster.is_away(given.pair, given.person)
    ]
    theirs = {given.key for given, person in away if person == place.person}
    # once for each X25519 key, as which it is noted: anybody may be let in with one that is known
    given_to = place.given_to if away else frozenset()
    given_keys = {given.agreement for given, _ in away if given.agreement in given_to}
    return _notes_of(theirs | given_keys), _notes_of(theirs & ever_own(roster, own) | given_keys)


def _notes_of(devices: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(device[:_NOTE_BYTES] for device in devices)


def _notes_in(mark: bytes) -> frozenset[bytes]:
    return frozenset(mark[at : at + _NOTE_BYTES] for at in range(0, len(mark), _NOTE_BYTES))


def _may_make_another(place: Place, lately: int, kept: int, kept_at_once: int) -> bool:
    """Whether this device has made few keys there of late: nothing that spends them again and again goes on so.

    So many are `kept` for something else: of all, and within the pause.
    """
    return lately < MAX_READING_KEYS_AT_ONCE - kept_at_once and len(place.made) < MAX_OWN_READING_KEYS - kept


def _made_lately(place: Place, now_ms: int, pause_ms: int, times_ms: Iterable[int]) -> int:
    """How many keys this device has made there within a pause, by the dates of its words or by its own clock.

    One alone is not enough: others' words move the dates (docs/adr/0612), and a database of before has no notes.
    """
    dated = {key for entry, key in place.own if abs(now_ms - entry.timestamp_ms) < pause_ms}
    return max(len(dated), sum(abs(now_ms - at_ms) < pause_ms for at_ms in times_ms))


def _kept_for_losses() -> tuple[int, int]:
    """How many keys are made for devices alone that are cut off: of all, and, as far as papers go, within the pause.

    Whom her lost laptop had confirmed spends each key of hers by saying that it gave it away, until it is cut off too.
    """
    return MAX_OWN_READING_KEYS // 2, 1


def _sayings_due(place: Place, name: str) -> list[Draft]:
    """What says a place's newest key instead of those before it, where that was not said, or not of all of them."""
    current = place.current
    if current is None or place.is_replaced:
        return []
    before = _to_replace(place, current.public)
    if current.public in place.said and not any(one not in place.roster.held_back for one in before):
        return []
    payload = PersonKey(current.public, name).encode()
    return [
        draft(place, Kind.PERSON_KEY, payload, parents=tuple(sorted(before[at : at + MAX_PARENTS])))
        for at in range(0, max(len(before), 1), MAX_PARENTS)
    ]


def _to_replace(place: Place, key: bytes) -> list[bytes]:
    """The entries in whose place a key is said: this device's of the keys that it had made before.

    Of no other: two copies of one disk would replace each other's keys for ever.
    """
    earlier = {each.public for each in (*place.made, *place.of_all)} - {key}
    named = {name for entry, _ in place.own for name in entry.header.parents}
    of_earlier = [entry for entry, said in place.own if said in earlier and entry.id not in named]
    return [entry.id for entry in of_earlier if place.roster.tells_of_keys(entry)]


def _seals_due(agent: Agent, place: Place, away: Container[bytes]) -> tuple[list[Draft], list[Draft]]:
    """Every key of the place for each confirmed device of the teacher, and for the phrase in force, that lacks it.

    First those of its newest key, then the others. To who is `away` elsewhere, or drew the phrase there, none that an
    earlier version made for all classes; whoever is given one of these opens work with it, and passes it on to nobody.
    """
    own, standings = place.devices, place.roster.voices.standings
    wanted = {device[1]: device[0] for device in sorted(own) if (device, place.person) in standings}
    if place.in_force is not None:
        drawer, phrase = place.in_force
        wanted[phrase.agreement] = drawer[0]
    keys, of_all = keys_to_pass_on(agent, place), {key.public: key for key in place.of_all}
    newest, due, earlier = {}, {}, {}
    current = b"" if place.current is None else place.current.public
    for to, device in sorted(wanted.items()):
        # what a device says that it gave itself goes with its word: another one says it as well, for when it is lost;
        # and it gives itself what it made, and what the set gives it no more: its disk may be restored from a copy that
        # is older than a class, and of a lost laptop people ask what it had
        is_this = to == agent.keys.agreement.public
        sealers = {each[0] for each in own if is_this or each[1] != to}
        for_itself = {**kept_alone(agent, place), **{key.public: key for key in place.made}}
        lacked = lacking(place, to, for_itself if is_this else keys, sealers)
        newest[to] = {name: key for name, key in lacked.items() if name == current}
        due[to] = {name: key for name, key in lacked.items() if name != current}
        earlier[to] = {} if is_this or device in away else lacking(place, to, of_all, sealers)
    others = [*seals(agent, place, due), *seals(agent, place, earlier, of_all=True)]
    return seals(agent, place, newest), others
