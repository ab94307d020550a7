"""`sign-in list|on|off|set|unlock`: what the portal's page does, as commands of a teacher's device.

Secrets that are thought up come from a file, never from the command line, where other users of the machine see them;
what is drawn is said once, in the result. Whose name, or number, was another's gets nothing before it is said that this
id is meant (docs/adr/0528).
"""

from __future__ import annotations

from typing import Final

from protocol.errors import BadInput, Code
from protocol.folds.sign_in import Method
from protocol.replica.at_work.replica import Entropy
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office.taken_names import ask_about_names
from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_agent.school.office import list_words
from sync_agent.school.sign_in import SignInBook, drawn_pictures
from sync_agent.school.whose_sign_in import Asked, asked_about

_DRAWN_PIN_DIGITS: Final = 6
_NOTHING_YET: Final = "nothing has been given to sign in with yet"
_SHUT_OUT: Final = (
    "{without} nothing to sign in with yet, and cannot hand in on the pages of shared machines until then. "
    "`sign-in list` says who (no method); `sign-in set --space ID --person ID` draws three pictures for one (--method "
    "pin: a PIN); the class's sign-in page on this computer draws them for all, and cards to print"
)


async def listing(book: SignInBook, agent: Agent, params: Params) -> JSON:
    """Who signs in with what, who is locked out, whose secret cut-off devices could open, and whose is held back.

    `once` has what was said here first of whose name, or number, was another's, and the further names; `lost` by which
    names the list had others whose place they may have.
    """
    space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
    sign_ins, opened = await book.of(space), await book.opened_by_gone(space)
    rows: list[JSON] = []
    asked = await asked_about(agent, (await agent.replica.view(space)).roster)
    for person in await book.persons(space):
        mine, why = sign_ins.persons.get(person.id), asked.get(person.id, Asked())
        method = await book.method(space, person.id)
        rows.append(
            {
                "person": person.id.hex(),
                "name": person.name,
                "set": mine is not None and mine.is_set,
                "method": None if method is None else method.name.lower(),
                "locked": mine is not None and bool(mine.locked_by),
                "opened_by_lost": person.id in opened,
                "held_back": person.id in sign_ins.in_doubt,
                "once": ", ".join(why.once),
                "lost": ", ".join(why.lost),
            }
        )
    return {"on": sign_ins.on, "people": rows}


async def switch(book: SignInBook, params: Params, outgoing: Outgoing) -> JSON:
    """Switch it on or off; on, it says how many pupils are shut out because they have nothing to sign in with."""
    space, on = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space"), given.flag(params, "on")
    await book.switch(space, on=on)
    if not on:
        return {}
    known = (await book.of(space)).persons
    pupils = [person.id for person in await book.persons(space) if person.role is PersonRole.PUPIL]
    without = sum(pupil not in known or not known[pupil].is_set for pupil in pupils)
    if without:
        await outgoing.progress(_SHUT_OUT.format(without="1 pupil has" if without == 1 else f"{without} pupils have"))
    return {"without": without}


async def set_secret(book: SignInBook, agent: Agent, params: Params, outgoing: Outgoing) -> JSON:
    """What one person signs in with from now on; drawn where none is given.

    Raises `BadInput`, also NOT_YET, unless `renamed_too`, for who has by now a name, or a number, that was another's.
    """
    space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
    person = given.person(params, "person")
    method = _method(given.text(params, "method"))
    secret = given.text_or_none(params, "secret")
    drawn = _drawn(method, agent.entropy) if secret is None else None
    is_meant = params.get("renamed_too") is True
    words = await list_words(agent)
    await ask_about_names(agent.replica, [person], [person], outgoing, _NOTHING_YET, words=words, is_meant=is_meant)
    await book.set(space, {person: (method, drawn if secret is None and drawn is not None else secret or "")})
    found: dict[str, JSON] = {"person": person.hex(), "method": method.name.lower()}
    return found if drawn is None else {**found, "secret": drawn}


async def unlock(book: SignInBook, params: Params) -> JSON:
    """Let somebody try again."""
    space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
    await book.unlock(space, given.person(params, "person"))
    return {}


def _method(text: str) -> Method:
    try:
        return Method[text.upper()]
    except KeyError:
        known = ", ".join(method.name.lower() for method in Method)
        raise BadInput(Code.USAGE, f"nobody signs in by “{given.shown(text)}”; it is one of: {known}") from None


def _drawn(method: Method, entropy: Entropy) -> str:
    if method is Method.PICTURES:
        return drawn_pictures(entropy)
    if method is Method.PIN:
        return f"{int.from_bytes(entropy(8), 'big') % 10**_DRAWN_PIN_DIGITS:0{_DRAWN_PIN_DIGITS}}"
    raise BadInput(Code.USAGE, "a password or passphrase is not drawn: give --secret-file")
