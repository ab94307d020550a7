"""The commands about this device and its school: how it is kept, sticks, drills, keys, sign-in, watched folders.

As `operations`, of which these are a part: each loads what it needs when it is first asked for.
"""

# ruff: noqa: ARG002  (every operation takes the same three)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from protocol.errors import Code, LocalFailure
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params, Table
from protocol.replica.office.measures import USUAL_MINUTES
from sync_agent.app import Agent
from sync_agent.machine.command_names import COURIER_CHECK, COURIER_EXPORT, COURIER_IMPORT, COURIER_SURVEY, SCHOOL

if TYPE_CHECKING:
    from sync_agent.school.sign_in import SignInBook


def device_operations(agent: Agent) -> Table:
    """Those of an open agent."""
    commands = _DeviceCommands(agent)
    return {
        "pause": commands.pause,
        "resume": commands.resume,
        "verify": commands.verify,
        "repair": commands.repair,
        "doctor": commands.doctor,
        COURIER_EXPORT: commands.courier_export,
        COURIER_SURVEY: commands.courier_survey,
        COURIER_CHECK: commands.courier_check,
        COURIER_IMPORT: commands.courier_import,
        "rename": commands.rename,
        "peer-add": commands.peer_add,
        "peer-address": commands.peer_address,
        "key-phrase": commands.key_phrase,
        "key-phrases": commands.key_phrases,
        "key-open": commands.key_open,
        **{name: partial(commands.school, name) for name in SCHOOL},
        "sign-in-list": commands.sign_in_list,
        "sign-in-switch": commands.sign_in_switch,
        "sign-in-set": commands.sign_in_set,
        "sign-in-unlock": commands.sign_in_unlock,
        "drill start": commands.drill_start,
        "drill stop": commands.drill_stop,
        "drill report": commands.drill_report,
        "quarantine start": commands.quarantine_start,
        "quarantine stop": commands.quarantine_stop,
        "saved-list": commands.saved_list,
        "saved-clear": commands.saved_clear,
        "watch-add": commands.watch_add,
        "watch-remove": commands.watch_remove,
        "watch-list": commands.watch_list,
        "watch-tick": commands.watch_tick,
        "watch-resume": commands.watch_resume,
    }


@contextmanager
def _readable() -> Iterator[None]:
    """Say of a folder of DIR/coursework that cannot be looked through why."""
    try:
        yield
    except OSError as reason:
        raise LocalFailure(Code.STORAGE_FAILED, f"{reason.filename} cannot be read: {reason.strerror}") from reason


class _DeviceCommands:
    """The agent, and who signs in there."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._sign_in: SignInBook | None = None

    async def pause(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await self._agent.budget.pause(given.count_or_none(params, "for_ms"))
        self._agent.on_change()
        return {}

    async def resume(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await self._agent.budget.resume()
        self._agent.on_change()
        return {}

    async def verify(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.upkeep import care

        return await care.verify(self._agent, outgoing)

    async def repair(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.upkeep import care

        return await care.repair(self._agent, outgoing)

    async def doctor(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.upkeep import care

        return await care.doctor(self._agent, outgoing)

    async def courier_export(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.courier import commands as courier_commands

        return await courier_commands.export_here(self._agent, params, incoming, outgoing)

    async def courier_survey(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.courier import commands as courier_commands

        return await courier_commands.survey_here(self._agent, incoming)

    async def courier_check(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.courier import commands as courier_commands

        return await courier_commands.check_here(self._agent, incoming)

    async def courier_import(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.courier import commands as courier_commands
        from sync_agent.coursework.materializer import Materializer

        try:
            return await courier_commands.import_here(self._agent, incoming)
        finally:
            await Materializer(self._agent).refresh(thorough=True, set_aside=True)

    async def drill_start(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import measure_commands

        minutes = given.count_or_none(params, "minutes")
        begun = await measure_commands.start_drill(
            self._agent, given.text_or_none(params, "school"), USUAL_MINUTES if minutes is None else minutes
        )
        if not begun["at_server"]:
            await outgoing.progress(
                "the server does not have the order: only devices in touch with this one hear of the drill, until the "
                "server answers here; `run` tells it then"
            )
        return begun

    async def drill_stop(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import measure_commands

        return await measure_commands.stop_drill(self._agent, given.text_or_none(params, "school"))

    async def drill_report(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import measure_commands

        return await measure_commands.report_drill(self._agent, given.text_or_none(params, "school"))

    async def quarantine_start(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import measure_commands

        return await measure_commands.start_quarantine(self._agent, given.text_or_none(params, "school"))

    async def quarantine_stop(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import measure_commands

        return await measure_commands.stop_quarantine(self._agent, given.text_or_none(params, "school"))

    async def rename(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        self._agent.rename(given.text(params, "name"))
        return {}

    async def saved_list(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework.saved_files import saved_files

        with _readable():
            return [row for folder in await saved_files(self._agent) for row in folder.rows()]

    async def saved_clear(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework.saved_files import clear_saved

        named = given.texts(params, "space")
        wanted = {given.identifier({"space": each}, "space", Code.UNKNOWN_SPACE, "space") for each in named}
        with _readable():
            files, kept = await clear_saved(self._agent, wanted)
        for path in kept:
            await outgoing.progress(f"{path} could not be deleted: close the program that has it open, and try again")
        return {"files": files, "left": len(kept)}

    async def peer_add(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.lan.peer_commands import kept_for_later, peer_add

        return await peer_add(self._agent, kept_for_later(self._agent))(params, incoming, outgoing)

    async def peer_address(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.lan.peer_commands import peer_address

        return await peer_address(self._agent)

    async def key_phrase(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.keys.phrases import new_phrase
        from sync_agent.keys.reading_key import tend_reading_keys

        phrase = await new_phrase(self._agent)
        await tend_reading_keys(self._agent)  # other keys take the place of those that the paper before opened
        return {"phrase": phrase}

    async def key_phrases(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.keys.phrase_list import list_phrases

        return await list_phrases(self._agent)

    async def key_open(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.keys.phrases import open_with_phrase
        from sync_agent.keys.returns_told import asked_of_former_devices

        keys = await open_with_phrase(self._agent, given.text(params, "phrase"))
        # whose paper that was had a laptop that was found: nobody but a human knows whether it was in her hands
        asked = await asked_of_former_devices(self._agent, outgoing)
        return {"keys": keys, **({"asked": asked} if asked else {})}

    def _book(self) -> SignInBook:
        from sync_agent.school.sign_in import SignInBook

        self._sign_in = self._sign_in or SignInBook(self._agent)
        return self._sign_in

    async def school(self, name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import commands as school_commands

        return await school_commands.operate(name, self._agent, params, outgoing)

    async def sign_in_list(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import sign_in_commands

        return await sign_in_commands.listing(self._book(), self._agent, params)

    async def sign_in_switch(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import sign_in_commands

        return await sign_in_commands.switch(self._book(), params, outgoing)

    async def sign_in_set(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import sign_in_commands

        return await sign_in_commands.set_secret(self._book(), self._agent, params, outgoing)

    async def sign_in_unlock(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.school import sign_in_commands

        return await sign_in_commands.unlock(self._book(), params)

    async def watch_add(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.watching import commands as watch_commands

        space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
        return await watch_commands.add(self._agent, given.text(params, "folder"), space)

    async def watch_remove(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.watching import commands as watch_commands

        return await watch_commands.remove(self._agent, given.text(params, "folder"))

    async def watch_list(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.watching import commands as watch_commands

        return await watch_commands.listing(self._agent)

    async def watch_tick(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.watching import commands as watch_commands

        titles = given.named_paths(params, "titles")
        return await watch_commands.tick(self._agent, titles, ticked=given.flag(params, "ticked"))

    async def watch_resume(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.watching import commands as watch_commands

        return await watch_commands.resume(self._agent, outgoing, given.text_or_none(params, "told"))
